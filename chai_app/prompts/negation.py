"""What a prompt says is not there: which of its words stand under a negation.

A negation reaches as far as its clause lets it: "without" takes the noun phrases that follow, joined by "or", "nor" or
"and"; "not" in front of a verb takes the verb's object, or where it has none what its first preposition leads to. What
comes after that, a place above all, is there again: no people *in the street*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .roles import Role
from .words import DEFINITE, DEGREES, GONE, HAVING, POSITIVE_NEXT, SHOWN

# What governs the noun phrases behind it as "without" does.
_WITHOUT = (
    "without", "sans", "minus", "lacking", "excluding", "except", "except for", "except from", "apart from",
    "aside from", "other than", "instead of", "in place of", "rather than", "as opposed to", "unlike", "free of",
    "free from", "devoid of", "void of", "bare of", "empty of", "clear of", "lack of", "absence of", "missing", "avoid",
    "avoiding", "exclude", "omit", "omitting", "leave out", "leaving out", "anything but", "everything but",
    "everyone but", "with the exception of", "hardly any", "barely any", "neither", "nor", "lacks", "ignore",
)  # fmt: skip
_NOT = ("not", "never", "no longer", "nobody", "no one", "none", "none of")
_NO_SUBJECT = ("nobody", "no one", "none", "none of")
_EXCEPT = ("except", "except for", "other than", "apart from", "but")  # nothing, except a piano: there is a piano
_LONGEST_CUE = 4
_REACH = 24  # words that a list of nouns goes on for, at most

Ends = Callable[[list[Role], int], int]
"""Where the noun phrase that begins at a place ends; the place itself if none begins there."""


@dataclass(frozen=True)
class _Clause:
    words: Sequence[str]
    roles: list[Role]
    end_of: Ends

    def word(self, i: int) -> str:
        return self.words[i] if i < len(self.words) else ""

    def role(self, i: int) -> Role:
        return self.roles[i] if 0 <= i < len(self.roles) else "break"

    def phrase(self, i: int) -> int:
        """The end of the noun phrase at `i`, `i` if there is none."""
        if i >= len(self.roles):
            return i
        end = self.end_of(self.roles, i)
        return end if "noun" in self.roles[i:end] else i


def find_negated(words: Sequence[str], roles: list[Role], end_of: Ends) -> list[bool]:
    """Which words stand under a negation. The words of the negation itself lose their role as nouns in `roles`.

    Args:
        words: lower-case.
    """
    negated = [False] * len(words)
    clause = _Clause(words, roles, end_of)
    i = 0
    while i < len(words):
        length = _cue(words, i, _WITHOUT)
        if length:
            if _is_said_of(clause, i):
                _mark_subject(clause, i, negated)
            elif words[i] not in ("missing", "minus") or clause.phrase(i + 1) > i + 1:
                roles[i : i + length] = ["preposition"] * length
                is_twice = " ".join(words[i : i + length]) in _EXCEPT and any(negated[max(0, i - 4) : i])
                if not is_twice:
                    _after_preposition(clause, i + length, negated)
        elif length := _cue(words, i, _NOT):
            is_subject = " ".join(words[i : i + length]) in _NO_SUBJECT
            roles[i : i + length] = ["adverb"] * length
            if clause.word(i + length) in SHOWN or clause.word(i + length) in GONE:
                _mark_subject(clause, i, negated)
            elif clause.word(i + length) not in POSITIVE_NEXT:
                _after_not(clause, i + length, negated, is_subject)
        elif words[i] == "no" and roles[i] == "determiner":
            length = max(1, clause.phrase(i) - i)
            end = _mark_list(clause, i, negated, is_of_no=True)
            if clause.role(end) == "verb":
                behind = end + 1
                if {clause.word(end), clause.word(behind)} & (GONE | SHOWN):
                    length = 1
                else:
                    _after_verb(clause, end, negated)
        elif words[i] in GONE and _is_said_of(clause, i):
            _mark_subject(clause, i, negated)
        i += max(1, length)
    return negated


def _cue(words: Sequence[str], i: int, cues: tuple[str, ...]) -> int:
    """How many words of the longest cue begin at `i`; 0 if none does."""
    for length in range(_LONGEST_CUE, 0, -1):
        if " ".join(words[i : i + length]) in cues and i + length <= len(words):
            return length
    return 0


def _is_said_of(clause: _Clause, i: int) -> bool:
    """Whether the word is said of a noun before it: the moon is missing."""
    is_last = clause.phrase(i + 1) == i + 1
    return clause.words[i] in GONE and is_last and clause.role(i - 1) in ("verb", "adverb")


def _mark_subject(clause: _Clause, i: int, negated: list[bool]) -> None:
    while i > 0 and clause.role(i - 1) in ("verb", "adverb"):
        i -= 1
    while i > 0 and clause.role(i - 1) in ("noun", "adjective"):
        i -= 1
        negated[i] = True


def _after_preposition(clause: _Clause, i: int, negated: list[bool]) -> None:
    if clause.phrase(i) > i:
        _mark_list(clause, i, negated)
    else:
        _after_not(clause, i, negated)  # instead of riding a horse; rather than on a chair


def _after_not(clause: _Clause, i: int, negated: list[bool], is_subject: bool = False) -> None:
    if is_subject and clause.role(i) in ("pronoun", "determiner") and clause.role(i + 1) == "verb":
        i += 1  # none of them wears
    while clause.role(i) == "adverb" or clause.word(i) in DEGREES or clause.word(i) in ("else", "yet"):
        if clause.word(i) in DEGREES:
            return
        i += 1
    if clause.role(i) == "verb" or clause.word(i - 2) in ("do", "does", "did"):
        _after_verb(clause, i, negated)
    elif is_subject:
        return
    elif clause.role(i) == "preposition":
        _mark_list(clause, i + 1, negated)
    else:
        _mark_list(clause, i, negated)


def _after_verb(clause: _Clause, i: int, negated: list[bool]) -> None:
    """The object of a verb that is negated; without one, what its preposition leads to."""
    first = i
    i += 1
    while clause.role(i) in ("verb", "adverb", "place adverb"):
        i += 1
    is_had = bool(HAVING & set(clause.words[first:i]))
    if clause.role(i) == "preposition" and clause.role(i - 1) != "noun":
        i += 1
        while clause.role(i) == "preposition":
            i += 1
    end = clause.phrase(i)
    is_known = clause.word(i) in DEFINITE and not is_had
    if end > i and (not is_known or clause.word(end + (clause.role(end) == "comma")) in ("but", "instead")):
        _mark_list(clause, i, negated)


def _mark_list(clause: _Clause, i: int, negated: list[bool], is_of_no: bool = False) -> int:
    """Mark a noun phrase and those that are joined to it; the place behind them."""
    end = clause.phrase(i)
    is_bare = clause.role(i) != "determiner" or clause.word(i) in ("no", "any")
    if end == i:
        return i
    while True:
        negated[i:end] = [True] * (end - i)
        if clause.word(end) == "of" and clause.phrase(end + 1) > end + 1:  # a bowl of fruit
            i, end = end + 1, clause.phrase(end + 1)
            continue
        start = _next_of_list(clause, end, is_bare, is_of_no)
        if start is None:
            return end
        i, end = start, clause.phrase(start)


def _next_of_list(clause: _Clause, end: int, is_bare: bool, is_of_no: bool) -> int | None:
    """Where the next noun phrase of the list begins that ended at `end`; None if the list ends there."""
    has_comma = clause.role(end) == "comma"
    start = end + has_comma
    joint = clause.word(start)
    if joint in ("or", "nor", "and", "&"):
        start += 1
        if clause.phrase(start) == start or clause.word(start) == "not":
            return None
        goes_on = clause.role(start) not in ("determiner", "number") or not is_of_no
        return start if joint in ("or", "nor") or (goes_on and (not has_comma or is_bare)) else None
    if not has_comma or clause.phrase(start) == start:
        return None
    # A comma joins where an "or" comes at the end, and an "and" where none of them has an article.
    i, all_bare = start, is_bare
    while i < min(len(clause.words), end + _REACH):
        all_bare &= clause.role(i) != "determiner"
        behind = clause.phrase(i)
        if behind == i:
            return None
        i = behind + (clause.role(behind) == "comma")
        joint = clause.word(i)
        if joint in ("or", "nor"):
            return start
        if joint in ("and", "&"):
            return start if all_bare and clause.role(i + 1) != "determiner" and clause.phrase(i + 1) > i + 1 else None
        if i == behind:
            return None
    return None
