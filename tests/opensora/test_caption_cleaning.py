"""Cleaning of captions, against that of the original."""

import json
from pathlib import Path

import pytest

from chai_app.opensora import clean_caption

CASES = json.loads((Path(__file__).parents[1] / "data" / "golden" / "caption_cleaning.json").read_text("utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["prompt"] or "nothing")
def test_captions_come_out_as_from_the_original(case):
    assert clean_caption(case["prompt"]) == case["cleaned"]


@pytest.mark.parametrize(
    ("caption", "cleaned"),
    [
        # What the cleaning that diffusers carries gives another answer to (recorded from the original).
        ("- 1.5_ :#123   x.jpg ", "1.5"),
        ("| &lt;b&gt; free shipping abc123 ' cat a ", "cat a"),
        ("#123/ _1920x1080", ""),
        (".  page 3 |' &lt;b&gt; ", "."),
    ],
)
def test_ends_are_stripped_between_the_passes(caption, cleaned):
    assert clean_caption(caption) == cleaned


def test_plain_english_comes_through():
    prompt = "a red balloon rises over the desert, at dusk; it's calm. two dogs (both brown) watch"
    assert clean_caption(prompt) == "a red balloon rises over the desert, at dusk; it's calm. two dogs both brown watch"


def test_what_looks_like_a_file_name_brings_no_warning(recwarn):
    clean_caption("cat.html")
    clean_caption("https://example.com")
    assert not recwarn.list
