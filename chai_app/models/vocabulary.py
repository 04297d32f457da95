"""What a small model knows, and which words of a prompt it has never seen."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

# Words that carry no picture: that a small model never saw them is not worth telling.
_LITTLE_WORDS = (
    "a an and are as at be being by for from has have her his in into is it its of off on one onto or out over some "
    "that the their then there this to up very video was were which while who with"
)
_SILENT = frozenset(_LITTLE_WORDS.split())


@dataclass(frozen=True)
class Vocabulary:
    """The world of a small model: what it can show, and every word that its captions were made of."""

    objects: tuple[str, ...]
    colours: tuple[str, ...]
    scenes: tuple[str, ...]
    motions: tuple[str, ...]
    words: frozenset[str]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Raises: KeyError or TypeError if `values` is not the vocabulary part of a chai.json."""
        lists = {name: tuple(values[name]) for name in ("objects", "colours", "scenes", "motions")}
        phrases = [*values["words"], *(phrase for phrases in lists.values() for phrase in phrases)]
        return cls(**lists, words=frozenset(word for phrase in phrases for word in _words(phrase)))

    def unknown_words(self, prompt: str) -> list[str]:
        """The words of `prompt` that the model never saw, each once, in their order; little words are passed over."""
        return [word for word in dict.fromkeys(_words(prompt)) if word not in self.words and word not in _SILENT]

    def respelled(self, prompt: str) -> str:
        """The prompt with accents taken off words that are known without them: a désert is a desert."""

        def plain(match: re.Match[str]) -> str:
            letters = unicodedata.normalize("NFKD", match[0])
            word = "".join(letter for letter in letters if not unicodedata.combining(letter))
            return word if match[0].lower() not in self.words and word.lower() in self.words else match[0]

        return _WORD.sub(plain, prompt)

    def note(self, prompt: str, model: str) -> str | None:
        """What to tell the person about `prompt`, or None if the model knows all its words."""
        unknown = self.unknown_words(prompt)
        if not unknown:
            return None
        lists = {"object": self.objects, "colour": self.colours, "scene": self.scenes, "motion": self.motions}
        world = ", ".join(
            f"{len(names)} {kind}{'s' * (len(names) > 1)} ({', '.join(names)})"
            for kind, names in lists.items()
            if names
        )
        note = f"The {model} model knows {world}; it has never seen: {', '.join(unknown)}."
        if not self._knows_a_thing(prompt):
            note += " No object or scene that it knows is left, so the video will have little to do with the prompt."
        return note + " For anything else use the real weights, the model opensora-1.2."

    def _knows_a_thing(self, prompt: str) -> bool:
        # Objects and scenes go by more names than the lists tell (a goldfish, the woods), colours and motions are
        # told apart by the lists alone: what is known and is neither counts as a thing.
        manners = {word for phrase in (*self.colours, *self.motions) for word in _words(phrase)}
        return any(word in self.words - manners - _SILENT for word in _words(prompt))


_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
