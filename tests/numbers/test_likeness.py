"""How alike two counts are: 1 for equal ones, less for every further one, and the same wherever counts are kept."""

import copy
import json
import sqlite3

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chai_app.engine.donors import count_of, gate
from chai_app.numbers import CountLikeness, CountRange, count_likeness
from chai_app.numbers.likeness import TENTH, shipped_states
from chai_app.numbers.make_assets import shipped_networks
from chai_app.prompts import extract

COUNTS = st.integers(1, 120) | st.integers(1, 10**9)


def test_the_shipped_networks_count_to_99_without_a_slip():
    assert shipped_networks().is_right(torch.arange(99)).all()


def test_states_without_torch_are_those_of_the_networks():
    states = shipped_networks().hidden(torch.arange(100)).numpy()
    np.testing.assert_allclose(shipped_states(), states, atol=1e-5)  # fp32 against fp64


@given(COUNTS, COUNTS)
def test_equal_counts_are_alike_and_no_others_are(a, b):
    likeness = count_likeness()(a, b)
    assert (likeness == 1) == (a == b)
    assert 0 <= likeness <= 1
    assert likeness == count_likeness()(b, a)


@given(COUNTS, COUNTS, COUNTS)
def test_of_two_counts_on_one_side_the_nearer_is_more_alike(a, b, c):
    least, middle, most = sorted((a, b, c))
    likeness = count_likeness()
    if least < middle < most:
        assert likeness(most, least) < likeness(most, middle)
        assert likeness(least, most) < likeness(least, middle)


def test_a_tenth_more_is_what_the_strictest_default_lets_through():
    differ = [count_likeness()(n, 11 * n // 10) for n in range(10, 91, 10)]
    assert np.mean(differ) == pytest.approx(TENTH, abs=0.005)
    assert 0.6 < count_likeness()(3, 2) < 0.8


def test_a_count_that_is_not_said_stands_in_no_way():
    assert count_likeness()(None, 9) == count_likeness()(3, None) == count_likeness()(None, None) == 1


def test_nothing_is_like_nothing_only():
    assert count_likeness()(0, 0) == 1
    assert count_likeness()(3, 0) == count_likeness()(0, 3) == 0


@given(st.integers(1, 40))
def test_a_range_is_served_by_all_within_it_and_less_by_those_further_off(found):
    several = CountRange(3, 9)
    likeness = count_likeness()(several, found)
    assert (likeness == 1) == (3 <= found <= 9)
    if found > 9:
        assert count_likeness()(several, found + 1) < likeness == count_likeness()(9, found)


def test_networks_with_larger_states_count_no_more_than_others():
    states = shipped_states()[:2]
    larger = np.stack([states[0] * 5, states[1]])
    assert CountLikeness(larger)(3, 2) == pytest.approx(CountLikeness(states)(3, 2))


def test_a_range_is_kept_as_its_middle_and_remembers_its_ends_in_memory():
    several = CountRange(3, 9)
    assert (int(several), str(several), f"{several}") == (5, "3 to 9", "3 to 9")
    again = copy.deepcopy(several)
    assert (again, again.least, again.most) == (5, 3, 9)
    assert json.loads(json.dumps(several)) == 5
    (kept,) = sqlite3.connect(":memory:").execute("SELECT ?", (several,)).fetchone()
    assert type(kept) is int and kept == 5
    with pytest.raises(ValueError, match="a count from 9 to 3 is none"):
        CountRange(9, 3)


@pytest.mark.parametrize(
    ("prompt", "expected"), [("three kites", 3), ("several kites", 5), ("a few kites", 3), ("kites", None)]
)
def test_what_a_prompt_says_is_what_is_filed(prompt, expected):
    (kites,) = extract(prompt).objects
    assert count_of(kites) == expected


def test_the_gate_can_be_strict_or_off():
    assert [gate("equal")(3, found) for found in (3, 2, None)] == [1, 0, 1]
    assert [gate("equal")(CountRange(3, 9), found) for found in (3, 9, 10)] == [1, 1, 0]
    assert [gate("off")(3, found) for found in (3, 2, 900)] == [1, 1, 1]
    assert gate("on") is count_likeness()
