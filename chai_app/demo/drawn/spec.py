"""What a clip of the demo world can show: eight things, six colours, six scenes, six motions, and looks without a name.

A `ClipSpec` says everything that a clip shows; `render.render` draws it and `captions.caption` describes it. An eighth
of all combinations of thing, colour and scene is held out: no training clip ever shows one, so an evaluation can ask
for combinations that the model has to compose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from .looks import SceneLook, ThingLook, sample_scene_look, sample_thing_look

OBJECTS = ("ball", "balloon", "car", "boat", "fish", "star", "rocket", "mushroom")
COLOURS = ("red", "yellow", "green", "blue", "purple", "white")
SCENES = ("desert", "ocean", "forest", "city", "moon", "reef")
MOTIONS = ("rising", "falling", "moving right", "moving left", "spinning", "coming closer")

FRAME_SIZE_PX = 96
NUM_FRAMES = 17
FPS = 8
MAX_COUNT = 3

Shared = Literal["thing", "scene", "both", "nothing"]


@dataclass(frozen=True)
class Thing:
    """One object of one colour, with the look that makes it this one."""

    object: str
    colour: str
    look: ThingLook


@dataclass(frozen=True)
class Scene:
    """One place, with the look that makes it this one."""

    name: str
    look: SceneLook


@dataclass(frozen=True)
class ClipSpec:
    """What a clip shows. `things` has one item, or two of different kinds; `count` copies are drawn of a single kind.

    `seed` decides what neither words nor looks do: where things start, how fast they go.
    """

    things: tuple[Thing, ...]
    count: int
    scene: Scene
    motion: str
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_COUNT or (len(self.things) == 2 and self.count != 2) or len(self.things) > 2:
            raise ValueError(
                f"{len(self.things)} kinds with count {self.count}: one kind shows 1 to 3, two kinds show 2"
            )


def is_held_out(object: str, colour: str, scene: str) -> bool:
    """Whether this combination is kept out of all training data (36 of 288)."""
    return (OBJECTS.index(object) + 3 * COLOURS.index(colour) + 5 * SCENES.index(scene)) % 8 == 0


def is_for_training(spec: ClipSpec) -> bool:
    """Whether no combination in a clip is held out."""
    return not any(is_held_out(thing.object, thing.colour, spec.scene.name) for thing in spec.things)


def sample_thing(random: Random) -> Thing:
    return Thing(random.choice(OBJECTS), random.choice(COLOURS), sample_thing_look(random))


def sample_scene(random: Random) -> Scene:
    return Scene(random.choice(SCENES), sample_scene_look(random))


def sample_any_spec(random: Random, share_counted: float = 0.14, share_pairs: float = 0.06) -> ClipSpec:
    """Draw a clip of the whole world, held-out combinations included.

    Args:
        share_counted: share of clips with two or three copies of one thing.
        share_pairs: share of clips with two things that differ in kind and colour.
    """
    dice, first = random.random(), sample_thing(random)
    things: tuple[Thing, ...] = (first,)
    count = 1
    if dice < share_counted:
        count = random.choice((2, 3))
    elif dice < share_counted + share_pairs:
        other = sample_thing(random)
        while other.object == first.object or other.colour == first.colour:
            other = sample_thing(random)
        things, count = (first, other), 2
    return ClipSpec(things, count, sample_scene(random), random.choice(MOTIONS), random.getrandbits(32))


def sample_training_spec(random: Random) -> ClipSpec:
    """Draw a clip that may be trained on."""
    while True:
        spec = sample_any_spec(random)
        if is_for_training(spec):
            return spec


def sample_follower(first: ClipSpec, shared: Shared, random: Random) -> ClipSpec:
    """Another clip that shows the same thing, the same scene, both, or neither; motion, count and start are its own.

    With two kinds in `first`, the thing that is shared is its first.
    """
    spec = sample_any_spec(random)
    if shared in ("thing", "both"):
        others = tuple(
            thing
            for thing in spec.things[1:]
            if thing.object != first.things[0].object and thing.colour != first.things[0].colour
        )
        spec = replace(spec, things=(first.things[0], *others), count=2 if others else min(spec.count, MAX_COUNT))
    if shared in ("scene", "both"):
        spec = replace(spec, scene=first.scene)
    return spec


def sample_training_follower(first: ClipSpec, shared: Shared, random: Random) -> ClipSpec:
    """As `sample_follower`, and nothing in it is held out."""
    while True:
        spec = sample_follower(first, shared, random)
        if is_for_training(spec):
            return spec


def held_out_specs(number: int, seed: int = 0) -> list[ClipSpec]:
    """Clips of one thing each, of held-out combinations only: every combination and motion about equally often."""
    random = Random(seed)
    combinations = [
        (name, colour, scene)
        for name in OBJECTS
        for colour in COLOURS
        for scene in SCENES
        if is_held_out(name, colour, scene)
    ]
    specs: list[ClipSpec] = []
    while len(specs) < number:
        random.shuffle(combinations)
        motions = [MOTIONS[(i + len(specs)) % len(MOTIONS)] for i in range(len(combinations))]
        for (name, colour, scene), motion in zip(combinations, motions, strict=True):
            thing = Thing(name, colour, sample_thing_look(random))
            place = Scene(scene, sample_scene_look(random))
            specs.append(ClipSpec((thing,), 1, place, motion, random.getrandbits(32)))
    return specs[:number]
