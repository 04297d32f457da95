"""Timesteps, against those of the original."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from chai_app.opensora.schedule import new_scheduler, set_timesteps, timestep_shift

CASES = json.loads((Path(__file__).parents[1] / "data" / "golden" / "rflow_timesteps.json").read_text())


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: "{height}x{width}, {num_frames} frames, {steps}".format(**case)
)
def test_timesteps_are_those_of_the_original(case):
    scheduler = new_scheduler()
    set_timesteps(scheduler, case["steps"], timestep_shift(case["height"], case["width"], case["num_frames"], 1))
    assert torch.equal(scheduler.timesteps, torch.tensor(case["timesteps"]))


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: "{height}x{width}, {num_frames} frames, {steps}".format(**case)
)
def test_noise_falls_with_the_timesteps_and_to_nothing(case):
    scheduler = new_scheduler()
    set_timesteps(scheduler, case["steps"], timestep_shift(case["height"], case["width"], case["num_frames"], 1))
    torch.testing.assert_close(scheduler.sigmas[:-1] * 1000, scheduler.timesteps, atol=2e-4, rtol=0)
    assert scheduler.sigmas[0] == 1
    assert scheduler.sigmas[-1] == 0


@pytest.mark.parametrize("level", [0.95, 0.7, 0.2])
def test_a_run_that_begins_below_all_noise_spreads_its_steps_over_the_rest_of_the_way(level):
    shift, scheduler = timestep_shift(64, 64, 17, 5, 64), new_scheduler()
    set_timesteps(scheduler, 4, shift, first_sigma=level)
    levels = scheduler.sigmas.tolist()
    assert levels[0] == pytest.approx(level) and levels[-1] == 0
    torch.testing.assert_close(scheduler.sigmas[:-1] * 1000, scheduler.timesteps, atol=2e-4, rtol=0)
    unshifted = [t / (shift - (shift - 1) * t) for t in levels]
    gaps = [a - b for a, b in pairwise(unshifted)]
    assert gaps == pytest.approx([gaps[0]] * 4, rel=1e-4)


def test_larger_and_longer_videos_stay_longer_with_the_noise():
    image, clip, long, large = (
        timestep_shift(*shape)
        for shape in ((256, 256, 1, 1), (256, 256, 51, 15), (256, 256, 102, 30), (512, 512, 51, 15))
    )
    assert image == 0.5
    assert image < clip < long
    assert large == 2 * clip


def test_clips_shorter_than_a_chunk_count_by_their_latent_frames():
    assert timestep_shift(512, 512, 17, 5) == pytest.approx(5**0.5)
    assert timestep_shift(512, 512, 8, 2) == pytest.approx(2**0.5)
    assert timestep_shift(512, 512, 42, 12) == pytest.approx(10**0.5)  # whole chunks only, as in the original
    assert timestep_shift(64, 64, 1, 1, base_size=64) == 1
