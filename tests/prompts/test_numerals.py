"""Numbers in words: every number is read, from whatever writes it out, and what is no number is not."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from num2words import num2words

from chai_app.prompts import extract
from chai_app.prompts.numerals import MOST, number_of, read_number, spell

ANY = st.integers(0, MOST) | st.integers(0, 2_000) | st.integers(0, 9).flatmap(lambda k: st.just(10**k - (k > 8)))


@given(ANY)
@settings(max_examples=400, deadline=None)
@example(1_000_001)
@example(MOST)
def test_what_another_library_writes_is_read_and_what_we_write_is_the_same(number):
    words = num2words(number)
    assert number_of(words) == number
    assert spell(number) == words


@given(ANY)
@settings(max_examples=200, deadline=None)
def test_a_number_is_one_number_however_it_is_written(number):
    words = num2words(number)
    for form in (words.replace("-", " "), words.replace(",", ""), words.replace(",", "").replace(" and ", " ")):
        assert number_of(form) == number
    assert number_of(str(number)) == number_of(f"{number:,}") == number


@given(ANY.filter(bool), st.sampled_from(["lantern", "kite", "fox"]))
@settings(max_examples=60, deadline=None)
def test_a_prompt_that_writes_a_number_out_counts_by_it(number, noun):
    plural = noun if number == 1 else {"fox": "foxes"}.get(noun, noun + "s")
    (found,) = extract(f"{num2words(number)} {plural}").objects
    assert (found.head, found.count) == (noun, number)


@given(st.integers(2, 9_999), st.integers(2, 9_999))
@settings(max_examples=60, deadline=None)
def test_two_counts_in_a_prompt_stay_apart(kites, foxes):
    found = extract(f"{num2words(kites)} kites and {num2words(foxes)} foxes").objects
    assert [(each.head, each.count) for each in found] == [("kite", kites), ("fox", foxes)]


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("dozen", 12),
        ("two dozen", 24),
        ("fifteen hundred", 1500),
        ("hundred and one", 101),
        ("1.5 million", 1_500_000),
        ("3 thousand 500", 3500),
        ("12 hundred", 1200),
    ],
)
def test_dozens_mixed_forms_and_bare_multipliers_are_numbers(words, number):
    assert number_of(words) == number


@pytest.mark.parametrize(
    "words",
    ["", "a", "five two", "1,00", "1,2", "2.5", "1.2345 dozen", "twenty twelve", "two hundred and", "and two", "4k"]
    + ["thousand thousand", "one thousand, two", "1234567890", "twenty-ten", "two-thirds", "٣"],
)
def test_what_only_looks_like_a_number_is_none(words):
    assert number_of(words) is None


_PIECES = "a and two ten twenty-one dozen hundred thousand million 7 1,000 , red"


@given(st.lists(st.sampled_from(_PIECES.split())))
@settings(max_examples=300, deadline=None)
def test_reading_goes_forward_takes_what_it_can_and_never_fails(words):
    for start in range(len(words)):
        read = read_number(words, start)
        if read is not None:
            number, end = read
            assert start < end <= len(words)
            assert number_of(" ".join(words[start:end]).replace(" ,", ",")) == number


@pytest.mark.parametrize("number", [-1, MOST + 1])
def test_what_is_too_large_is_not_spelled(number):
    with pytest.raises(ValueError, match="is not from 0 to 999999999"):
        spell(number)


@pytest.mark.parametrize(
    ("prompt", "count", "count_range"),
    [
        ("several lanterns", None, (3, 9)),
        ("a few lanterns", None, (2, 6)),
        ("several hundred lanterns", None, (300, 900)),
        ("dozens of lanterns", None, (24, 99)),
        ("lanterns", None, None),
        ("both lanterns", 2, None),
        ("a couple of lanterns", 2, None),
        ("a couple of dozen lanterns", 24, None),
        ("half a million lanterns", 500_000, None),
        ("a thousand, two red lanterns", 2, None),
    ],
)
def test_what_is_no_exact_number_is_a_range(prompt, count, count_range):
    lantern = extract(prompt).objects[-1]
    assert (lantern.head, lantern.count, lantern.count_range) == ("lantern", count, count_range)


def test_of_what_there_is_none_there_is_no_entity():
    assert [each.head for each in extract("no lanterns, zero kites and a fox").objects] == ["fox"]
