"""Presets: what they settle, what a request keeps, and what the engine makes of them."""

import pytest

from chai_app.errors import BadRequest
from chai_app.presets import ACCELERATIONS, PRESETS, hit_steps
from chai_app.request import GenerationRequest, RequestDefaults

DEFAULTS = RequestDefaults()


def test_exact_computes_every_step_and_looks_at_no_earlier_video():
    request = GenerationRequest("a ball", preset="exact").resolved(DEFAULTS)
    assert (request.reuse, request.acceleration, request.num_inference_steps) == ("full", "none", 30)


def test_balanced_is_what_an_open_request_gets():
    request = GenerationRequest("a ball", seed=1).resolved(DEFAULTS)
    assert request == GenerationRequest("a ball", seed=1, preset="balanced").resolved(DEFAULTS)
    assert (request.reuse, request.num_inference_steps, request.fast_steps) == (None, 30, 8)


def test_draft_takes_half_the_steps():
    request = GenerationRequest("a ball", preset="draft").resolved(DEFAULTS)
    assert (request.num_inference_steps, request.fast_steps, request.acceleration) == (15, 4, "first-block")


def test_what_a_request_says_counts_more_than_its_preset():
    asked = GenerationRequest("a ball", preset="draft", num_inference_steps=20, acceleration="pab", reuse="fast")
    request = asked.resolved(DEFAULTS)
    assert (request.num_inference_steps, request.acceleration, request.reuse) == (20, "pab", "fast")
    assert request.resolved(DEFAULTS) == request


@pytest.mark.parametrize("field", ["preset", "acceleration"])
def test_an_unknown_choice_is_told_with_those_there_are(field):
    names = PRESETS if field == "preset" else ACCELERATIONS
    with pytest.raises(BadRequest, match=", ".join(names)):
        GenerationRequest("a ball", **{field: "warp"})


def test_steps_of_a_hit_grow_as_similarity_falls():
    steps = [hit_steps(similarity, 8, 30) for similarity in (1.0, 0.9, 0.75, 0.5, 0.1)]
    assert steps == [8, 12, 19, 30, 30]
    assert hit_steps(None, 8, 30) == 8
    assert hit_steps(0.2, 8, 6) == 8
