"""Pairs of phrases from the words of the demo world, and whether they should match: what a calibration learns from.

Other words for the same thing match, other things do not. A colour is part of the thing: a blue ball is no red ball.
Whether a red ball is a ball is left open, as it depends on who asks for which; so is motion, which a donor need not
share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, product
from typing import Any, Literal

from ..prompts import extract
from .captions import COLOUR_WORDS, NOUNS, SCENE_PHRASES

PairOfPhrases = tuple[Literal["object", "scene", "prompt"], str, str, bool]
"""(kind, one phrase, the other, whether they should match)"""

_EVERY_NTH_THING = 5  # of 48 in all: a tenth of the pairs of prompts tells as much
_MOST_OF_A_THING = 5


def demo_pairs() -> Iterator[PairOfPhrases]:
    """No pair comes twice, nor the other way round."""
    coloured = coloured_things()
    yield from _pairs("object", _nouns(), _MOST_OF_A_THING)
    yield from _pairs("object", coloured, most=1)
    yield from _pairs("scene", _scene_names(), _MOST_OF_A_THING)
    prompts = {
        (thing, scene): [f"{one} {where}" for one, where in product(coloured[thing][:2], SCENE_PHRASES[scene][:2])]
        for thing, scene in product(list(coloured)[::_EVERY_NTH_THING], SCENE_PHRASES)
    }
    yield from _pairs("prompt", prompts, most=1)


def coloured_things() -> dict[tuple[str, str], list[str]]:
    """All words for each thing in each colour: ("ball", "red"): red ball, bright red ball, crimson beach ball, ..."""
    nouns = _nouns()
    return {
        (noun, colour): [f"{c} {n}" for c, n in product(COLOUR_WORDS[colour], nouns[noun])]
        for noun, colour in product(nouns, COLOUR_WORDS)
    }


def _nouns() -> dict[str, list[str]]:
    return {name: [one for one, _ in forms] for name, forms in NOUNS.items()}


def _scene_names() -> dict[str, list[str]]:
    """What a cache files the scenes under: sea for "over the sea". A name of two scenes is left out."""
    names = {
        scene: list(dict.fromkeys(place.phrase for phrase in phrases for place in extract(f"a ball {phrase}").scenes))
        for scene, phrases in SCENE_PHRASES.items()
    }
    every = [name for some in names.values() for name in some]
    return {scene: [name for name in some if every.count(name) == 1] for scene, some in names.items()}


def _pairs(
    kind: Literal["object", "scene", "prompt"], words: Mapping[Any, list[str]], most: int
) -> Iterator[PairOfPhrases]:
    """Every two phrases for one thing match; those of two things (the first `most` of either) differ."""
    for phrases in words.values():
        for a, b in combinations(phrases, 2):
            yield kind, a, b, True
    for one, other in combinations(words.values(), 2):
        for a, b in product(one[:most], other[:most]):
            yield kind, a, b, False
