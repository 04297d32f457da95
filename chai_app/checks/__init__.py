"""What comes from elsewhere is looked at before anything works with it: texts of people, values out of files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import BadRequest

_MOST = 1e300  # what is no number, or is infinite, is not below it
LONGEST_TEXT = 50_000
LONGEST_WORD = 500
"""Tokenisers take time with the square of a word's length: one of 32,000 characters took 20 s."""

_NO_CHARACTER = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")  # a terminal would obey them


def check_text(what: str, text: str) -> None:
    """Look at a text in no time, whatever it is.

    Args:
        what: the text's name in the sentence for the person, such as "The prompt".
    Raises: BadRequest if it or one of its words is too long, or if it holds what is no character.
    """
    if len(text) > LONGEST_TEXT:
        raise BadRequest(f"{what} has {len(text):,} characters, and {LONGEST_TEXT:,} is the most: make it shorter.")
    longest = max(text.split(), key=len, default="")
    if len(longest) > LONGEST_WORD:
        raise BadRequest(
            f"{what} has a word of {len(longest):,} characters ({longest[:20]!r}...), and {LONGEST_WORD} is the most: "
            f"put spaces between words."
        )
    found = _NO_CHARACTER.search(text)
    if found is not None:
        raise BadRequest(f"{what} holds {found.group()!r}, which cannot be shown: take it out.")


def check_fields(cls: type, values: Mapping[str, Any]) -> None:
    """Look at values out of a file against the types of the dataclass that they are to become.

    Raises: TypeError, naming the field, for the first value that is not of its field's type.
    """
    hints = get_type_hints(cls)
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise TypeError(f"{name} is {str(value)[:40]!r}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, lists standing in for tuples as in JSON; numbers are finite."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in args)
    if origin is Literal:
        return isinstance(value, str) and value in args
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(each, args[0]) for each in value)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(_fits(k, args[0]) and _fits(v, args[1]) for k, v in value.items())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, NoneType if hint is None else hint)
