"""What every text has to be before anything looks into it: as long as a person writes, and made of characters."""

from __future__ import annotations

import re

from .errors import BadRequest

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
        raise BadRequest(f"{what} holds {found.group()!r}, which is no character that can be shown: take it out.")
