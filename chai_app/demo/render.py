"""A clip specification becomes pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .drawn.drawing import Array
from .objects import draw_object, draw_shadow
from .scenes import GROUND_Y, draw_scene
from .world import FRAME_SIZE_PX, NUM_FRAMES, ClipSpec

# Where the copies stand, in units of their radius, by how many there are.
LAYOUTS = {
    1: ((0.0, 0.0),),
    2: ((-1.3, 0.0), (1.3, 0.0)),
    3: ((-1.35, 0.95), (1.35, 0.95), (0.0, -1.05)),
}
RADIUS_PX = {1: (13.0, 15.5), 2: (10.0, 11.0), 3: (8.6, 9.4)}
SHADOWED = {"desert", "forest", "city", "moon", "reef"}


def render(spec: ClipSpec, num_frames: int = NUM_FRAMES) -> NDArray[np.uint8]:
    """Draw a clip; the same spec gives the same pixels.

    Returns: (T, H, W, 3), 64 x 64 pixels, T = `num_frames` spread over the clip's two seconds.
    """
    rng = np.random.default_rng(spec.seed)
    canvas: Array = np.empty((num_frames, FRAME_SIZE_PX, FRAME_SIZE_PX, 3), dtype=np.float32)
    time = np.linspace(0, 1, num_frames, dtype=np.float32)  # (T,)
    phase = rng.random(4, dtype=np.float32)
    x, y, growth, angle = _path(spec, time, rng)
    radius = rng.uniform(*RADIUS_PX[spec.count]) * growth
    sideways = {"moving right": 1.0, "moving left": -1.0}.get(spec.motion, 0.0)
    draw_scene(canvas, spec.scene, 6 * sideways * time + 20 * phase[3], phase)

    facing = -1 if spec.motion == "moving left" or (sideways == 0 and rng.random() < 0.3) else 1
    ground_y = float(GROUND_Y[spec.scene])
    copies = []
    for i, (du, dv) in enumerate(LAYOUTS[spec.count]):
        thing = spec.things[i % len(spec.things)]
        copies.append((thing, x + du * radius, y + dv * radius, (time + 0.23 * i + phase[0]) % 1.0))
    if spec.scene in SHADOWED:
        for _, copy_x, copy_y, _ in copies:
            draw_shadow(canvas, copy_x, ground_y, radius, np.clip(ground_y - copy_y - radius, 0, 60))
    for thing, copy_x, copy_y, beat in copies:
        draw_object(canvas, thing.object, thing.colour, copy_x, copy_y, radius, angle, beat, facing)
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)


def _path(spec: ClipSpec, time: Array, rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Where the group goes: centre x and y (T,) in pixels, growth factor (T,), angle (T,) in radians."""
    room = {1: 1.0, 2: 0.75, 3: 0.65}[spec.count]  # a group needs more of the picture, so it moves less
    middle = FRAME_SIZE_PX / 2
    x = np.full_like(time, middle + rng.uniform(-5, 5) * room)
    y = np.full_like(time, middle + rng.uniform(-3, 4) * room)
    growth, angle = np.ones_like(time), np.zeros_like(time)
    travel = rng.uniform(20, 24) * room
    match spec.motion:
        case "rising" | "falling":
            y = middle + travel * (0.5 - time if spec.motion == "rising" else time - 0.5)
        case "moving right" | "moving left":
            x = middle + travel * (time - 0.5 if spec.motion == "moving right" else 0.5 - time)
            y = y + 1.2 * np.sin(2 * np.pi * (time + rng.random())).astype(np.float32)
        case "spinning":
            angle = rng.choice((-1, 1)) * rng.uniform(0.85, 1.1) * np.pi * time
        case "coming closer":
            growth = 0.66 + 0.5 * time
            y = np.full_like(time, middle + rng.uniform(-3, 3) * room)
    return x.astype(np.float32), y.astype(np.float32), growth.astype(np.float32), angle.astype(np.float32)
