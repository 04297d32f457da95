"""Which noun phrases of a prompt are objects, which are scenes, and which are neither."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Literal

from .languages import foreign_language
from .mentions import Mention, Mentions
from .nouns import is_body_part
from .phrases import NounPhrase, find_phrases
from .syntax import read_syntax
from .taggers import Tagger, english_tagger
from .words import AMONG, BELOW, CONTAINING, LIGHT, OWNERS, TIMES_OF_DAY, UNSEEN, split_words

KNOWN = ("the", "this", "that", "these", "those")  # determiners of what has been named before

_LOOP = re.compile(r"(?<!\S)\|\w+\|")
_SENTENCE_END = re.compile(r"(?<=[.!?;\n])\s")
_LETTERING = re.compile(  # a sign that reads "Hot Dogs" shows no dogs
    r"(\b(?:says?|saying|reads?|reading|titled|labell?ed|words?|text|letters|lettering)\b:?\s*)[\"“][^\"”]{1,80}[\"”]",
    re.I,
)

Part = Literal["object", "scene"]


def extract(prompt: str, tagger: Tagger | None = None) -> Mentions:
    """The objects and scenes that a prompt shows: not what it negates, nor flags, credits, or sentences in a language
    that nobody here reads.

    Args:
        tagger: where the parts of speech come from; None takes the best that is installed.
    """
    text = _LETTERING.sub(r"\1.", _LOOP.sub(".", read_syntax(prompt).text))
    sentences = _SENTENCE_END.split(text)
    words = split_words("\n".join("." if foreign_language(sentence) else sentence for sentence in sentences))
    if not words:
        return Mentions()
    phrases = _without_idle_names(find_phrases(words, (tagger or english_tagger()).tag(words)))
    found: dict[Part, list[Mention]] = {"object": [], "scene": []}
    for phrase in phrases:
        part = part_of(phrase)
        if part is not None:
            text = " ".join(phrase.words).replace(" ,", ",")
            mention = Mention(phrase.head, text, phrase.attributes, phrase.count, phrase.count_range)
            _add(found[part], mention, is_known=phrase.determiner in KNOWN)
    places = {scene.phrase for scene in found["scene"]}
    objects = (entity for entity in found["object"] if entity.phrase not in places)
    return Mentions(tuple(objects), tuple(found["scene"]))


def _without_idle_names(phrases: list[NounPhrase]) -> list[NounPhrase]:
    """Leave names out that name no more: Sam, a young potter, ...; a snow leopard, National Geographic."""
    is_said_again = [
        before.is_bare_name and phrase.determiner in ("a", "an") and phrase.is_alone and not phrase.preposition
        for before, phrase in pairwise(phrases)
    ]
    rest = [phrase for phrase, is_said in zip(phrases, [*is_said_again, False]) if not is_said]
    # A name alone at the end of a list that began with something else is whose style it is, or what it was taken with.
    is_cast = bool(phrases) and phrases[0].is_bare_name
    return [each for each in rest if is_cast or each.is_first or not (each.is_bare_name and each.is_alone)]


def part_of(phrase: NounPhrase) -> Part | None:
    """What a phrase is to the video, from the class of its noun and the way it stands in the prompt."""
    is_inside = phrase.preposition in CONTAINING
    is_bare = phrase.is_alone and not phrase.determiner and not phrase.is_plural
    if phrase.is_framing or phrase.is_relation or phrase.kind in ("abstract", "action"):
        return None
    is_light = phrase.head in LIGHT and not phrase.determiner and not phrase.is_plural
    if phrase.is_negated or phrase.count == 0 or phrase.head in UNSEEN or is_light or phrase.is_material:
        return None
    is_bare_part = phrase.is_done and len(phrase.words) == 1  # holding hands
    if (phrase.determiner in OWNERS or is_bare_part) and is_body_part(phrase.head):  # its ears: part of what was named
        return None
    if phrase.preposition == "for" and not phrase.determiner and not phrase.is_plural:  # dressed for dinner
        return None
    if phrase.may_be_framing:
        return None if _frames(phrase) else "object"
    is_setting = is_inside or phrase.preposition == "from" or phrase.is_alone or phrase.is_shown
    if phrase.kind == "place" or (phrase.kind == "building" and is_setting):
        return "scene"
    if phrase.head == "surface":
        return "scene" if is_inside else None  # on the lunar surface, but not a table with a shiny one
    if phrase.kind == "either" and phrase.is_name:
        return "scene"
    if phrase.kind == "either":  # on the bridge, but on a bench
        is_on_one = phrase.preposition in ("on", "onto", "upon") and phrase.determiner in ("a", "an")
        return "scene" if (is_inside and not is_on_one) or is_bare else "object"
    if phrase.kind in ("medium", "planet"):
        if phrase.kind == "medium" and (phrase.preposition in ("at", "during") or phrase.head in TIMES_OF_DAY):
            return None  # at sunset
        is_on = is_inside and (phrase.kind == "medium" or phrase.preposition not in BELOW)  # under the moon
        return "scene" if is_on or (is_bare and phrase.kind == "medium") else "object"
    if phrase.kind == "plant":
        return "scene" if phrase.preposition in AMONG and phrase.is_plural else "object"
    is_named_place = (
        phrase.is_name and not phrase.determiner and phrase.preposition in ("in", "at", "through", "across")
    )
    return "scene" if is_named_place else "object"


def _frames(phrase: NounPhrase) -> bool:
    """Whether a painting, a model, a camera is how the video is made and not what it shows."""
    is_bare = phrase.determiner in ("", "the") and not phrase.is_plural
    return phrase.is_alone or is_bare or phrase.preposition in ("in", "as", "like")


def _add(entities: list[Mention], entity: Mention, is_known: bool) -> None:
    """Add an entity unless the prompt has named it: in the same words, or in fewer ("a red ball ... the ball")."""
    for other in entities:
        is_same = entity.phrase == other.phrase
        if is_same or (is_known and entity.head == other.head and set(entity.attributes) <= set(other.attributes)):
            return
    entities.append(entity)
