"""What stands in a prompt beside its words comes off, and what it said is kept."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chai_app.prompts.syntax import Written, read_syntax


@pytest.mark.parametrize(
    ("prompt", "text", "options"),
    [
        ("a hen --ar 16:9 --motion 2", "a hen", (("aspect", "16:9"), ("motion", "2"))),
        (
            "a hen -gs 15 -neg blurry, text -ar 9:16",
            "a hen",
            (("guidance", "15"), ("negative", "blurry, text"), ("aspect", "9:16")),
        ),
        ("/create prompt: a hen -camera zoom out", "a hen", (("camera", "zoom out"),)),
        ('a hen --no "a fox, a dog" --seed=5', "a hen", (("negative", "a fox, a dog"), ("seed", "5"))),
        ("a hen —ar 1:1", "a hen", (("aspect", "1:1"),)),
        (
            "a hen. Aesthetic score: 5.5. motion score: 3, camera motion: up.",
            "a hen.",
            (("aesthetic", "5.5"), ("motion", "3"), ("camera", "up")),
        ),
        ("a hen, geese::-1 ::", "a hen", (("negative", "geese"),)),
        (
            "hen\nNegative prompt: mud\nSteps: 9, CFG scale: 7, Seed: 3, Size: 64x48",
            "hen",
            (("steps", "9"), ("guidance", "7"), ("seed", "3"), ("size", "64x48"), ("negative", "mud")),
        ),
        (
            'a hen{"reference_path": "a.png", "mask_strategy": "0"}',
            "a hen",
            (("reference_path", "a.png"), ("mask_strategy", "0")),
        ),
    ],
)
def test_flags_scores_and_json_become_options(prompt, text, options):
    written = read_syntax(prompt)
    assert (written.text, written.options, written.unused) == (text, options, ())


@pytest.mark.parametrize(
    ("prompt", "text", "unused"),
    [
        ("a hen --q 2 --style raw", "a hen", ("--q 2", "--style raw")),
        ("a hen <lora:barn_v2:0.8> runs", "a hen runs", ("<lora:barn_v2:0.8>",)),
        ("--tile a hen in a barn", "a hen in a barn", ("--tile",)),
    ],
)
def test_what_means_nothing_here_is_told(prompt, text, unused):
    written = read_syntax(prompt)
    assert (written.text, written.options, written.unused) == (text, (), unused)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("hen::2 goose::0.5", "hen, goose"),
        ("a (red hen:1.3) and a [[big]] goose in a ((barn))", "a red hen and a big goose in a barn"),
        ("a hen++ with (a long tail)1.2 and a goose--", "a hen with a long tail and a goose"),
        ("red_hen, big_barn", "red hen, big barn"),
    ],
)
def test_weights_leave_the_words_that_they_weigh(prompt, text):
    assert read_syntax(prompt) == Written(text, has_weights=True)


@pytest.mark.parametrize(
    "prompt",
    [
        "a hen - tall and -thin - at 10:30, 4:3, (alone) in a barn's yard",
        'a well-known hen; 50% off, e.g. "eggs" {fresh}',
        "a hen  with   two blanks\nand a line",
        "",
    ],
)
def test_a_prompt_of_words_alone_stays_as_it_is(prompt):
    assert read_syntax(prompt) == Written(prompt)


@given(st.text(alphabet=st.sampled_from("ab -—:/<>()[]{}\"',.+1|_\n"), max_size=80))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_and_what_is_read_has_no_syntax_left_but_words(prompt):
    written = read_syntax(prompt)
    assert written.text == prompt or len(written.text) <= len(prompt) + 2 * prompt.count("::")


@pytest.mark.parametrize("sign", ["(", "[", "-", "::", "a::", '{"a":', "--a ", "aesthetic score: ", "|0|"])
def test_the_work_grows_with_the_length_alone(sign):
    begin = time.process_time()
    read_syntax(sign * 20_000)
    assert time.process_time() - begin < 2, "a quadratic reading takes twenty seconds"


def test_the_data_of_the_measurements_is_well_formed():
    folder = Path(__file__).parent.parent / "data" / "prompts"
    for name in ("tuned", "held_out", "second_held_out"):
        records = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        assert len(records) == 30 and all({"prompt", "objects", "scenes", "kind"} == set(each) for each in records)
