"""Options that stand in the prompt: taken, or told."""

from dataclasses import replace

import pytest

from chai_app.engine import Engine
from chai_app.engine.prompt_notes import entities_of, model_texts
from chai_app.engine.written import with_following_seeds, with_written_options, written_notes
from chai_app.errors import BadRequest
from chai_app.models import find_model
from chai_app.request import GenerationRequest, RequestDefaults
from chai_app.settings import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(tmp_path / "home", tmp_path / "models", tmp_path / "videos")


@pytest.fixture
def released(settings):
    """A model with the size of the published weights."""
    return replace(find_model("demo", settings), defaults=RequestDefaults(), vocabulary=None)


@pytest.mark.parametrize(
    ("prompt", "seed", "seeds"),
    [("a hen", None, [None, None, None]), ("a hen", 3, [3, 4, 5]), ("a hen --seed 12", None, [None, 13, 14]),
     ("a hen --seed 12", 3, [3, 4, 5]), ("a hen --seed x", None, [None, None, None])],
)  # fmt: skip
def test_several_videos_of_a_prompt_have_seeds_that_follow_on(prompt, seed, seeds):
    assert [each.seed for each in with_following_seeds(GenerationRequest(prompt, seed=seed), 3)] == seeds


def test_flags_become_fields_and_never_reach_the_model(released):
    written = "a hen -ar 9:16 -seed 12 -gs 3 -neg mud, rain -camera zoom out --motion 4 --q 2"
    request = with_written_options(GenerationRequest(written), released)
    assert (request.prompt, request.original_prompt, request.seed) == ("a hen", written, 12)
    assert (request.height, request.width) == (426, 240), "9:16 is tall to everybody but Open-Sora"
    assert (request.negative_prompt, request.camera_motion, request.motion_score) == ("mud, rain", "zoom out", 4)
    assert model_texts(request) == ["a hen motion score: 4.0. camera motion: zoom out."]
    notes = written_notes(request, released)
    assert notes[0].startswith("Taken from the prompt as options: aspect 9:16, seed 12, guidance 3,")
    assert notes[1:] == ["Taken off the prompt and not used: --q 2."]


def test_what_is_asked_for_beside_the_prompt_goes_first_and_that_is_told(released):
    request = with_written_options(
        GenerationRequest("a hen --seed 12 --size 64x48", seed=7, width=32, height=32), released
    )
    assert (request.seed, request.width, request.height) == (7, 32, 32)
    assert written_notes(request, released) == ["Taken off the prompt and not used: seed 12, size 64x48."]


def test_a_score_in_the_prompt_is_not_said_twice(released):
    for asked, told in ((None, "5.0"), (6.5, "6.5")):
        request = GenerationRequest("a hen. Aesthetic score: 5", aesthetic_score=asked)
        assert model_texts(with_written_options(request, released)) == [f"a hen. aesthetic score: {told}."]


def test_a_file_that_a_prompt_names_is_opened_only_where_that_is_the_persons_own(released, tmp_path):
    request = GenerationRequest('a hen{"reference_path": "/secret/a.png", "mask_strategy": "0"}')
    assert with_written_options(request, released).image is None
    assert with_written_options(request, released, may_open_files=True).image == "/secret/a.png"
    video = GenerationRequest('a hen{"reference_path": "/b.mp4"}')
    assert with_written_options(video, released, may_open_files=True).extend == "/b.mp4"


def test_a_plan_of_a_plan_says_the_same(settings):
    engine = Engine(settings=settings)
    for prompt in ("a red ball in the d\u00e9sert --seed 3 --q 2", "|0| a ball |1| a boat", "a ball --ar 16:9"):
        plan = engine.plan(GenerationRequest(prompt))
        again = engine.plan(plan.request)
        assert (again.request, again.notes) == (plan.request, plan.notes)
    assert engine.plan(GenerationRequest("a red ball in the d\u00e9sert")).request.prompt == "a red ball in the desert"


def test_texts_for_several_clips_make_as_many_loops(released):
    request = with_written_options(GenerationRequest("|0| a ball |2| a boat"), released)
    assert request.num_loops == 3 and "so the video has 3 loops" in written_notes(request, released)[0]
    asked = with_written_options(GenerationRequest("|0| a ball |2| a boat", num_loops=2), released)
    assert written_notes(asked, released) == ["The text of loop 2 is never shown: the video has 2 loops."]
    for prompt in ("|1| a ball |0| a boat", "|x| a ball"):
        with pytest.raises(BadRequest, match=r"^The loops of a prompt begin with \|0\|, not "):
            with_written_options(GenerationRequest(prompt), released)


def test_another_language_is_told(released):
    (note,) = written_notes(GenerationRequest("un gato negro durmiendo en un sof\u00e1 rojo"), released)
    assert note.startswith("The prompt is not English (French or Spanish, as it seems)")


def test_words_that_cleaning_takes_away_are_told_and_file_nothing(settings):
    plan = Engine(settings=settings).plan(GenerationRequest("C3PO greets a ball 4x4 on page 3"))
    assert "so these are left out: C3PO, 4x4, page, 3." in plan.notes[0]
    assert [each.head for each in entities_of("C3PO greets a ball").objects] == ["ball"]
