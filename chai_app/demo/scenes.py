"""How each scene of the demo world looks: shaded sky, layers that slide against each other (parallax), textured ground.

A painter fills a whole clip: `x` (T, 1, W) are world columns in pixels, already moved by the camera for the nearest
layer; a layer further away uses `far(x, depth)`. `y` (1, H, 1) are rows. `phase` are four numbers in 0..1 that the
clip's seed decides, `t` (T, 1, 1) is time in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .drawn.drawing import Array, circle, coverage, ellipse, over, rgb


@dataclass(frozen=True)
class View:
    """Where and when a scene is seen; arrays broadcast to (T, H, W)."""

    columns: Array  # (1, 1, W) screen columns
    y: Array  # (1, H, 1)
    pan_px: Array  # (T, 1, 1) how far the camera has moved
    t: Array  # (T, 1, 1)
    phase: Array  # (4,)

    def x(self, depth: float) -> Array:
        """World columns of a layer: depth 1 moves with the camera, 0 stands still like the sky."""
        return self.columns + depth * self.pan_px


def _gradient(canvas: Array, view: View, top: Array, bottom: Array, end_y: float) -> None:
    share = np.clip(view.y / end_y, 0, 1)[..., None]
    canvas[:] = top + share * (bottom - top)


def _layer(canvas: Array, view: View, height_y: Array, colour: Array, fade: float = 0.0) -> None:
    """Fill everything below `height_y` (T, 1, W); with `fade`, darker towards the bottom of the picture."""
    depth = np.clip((view.y - height_y) / 30, 0, 1)[..., None]
    over(canvas, coverage(height_y - view.y), colour * (1 - fade * depth))


def _hash(index: Array | np.float32, salt: float) -> Array:
    """A repeatable number in 0..1 for each integer."""
    return np.modf(np.abs(np.sin(index * 12.9898 + salt * 78.233)) * 437.585)[0]


def _cloud(canvas: Array, view: View, x: float, y: float, size: float, alpha: float = 0.85) -> None:
    u, v = view.x(0.15) - x - 3 * view.t, view.y - y
    puff = np.minimum(ellipse(u, v, size, 0.42 * size), circle(u + 0.3 * size, v + 0.22 * size, 0.42 * size))
    puff = np.minimum(puff, circle(u - 0.32 * size, v + 0.16 * size, 0.34 * size))
    over(canvas, alpha * np.clip(0.5 - puff / 1.8, 0, 1), rgb(255, 255, 255))


def _desert(canvas: Array, view: View) -> None:
    a, b, c, _ = view.phase
    _gradient(canvas, view, rgb(98, 178, 234), rgb(255, 232, 178), 40)
    sun = circle(view.columns - 12 - 40 * a, view.y - 11, 5.5)
    over(canvas, np.clip(0.55 - sun / 14, 0, 0.55), rgb(255, 246, 200))
    over(canvas, coverage(sun), rgb(255, 250, 224))
    far, near = view.x(0.35), view.x(0.8)
    _layer(canvas, view, 38 + 3.5 * np.sin(far / 9 + 6.28 * b), rgb(240, 198, 122))
    dune = 46 + 4 * np.sin(near / 13 + 6.28 * c)
    _layer(canvas, view, dune, rgb(222, 166, 88), 0.25)
    ripple = np.sin(1.1 * (view.y - dune) + 0.35 * np.sin(near / 4)) * np.clip((view.y - dune) / 8, 0, 1)
    canvas += (0.022 * ripple)[..., None] * rgb(255, 220, 160)


def _ocean(canvas: Array, view: View) -> None:
    a, b, c, _ = view.phase
    _gradient(canvas, view, rgb(126, 196, 242), rgb(232, 246, 252), 30)
    _cloud(canvas, view, 10 + 34 * a, 10, 8)
    depth = np.clip((view.y - 30) / 34, 0, 1)[..., None]
    sea = rgb(64, 150, 196) + depth * (rgb(10, 56, 120) - rgb(64, 150, 196))
    over(canvas, coverage(30 - view.y + 0 * view.t), sea)
    for row, speed, length in ((37, 3, 8.0), (46, 4, 11.0), (57, 5, 14.0)):
        crest = view.y - row - 1.3 * np.sin((view.x(row / 60) + speed * view.t) / length * 2 + 6.28 * b + row * c)
        over(canvas, 0.5 * np.clip(1 - np.abs(crest) / 1.8, 0, 1), rgb(190, 228, 244))


def _pines(
    canvas: Array, view: View, depth: float, foot_y: float, height: float, spacing: float, colour: Array
) -> None:
    x = view.x(depth) + spacing * 7.3 * view.phase[1]
    index = np.floor(x / spacing)
    tall = height * (0.72 + 0.28 * _hash(index, depth))
    off = np.abs(x / spacing - index - 0.5) * 2  # 0 at the trunk, 1 between trees
    _layer(canvas, view, foot_y - tall * (1 - off), colour)


def _forest(canvas: Array, view: View) -> None:
    _gradient(canvas, view, rgb(168, 222, 214), rgb(236, 246, 214), 36)
    _pines(canvas, view, 0.3, 44, 27, 13.0, rgb(116, 172, 136))
    _pines(canvas, view, 0.6, 48, 33, 19.0, rgb(44, 112, 78))
    _layer(canvas, view, 47 + 1.2 * np.sin(view.x(0.9) / 8), rgb(82, 140, 66), 0.35)


def _city(canvas: Array, view: View) -> None:
    a, b, _, _ = view.phase
    _gradient(canvas, view, rgb(52, 44, 104), rgb(250, 150, 122), 44)
    for depth, width, low, high, colour in (
        (0.3, 12.0, 14, 14, rgb(104, 74, 132)),
        (0.6, 16.0, 8, 20, rgb(46, 38, 78)),
    ):
        x = view.x(depth) + 91 * a + 37 * b * depth
        index = np.floor(x / width)
        roof = 48 - low - high * _hash(index, depth)
        _layer(canvas, view, roof, colour)
        if depth == 0.6:
            column, row = (x - index * width - 2) / 6.0, (view.y - roof - 3) / 6.5
            pane = np.maximum(np.abs(column % 1 - 0.5) * 6.0, np.abs(row % 1 - 0.5) * 6.5) - 1.5
            inside = (column > 0) & (column < 2) & (row > 0) & (view.y < 44)
            over(canvas, coverage(pane) * inside * 0.8, rgb(255, 214, 120))
    _layer(canvas, view, 48 + 0 * view.x(1), rgb(72, 68, 86), 0.3)
    dash = np.maximum(np.abs((view.x(1.0) + 9 * a) % 14 - 7) - 3.2, np.abs(view.y - 57) - 0.8)
    over(canvas, coverage(dash), rgb(224, 214, 190))


def _moon(canvas: Array, view: View) -> None:
    a, b, _, _ = view.phase
    _gradient(canvas, view, rgb(8, 8, 30), rgb(34, 30, 74), 46)
    for i in range(14):
        x, y = 64 * _hash(np.float32(i), 3.0), 40 * _hash(np.float32(i), 4.0)
        over(canvas, 0.9 * coverage(circle(view.columns - x, view.y - y, 0.7) + 0 * view.t), rgb(255, 255, 240))
    earth_u, earth_v = view.columns - 12 - 38 * a + 0 * view.t, view.y - 11
    earth = circle(earth_u, earth_v, 6.5)
    over(canvas, coverage(earth), rgb(64, 132, 226))
    land = np.maximum(earth, ellipse(earth_u + 2, earth_v + 1, 3.4, 2.6))
    over(canvas, coverage(land), rgb(96, 190, 120))
    x = view.x(0.8)
    ground = 46 + 1.5 * np.sin(x / 10 + 6.28 * b)
    _layer(canvas, view, ground, rgb(176, 176, 190), 0.35)
    for row, spacing, size in ((51, 23.0, 4.2), (58, 31.0, 6.0)):
        u = ((x * row / 52 + 40 * b) % spacing) - spacing / 2
        over(canvas, 0.8 * coverage(ellipse(u, view.y - row, size, 0.36 * size)), rgb(120, 120, 138))


def _reef(canvas: Array, view: View) -> None:
    a, b, c, _ = view.phase
    _gradient(canvas, view, rgb(86, 216, 226), rgb(10, 92, 142), 58)
    ray = np.sin((view.columns + 0.5 * view.y) / 6 + 6.28 * a + 1.5 * view.t)
    canvas += (0.05 * np.clip(ray, 0, 1) * np.clip(1 - view.y / 44, 0, 1))[..., None]
    _layer(canvas, view, 53 + 1.5 * np.sin(view.x(0.9) / 9 + 6.28 * b), rgb(224, 204, 150), 0.2)
    for i, (colour, width, height) in enumerate(
        (
            (rgb(30, 132, 110), 1.7, 17),
            (rgb(226, 100, 132), 2.6, 9),
            (rgb(30, 132, 110), 1.7, 13),
            (rgb(238, 150, 96), 2.8, 7),
        )
    ):
        sway = 1.4 * np.sin(6.28 * view.t + 0.22 * view.y + i) * np.clip((56 - view.y) / 16, 0, 1)
        u = (view.x(0.9) + 17 * i + 30 * c) % 70 - 35 + sway
        over(canvas, coverage(ellipse(u, view.y - 56 + height / 2, width, 0.62 * height)), colour)


PAINTERS: dict[str, Callable[[Array, View], None]] = {
    "desert": _desert, "ocean": _ocean, "forest": _forest, "city": _city,
    "moon": _moon, "reef": _reef,
}  # fmt: skip
GROUND_Y = {"desert": 54, "ocean": 50, "forest": 55, "city": 56, "moon": 54, "reef": 57}


def draw_scene(canvas: Array, scene: str, pan_px: Array, phase: Array) -> None:
    """Fill `canvas` (T, H, W, 3) with a scene seen by a camera that has moved `pan_px` (T,) to the right."""
    frames, height, width = canvas.shape[:3]
    view = View(
        columns=np.arange(width, dtype=np.float32)[None, None, :] + 0.5,
        y=np.arange(height, dtype=np.float32)[None, :, None] + 0.5,
        pan_px=pan_px.astype(np.float32)[:, None, None],
        t=np.linspace(0, 1, frames, dtype=np.float32)[:, None, None],
        phase=phase,
    )
    PAINTERS[scene](canvas, view)
