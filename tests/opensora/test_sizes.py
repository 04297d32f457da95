"""Sizes and durations by name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from chai_app.errors import BadRequest
from chai_app.opensora import ASPECT_RATIOS, DURATIONS, RESOLUTIONS, num_frames_for, video_size

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden" / "sizes.json").read_text())
SIZES = {(name, aspect): size for name, sizes in GOLDEN["image_size_hw"].items() for aspect, size in sizes.items()}


@pytest.mark.parametrize(("resolution", "aspect"), [pair for pair, size in SIZES.items() if size])
def test_every_size_is_that_of_the_original(resolution, aspect):
    assert video_size(resolution, aspect) == tuple(SIZES[resolution, aspect])


@pytest.mark.parametrize(("resolution", "aspect"), [pair for pair, size in SIZES.items() if not size])
def test_a_pair_without_a_size_is_refused_and_says_what_there_is(resolution, aspect):
    with pytest.raises(BadRequest, match=rf"^Resolution {resolution} has no size for {aspect}: .*in pixels\.$"):
        video_size(resolution, aspect)


@pytest.mark.parametrize(("name", "num_frames"), GOLDEN["num_frames"].items())
def test_every_duration_is_that_of_the_original(name, num_frames):
    assert num_frames_for(name) == num_frames


def test_all_names_are_listed():
    assert set(RESOLUTIONS) == set(GOLDEN["image_size_hw"])
    assert set(ASPECT_RATIOS) == {aspect for _, aspect in SIZES}
    assert GOLDEN["num_frames"] == DURATIONS


def test_a_number_of_frames_is_taken_as_it_is():
    assert num_frames_for(1) == 1
    assert num_frames_for("33") == 33


@pytest.mark.parametrize("duration", ["3 days", "", "0", 0, -17, "2.5"])
def test_a_duration_that_is_none_is_refused_and_says_what_there_is(duration):
    with pytest.raises(
        BadRequest, match=r"^Unknown duration '.*': choose one of 1x, .*, or give a number of frames\.$"
    ):
        num_frames_for(duration)


@pytest.mark.parametrize(("resolution", "aspect"), [("241p", "9:16"), ("240p", "9:15"), ("", "")])
def test_unknown_names_are_refused_and_say_what_there_is(resolution, aspect):
    with pytest.raises(BadRequest, match=r"^Unknown (resolution|aspect ratio) .*: choose one of .*\.$"):
        video_size(resolution, aspect)


def test_listing_the_choices_loads_nothing_heavy():
    code = "import sys, chai_app.opensora as o; o.video_size('240p', '9:16'); print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True).stdout == "False\n"
