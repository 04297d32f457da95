"""Noun phrases: which words belong together, which of them is the head, how many there are, and what leads to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .negation import find_negated
from .nouns import is_animal_group, is_plural, is_seen, kind_of, longest_compound, singular
from .numerals import MULTIPLIERS, RANGES, number_of, read_number
from .roles import Role, find_roles
from .words import (
    CAMERA_MOVES,
    CONJUNCTIONS,
    CONTAINING,
    COUNTED_GROUPS,
    CUTS,
    DIRECTIONS,
    FRAMING,
    FRAMING_NAMES,
    INSIDES,
    MAKING,
    PAIRED,
    PERHAPS_FRAMING,
    QUANTITIES,
    RELATIONS,
    SIDES,
    SINGULAR_DETERMINERS,
    TAKING,
    VAGUE_NUMBERS,
)

_REACH = 8  # words to look ahead for the noun of several adjectives


@dataclass(frozen=True)
class NounPhrase:
    """A noun phrase and how it stands in the prompt.

    `words` are lower-case, without articles; `determiner` is the last article or its like, or "". `kind` is the class
    of the noun, None if it is not known. `preposition` is what leads to the phrase, or "". `begins` and `ends` tell
    that a comma or nothing stands before and behind it, `is_shown` that "the video shows" it, `is_done` that a
    verb stands before it, `is_material` that something is made of it, `is_owner` that a
    possessive follows. `count_range` is the least and the most of a count that is given as a range. `is_negated` tells
    that the prompt says it is not there, `is_first` that nothing stands before it.
    """

    words: tuple[str, ...]
    head: str
    attributes: tuple[str, ...] = ()
    count: int | None = None
    count_range: tuple[int, int] | None = None
    kind: str | None = None
    is_plural: bool = False
    is_name: bool = False
    determiner: str = ""
    preposition: str = ""
    begins: bool = False
    ends: bool = False
    is_shown: bool = False
    is_done: bool = False
    is_material: bool = False
    is_owner: bool = False
    is_negated: bool = False
    is_first: bool = False

    @property
    def is_alone(self) -> bool:
        """Whether nothing else stands between two commas."""
        return self.begins and self.ends

    @property
    def is_framing(self) -> bool:
        return self.words[-1] in FRAMING or self.words[0] in FRAMING_NAMES

    @property
    def is_bare_name(self) -> bool:
        """Whether it may be a name: no article, nothing that is known, and a capital or the first place."""
        return not self.determiner and self.kind is None and (self.is_name or self.is_first)

    @property
    def is_vague(self) -> bool:
        """Whether "of" and the phrase that follows tell what is meant: a lot of, a group of."""
        is_many = self.words[-1] in QUANTITIES or is_animal_group(self.words[-1])
        return self.kind in ("group", "abstract", "action") or is_many

    @property
    def may_be_framing(self) -> bool:
        return self.kind == "picture" or self.words[-1] in PERHAPS_FRAMING

    @property
    def is_relation(self) -> bool:
        # A street corner and the moon surface are places themselves, and so is a surface that is rocky, or lunar.
        is_place = len(self.words) > 1 and (
            kind_of(self.words[-2]) in ("place", "planet") or self.words[-1] == "surface"
        )
        return self.words[-1] in RELATIONS and not is_place


def find_phrases(words: list[str], tags: list[str]) -> list[NounPhrase]:
    """The noun phrases in their order; one that only leads to another ("a pair of", "the edge of") is made part of it.

    Args:
        words: as `split_words` parts them.
        tags: one Penn Treebank tag for each.
    """
    words, tags = _with_whole_numbers(words, tags)
    lower = [word.lower() for word in words]
    roles = _without_credits(lower, words, _without_set_terms(lower, find_roles(lower, tags)))
    is_name = _are_names(words, roles)
    is_negated = find_negated(lower, roles, _end)
    phrases: list[NounPhrase] = []
    preposition, i = "", 0
    while i < len(lower):
        end = _end(roles, i)
        phrase = _make(lower[i:end], roles[i:end], is_name[i:end])
        if phrase is not None:
            is_material = lower[max(0, i - 2) : i] in (
                ["made", "of"],
                ["built", "of"],
                ["carved", "from"],
                ["made", "from"],
            )
            shows = roles[i - 1 : i] == ["verb"] and bool(phrases) and phrases[-1].is_framing
            is_owner = end < len(roles) and roles[end] == "possessive"
            has_owner = i > 0 and roles[i - 1] == "possessive"  # a girl's bicycle is one bicycle
            count = 1 if has_owner and phrase.count is None and not phrase.is_plural else phrase.count
            phrase = replace(
                phrase,
                count=count,
                preposition=preposition,
                begins=_parts(roles, i - 1),
                ends=_parts(roles, end),
                is_shown=shows,
                is_done=roles[i - 1 : i] == ["verb"],
                is_material=is_material,
                is_owner=is_owner,
                is_negated=any(is_negated[i:end]),
                is_first=not phrases,
            )
            if phrase.is_framing and phrases and phrases[-1].is_owner:  # a bird's eye view
                phrases.pop()
            _append(phrases, phrase, lower[i - 1] if i else "", roles[i - 2] if i > 1 else "break")
        if roles[i] == "preposition":
            preposition = lower[i]
        elif phrase is not None or roles[i] not in ("adverb", "determiner"):
            preposition = ""
        i = max(end, i + 1)
    return phrases


def _with_whole_numbers(words: list[str], tags: list[str]) -> tuple[list[str], list[str]]:
    """The words and tags with one item for each number: "two hundred and five"."""
    lower = [word.lower() for word in words]
    whole_words, whole_tags, i = [], [], 0
    while i < len(words):
        read = read_number(lower, i)
        end = i + 1 if read is None else read[1]
        whole_words.append(" ".join(words[i:end]).replace(" ,", ","))
        whole_tags.append(tags[i])
        i = end
    return whole_words, whole_tags


def _without_set_terms(words: list[str], roles: list[Role]) -> list[Role]:
    """Make breaks of "zoom in", "pan left", "racking focus", and an adverb of "hand in hand"."""
    roles = list(roles)
    for i in range(len(words) - 1):
        is_free = i == 0 or roles[i - 1] not in ("determiner", "number", "adjective", "possessive")
        if is_free and words[i] in CAMERA_MOVES and words[i + 1] in DIRECTIONS:
            roles[i] = roles[i + 1] = "break"
        if is_free and roles[i : i + 3] == ["noun", "preposition", "noun"] and words[i] == words[i + 2]:
            roles[i : i + 3] = ["adverb"] * 3  # hand in hand
    return roles


def _without_credits(words: list[str], written: list[str], roles: list[Role]) -> list[Role]:
    """Make breaks of who or what a picture is made by, or like, and of the way from one picture to the next: in the
    style of a woodcut, painted by Hokusai, shot on iPhone 15, cut to."""
    roles = list(roles)
    for i, word in enumerate(words[:-1]):
        following, start = words[i + 1], i + 2
        if start >= len(words):
            break
        has_name = roles[start] != "determiner" and (written[start][0].isupper() or word in MAKING)
        is_like = following == "of" and word in ("style", "styles", "manner", "spirit", "vein")
        is_by = following == "by" and (word in MAKING or (roles[i] in ("comma", "break") and has_name)) and has_name
        is_on = following in ("on", "with", "using") and word in TAKING and (has_name or roles[start] == "number")
        if is_like or is_by or is_on:
            end = _end_of_credit(roles, start)
            roles[i:end] = ["break"] * (end - i)
        elif (
            following == "to"
            and word in CUTS
            and (i == 0 or roles[i - 1] in ("break", "comma", "conjunction", "adverb"))
        ):
            roles[i:start] = ["break"] * 2
    return roles


def _end_of_credit(roles: list[Role], i: int) -> int:
    while i < len(roles):
        end = _end(roles, i)
        if end > i:
            i = end
        elif roles[i] in ("possessive", "number") or (roles[i] == "conjunction" and roles[i + 1 : i + 2] == ["noun"]):
            i += 1
        else:
            break
    return i


def _are_names(words: list[str], roles: list[Role]) -> list[bool]:
    """Which words have a capital that no beginning of a sentence and no Title Case accounts for."""
    first_letters = [word[0] for word, role in zip(words, roles) if role not in ("break", "comma", "possessive")]
    if 2 * sum(letter.isupper() for letter in first_letters) > len(first_letters):
        return [False] * len(words)
    return [word[0].isupper() and i > 0 and roles[i - 1] != "break" for i, word in enumerate(words)]


def _parts(roles: list[Role], i: int) -> bool:
    return not 0 <= i < len(roles) or roles[i] in ("break", "comma")


def _end(roles: list[Role], start: int) -> int:
    """Where the phrase that begins at `start` ends; `start` itself if none begins there."""
    if roles[start] == "place adverb" and not (start + 1 < len(roles) and roles[start + 1] in ("adjective", "noun")):
        return start + 1
    i, has_noun, has_number = start, False, False
    while i < len(roles):
        role, after = roles[i], roles[i + 1] if i + 1 < len(roles) else "break"
        is_joint = (
            role in ("conjunction", "comma") and i > start and roles[i - 1] == "adjective" and after == "adjective"
        )
        if role == "noun":
            has_noun = True
        elif role == "adjective":
            if has_noun and after not in ("noun", "adjective"):
                break
        elif role in ("determiner", "number"):
            if has_noun or (role == "determiner" and i > start and roles[i - 1] != "determiner" and not has_number):
                break
            has_number |= role == "number"
        elif role == "adverb" or (role == "place adverb" and not has_noun):
            if has_noun or i + 1 == len(roles) or after not in ("adjective", "noun"):
                break
        elif not is_joint or has_noun or not _leads_to_noun(roles, i + 1):
            break
        i += 1
    return i


def _leads_to_noun(roles: list[Role], i: int) -> bool:
    following = (role for role in roles[i : i + _REACH] if role not in ("adjective", "conjunction", "comma"))
    return next(following, None) == "noun"


def _make(words: list[str], roles: list[Role], is_name: list[bool]) -> NounPhrase | None:
    """The phrase of these words, or None if no noun is among them."""
    nouns = [i for i, role in enumerate(roles) if role == "noun"]
    if "place adverb" in roles and (len(roles) == 1 or words[-1] in FRAMING):  # underwater; an underwater scene
        adverb = words[roles.index("place adverb")]
        return NounPhrase((adverb,), adverb, kind="place")
    if not nouns:
        return None
    last = words[nouns[-1]]
    if len(nouns) > 1 and kind_of(last) == "action" and last not in FRAMING and is_seen(words[nouns[-2]]):
        nouns.pop()  # a robot vacuum(s): rather a verb than what the phrase is about
    end = nouns[-1] + 1
    body = [word for word, role in zip(words[:end], roles) if role not in ("determiner", "number")]
    determiners = [word for word, role in zip(words[:end], roles) if role == "determiner"]
    determiner = determiners[0] if determiners else ""
    numbers = [word for word, role in zip(words[:end], roles) if role == "number"]
    length, kind = longest_compound(body)
    kind = kind or kind_of(body[-1])
    head = singular(" ".join(body[-length:]) if length > 1 and kind == "thing" else body[-1])
    described = body[: len(body) - len(head.split())]
    numerals = tuple(numbers) if numbers != ["one"] else ()
    return NounPhrase(
        words=(*numerals, *body),
        head=head,
        attributes=tuple(word for word in described if word not in CONJUNCTIONS and word != ","),
        count=_count(determiner, numbers, body[-1], kind),
        count_range=_range(determiners, numbers),
        kind=kind,
        is_plural=is_plural(body[-1]),
        is_name=is_name[end - 1],
        determiner=determiner,
    )


def _count(determiner: str, numbers: list[str], noun: str, kind: str | None) -> int | None:
    if determiner in VAGUE_NUMBERS:
        return None
    number = number_of(numbers[0]) if numbers else None
    is_counting = determiner not in ("a", "an") or (bool(numbers) and numbers[0].split()[0] in MULTIPLIERS)
    if number is not None and is_counting:  # but a 2 storey house is one
        return number // 2 if determiner == "half" else number
    if determiner == "both":
        return 2
    is_one = determiner in SINGULAR_DETERMINERS and not is_plural(noun)
    return 1 if is_one and (kind != "group" or determiner in ("a", "an")) else None


def _range(determiners: list[str], numbers: list[str]) -> tuple[int, int] | None:
    """Several, a few; several hundred."""
    vague = next((word for word in determiners if word in RANGES), None)
    factor = number_of(numbers[0]) if numbers else 1
    if vague is None or (numbers and numbers[0] not in MULTIPLIERS) or factor is None:
        return None
    least, most = RANGES[vague]
    return least * factor, most * factor


def _append(phrases: list[NounPhrase], phrase: NounPhrase, word_before: str, role_before: str) -> None:
    """Add a phrase to those before it; what only leads to it with an "of" gives way."""
    if word_before != "of" or role_before != "noun" or not phrases:
        phrases.append(phrase)
        return
    leader = phrases[-1]
    if leader.is_relation:
        inside = leader.preposition if leader.preposition in CONTAINING else "in"
        phrases[-1] = replace(phrase, preposition="beside" if leader.words[-1] in SIDES - INSIDES else inside)
    elif singular(leader.words[-1]) in COUNTED_GROUPS:
        count = COUNTED_GROUPS[singular(leader.words[-1])] * (leader.count or 1) * (phrase.count or 1)
        count = count // 2 if phrase.words[-1] in PAIRED else count
        words = (*leader.words, "of", *phrase.words)
        phrases[-1] = replace(phrase, words=words, count=count, preposition=leader.preposition)
    elif leader.kind in ("abstract", "action") and phrase.kind == "place" and not phrase.determiner:
        phrases[-1] = leader  # depth of field
    elif leader.is_framing or leader.may_be_framing or leader.is_vague:
        count_range = phrase.count_range or (RANGES.get(leader.words[-1]) if phrase.count is None else None)
        phrases[-1] = replace(
            phrase,
            preposition=leader.preposition,
            begins=leader.begins,
            is_first=leader.is_first,
            count_range=count_range,
        )
    else:
        phrases.append(replace(phrase, preposition="of"))
