"""What was asked for stays: which captions say all that a prompt says, and which do not."""

from itertools import pairwise

import pytest

from chai_app.demo.short_prompts import held_out_pairs
from chai_app.demo.short_prompts import lost as lost_in_the_demo_world
from chai_app.enhance.keeping import lost, stem
from chai_app.prompts import extract

KEPT = [
    ("a red balloon", "A shiny red balloon rises slowly over the sand dunes."),
    ("red balloon, desert", "in the desert, a red balloon is rising"),
    ("red balloon desert", "a red balloon rising in the desert"),
    ("two dogs running, beach", "Two wet dogs are running along a wide beach."),
    ("a dog runs", "A brown dog is running through tall grass."),
    ("2 boats", "two white boats on the ocean, drifting to the right"),
    ("balls", "three blue balls falling"),
    ("a tiger in the jungle", "A large tiger walks through the dense jungle in the early morning."),
    ("a video of a star on the moon", "on the moon, a white star is spinning"),
    ("a sailing boat under water", "under water, a green sailing boat is tumbling"),
]
LOST = [
    ("a red balloon", "a blue balloon rising in the desert", ["red balloon"]),
    ("a red balloon", "a red ball rising in the desert", ["red balloon"]),
    ("a red ball and a blue car", "a blue ball and a red car in the city", ["red ball", "blue car"]),
    ("two boats", "three boats at sea", ["two boats"]),
    ("balls", "a ball falling", ["balls"]),
    ("a fish in a reef", "a fish swimming in the open sea", ["reef"]),
    ("a rocket falling", "a rocket rising into the sky", ["falling"]),
    ("a boat moving left", "a boat moving right", ["left"]),
    ("red balloon desert", "a yellow balloon rising in the desert", ["red balloon desert"]),
    ("a shark under the sea", "a shark over the sea", ["under"]),
]


@pytest.mark.parametrize(("prompt", "text"), KEPT)
def test_a_caption_that_says_all_of_the_prompt_has_lost_nothing(prompt, text):
    assert lost(prompt, text, extract) == []


@pytest.mark.parametrize(("prompt", "text", "missing"), LOST)
def test_what_went_missing_is_named_in_the_words_of_the_prompt(prompt, text, missing):
    assert lost(prompt, text, extract) == missing


def test_forms_of_a_word_have_one_stem_and_different_words_have_not():
    assert len({stem(word) for word in ("run", "runs", "running")}) == 1
    assert len({stem(word) for word in ("rise", "rises", "rising")}) == 1
    assert len({stem(word) for word in ("fly", "flies")}) == 1
    assert len({stem(word) for word in ("rising", "falling", "left", "right", "red", "ride", "ring")}) == 7


def test_the_captions_of_the_demo_world_pass_both_checks_and_another_ones_caption_passes_neither():
    pairs = held_out_pairs(60)
    assert [pair for pair in pairs if lost(pair.prompt, pair.caption, extract)] == []
    assert [pair for pair in pairs if lost_in_the_demo_world(pair.prompt, pair.caption)] == []
    for a, b in pairwise(pairs):
        missing = lost_in_the_demo_world(a.prompt, b.caption)
        if missing != ["object"]:  # that may be one that nobody asked for, which takes nothing away
            assert bool(lost(a.prompt, b.caption, extract)) == bool(missing)
