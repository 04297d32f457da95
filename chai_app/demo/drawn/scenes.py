"""How each scene of the demo world looks: a sky by the time of day, one of three skylines, a shaded ground.

A painter fills a whole clip through a `View`: columns of a layer move with the camera by its depth (parallax). What
stands where follows from the scene's `place`, so the same scene seen twice is the same place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .drawing import Array, box, circle, ellipse, over, rgb, soft
from .looks import SceneLook

# For each light: sky above, sky at the horizon, and what the light does to colours on the ground.
SKY = {
    "day": (rgb(92, 176, 240), rgb(216, 240, 250), rgb(255, 255, 255)),
    "dusk": (rgb(106, 76, 160), rgb(255, 178, 120), rgb(255, 198, 190)),
    "night": (rgb(18, 22, 66), rgb(66, 84, 150), rgb(116, 132, 190)),
}
SPACE = {
    "day": (rgb(10, 14, 44), rgb(34, 48, 110)),
    "dusk": (rgb(30, 8, 52), rgb(112, 40, 112)),
    "night": (rgb(4, 20, 32), rgb(10, 84, 88)),
}
WATER = {
    "day": (rgb(104, 224, 232), rgb(16, 108, 168)),
    "dusk": (rgb(226, 138, 178), rgb(66, 52, 136)),
    "night": (rgb(30, 84, 140), rgb(6, 18, 62)),
}


@dataclass(frozen=True)
class View:
    """Where, when and in which light a scene is seen; arrays broadcast to (T, H, W)."""

    columns: Array  # (1, 1, W) screen columns
    y: Array  # (1, H, 1)
    pan_px: Array  # (T, 1, 1) how far the camera has moved
    t: Array  # (T, 1, 1), 0 to 1
    phase: Array  # (4,), 0 to 1, from the scene's place
    light: str
    skyline: str

    def x(self, depth: float) -> Array:
        """World columns of a layer: depth 1 moves with the camera, 0 stands still like the sky."""
        return self.columns + depth * self.pan_px

    def lit(self, red: int, green: int, blue: int) -> Array:
        """A colour in this light."""
        return rgb(red, green, blue) * SKY[self.light][2]


def _gradient(canvas: Array, view: View, top: Array, bottom: Array, end_y: float) -> None:
    share = np.clip(view.y / end_y, 0, 1)[..., None]
    canvas[:] = top + share * (bottom - top)


def _layer(canvas: Array, view: View, height_y: Array, colour: Array, fade: float = 0.0) -> None:
    """Fill everything below `height_y` (T, 1, W); with `fade`, darker towards the bottom of the picture."""
    depth = np.clip((view.y - height_y) / 40, 0, 1)[..., None]
    over(canvas, soft(height_y - view.y), colour * (1 - fade * depth))


def _number(index: Array, salt: float) -> Array:
    """A repeatable number in 0..1 for each integer."""
    return np.modf(np.abs(np.sin(index * 12.9898 + salt * 78.233)) * 437.585)[0]


def _cells(view: View, depth: float, spacing: float, salt: float) -> tuple[Array, Array]:
    """Columns in cells of `spacing` px: distance from the middle of the cell, and a number of its own for each."""
    x = view.x(depth) + 40 * view.phase[0] + spacing * 7.3 * salt
    index = np.floor(x / spacing)
    return x - (index + 0.5) * spacing, _number(index, salt)


def _stars(canvas: Array, view: View, count: int, down_to_y: float) -> None:
    for i in range(1, count + 1):  # multiples of the golden ratio and of the root of 2 spread evenly
        x, y = 96 * (0.618034 * i % 1), 4 + (down_to_y - 4) * (0.414214 * i % 1)
        over(canvas, 0.9 * soft(circle(view.columns - x, view.y - y, 1.2)), rgb(255, 255, 240))


def _sky(canvas: Array, view: View, horizon_y: float) -> None:
    top, bottom, _ = SKY[view.light]
    _gradient(canvas, view, top, bottom, horizon_y)
    x = 16 + 64 * view.phase[1]
    if view.light == "day":
        disc, colour, y = 8.0, rgb(255, 244, 190), 15.0
    elif view.light == "dusk":
        disc, colour, y = 12.0, rgb(255, 226, 150), horizon_y - 14
    else:
        disc, colour, y = 7.0, rgb(246, 246, 226), 15.0
        _stars(canvas, view, 9, 44)
    over(canvas, soft(circle(view.columns - x, view.y - y, disc)), colour)
    if view.light == "night":
        over(canvas, soft(circle(view.columns - x - 3.4, view.y - y + 1.6, disc - 1.4)), SKY["night"][0])


def _desert(canvas: Array, view: View) -> None:
    _sky(canvas, view, 58)
    off, dice = _cells(view, 0.35, 46.0, 1.0)
    far = view.lit(214, 140, 92)
    match view.skyline:
        case "first":  # pyramids
            _layer(canvas, view, 62 - (16 + 10 * dice) * np.clip(1 - np.abs(off) / 21, 0, 1), far)
        case "second":  # table mountains
            _layer(canvas, view, 62 - (15 + 9 * dice) * np.clip((20 - np.abs(off)) / 5, 0, 1), far)
        case _:  # cactuses
            trunk = box(off, view.y - 52, 3.2, 15, 3)
            arms = np.minimum(box(np.abs(off) - 9, view.y - 46, 2.6, 6, 2.6), box(off, view.y - 51, 10, 2.4, 2))
            over(canvas, soft(np.minimum(trunk, arms)), view.lit(58, 140, 84))
    dune = 64 + 4.5 * np.sin(view.x(0.8) / 19 + 6.28 * view.phase[2])
    _layer(canvas, view, dune, view.lit(238, 188, 106), 0.3)


def _ocean(canvas: Array, view: View) -> None:
    _sky(canvas, view, 50)
    off, _ = _cells(view, 0.25, 62.0, 2.0)
    match view.skyline:
        case "first":  # clouds
            puff = np.minimum(ellipse(off, view.y - 24, 17, 6), circle(off + 4, view.y - 20, 8))
            over(canvas, 0.9 * soft(puff), view.lit(255, 255, 255))
        case "second":  # islands with a palm
            _layer(canvas, view, 52 - 9 * np.clip(1 - (off / 22) ** 2, 0, 1), view.lit(92, 168, 92))
            over(canvas, soft(box(off + 2, view.y - 34, 1.6, 12)), view.lit(128, 86, 52))
            crown = np.minimum(ellipse(off - 5, view.y - 24, 8, 3.2), ellipse(off + 9, view.y - 24, 8, 3.2))
            over(canvas, soft(crown), view.lit(48, 148, 84))
        case _:  # lighthouse
            tower = box(off, view.y - 36, 5, 17)
            over(canvas, soft(tower), view.lit(248, 244, 238))
            over(canvas, soft(np.maximum(tower, np.abs(view.y - 36) - 5)), view.lit(222, 66, 62))
            over(canvas, soft(box(off, view.y - 17, 6.5, 3)), view.lit(60, 56, 70))
    sea_top, sea_deep = view.lit(64, 160, 208), view.lit(16, 74, 150)
    depth = np.clip((view.y - 50) / 46, 0, 1)[..., None]
    over(canvas, soft(50 - view.y + 0 * view.t), sea_top + depth * (sea_deep - sea_top))
    for row, speed, length in ((59, 5, 11.0), (72, 7, 16.0), (87, 9, 22.0)):
        crest = view.y - row - 2 * np.sin((view.x(row / 90) + speed * view.t) / length * 2 + 6.28 * view.phase[2] + row)
        over(canvas, 0.45 * np.clip(1 - np.abs(crest) / 2.4, 0, 1), view.lit(206, 236, 248))


def _forest(canvas: Array, view: View) -> None:
    _sky(canvas, view, 62)
    for depth, spacing, foot, tall, colour in (
        (0.3, 21.0, 66, 34, view.lit(120, 182, 140)),
        (0.6, 31.0, 71, 42, view.lit(44, 122, 78)),
    ):
        off, dice = _cells(view, depth, spacing, 3.0 + depth)
        height, half = tall * (0.7 + 0.3 * dice), 0.46 * spacing
        match view.skyline:
            case "first":  # pines
                _layer(canvas, view, foot - height * np.clip(1 - np.abs(off) / half, 0, 1), colour)
            case "second":  # round crowns
                over(canvas, soft(box(off, view.y - foot + 10, 2.2, 12)), view.lit(112, 78, 56))
                over(canvas, soft(circle(off, view.y - foot + height - half, half)), colour)
            case _:  # bare white trunks under a roof of leaves
                over(canvas, soft(box(off, view.y - 50, 2.6, 26)), view.lit(226, 220, 206) * (0.6 + 0.6 * depth))
                roof = 16 + 14 * depth + 4 * np.sin(view.x(depth) / 7)
                over(canvas, soft(view.y - roof), colour)
    _layer(canvas, view, 70 + 1.8 * np.sin(view.x(0.9) / 12 + 6.28 * view.phase[2]), view.lit(98, 166, 76), 0.35)


def _city(canvas: Array, view: View) -> None:
    _sky(canvas, view, 66)
    glass = rgb(255, 220, 128) if view.light != "day" else rgb(224, 240, 248)
    for depth, width, low, high, colour in (
        (0.3, 19.0, 16, 20, view.lit(150, 152, 186)),
        (0.6, 27.0, 12, 26, view.lit(92, 92, 134)),
    ):
        off, dice = _cells(view, depth, width, 5.0 + depth)
        half, wall = width / 2 - 1.2, 72 - low - high * dice
        inside = np.abs(off) < half
        match view.skyline:
            case "first":  # towers
                roof = np.where(inside, wall, 72)
            case "second":  # gabled houses
                wall = 72 - low - 0.45 * high * dice
                roof = np.where(inside, wall - 0.8 * (half - np.abs(off)), 72)
                peak = np.clip(half - np.abs(off) + 0.5, 0, 1) * soft(view.y - wall)
            case _:  # domes
                roof = np.where(inside, wall + 8 - np.sqrt(np.clip(half**2 - off**2, 0, None)), 72)
        _layer(canvas, view, roof, colour)
        if view.skyline == "second":
            over(canvas, peak * soft(roof - view.y), view.lit(188, 88, 74))
        if depth == 0.6:
            pane = np.maximum(np.abs(np.abs(off) - 6.0) - 2.6, np.abs((view.y - wall - 10) % 11 - 4) - 2.6)
            over(canvas, soft(pane) * (view.y > wall + 3) * (view.y < 70) * 0.9, glass)
    _layer(canvas, view, 72 + 0 * view.x(1), view.lit(112, 110, 126), 0.3)
    dash = np.maximum(np.abs((view.x(1.0) + 9 * view.phase[2]) % 24 - 12) - 6, np.abs(view.y - 86) - 1.4)
    over(canvas, soft(dash), view.lit(240, 232, 206))


def _moon(canvas: Array, view: View) -> None:
    top, bottom = SPACE[view.light]
    _gradient(canvas, view, top, bottom, 70)
    _stars(canvas, view, 15, 64)
    u, v = view.columns - 20 - 56 * view.phase[1] + 0 * view.t, view.y - 20
    match view.skyline:
        case "first":  # the Earth
            earth = circle(u, v, 12)
            over(canvas, soft(earth), rgb(66, 140, 232))
            over(canvas, soft(np.maximum(earth, ellipse(u + 4, v + 2, 6.4, 5))), rgb(104, 198, 126))
            over(canvas, soft(np.maximum(earth, ellipse(u - 6, v - 5, 4, 3.4))), rgb(104, 198, 126))
        case "second":  # a planet with a ring
            ring = np.maximum(ellipse(u, v - 0.3 * u, 21, 5.2), -ellipse(u, v - 0.3 * u, 15.5, 2.8))
            over(canvas, soft(circle(u, v, 10.5)), rgb(240, 190, 120))
            over(canvas, soft(np.maximum(ring, -(v - 0.3 * u) - 1)), rgb(250, 226, 180))
        case _:  # mountains
            off, dice = _cells(view, 0.3, 34.0, 6.0)
            _layer(canvas, view, 74 - (22 + 14 * dice) * np.clip(1 - np.abs(off) / 20, 0, 1), rgb(104, 102, 128))
    ground = 70 + 2 * np.sin(view.x(0.8) / 15 + 6.28 * view.phase[2])
    _layer(canvas, view, ground, rgb(186, 186, 200), 0.3)
    for row, spacing, size in ((77, 35.0, 6.5), (88, 47.0, 9.0)):
        off = ((view.x(row / 78) + 60 * view.phase[3]) % spacing) - spacing / 2
        over(canvas, 0.85 * soft(ellipse(off, view.y - row, size, 0.36 * size)), rgb(132, 132, 152))


def _reef(canvas: Array, view: View) -> None:
    top, bottom = WATER[view.light]
    _gradient(canvas, view, top, bottom, 88)
    ray = np.sin((view.columns + 0.5 * view.y) / 9 + 6.28 * view.phase[1] + 1.5 * view.t)
    canvas += (0.07 * np.clip(ray, 0, 1) * np.clip(1 - view.y / 66, 0, 1))[..., None]
    off, dice = _cells(view, 0.7, 30.0, 7.0)
    sway = 2 * np.sin(6.28 * view.t + 0.12 * view.y + 9 * dice) * np.clip((80 - view.y) / 24, 0, 1)
    match view.skyline:
        case "first":  # kelp
            for side in (-6, 6):
                tall = 26 + 22 * _number(np.floor(9 * dice), 1.0 + side)
                leaf = ellipse(off - side + sway, view.y - 84 + tall / 2, 3.2, 0.62 * tall)
                over(canvas, soft(leaf), view.lit(36, 142, 98))
        case "second":  # fans and brain corals
            fan = circle(off + 0.4 * sway, view.y - 74, 11 + 4 * dice)
            over(
                canvas,
                soft(fan),
                np.where((dice > 0.5)[..., None], view.lit(240, 104, 140), view.lit(250, 160, 82)),
            )
        case _:  # rocks
            _layer(canvas, view, 84 - (16 + 18 * dice) * np.clip((14 - np.abs(off)) / 8, 0, 1), view.lit(96, 96, 140))
    _layer(canvas, view, 82 + 2 * np.sin(view.x(0.9) / 14 + 6.28 * view.phase[2]), view.lit(234, 214, 158), 0.2)


PAINTERS: dict[str, Callable[[Array, View], None]] = {
    "desert": _desert, "ocean": _ocean, "forest": _forest, "city": _city, "moon": _moon, "reef": _reef,
}  # fmt: skip
GROUND_Y = {"desert": 80, "ocean": 76, "forest": 82, "city": 83, "moon": 81, "reef": 87}


def phases(place: float) -> Array:
    """Four numbers in 0..1 from one."""
    return _number(np.arange(4, dtype=np.float32) + np.float32(1000 * place), 8.0)


def draw_scene(canvas: Array, scene: str, look: SceneLook, pan_px: Array, time: Array) -> None:
    """Fill `canvas` (T, H, W, 3) with a scene seen by a camera that has moved `pan_px` (T,) to the right, at moments
    `time` (T,) in 0 to 1."""
    whole, (height, width) = canvas, canvas.shape[1:3]
    if scene not in ("ocean", "reef") and not np.ptp(pan_px):  # nothing moves: one frame is all frames
        canvas, pan_px, time = canvas[:1], pan_px[:1], time[:1]
    view = View(
        columns=np.arange(width, dtype=np.float32)[None, None, :] + 0.5,
        y=np.arange(height, dtype=np.float32)[None, :, None] + 0.5,
        pan_px=pan_px.astype(np.float32)[:, None, None],
        t=time.astype(np.float32)[:, None, None],
        phase=phases(look.place),
        light=look.light,
        skyline=look.skyline,
    )
    PAINTERS[scene](canvas, view)
    if len(canvas) < len(whole):
        whole[1:] = canvas
