"""Prompts of the demo world for benchmarks, and earlier videos that share something with them, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal

from ..demo.captions import caption
from ..demo.world import COLOURS, MOTIONS, OBJECTS, SCENES, ClipSpec, Thing, held_out_specs

SEED = 23
Shared = Literal["object", "scene", "both", "nothing"]


def asked_specs(number: int) -> list[ClipSpec]:
    """Single things in combinations that no training clip ever showed; a longer list begins with the shorter one."""
    return held_out_specs(number, seed=SEED)


def words(spec: ClipSpec, i: int, role: str = "asked") -> str:
    """A complete caption, always the same for the same number and role."""
    return caption(spec, Random(f"{SEED} {role} {i}"), complete=True)


def donor_spec(asked: ClipSpec, random: Random, shares: Shared) -> ClipSpec:
    """A clip that shares the thing with `asked`, the scene, both or nothing; never the motion."""
    thing, scene = asked.things[0], asked.scene
    if shares in ("scene", "nothing"):
        thing = Thing(_another(OBJECTS, thing.object, random), _another(COLOURS, thing.colour, random))
    if shares in ("object", "nothing"):
        scene = _another(SCENES, scene, random)
    motion = _another(MOTIONS, asked.motion, random)
    return ClipSpec((thing,), 1, scene, motion, random.getrandbits(32))


def warm_specs(asked: Sequence[ClipSpec]) -> list[ClipSpec]:
    """Earlier videos after which every prompt finds its object and its scene: one for each thing and one for each
    scene that is asked for, none with more than one of them in common with the prompt that it is for."""
    random = Random(SEED)
    things = {spec.things[0]: spec for spec in reversed(asked)}
    scenes = {spec.scene: spec for spec in reversed(asked)}
    return [donor_spec(spec, random, "object") for spec in things.values()] + [
        donor_spec(spec, random, "scene") for spec in scenes.values()
    ]


def shared(asked: ClipSpec, donor: ClipSpec) -> Shared:
    """What two clips have in common, motion aside; a thing is the same in kind and colour."""
    is_thing, is_scene = donor.things == asked.things, donor.scene == asked.scene
    if is_thing and is_scene:
        return "both"
    return "object" if is_thing else "scene" if is_scene else "nothing"


def stream_specs(number: int, seed: int = SEED, exponent: float = 1.0) -> list[ClipSpec]:
    """A skewed stream: things, scenes and motions each by Zipf's law, the k-th most wanted k ** -exponent as often."""
    random = Random(seed)
    things = [Thing(name, colour) for name in OBJECTS for colour in COLOURS]
    scenes, motions = list(SCENES), list(MOTIONS)
    for names in (things, scenes, motions):
        random.shuffle(names)

    def drawn(names: Sequence[object]) -> int:
        return random.choices(range(len(names)), [(k + 1) ** -exponent for k in range(len(names))])[0]

    return [
        ClipSpec((things[drawn(things)],), 1, scenes[drawn(scenes)], motions[drawn(motions)], random.getrandbits(32))
        for _ in range(number)
    ]


def _another(names: Sequence[str], name: str, random: Random) -> str:
    return random.choice([each for each in names if each != name])
