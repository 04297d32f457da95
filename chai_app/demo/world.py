"""The demo model's world: eight objects, six colours, six scenes, six motions, one to three things in a clip.

A `ClipSpec` says everything a clip shows; `render.render` draws it and `captions.caption` describes it.
An eighth of all object-colour-scene combinations is held out: no training clip ever shows one, so the evaluation
can ask for combinations that the model has to compose.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

OBJECTS = ("ball", "balloon", "car", "boat", "fish", "star", "rocket", "mushroom")
COLOURS = ("red", "yellow", "green", "blue", "purple", "white")
SCENES = ("desert", "ocean", "forest", "city", "moon", "reef")
MOTIONS = ("rising", "falling", "moving right", "moving left", "spinning", "coming closer")

FRAME_SIZE_PX = 64
NUM_FRAMES = 17
FPS = 8
MAX_COUNT = 3


@dataclass(frozen=True)
class Thing:
    """One object of one colour."""

    object: str
    colour: str


@dataclass(frozen=True)
class ClipSpec:
    """What a clip shows. `things` has one item, or two of different kinds; `count` copies are drawn of a single kind.

    `seed` decides what the words leave open: positions, speeds, phases of the scene.
    """

    things: tuple[Thing, ...]
    count: int
    scene: str
    motion: str
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_COUNT or (len(self.things) == 2 and self.count != 2) or len(self.things) > 2:
            raise ValueError(
                f"{len(self.things)} kinds with count {self.count}: one kind shows 1 to 3, two kinds show 2"
            )


def is_held_out(thing: Thing, scene: str) -> bool:
    """Whether this object-colour-scene combination is kept out of all training data (36 of 288)."""
    return (OBJECTS.index(thing.object) + 3 * COLOURS.index(thing.colour) + 5 * SCENES.index(scene)) % 8 == 0


def sample_any_spec(random: Random, share_counted: float = 0.16, share_pairs: float = 0.06) -> ClipSpec:
    """Draw a clip of the whole world, held-out combinations included.

    Args:
        share_counted: share of clips with two or three copies of one thing.
        share_pairs: share of clips with two things that differ in kind and colour.
    """
    scene, motion, dice = random.choice(SCENES), random.choice(MOTIONS), random.random()
    first = Thing(random.choice(OBJECTS), random.choice(COLOURS))
    things: tuple[Thing, ...] = (first,)
    count = 1
    if dice < share_counted:
        count = random.choice((2, 3))
    elif dice < share_counted + share_pairs:
        other = Thing(
            random.choice([name for name in OBJECTS if name != first.object]),
            random.choice([colour for colour in COLOURS if colour != first.colour]),
        )
        things, count = (first, other), 2
    return ClipSpec(things, count, scene, motion, random.getrandbits(32))


def sample_training_spec(random: Random, share_counted: float = 0.16, share_pairs: float = 0.06) -> ClipSpec:
    """Draw a clip that may be trained on: no combination in it is held out."""
    while True:
        spec = sample_any_spec(random, share_counted, share_pairs)
        if not any(is_held_out(thing, spec.scene) for thing in spec.things):
            return spec


def held_out_specs(number: int, seed: int = 0) -> list[ClipSpec]:
    """Single-object clips of held-out combinations only, every combination and motion about equally often."""
    random = Random(seed)
    combinations = [
        (Thing(name, colour), scene)
        for name in OBJECTS
        for colour in COLOURS
        for scene in SCENES
        if is_held_out(Thing(name, colour), scene)
    ]
    specs: list[ClipSpec] = []
    while len(specs) < number:
        random.shuffle(combinations)
        motions = [MOTIONS[(i + len(specs)) % len(MOTIONS)] for i in range(len(combinations))]
        for (thing, scene), motion in zip(combinations, motions, strict=True):
            specs.append(ClipSpec((thing,), 1, scene, motion, random.getrandbits(32)))
    return specs[:number]
