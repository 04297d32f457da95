"""Latents become frames outside a run, as they did in it; a program that shares its memory is asked in time."""

import pytest
import torch

from chai_app.engine import Engine
from chai_app.errors import BadRequest
from chai_app.media.video import read_metadata, write_video
from chai_app.request import GenerationRequest

PROMPT = "a red ball rising over the ocean"


class Notebook:
    """A host that writes down what it is asked."""

    def __init__(self):
        self.calls = []

    def make_room(self, size_bytes, machine):
        assert size_bytes > 0
        self.calls.append(("make_room", machine.device))

    def settle(self, loaded):
        self.calls.append(("settle", loaded.machine.device))


@pytest.fixture(scope="module")
def engine(tiny_model_folder) -> Engine:
    return Engine(str(tiny_model_folder))


def test_latents_decode_to_the_frames_of_their_run(engine):
    made = engine.generate(GenerationRequest(PROMPT, seed=1, width=44))
    again = engine.decode(made.latents, num_frames=17, height=32, width=44)
    assert (again == made.frames).all()


def test_without_a_size_all_that_latents_hold_is_decoded(engine):
    frames = engine.decode(torch.zeros(1, 4, 5, 4, 6))
    assert frames.shape == (17, 32, 48, 3)


def test_latents_that_do_not_fit_are_refused_in_one_sentence(engine):
    with pytest.raises(BadRequest, match="give it latents that it made"):
        engine.decode(torch.zeros(1, 16, 5, 4, 6))
    with pytest.raises(BadRequest, match="do not hold 51 frames"):
        engine.decode(torch.zeros(1, 4, 5, 4, 6), num_frames=51)


def test_a_host_makes_room_once_and_settles_the_model_before_every_run(tiny_model_folder):
    host = Notebook()
    engine = Engine(str(tiny_model_folder), device="cpu", memory_host=host)
    made = engine.generate(GenerationRequest(PROMPT, seed=1))
    engine.decode(made.latents)
    assert host.calls == [("make_room", "cpu"), ("settle", "cpu"), ("settle", "cpu")]
    engine.unload()
    engine.decode(made.latents)
    assert host.calls[3:] == [("make_room", "cpu"), ("settle", "cpu")]


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_tags_of_another_program_stand_beside_our_own_metadata(tmp_path, suffix):
    import av
    import numpy as np

    path = tmp_path / f"clip{suffix}"
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    write_video(
        path, frames, 8, {"chai": {"request": {"prompt": PROMPT}}}, {"prompt": "{}", "workflow": '{"nodes": []}'}
    )
    with av.open(str(path)) as container:
        found = {name.lower(): text for name, text in container.metadata.items()}
    assert found["prompt"] == "{}"
    assert found["workflow"] == '{"nodes": []}'
    assert read_metadata(path)["chai"]["request"]["prompt"] == PROMPT
