"""What was asked for stays: a prompt and what became of it, compared thing by thing and word by word."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


class Mention(Protocol):
    """A thing or place: its noun in the singular, the words before it, and how many (None: not told)."""

    @property
    def head(self) -> str: ...
    @property
    def phrase(self) -> str: ...
    @property
    def attributes(self) -> tuple[str, ...]: ...
    @property
    def count(self) -> int | None: ...


class Mentions(Protocol):
    """What a text names."""

    @property
    def objects(self) -> Sequence[Mention]: ...
    @property
    def scenes(self) -> Sequence[Mention]: ...


MentionsOf = Callable[[str], Mentions]

_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
_SUFFIXES = ("ingly", "ing", "ed", "ly", "es", "s", "e")
# Words that tie others together, that say how the video is made, or that a count already says.
_FREE_WORDS = """
    a an the this that these those some any all of in on at by to from with and or but over for as it its his her their
    my your our us we i you he she they them there here which who while when where into onto inside through among
    between near across along around against is are was were be been being am has have had do does can could will would
    should please make show me video clip film animation scene shot footage picture image short pair couple one two
    three four five six seven eight nine ten
"""
_FREE = frozenset(_FREE_WORDS.split())


def lost(prompt: str, text: str, mentions_of: MentionsOf) -> list[str]:
    """What `prompt` asks for and `text` no longer says, in the words of the prompt.

    A thing is kept if `text` has one with the same noun, at least the same attributes, and the same count if there was
    one. All other words but the small ones are looked for by their stems: that is how a movement is kept.
    """
    asked, got = mentions_of(prompt), mentions_of(text)
    candidates = [[stem(word) for word in _words(entity)] for entity in (*got.objects, *got.scenes)]
    counts = [entity.count for entity in (*got.objects, *got.scenes)]
    found = Found(candidates, counts, [stem(word) for word in _WORD.findall(text.lower())])
    missing = [entity.phrase for entity in (*asked.objects, *asked.scenes) if not found.keeps(entity)]
    there = set(found.words)
    said = {stem(word) for phrase in missing for word in _WORD.findall(phrase)}
    for word in _WORD.findall(prompt.lower()):
        if word not in _FREE and not word.isdigit() and stem(word) not in there | said:
            missing.append(word)
    return list(dict.fromkeys(missing))


def stem(word: str) -> str:
    """A word without its ending, so that "rises", "rising" and "rise" are one."""
    word = word.lower().replace("’", "'").removesuffix("'s")
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word[: -len(suffix)]
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiou":  # "running", "run"
        word = word[:-1]
    return word[:-1] + "i" if word.endswith("y") else word  # "flies", "fly"


@dataclass(frozen=True)
class Found:
    """What the new text has, in stems: the words and the count of each thing or place, and all words in a row."""

    things: list[list[str]]
    counts: list[int | None]
    words: list[str]

    def keeps(self, entity: Mention) -> bool:
        """Whether an entity of the prompt is in the text."""
        is_plural = entity.count is None and entity.phrase.split()[-1] != entity.head.split()[-1]
        return self._has([stem(word) for word in _words(entity)], entity.count, is_plural)

    def _has(self, words: list[str], count: int | None, is_plural: bool) -> bool:
        """Whether one thing has all the words, or several in a row have: "red balloon desert" without a preposition
        reads as one thing, and is kept as a red balloon and a desert."""
        is_seen = False
        for its_words, its_count in zip(self.things, self.counts, strict=True):
            is_seen = is_seen or words[-1] in its_words
            is_same_count = count in (None, its_count) and not (is_plural and its_count == 1)
            if its_words[-1] == words[-1] and is_same_count and set(words) <= set(its_words):
                return True
        if not is_seen and self._says(words):  # what the reader of entities took for something else
            return True
        return any(
            self._has(words[:i], count, False) and self._has(words[i:], None, is_plural) for i in range(1, len(words))
        )

    def _says(self, words: list[str]) -> bool:
        size = len(words)
        return any(self.words[i : i + size] == words for i in range(len(self.words) - size + 1))


def _words(entity: Mention) -> list[str]:
    return [*entity.attributes, *entity.head.split()]
