"""How each object of the demo world looks: a list of coloured parts in unit coordinates (radius about 1, v down)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .drawn.drawing import Array, box, circle, coverage, ellipse, over, polygon, rgb, star

PAINT = {
    "red": rgb(226, 38, 46),
    "yellow": rgb(255, 222, 50),
    "green": rgb(46, 178, 66),
    "blue": rgb(36, 92, 232),
    "purple": rgb(146, 56, 196),
    "white": rgb(248, 248, 250),
}
CREAM, WOOD, DARK, GLASS, STEEL = (
    rgb(250, 236, 208), rgb(122, 76, 44), rgb(44, 40, 52), rgb(196, 232, 250), rgb(150, 156, 172)
)  # fmt: skip

Part = tuple[Array, Array]  # signed distance in units, and a colour
Painter = Callable[[Array, Array, Array, Array], list[Part]]


def _accent(paint: Array) -> Array:
    """A lighter second colour for stripes and dots; on white, a grey one that can be seen."""
    return rgb(188, 192, 206) if paint.min() > 0.9 else 0.25 * paint + 0.75


def _ball(u: Array, v: Array, paint: Array, beat: Array) -> list[Part]:
    stripe = np.maximum(circle(u, v, 1.0), np.abs(v + 0.25 * u) - 0.2)
    return [(circle(u, v, 1.0), paint), (stripe, _accent(paint))]


def _balloon(u: Array, v: Array, paint: Array, beat: Array) -> list[Part]:
    string = np.maximum(np.abs(u - 0.1 * np.sin(5 * v + 6.28 * beat)) - 0.055, np.abs(v - 1.1) - 0.45)
    knot = polygon(u, v, (0.0, 0.5), (0.24, 0.82), (-0.24, 0.82))
    glint = ellipse(u + 0.28, v + 0.6, 0.13, 0.22)
    return [(string, DARK), (knot, 0.8 * paint), (ellipse(u, v + 0.3, 0.8, 0.95), paint), (glint, 0.3 * paint + 0.7)]


def _car(u: Array, v: Array, paint: Array, beat: Array) -> list[Part]:
    parts: list[Part] = [
        (box(u + 0.05, v + 0.3, 0.62, 0.42, 0.25), paint),
        (box(u, v - 0.22, 1.15, 0.38, 0.2), paint),
        (box(u + 0.36, v + 0.3, 0.22, 0.22, 0.06), GLASS),
        (box(u - 0.24, v + 0.3, 0.22, 0.22, 0.06), GLASS),
    ]
    for centre in (-0.6, 0.6):
        parts += [(circle(u - centre, v - 0.6, 0.3), DARK), (circle(u - centre, v - 0.6, 0.12), STEEL)]
    return parts


def _boat(u: Array, v: Array, paint: Array, beat: Array) -> list[Part]:
    return [
        (box(u, v + 0.3, 0.05, 0.9), WOOD),
        (polygon(u, v, (0.08, -1.2), (1.0, 0.4), (0.08, 0.4)), paint),
        (polygon(u, v, (-0.1, -0.95), (-0.1, 0.4), (-0.85, 0.4)), 0.82 * paint),
        (polygon(u, v, (-1.15, 0.5), (1.15, 0.5), (0.75, 1.0), (-0.75, 1.0)), WOOD),
    ]


def _fish(u: Array, v: Array, paint: Array, beat: Array) -> list[Part]:
    wag = 0.16 * np.sin(2 * np.pi * beat)
    tail = polygon(u, v - wag, (-0.55, 0.0), (-1.3, 0.6), (-1.3, -0.6))
    stripe = np.maximum(ellipse(u, v, 0.92, 0.62), np.abs(u + 0.1) - 0.12)
    return [
        (tail, 0.78 * paint),
        (polygon(u, v, (-0.3, -0.45), (0.1, -0.95), (0.4, -0.4)), 0.78 * paint),
        (ellipse(u, v, 0.92, 0.62), paint),
        (stripe, _accent(paint)),
        (circle(u - 0.5, v + 0.14, 0.17), rgb(255, 255, 255)),
        (circle(u - 0.54, v + 0.14, 0.09), DARK),
    ]


def _star(u: Array, v: Array, paint: Array, beat: Array) -> list[Part]:
    return [(star(u, v, 1.2, 0.55), paint), (star(u, v, 0.6, 0.28), _accent(paint))]


def _rocket(u: Array, v: Array, paint: Array, beat: Array) -> list[Part]:
    flame = 0.3 + 0.08 * np.sin(4 * np.pi * beat)
    hull = np.maximum(ellipse(u, v - 0.05, 0.5, 1.3), v - 0.75)
    return [
        (ellipse(u, v - 0.95, 0.22, 0.3 + flame.mean()), rgb(255, 176, 40)),
        (polygon(u, v, (-0.35, 0.15), (-0.35, 0.75), (-0.9, 0.95)), STEEL),
        (polygon(u, v, (0.35, 0.15), (0.9, 0.95), (0.35, 0.75)), STEEL),
        (hull, paint),
        (circle(u, v + 0.3, 0.24), STEEL),
        (circle(u, v + 0.3, 0.17), GLASS),
    ]


def _mushroom(u: Array, v: Array, paint: Array, beat: Array) -> list[Part]:
    cap = np.maximum(ellipse(u, v - 0.1, 1.1, 1.1), v - 0.12)
    dots = [
        np.maximum(circle(u - x, v - y, r), cap)
        for x, y, r in ((-0.5, -0.3, 0.2), (0.15, -0.6, 0.2), (0.6, -0.15, 0.17))
    ]
    return [
        (box(u, v - 0.5, 0.34, 0.52, 0.2), CREAM),
        (cap, paint),
        *((dot, _accent(paint)) for dot in dots),
    ]


PAINTERS: dict[str, Painter] = {
    "ball": _ball, "balloon": _balloon, "car": _car, "boat": _boat, "fish": _fish,
    "star": _star, "rocket": _rocket, "mushroom": _mushroom,
}  # fmt: skip


def draw_object(
    canvas: Array, name: str, colour: str, x: Array, y: Array, radius: Array, angle: Array, beat: Array, facing: int
) -> None:
    """Draw one object into every frame of a clip, in place.

    Args:
        canvas: (T, H, W, 3) in 0..1.
        x, y: (T,) centre in pixels. radius: (T,) pixels per unit. angle: (T,) radians, clockwise.
        beat: (T,) phase of small movements (a wag, a flap) in 0..1.
        facing: 1 as drawn (to the right), -1 mirrored.
    """
    height, width = canvas.shape[1:3]
    half = int(np.ceil(1.7 * radius.max())) + 2
    left, top = np.floor(x).astype(int) - half, np.floor(y).astype(int) - half
    grid = np.arange(2 * half + 1, dtype=np.float32)
    px = (grid[None, None, :] + (left - x)[:, None, None] + 0.5).astype(np.float32)  # (T, 1, w)  pixels from centre
    py = (grid[None, :, None] + (top - y)[:, None, None] + 0.5).astype(np.float32)  # (T, w, 1)
    scale = radius[:, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    u, v = facing * (px * cos + py * sin) / scale, (py * cos - px * sin) / scale  # (T, w, w)
    # The light stays upper left while the object turns, so it is taken from screen coordinates.
    light = 1.0 - 0.2 * np.clip(0.5 * px + 0.85 * py, -1.3 * scale, 1.3 * scale) / scale
    paint = PAINT[colour]
    parts = PAINTERS[name](u, v, paint, beat[:, None, None])
    union = parts[0][0]
    for distance, _ in parts[1:]:
        union = np.minimum(union, distance)
    outline = coverage(union * scale - 0.8)
    sprite = np.broadcast_to(0.3 * paint + 0.02, (*union.shape, 3)).copy()
    for distance, part_colour in parts:
        over(sprite, coverage(distance * scale), np.clip(light[..., None] * part_colour, 0, 1))
    for t in range(canvas.shape[0]):
        y0, x0 = max(top[t], 0), max(left[t], 0)
        y1, x1 = min(top[t] + 2 * half + 1, height), min(left[t] + 2 * half + 1, width)
        if y0 < y1 and x0 < x1:
            window = (slice(y0 - top[t], y1 - top[t]), slice(x0 - left[t], x1 - left[t]))
            over(canvas[t, y0:y1, x0:x1], outline[t][window], sprite[t][window])


def draw_shadow(canvas: Array, x: Array, ground_y: float, radius: Array, height_px: Array) -> None:
    """A soft shadow on the ground under an object; it fades and widens as the object goes up."""
    rows = np.arange(int(ground_y) - 4, canvas.shape[1], dtype=np.float32)[None, :, None]
    columns = np.arange(canvas.shape[2], dtype=np.float32)[None, None, :]
    spread = (radius * (0.9 + 0.012 * height_px))[:, None, None]
    distance = np.sqrt(((columns + 0.5 - x[:, None, None]) / spread) ** 2 + ((rows - ground_y) / (0.3 * spread)) ** 2)
    strength = np.clip(0.5 - 0.008 * height_px, 0.12, 0.5)[:, None, None]
    alpha = strength * np.clip(1.6 - 1.6 * distance, 0, 1)
    canvas[:, int(ground_y) - 4 :] *= 1 - alpha[..., None]
