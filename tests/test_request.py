"""What a request refuses, and that it survives JSON."""

import json
import math
from dataclasses import fields

import pytest

from chai_app.errors import BadRequest
from chai_app.request import OPTIONS, GenerationRequest, Report, RequestDefaults, field_of


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t"])
def test_a_blank_prompt_is_refused(prompt):
    with pytest.raises(BadRequest, match="The prompt is empty: say in a few words"):
        GenerationRequest(prompt)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("num_inference_steps", 0, "Steps of a full run must be a whole number from 1 to 1000, not 0"),
        ("num_inference_steps", -3, "must be a whole number from 1 to 1000, not -3"),
        ("num_inference_steps", 10**9, "must be a whole number from 1 to 1000"),
        ("num_inference_steps", 2.5, "must be a whole number"),
        ("num_inference_steps", True, "must be a whole number"),
        ("height", 0, r"Height \(px\) must be a whole number from 16 to 4096, not 0"),
        ("width", 100_000, r"Width \(px\)"),
        ("num_frames", 0, "Frames must be a whole number from 1 to 1000"),
        ("fps", 0, "Frames per second must be a number from 1 to 120, not 0"),
        ("fps", math.nan, "not nan"),
        ("guidance_scale", math.inf, "not inf"),
        ("guidance_scale", "7", "not '7'"),
        ("seed", -1, "Seed must be a whole number"),
        ("num_loops", 0, "Clips in a row must be a whole number from 1 to 64"),
        ("num_loops", None, "Clips in a row must be a whole number from 1 to 64"),
        ("aesthetic_score", 65, r"Aesthetic score \(6.5 is good\) must be a number from 0 to 10"),
        ("camera_motion", " ", "Camera motion must be a text that is not blank"),
        ("dtype", "fp8", "Unknown dtype 'fp8': choose one of fp32, bf16, fp16"),
        ("offload", "disk", "Unknown offload 'disk': choose one of none, model, sequential"),
        ("device", "gpu", "Unknown device 'gpu': choose one of cpu, cuda"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_with_what_would(field, value, words):
    with pytest.raises(BadRequest, match=words):
        GenerationRequest("a ball", **{field: value})


def test_a_picture_can_neither_start_from_one_nor_loop():
    for more in ({"image": "a.png"}, {"extend": "a.mp4"}, {"num_loops": 2}):
        with pytest.raises(BadRequest, match="1 frame makes a picture"):
            GenerationRequest("a ball", num_frames=1, **more)
    with pytest.raises(BadRequest, match="either an image to start from or a video to extend"):
        GenerationRequest("a ball", image="a.png", extend="a.mp4")


def test_a_request_survives_json():
    request = GenerationRequest("ein Ball, „rot“", negative_prompt="", fps=23.976, seed=2**63 - 1, device="cuda:1")
    assert GenerationRequest.from_json(json.loads(json.dumps(request.to_json()))) == request
    assert GenerationRequest.from_json({"prompt": "a ball"}) == GenerationRequest("a ball")


def test_a_request_in_json_has_the_names_of_the_options():
    told = GenerationRequest("a ball", num_inference_steps=3, num_frames=17, is_private=True).to_json()
    assert (told["steps"], told["frames"], told["private"]) == (3, 17, True)
    assert "num_inference_steps" not in told


def test_a_request_of_an_earlier_version_is_still_read():
    """As the fields were called in files before the names were those of the options."""
    values = {"prompt": "a ball"} | {
        "negative_prompt": "rain", "num_frames": 17, "num_inference_steps": 3, "guidance_scale": 2.0, "num_loops": 2,
        "aesthetic_score": 6.5, "motion_score": 5, "camera_motion": "pan right", "is_private": True, "start_level": 0.8,
        "fast_guidance_scale": 1.5, "height": 64, "fps": 8, "reuse": "full", "adaptive_steps": True,
    }  # fmt: skip
    request = GenerationRequest.from_json(values)
    assert {name: getattr(request, name) for name in values} == values
    assert GenerationRequest.from_json(request.to_json()) == request
    with pytest.raises(BadRequest, match="Frames is there twice: give 'num_frames' or its other name, not both"):
        GenerationRequest.from_json({"prompt": "a ball", "frames": 3, "num_frames": 17})


def test_every_field_says_what_it_is():
    for field in fields(GenerationRequest):
        if field.name != "prompt":
            option = OPTIONS[field.name]
            assert option.label and field_of(option.name) == field.name == field_of(f"--{option.name}")
            assert option.panel is None or option.help.endswith("."), field.name
    names = [name for each in OPTIONS.values() for name in (each.name, *each.other_names)]
    assert len(names) == len(set(names))


def test_an_unknown_field_is_named_with_the_fields_there_are():
    with pytest.raises(BadRequest, match="Unknown field 'promt' in a request: the fields are prompt, original_prompt"):
        GenerationRequest.from_json({"promt": "a ball"})
    with pytest.raises(BadRequest, match="The prompt is empty"):
        GenerationRequest.from_json({"seed": 3})
    with pytest.raises(BadRequest, match="JSON object with a prompt, not list"):
        GenerationRequest.from_json(["a ball"])


def test_defaults_fill_only_what_was_left_open():
    request = GenerationRequest("a ball", height=64, guidance_scale=0).resolved(RequestDefaults(fps=8))
    assert (request.height, request.width, request.guidance_scale, request.fps) == (64, 426, 0, 8)
    assert isinstance(request.seed, int)


def test_a_report_survives_json_and_a_newer_version():
    report = Report(
        "tiny", "0123", 3, 32, 48, 17, 8.0, "cpu", "fp32", "ff", {"load": 1.5, "text": 0.5}, {}, ("a note",)
    )
    values = json.loads(json.dumps(report.to_json()))
    assert Report.from_json(values) == report
    assert Report.from_json({**values, "donor": "a field of tomorrow"}) == report
    assert report.total_seconds == 2.0
    with pytest.raises(BadRequest, match="not a report of ours"):
        Report.from_json({"model": "tiny"})


@pytest.mark.parametrize(
    ("asked", "per_step", "guided"),
    [
        ({}, None, 4.0),
        ({}, 1.0, 2.0),
        ({"fast_steps": 3}, 1.0, 3.0),
        ({"fast_steps": 8}, 1.0, 4.0),
        ({"guidance_scale": 7.0}, 1.0, 7.0),
        ({"fast_guidance_scale": 1.5}, 1.0, 1.5),
    ],
)
def test_few_steps_are_guided_by_what_was_asked_for_or_by_what_suits_their_number(asked, per_step, guided):
    defaults = RequestDefaults(guidance_scale=4.0, fast_steps=2, guidance_per_step=per_step)
    request = GenerationRequest("a ball", **asked).resolved(defaults)
    assert request.fast_guidance_scale == guided
    assert request.resolved(defaults) == request


def test_guidance_grows_with_the_steps_of_a_hit_up_to_that_of_a_full_run():
    defaults = RequestDefaults(guidance_scale=4.0, fast_steps=2, guidance_per_step=1.0)
    request = GenerationRequest("a ball").resolved(defaults)
    grown = [request.with_fast_steps(steps) for steps in (1, 2, 3, 20)]
    assert [each.fast_guidance_scale for each in grown] == [2.0, 2.0, 3.0, 4.0]
    assert [each.fast_steps for each in grown] == [1, 2, 3, 20]
