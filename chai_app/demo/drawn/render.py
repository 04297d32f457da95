"""A clip specification becomes pixels, and the truth about them: where the thing is, and how much it covers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .drawing import Array
from .scenes import GROUND_Y, draw_scene
from .spec import FRAME_SIZE_PX, NUM_FRAMES, ClipSpec
from .things import draw_shadow, draw_thing

# Where the copies stand, in units of their radius, by how many there are.
LAYOUTS = {
    1: ((0.0, 0.0),),
    2: ((-1.32, 0.0), (1.32, 0.0)),
    3: ((-1.36, 1.05), (1.36, 1.05), (0.0, -1.1)),
}
RADIUS_PX = {1: (19.5, 22.5), 2: (15.0, 16.5), 3: (12.5, 13.5)}
# The motion laws, over a whole clip: how far a thing goes (px), how far it turns (radians), its first and last size.
TRAVEL_PX = (17.0, 21.0)
TURN = (0.5 * np.pi, 0.62 * np.pi)
GROWTH = (0.7, 1.12)
SHADOWED = {"desert", "forest", "city", "moon", "reef"}


@dataclass(frozen=True, eq=False)
class Path:
    """Where a group of things goes: centre, radius and angle in every frame, each (T,); and which way it looks."""

    x: Array
    y: Array
    radius: Array
    angle: Array
    facing: int
    beat: float


@dataclass(frozen=True, eq=False)
class Rendering:
    """frames: (T, H, W, 3) uint8. mask: (T, H, W), share of each pixel that a thing covers, 0 to 1."""

    frames: NDArray[np.uint8]
    mask: NDArray[np.float32]
    path: Path


def render(spec: ClipSpec, times: NDArray[np.float32] | None = None) -> Rendering:
    """Draw a clip; the same spec gives the same pixels.

    Args: times: (T,) in 0 to 1, moments of the clip; all 17 frames by default.
    """
    time = np.linspace(0, 1, NUM_FRAMES, dtype=np.float32) if times is None else times
    path = path_of(spec, time)
    size = (len(time), FRAME_SIZE_PX, FRAME_SIZE_PX)
    canvas: Array = np.empty((*size, 3), dtype=np.float32)
    mask: Array = np.zeros(size, dtype=np.float32)
    sideways = {"moving right": 1.0, "moving left": -1.0}.get(spec.motion, 0.0)
    draw_scene(canvas, spec.scene.name, spec.scene.look, 6 * sideways * time, time)
    ground_y = float(GROUND_Y[spec.scene.name])
    copies = []
    for i, (du, dv) in enumerate(LAYOUTS[spec.count]):
        thing = spec.things[i % len(spec.things)]
        copies.append((thing, path.x + du * path.radius, path.y + dv * path.radius, (time + 0.23 * i + path.beat) % 1))
    if spec.scene.name in SHADOWED:
        for _, x, y, _ in copies:
            draw_shadow(canvas, x, ground_y, path.radius, np.clip(ground_y - y - path.radius, 0, 80))
    for thing, x, y, beat in copies:
        draw_thing(
            canvas, mask, thing.object, thing.colour, thing.look, x, y, path.radius, path.angle, beat, path.facing
        )
    return Rendering((np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8), mask.astype(np.float32), path)


def path_of(spec: ClipSpec, time: Array) -> Path:
    """The motion law of a clip at moments `time` (T,) in 0 to 1."""
    rng = np.random.default_rng(spec.seed)
    room = {1: 1.0, 2: 0.7, 3: 0.6}[spec.count]  # a group needs more of the picture, so it moves less
    middle = FRAME_SIZE_PX / 2
    x = np.full_like(time, middle + rng.uniform(-8, 8) * room)
    y = np.full_like(time, middle + 4 + rng.uniform(-3, 4) * room)
    growth, angle = np.ones_like(time), np.zeros_like(time)
    travel, bob, turn = rng.uniform(*TRAVEL_PX) * room, rng.random(), rng.choice((-1, 1)) * rng.uniform(*TURN)
    match spec.motion:
        case "rising" | "falling":
            y = middle + 4 + travel * (0.5 - time if spec.motion == "rising" else time - 0.5)
        case "moving right" | "moving left":
            x = middle + travel * (time - 0.5 if spec.motion == "moving right" else 0.5 - time)
            y = y + 1.6 * np.sin(2 * np.pi * (time + bob))
        case "spinning":
            angle = turn * time
        case "coming closer":
            growth = GROWTH[0] + (GROWTH[1] - GROWTH[0]) * time
    radius = rng.uniform(*RADIUS_PX[spec.count]) * growth
    looks_left = spec.motion == "moving left" or (spec.motion != "moving right" and rng.random() < 0.3)
    facing, beat = -1 if looks_left else 1, rng.random()
    x, y, radius, angle = (values.astype(np.float32) for values in (x, y, radius, angle))
    return Path(x, y, radius, angle, facing, beat)
