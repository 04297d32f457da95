"""Traits that no caption names: they stay through a clip, and tell one red fish from another.

A prompt says *what* a thing is, its look says *which one* it is. A donor is worth something only where a prompt leaves
something open, and these traits are what it leaves open: five of a thing, two of a scene, three values each.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from random import Random

PATTERNS = ("plain", "stripes", "dots")
ACCENTS = ("navy", "orange", "mint")
EYES = ("round", "sleepy", "single")
HATS = ("none", "top hat", "party hat")
BUILDS = ("tall", "even", "wide")
LIGHTS = ("day", "dusk", "night")
SKYLINES = ("first", "second", "third")


@dataclass(frozen=True)
class ThingLook:
    """Which one of its kind a thing is."""

    pattern: str
    accent: str
    eyes: str
    hat: str
    build: str


@dataclass(frozen=True)
class SceneLook:
    """Which place of its kind a scene is; `place` (0 to 1) decides where its hills, trees or towers stand."""

    light: str
    skyline: str
    place: float


THING_TRAITS = {"pattern": PATTERNS, "accent": ACCENTS, "eyes": EYES, "hat": HATS, "build": BUILDS}
SCENE_TRAITS = {"light": LIGHTS, "skyline": SKYLINES}


def sample_thing_look(random: Random) -> ThingLook:
    return ThingLook(*(random.choice(values) for values in THING_TRAITS.values()))


def sample_scene_look(random: Random) -> SceneLook:
    return SceneLook(random.choice(LIGHTS), random.choice(SKYLINES), random.random())


def trait_numbers(look: ThingLook | SceneLook) -> tuple[int, ...]:
    """Each trait as the number of its value, in the order of `THING_TRAITS` or `SCENE_TRAITS`."""
    tables = THING_TRAITS if isinstance(look, ThingLook) else SCENE_TRAITS
    chosen = dict(zip((field.name for field in fields(look)), astuple(look), strict=True))
    return tuple(values.index(chosen[name]) for name, values in tables.items())
