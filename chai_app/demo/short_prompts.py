"""Short prompts of the demo world and the full captions they stand for: what the prompt enhancer learns from.

The caption comes first; the prompt says part of it, in the caption's own words. So a caption never contradicts its
prompt, and a rewording is never asked for: what a person wrote is what stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random

from .captions import (
    ADJECTIVES,
    ADVERBS,
    COLOUR_WORDS,
    COUNT_WORDS,
    MOTION_WORDS,
    NOUNS,
    OPENINGS,
    SCENE_PHRASES,
    caption,
)
from .world import ClipSpec, is_held_out, sample_any_spec, sample_training_spec

SHARE_COUNTED, SHARE_PAIRS = 0.25, 0.2
HELD_OUT_SEED = 77
_COUNTS = {count: tuple(dict.fromkeys(words)) for count, words in COUNT_WORDS.items()}
_PLACE_WORDS = ("in", "on", "over", "at", "among", "the", "a")


@dataclass(frozen=True)
class Named:
    """What a text says of one kind of thing, each in the text's words, "" for what it leaves open.

    `object` is the object's name in the world, `noun` the word for it; `extra` is an adjective such as "shiny".
    """

    object: str
    noun: str
    colour: str = ""
    count: str = ""
    extra: str = ""


@dataclass(frozen=True)
class Said:
    """What a text of the demo world says, in its own words."""

    things: tuple[Named, ...]
    scene: str = ""
    motion: str = ""
    adverb: str = ""


@dataclass(frozen=True)
class Pair:
    """A short prompt and the caption it stands for."""

    prompt: str
    caption: str


def read(text: str) -> Said:
    """Find things, their colours and numbers, the scene and the motion in a text of the demo world."""
    words = text.lower().replace(",", " ").split()
    things: dict[str, Named] = {}
    nouns = {form: (name, i) for name, forms in NOUNS.items() for pair in forms for i, form in enumerate(pair)}
    colours = [word for options in COLOUR_WORDS.values() for word in options]
    extras = [word.strip() for word in ADJECTIVES if word]
    counts = [word for options in _COUNTS.values() for word in options]
    i = 0
    while i < len(words):
        noun = _longest(words, i, nouns)
        if noun:
            before = words[:i]
            colour = _ending(before, colours)
            before = before[: len(before) - len(colour.split())]
            extra = _ending(before, extras)
            before = before[: len(before) - len(extra.split())]
            count = _ending(before, counts)
            things.setdefault(nouns[noun][0], Named(nouns[noun][0], noun, colour, count, extra))
        i += len(noun.split()) or 1
    return Said(
        tuple(things.values()),
        _first(words, (place for options in SCENE_PHRASES.values() for place in options)),
        _first(words, (motion for options in MOTION_WORDS.values() for motion in options)),
        _first(words, (adverb.strip() for adverb in ADVERBS if adverb)),
    )


def lost(prompt: str, caption: str) -> list[str]:
    """What the prompt says and the caption does not: "object", "colour", "count", "scene", "motion", "adverb", "extra".

    A word stands for itself alone: "crimson" is not kept by "red". "balls" is a count of its own kind, kept by "two
    balls", not by "a ball".
    """
    asked, got = read(prompt), read(caption)
    found = {thing.object: thing for thing in got.things}
    missing = []
    for thing in asked.things:
        same = found.get(thing.object)
        if same is None or same.noun != thing.noun:
            missing.append("object")
            continue
        for slot in ("colour", "count", "extra"):
            if getattr(thing, slot) not in ("", getattr(same, slot)):
                missing.append(slot)
    if len(got.things) > len(asked.things):
        missing.append("object")  # an object that nobody asked for is as wrong as one that went missing
    place = _bare(asked.scene) or _bare_scene(prompt)
    if place and place not in f" {caption.lower().replace(',', ' ')} ".replace("  ", " "):
        missing.append("scene")
    missing += [slot for slot in ("motion", "adverb") if getattr(asked, slot) not in ("", getattr(got, slot))]
    return missing


def is_complete(caption: str) -> bool:
    """Whether a caption names an object with its colour, a scene and a motion."""
    said = read(caption)
    return bool(said.things and all(thing.colour for thing in said.things) and said.scene and said.motion)


def short_prompt(spec: ClipSpec, text: str, random: Random) -> str:
    """Say part of a caption `text` of `spec` as briefly as a person might."""
    said = read(text)
    is_pair = len(spec.things) > 1
    things = " and ".join(_thing(named, random, is_pair) for named in said.things)
    scene = said.scene if random.random() < 0.5 else ""
    if scene and random.random() < 0.3:
        scene = _bare(scene).strip()
    motion = said.motion if random.random() < 0.5 else ""
    if motion and random.random() < 0.3:
        motion = f"{said.adverb} {motion}".strip()
    rest = [part for part in (motion, scene) if part]
    if random.random() < 0.3:
        rest.reverse()
    parts = [things, *rest]
    if random.random() < 0.1:
        random.shuffle(parts)
    opening = random.choice(OPENINGS) if random.random() < 0.2 else ""
    return " ".join((opening + random.choice((" ", " ", ", ")).join(parts)).replace(" ,", ",").split())


def sample_pair(random: Random) -> Pair:
    """A pair to be trained on: no object-colour-scene combination that is held out."""
    return _pair(sample_training_spec(random, SHARE_COUNTED, SHARE_PAIRS), random)


def held_out_pairs(number: int, seed: int = HELD_OUT_SEED) -> list[Pair]:
    """Pairs whose every caption shows an object-colour-scene combination that no training caption shows."""
    random = Random(seed)
    pairs: list[Pair] = []
    while len(pairs) < number:
        spec = sample_any_spec(random, SHARE_COUNTED, SHARE_PAIRS)
        if any(is_held_out(thing, spec.scene) for thing in spec.things):
            pairs.append(_pair(spec, random))
    return pairs


def _pair(spec: ClipSpec, random: Random) -> Pair:
    text = caption(spec, random, complete=True)
    return Pair(short_prompt(spec, text, random), text)


def _thing(named: Named, random: Random, is_pair: bool) -> str:
    if random.random() < 0.4:
        named = replace(named, colour="")
    if random.random() < 0.7:
        named = replace(named, extra="")
    count = named.count if random.random() < 0.8 else ""
    phrase = " ".join(part for part in (count, named.extra, named.colour, named.noun) if part)
    if not named.count and random.random() < 0.5:
        article = random.choice(("a", "a", "the"))
        phrase = f"{'an' if article == 'a' and phrase[0] in 'aeiou' else article} {phrase}"
    return phrase


def _longest(words: list[str], i: int, options: Iterable[str]) -> str:
    """The longest of `options` whose words stand in `words` from place `i`."""
    fitting = [option for option in options if words[i : i + len(option.split())] == option.split()]
    return max(fitting, key=len, default="")


def _first(words: list[str], options: Iterable[str]) -> str:
    listed = list(options)
    return next(filter(None, (_longest(words, i, listed) for i in range(len(words)))), "")


def _ending(words: list[str], options: Iterable[str]) -> str:
    """The longest of `options` that `words` end in."""
    fitting = [option for option in options if words[-len(option.split()) :] == option.split()]
    return max(fitting, key=len, default="")


def _bare(scene: str) -> str:
    """A scene phrase without its preposition and article, in spaces: " sandy desert "; "under water" stays whole."""
    words = scene.split()
    while len(words) > 1 and words[0] in _PLACE_WORDS:
        words = words[1:]
    return f" {' '.join(words)} " if words else ""


def _bare_scene(prompt: str) -> str:
    """The scene of a prompt that names it without a preposition ("a red ball, desert")."""
    words = prompt.lower().replace(",", " ").split()
    places = {_bare(place).strip() for options in SCENE_PHRASES.values() for place in options}
    found = _first(words, places)
    return f" {found} " if found else ""
