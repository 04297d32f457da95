"""A video that starts from a picture attends to a donor that a person names, and to no other."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chai_app.cache import LatentCache
from chai_app.engine import Engine
from chai_app.request import GenerationRequest
from chai_app.settings import BUNDLED_MODELS, Settings

PROMPT = "a red ball in the desert"


@pytest.fixture(scope="module")
def model_folder(tiny_model_folder, tmp_path_factory) -> Path:
    """The tiny model with the demo's text-image model beside it."""
    folder = shutil.copytree(tiny_model_folder, tmp_path_factory.mktemp("named") / "tiny")
    shutil.copytree(BUNDLED_MODELS / "demo" / "embedder", folder / "embedder")
    return folder


def request(**fields) -> GenerationRequest:
    return GenerationRequest(PROMPT, **{"num_inference_steps": 4, "fast_steps": 3, "seed": 1, **fields})


def test_a_picture_to_start_from_goes_with_a_donor_by_name(model_folder, tmp_path):
    engine = Engine(str(model_folder))
    first = engine.generate(request()).report
    picture = tmp_path / "start.png"
    Image.fromarray(np.full((32, 48, 3), 200, np.uint8)).save(picture)

    alone = engine.generate(request(image=str(picture), seed=2)).report
    assert (alone.reuse.outcome, alone.reuse.entry_id) == ("full", None)
    together = engine.generate(request(image=str(picture), seed=2, reuse=first.reuse.stored_entry_id)).report
    assert (together.reuse.outcome, together.steps, together.reuse.reused_steps) == ("hit", 3, (2, 3))
    assert together.latents_sha256 != alone.latents_sha256
    engine.close()
    with LatentCache(Settings.from_environment().home) as cache:
        (entry,) = cache.entries()  # what started from a picture has not entered
        assert (entry.id, entry.hits) == (first.reuse.stored_entry_id, 1)
        assert cache.verify() == []
