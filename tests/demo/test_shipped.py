"""The weights that ship: small enough, whole, and as good as is said of them, on a sample that a test can afford."""

import numpy as np
import pytest
import torch

from chai_app.demo.data import specs
from chai_app.demo.judge import load_judge, scores
from chai_app.demo.package import FOLDER
from chai_app.demo.render import render
from chai_app.demo.train_autoencoder import psnr_db, reconstruct
from chai_app.opensora import AutoencoderKLOpenSora


@pytest.fixture(scope="module")
def real():
    shown = specs("test", 48)
    return shown, np.stack([render(spec) for spec in shown])


def test_all_weights_together_stay_under_40_mb():
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) <= 40e6


def test_the_judge_knows_real_clips_that_it_was_not_trained_on(real):
    shown, pixels = real
    result = scores(load_judge(), pixels, shown)
    assert all(result[name] >= 0.9 for name in ("object", "colour", "scene", "motion", "count")), result


def test_real_clips_survive_the_autoencoder(real):
    _, pixels = real
    vae = AutoencoderKLOpenSora.from_pretrained(FOLDER / "vae", torch_dtype=torch.float32)
    assert psnr_db(pixels[:8], reconstruct(vae, pixels[:8])) >= 25
