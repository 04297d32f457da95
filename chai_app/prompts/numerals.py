"""Numbers in words and digits, to 999,999,999: "twelve hundred", "2 dozen", "three million and five".

One reading for every number, and none for what only looks like one ("five two", "1,00").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_TO_NINETEEN = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS_FROM_TWENTY = "twenty thirty forty fifty sixty seventy eighty ninety"
_ONES, _TENS = _TO_NINETEEN.split(), _TENS_FROM_TWENTY.split()
_SMALL = {word: number for number, word in enumerate(_ONES, start=1)}
_BY_TEN = {word: 10 * number for number, word in enumerate(_TENS, start=2)}
_GREAT = {"million": 1_000_000, "thousand": 1_000}
MULTIPLIERS = {"dozen": 12, "hundred": 100, **_GREAT}

MOST = 999_999_999
_DIGITS = re.compile(r"\d{1,9}|\d{1,3}(?:,\d{3}){1,2}")
_COMMA_OF_WORDS = re.compile(r"(?<!\d),|,(?!\d)")
_DECIMAL = re.compile(r"\d{1,3}\.\d{1,6}")

# The least and the most that a word for some number stands for; what is above is open, as it is in speech.
RANGES = {
    "several": (3, 9),
    "few": (2, 6),
    "dozens": (24, 99),
    "hundreds": (200, 999),
    "thousands": (2_000, 9_999),
}


def number_of(words: str) -> int | None:
    """The number that `words` say from the first to the last; None if that is none, or no count ("2.5").

    Args:
        words: lower-case, as in "two hundred and five"; "dozen" and "hundred" alone are 12 and 100.
    """
    if words == "zero":
        return 0
    parts = _COMMA_OF_WORDS.sub(" , ", words).split()
    read = read_number(parts, 0)
    return read[0] if read is not None and read[1] == len(parts) else None


def read_number(words: Sequence[str], start: int) -> tuple[int, int] | None:
    """The number that begins at `start` and the place behind it, as many words as make one; None if none begins."""
    decimal = _decimal(words, start)
    if decimal is not None:
        return decimal
    i, total, is_read = start, 0, False
    for word, value in _GREAT.items():
        before = _below_thousand(words, i)
        factor, behind = before if before is not None else (1, i)
        if _at(words, behind) != word or (before is None and is_read) or (word == "thousand" and factor > 999):
            continue
        total, i, is_read = total + factor * value, behind + 1, True
        joined = i + (_at(words, i) in ("and", ","))
        if _below_thousand(words, joined) is None:
            return total, i
        i = joined
    rest = _below_thousand(words, i)
    if rest is None:
        return (total, i) if is_read else None
    value, behind = rest
    if is_read and (value > 999 or (words[i - 1] == "," and value < 100)):  # a thousand, two dogs: two numbers
        return total, i - (words[i - 1] in ("and", ","))
    return total + value, behind


def spell(number: int) -> str:
    """The number in words, the way it is written out in British English.

    Raises: ValueError below 0 and above 999,999,999.
    """
    if not 0 <= number <= MOST:
        raise ValueError(f"{number} is not from 0 to {MOST}")
    parts = []
    rest = number
    for word, value in _GREAT.items():
        if rest >= value:
            parts.append(f"{_spell_below_thousand(rest // value)} {word}")
            rest %= value
    if not rest:
        return ", ".join(parts) or "zero"
    if parts and rest < 100:
        return f"{', '.join(parts)} and {_spell_below_thousand(rest)}"
    return ", ".join([*parts, _spell_below_thousand(rest)])


def _spell_below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    words = [f"{_ONES[hundreds - 1]} hundred"] if hundreds else []
    if rest >= 20:
        tens, ones = divmod(rest, 10)
        words.append(_TENS[tens - 2] + (f"-{_ONES[ones - 1]}" if ones else ""))
    elif rest:
        words.append(_ONES[rest - 1])
    return " and ".join(words)


def _at(words: Sequence[str], i: int) -> str:
    return words[i] if 0 <= i < len(words) else ""


def _decimal(words: Sequence[str], start: int) -> tuple[int, int] | None:
    """1.5 million; what does not come out whole is no count."""
    value = MULTIPLIERS.get(_at(words, start + 1))
    if value is None or not _DECIMAL.fullmatch(_at(words, start)):
        return None
    whole, _, fraction = words[start].partition(".")
    number, rest = divmod(int(whole + fraction) * value, 10 ** len(fraction))
    return None if rest else (number, start + 2)


def _below_thousand(words: Sequence[str], start: int) -> tuple[int, int] | None:
    """Up to "nine hundred and ninety-nine"; also digits, "two dozen" and "fifteen hundred"."""
    first = _digits(words, start) or _below_hundred(words, start)
    value, i = first if first is not None else (1, start)
    if _at(words, i) == "dozen":
        return value * 12, i + 1
    if _at(words, i) != "hundred" or value > 99:
        return first
    value, i = value * 100, i + 1
    rest = _below_hundred(words, i + (_at(words, i) == "and"))
    return (value + rest[0], rest[1]) if rest is not None else (value, i)


def _below_hundred(words: Sequence[str], i: int) -> tuple[int, int] | None:
    word = _at(words, i)
    if word in _SMALL:
        return _SMALL[word], i + 1
    tens, _, ones = word.partition("-")  # twenty-one
    if tens not in _BY_TEN:
        return None
    if ones:
        return (_BY_TEN[tens] + _SMALL[ones], i + 1) if _SMALL.get(ones, 10) < 10 else None
    following = _SMALL.get(_at(words, i + 1), 10)
    return (_BY_TEN[tens] + following, i + 2) if following < 10 else (_BY_TEN[tens], i + 1)


def _digits(words: Sequence[str], i: int) -> tuple[int, int] | None:
    word = _at(words, i)
    if not word.isascii() or not _DIGITS.fullmatch(word):
        return None
    return int(word.replace(",", "")), i + 1
