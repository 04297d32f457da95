"""The weights that ship: small enough, whole, and as good as is said of them, on a sample that a test can afford."""

from random import Random

import numpy as np
import pytest
import torch

from chai_app.demo.captions import caption
from chai_app.demo.data import specs
from chai_app.demo.evaluate import generate
from chai_app.demo.judge import load_judge, scores
from chai_app.demo.package import FOLDER
from chai_app.demo.render import render
from chai_app.demo.train_autoencoder import psnr_db, reconstruct
from chai_app.demo.world import held_out_specs
from chai_app.opensora import AutoencoderKLOpenSora, OpenSoraPipeline


@pytest.fixture(scope="module")
def real():
    shown = specs("test", 48)
    return shown, np.stack([render(spec) for spec in shown])


def test_all_weights_together_stay_under_40_mb():
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) <= 40e6


# The floors below are what docs/demo-model.md reports, less what 48 clips may differ from the sample there.


def test_the_judge_knows_real_clips_that_it_was_not_trained_on(real):
    shown, pixels = real
    result = scores(load_judge(), pixels, shown)
    floors = {"object": 0.97, "colour": 0.97, "scene": 0.97, "motion": 0.97, "count": 0.97}
    assert all(result[name] >= floor for name, floor in floors.items()), result


def test_the_autoencoder_gives_real_clips_back(real):
    _, pixels = real
    vae = AutoencoderKLOpenSora.from_pretrained(FOLDER / "vae", torch_dtype=torch.float32)
    assert psnr_db(pixels[:8], reconstruct(vae, pixels[:8])) >= 26.0


def test_a_prompt_becomes_its_scene_colour_object_and_motion():
    pipeline = OpenSoraPipeline.from_pretrained(FOLDER)
    pipeline.set_progress_bar_config(disable=True)
    asked = held_out_specs(16)
    random = Random(0)
    prompts = [caption(spec, random, complete=True) for spec in asked]
    result = scores(load_judge(), generate(pipeline, prompts, list(range(16)), steps=30, batch_size=16), asked)
    assert result["scene"] >= 0.9, result
    assert result["colour"] >= 0.85, result
    assert result["object"] >= 0.75, result
    assert result["motion"] >= 0.75, result
