"""Which noun phrases of a prompt are objects, which are scenes, and which are neither."""

from __future__ import annotations

from typing import Literal

from .entities import Entities, Entity
from .phrases import Phrase, find_phrases
from .taggers import Tagger, english_tagger
from .words import AMONG, CONTAINING, split_words

KNOWN = ("the", "this", "that", "these", "those")  # determiners of what has been named before

Role = Literal["object", "scene"]


def extract(prompt: str, tagger: Tagger | None = None) -> Entities:
    """The objects and scenes that a prompt names.

    Args:
        tagger: where the parts of speech come from; None takes the best that is installed.
    """
    words = split_words(prompt)
    if not words:
        return Entities()
    phrases = find_phrases(words, (tagger or english_tagger()).tag(words))
    found: dict[Role, list[Entity]] = {"object": [], "scene": []}
    for phrase in phrases:
        role = role_of(phrase)
        if role is not None:
            text = " ".join(phrase.words).replace(" ,", ",")
            entity = Entity(phrase.head, text, phrase.attributes, phrase.count, phrase.count_range)
            _add(found[role], entity, is_known=phrase.determiner in KNOWN)
    places = {scene.phrase for scene in found["scene"]}
    objects = (entity for entity in found["object"] if entity.phrase not in places)
    return Entities(tuple(objects), tuple(found["scene"]))


def role_of(phrase: Phrase) -> Role | None:
    """What a phrase is to the video, from the class of its noun and the way it stands in the prompt."""
    is_inside = phrase.preposition in CONTAINING
    is_bare = phrase.is_alone and not phrase.determiner and not phrase.is_plural
    if phrase.is_framing or phrase.is_relation or phrase.kind in ("abstract", "action"):
        return None
    if phrase.determiner == "no" or phrase.count == 0 or phrase.preposition == "without":
        return None
    if phrase.may_be_framing:
        return None if _frames(phrase) else "object"
    if phrase.kind == "place":
        return "scene"
    if phrase.kind == "either" and phrase.is_name:
        return "scene"
    if phrase.kind == "either":  # on the bridge, but on a bench
        is_on_one = phrase.preposition in ("on", "onto", "upon") and phrase.determiner in ("a", "an")
        return "scene" if (is_inside and not is_on_one) or is_bare else "object"
    if phrase.kind in ("medium", "planet"):
        if phrase.preposition in ("at", "during") and phrase.kind == "medium":  # at sunset
            return None
        return "scene" if is_inside or (is_bare and phrase.kind == "medium") else "object"
    if phrase.kind == "plant":
        return "scene" if phrase.preposition in AMONG and phrase.is_plural else "object"
    is_named_place = phrase.is_name and not phrase.determiner and phrase.preposition in ("in", "at")
    return "scene" if is_named_place else "object"


def _frames(phrase: Phrase) -> bool:
    """Whether a painting, a model, a camera is how the video is made and not what it shows."""
    is_bare = phrase.determiner in ("", "the") and not phrase.is_plural
    return phrase.is_alone or is_bare or phrase.preposition in ("in", "as", "like")


def _add(entities: list[Entity], entity: Entity, is_known: bool) -> None:
    """Add an entity unless the prompt has named it: in the same words, or in fewer ("a red ball ... the ball")."""
    for other in entities:
        is_same = entity.phrase == other.phrase
        if is_same or (is_known and entity.head == other.head and set(entity.attributes) <= set(other.attributes)):
            return
    entities.append(entity)
