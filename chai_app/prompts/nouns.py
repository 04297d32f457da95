"""What is known of nouns, their class and their singular: nouns.txt has it, derive_nouns.py tells where it is from."""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path

_FILE = Path(__file__).parent / "nouns.txt"
_KINDS = ("place", "building", "either", "medium", "planet", "plant", "picture", "thing", "group", "abstract", "action")
# Classes of what a camera sees. A noun that is not in the file is taken for a thing.
SEEN = frozenset(("place", "building", "either", "medium", "planet", "plant", "picture", "thing", "group"))
MAX_COMPOUND = 4  # words; longer compounds are too rare to look for


@cache
def _sections() -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = sections.setdefault(line[1:-1], [])
        elif not line.startswith("#"):
            section.append(line)
    return sections


@cache
def _kinds() -> dict[str, str]:
    return {word: kind for kind in _KINDS for word in _sections()[kind]}


@cache
def _words(section: str) -> frozenset[str]:
    return frozenset(_sections()[section])


@cache
def _singulars() -> dict[str, str]:
    irregular = dict(pair.split("=") for pair in _sections()["irregular plural"])
    return irregular | {word: word for word in _sections()["singular in s"]}


def kind_of(words: str) -> str | None:
    """The class of a noun or compound, in the singular or plural; None if the file does not list it."""
    kinds, words = _kinds(), words if words.isascii() else _without_accents(words)
    return kinds.get(words) or kinds.get(singular(words)) or kinds.get(words.rsplit("-", 1)[-1])


def _without_accents(words: str) -> str:
    letters = unicodedata.normalize("NFKD", words)  # a letter, then its accents
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def is_seen(word: str) -> bool:
    """Whether the file lists the word as a noun for something that a camera sees."""
    return kind_of(word) in SEEN


def is_adjective_first(word: str) -> bool:
    """Whether the word is a noun, too, but an adjective more often."""
    return word in _words("adjective first")


def is_gerund(word: str) -> bool:
    """Whether a word in -ing is a verb rather than a noun."""
    return word.endswith("ing") and len(word) > 4 and word not in _words("noun in ing")


def is_animal_group(noun: str) -> bool:
    """Whether the word, before "of", may stand for many animals: a herd, but also a school."""
    return singular(noun) in _words("animal group")


def is_body_part(noun: str) -> bool:
    return singular(noun) in _words("body part")


def is_verb(word: str) -> bool:
    """Whether the word is a verb as it stands, without an ending."""
    return word in _words("verb")


def is_third_person(word: str) -> bool:
    """Whether the word is a verb with the s of "it sprays", whatever else it is."""
    return word.endswith("s") and any(is_verb(stem) for stem in _without_s(word))


def is_verb_first(word: str) -> bool:
    """Whether the word is met more often as a verb than as a noun, as it stands or with an s."""
    return any(stem in _words("verb first") or kind_of(stem) == "action" for stem in (word, *_without_s(word)))


def _without_s(word: str) -> tuple[str, ...]:
    if word.endswith("ies"):
        return (word[:-3] + "y", word[:-1])
    if word.endswith(("sses", "shes", "ches", "xes", "zzes", "oes")):
        return (word[:-2], word[:-1])
    return (word[:-1],) if word.endswith("s") and not word.endswith("ss") else ()


def longest_compound(words: list[str]) -> tuple[int, str | None]:
    """How many words at the end of `words` are a listed compound, and its class: (1, None) if they are none."""
    for length in range(min(MAX_COMPOUND, len(words)), 1, -1):
        kind = kind_of(" ".join(words[-length:]))
        if kind is not None:
            return length, kind
    return 1, None


def is_plural(word: str) -> bool:
    return singular(word) != word


def singular(words: str) -> str:
    """The singular of a noun or compound; a word that is no plural comes back as it is."""
    start, space, word = words.rpartition(" ")
    return start + space + _singular_word(word)


def _singular_word(word: str) -> str:
    known = _singulars().get(word)
    if known is not None:
        return known
    if word.endswith("men") and word not in _kinds():
        return word[:-3] + "man"
    if len(word) < 4 or word in _kinds() or not word.endswith("s") or word.endswith(("ss", "us")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("es") and word[:-2] in _singulars():  # walruses
        return word[:-2]
    if word.endswith(("sses", "shes", "ches", "xes", "zzes")):
        return word[:-2]
    return word[:-1]
