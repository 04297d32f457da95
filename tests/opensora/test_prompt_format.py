"""Scores at the end of a prompt, and texts for loops."""

import pytest

from chai_app.errors import BadRequest
from chai_app.opensora.prompt_format import split_loops, text_for_loop, with_scores


def test_scores_follow_the_prompt_in_the_order_of_the_training():
    assert with_scores("A day", 6.5, 5, "pan right") == (
        "A day aesthetic score: 6.5. motion score: 5.0. camera motion: pan right."
    )
    assert with_scores("A day", motion_score=4.26) == "A day motion score: 4.3."
    assert with_scores("A day") == "A day"


def test_a_score_that_the_prompt_names_is_left_alone():
    prompt = "A day aesthetic score: 4.0. camera motion: static."
    assert with_scores(prompt, 6.5, None, "pan right") == prompt
    assert with_scores(prompt, 6.5, 5.0) == prompt + " motion score: 5.0."


def test_each_loop_has_the_last_text_that_has_begun():
    prompt = "|0| a sunny day |2| a rainy day, 1 | 2 |5|snow"
    assert split_loops(prompt) == [(0, "a sunny day"), (2, "a rainy day, 1 | 2"), (5, "snow")]
    assert [text_for_loop(prompt, loop) for loop in (0, 1, 2, 4, 5, 9)] == [
        *["a sunny day"] * 2,
        *["a rainy day, 1 | 2"] * 2,
        *["snow"] * 2,
    ]


def test_a_prompt_without_loops_is_one_text():
    for prompt in ("a sunny day", "a |1| day", "", "cat | dog | | hen"):
        assert split_loops(prompt) == [(0, prompt)]
        assert text_for_loop(prompt, 3) == prompt


@pytest.mark.parametrize("prompt", ["|0| a |0| b", "|0| a |2| b |1| c"])
def test_loops_that_do_not_go_up_are_refused(prompt):
    with pytest.raises(BadRequest, match=r"^The loops of a prompt must go up, .*\.$"):
        split_loops(prompt)
