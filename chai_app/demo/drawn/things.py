"""How each thing of the demo world looks, in unit coordinates (radius about 1, v down): body, second colour, face, hat.

All things follow one plan, so that traits mean the same everywhere: a body in the named colour, which carries the
pattern; one part in the second colour; eyes; a hat or none. A part is a signed distance and a colour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .drawing import Array, box, circle, ellipse, over, polygon, rgb, soft, star
from .looks import ThingLook

PAINT = {
    "red": rgb(228, 44, 48),
    "yellow": rgb(255, 220, 48),
    "green": rgb(52, 178, 70),
    "blue": rgb(42, 104, 236),
    "purple": rgb(152, 62, 202),
    "white": rgb(248, 248, 250),
}
ACCENT = {"navy": rgb(34, 36, 84), "orange": rgb(255, 138, 30), "mint": rgb(140, 242, 214)}
WHITE, DARK, CREAM, WOOD = rgb(255, 255, 255), rgb(36, 32, 46), rgb(252, 236, 206), rgb(128, 82, 50)
STRETCH = {"tall": (0.84, 1.14), "even": (1.0, 1.0), "wide": (1.18, 0.86)}

Part = tuple[Array, Array]


@dataclass
class Figure:
    """One thing, before it is painted: what lies behind the body, the body, what lies in front, and where face and hat
    sit (u, v)."""

    body: Array
    face: tuple[float, float]
    hat: tuple[float, float]
    behind: list[Part] = field(default_factory=list)
    front: list[Part] = field(default_factory=list)


Shaper = Callable[[Array, Array, Array, Array], Figure]


def _ball(u: Array, v: Array, accent: Array, beat: Array) -> Figure:
    feet: list[Part] = [(ellipse(u - side, v - 0.93, 0.36, 0.24), accent) for side in (-0.46, 0.46)]
    return Figure(circle(u, v, 1.0), (0.0, -0.12), (0.0, -0.92), feet)


def _balloon(u: Array, v: Array, accent: Array, beat: Array) -> Figure:
    ropes = box(np.abs(u) - 0.22, v - 0.85, 0.04, 0.3)
    basket = box(u, v - 1.16, 0.36, 0.22, 0.06)
    throat = polygon(u, v, (-0.62, 0.3), (0.62, 0.3), (0.3, 0.82), (-0.3, 0.82))
    body = np.minimum(ellipse(u, v + 0.25, 0.95, 0.95), throat)
    return Figure(body, (0.0, -0.3), (0.0, -1.12), [(ropes, DARK), (basket, accent)])


def _car(u: Array, v: Array, accent: Array, beat: Array) -> Figure:
    body = np.minimum(box(u + 0.1, v + 0.25, 0.72, 0.6, 0.3), box(u, v - 0.28, 1.22, 0.38, 0.2))
    wheels: list[Part] = []
    for side in (-0.66, 0.66):
        wheels += [(circle(u - side, v - 0.66, 0.36), DARK), (circle(u - side, v - 0.66, 0.2), accent)]
    return Figure(body, (0.0, -0.2), (-0.1, -0.8), front=wheels)


def _boat(u: Array, v: Array, accent: Array, beat: Array) -> Figure:
    hull = polygon(u, v, (-1.28, -0.1), (1.28, -0.1), (0.82, 0.95), (-0.82, 0.95))
    mast = box(u + 0.3, v + 0.6, 0.07, 0.62)
    sail = polygon(u, v, (-0.2, -1.15), (0.95, -0.2), (-0.2, -0.2))
    return Figure(hull, (0.0, 0.36), (-0.3, -1.1), [(mast, WOOD), (sail, accent)])


def _fish(u: Array, v: Array, accent: Array, beat: Array) -> Figure:
    wag = 0.16 * np.sin(2 * np.pi * beat)
    tail = polygon(u, v - wag, (-0.6, 0.0), (-1.42, 0.68), (-1.42, -0.68))
    fin = polygon(u, v, (-0.5, -0.45), (-0.35, -1.02), (0.15, -0.5))
    return Figure(ellipse(u, v, 1.05, 0.76), (0.4, -0.1), (0.3, -0.66), [(tail, accent), (fin, accent)])


def _star(u: Array, v: Array, accent: Array, beat: Array) -> Figure:
    body = star(u, v, 1.28, 0.7)
    boots: list[Part] = [(np.maximum(body, circle(u - side, v - 1.03, 0.44)), accent) for side in (-0.75, 0.75)]
    return Figure(body, (0.0, -0.08), (0.0, -1.0), front=boots)


def _rocket(u: Array, v: Array, accent: Array, beat: Array) -> Figure:
    flame = ellipse(u, v - 1.0, 0.26, 0.42 + 0.1 * np.sin(4 * np.pi * beat))
    fins = np.minimum(
        polygon(u, v, (-0.35, 0.1), (-0.35, 0.8), (-1.0, 1.02)), polygon(u, v, (0.35, 0.1), (1.0, 1.02), (0.35, 0.8))
    )
    hull = np.maximum(ellipse(u, v - 0.05, 0.66, 1.28), v - 0.82)
    return Figure(hull, (0.0, -0.15), (0.0, -1.05), [(flame, rgb(255, 190, 60)), (fins, accent)])


def _mushroom(u: Array, v: Array, accent: Array, beat: Array) -> Figure:
    cap = np.maximum(ellipse(u, v - 0.12, 1.2, 1.12), v - 0.12)
    stem = box(u, v - 0.55, 0.55, 0.52, 0.3)
    collar = box(u, v - 0.16, 0.92, 0.11, 0.1)
    return Figure(cap, (0.0, 0.52), (0.0, -0.92), [(stem, CREAM), (collar, accent)])


SHAPERS: dict[str, Shaper] = {
    "ball": _ball, "balloon": _balloon, "car": _car, "boat": _boat, "fish": _fish,
    "star": _star, "rocket": _rocket, "mushroom": _mushroom,
}  # fmt: skip


def _pattern(kind: str, u: Array, v: Array, body: Array) -> Array | None:
    match kind:
        case "stripes":
            band = np.abs(((u + 0.2) / 0.8) % 1 - 0.5) * 0.8 - 0.2
            return np.maximum(body, band)
        case "dots":
            row = np.floor(v / 0.62)
            du = ((u + 0.36 * (row % 2)) / 0.72) % 1 - 0.5
            dv = (v / 0.62) % 1 - 0.5
            return np.maximum(body, circle(0.72 * du, 0.62 * dv, 0.225))
    return None


def _eyes(kind: str, u: Array, v: Array) -> list[Part]:
    if kind == "single":
        return [
            (circle(u, v, 0.47), DARK),
            (circle(u, v, 0.4), WHITE),
            (circle(u - 0.06, v - 0.02, 0.22), DARK),
            (circle(u, v + 0.1, 0.08), WHITE),
        ]
    parts: list[Part] = []
    for side in (-0.32, 0.32):
        if kind == "round":
            parts += [
                (circle(u - side, v, 0.31), DARK),
                (circle(u - side, v, 0.25), WHITE),
                (circle(u - side - 0.05, v - 0.02, 0.14), DARK),
            ]
        else:  # asleep: lids as wide as the eye, a dark lash along the lower edge
            lid = circle(u - side, v, 0.28)
            parts += [(lid, CREAM), (np.maximum(circle(u - side, v, 0.31), -v - 0.02), DARK)]
            parts.append((np.maximum(circle(u - side, v + 0.04, 0.2), -v - 0.2), CREAM))
    return parts


def _hat(kind: str, u: Array, v: Array, accent: Array) -> list[Part]:
    match kind:
        case "top hat":
            return [
                (box(u, v + 0.34, 0.33, 0.36, 0.05), DARK),
                (box(u, v + 0.16, 0.34, 0.09), accent),
                (box(u, v - 0.02, 0.56, 0.09, 0.06), DARK),
            ]
        case "party hat":
            cone = polygon(u, v, (0.0, -0.86), (0.44, 0.06), (-0.44, 0.06))
            return [
                (cone, accent),
                (np.maximum(cone, np.abs(v + 0.24) - 0.11), WHITE),
                (circle(u, v + 0.84, 0.17), WHITE),
            ]
    return []


def thing_parts(name: str, colour: str, look: ThingLook, u: Array, v: Array, beat: Array) -> list[Part]:
    """All parts of a thing from back to front; `u` and `v` are unit coordinates, `beat` (0 to 1) moves tails and
    flames."""
    across, down = STRETCH[look.build]
    accent = ACCENT[look.accent]
    shape_u, shape_v = u / across, v / down
    figure = SHAPERS[name](shape_u, shape_v, accent, beat)
    parts = [*figure.behind, (figure.body, PAINT[colour])]
    pattern = _pattern(look.pattern, shape_u, shape_v, figure.body)
    if pattern is not None:
        parts.append((pattern, accent))
    parts += figure.front
    (face_u, face_v), (hat_u, hat_v) = figure.face, figure.hat
    parts += _hat(look.hat, u - hat_u * across, v - hat_v * down, accent)
    parts += _eyes(look.eyes, u - face_u * across, v - face_v * down)
    return parts


def draw_thing(
    canvas: Array,
    mask: Array,
    name: str,
    colour: str,
    look: ThingLook,
    x: Array,
    y: Array,
    radius: Array,
    angle: Array,
    beat: Array,
    facing: int,
) -> None:
    """Draw one thing into every frame of a clip, in place.

    Args:
        canvas: (T, H, W, 3) in 0..1. mask: (T, H, W), how much of a pixel the thing covers; it is added.
        x, y: (T,) centre in pixels. radius: (T,) pixels per unit. angle: (T,) radians, clockwise.
        beat: (T,) phase of small movements in 0..1.
        facing: 1 as drawn (to the right), -1 mirrored.
    """
    height, width = canvas.shape[1:3]
    half = int(np.ceil(2.15 * radius.max())) + 2
    left, top = np.floor(x).astype(int) - half, np.floor(y).astype(int) - half
    grid = np.arange(2 * half + 1, dtype=np.float32)
    px = (grid[None, None, :] + (left - x)[:, None, None] + 0.5).astype(np.float32)  # (T, 1, w)  pixels from centre
    py = (grid[None, :, None] + (top - y)[:, None, None] + 0.5).astype(np.float32)  # (T, w, 1)
    scale = radius[:, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    u, v = facing * (px * cos + py * sin) / scale, (py * cos - px * sin) / scale  # (T, w, w)
    # The light stays upper left while the thing turns, so it is taken from screen coordinates.
    light = 1.06 - 0.2 * np.clip(0.5 * px + 0.85 * py, -1.3 * scale, 1.3 * scale) / scale
    parts = thing_parts(name, colour, look, u, v, beat[:, None, None])
    union = parts[0][0]
    for distance, _ in parts[1:]:
        union = np.minimum(union, distance)
    outline = soft(union * scale - 1.6)
    sprite = np.broadcast_to(0.36 * PAINT[colour] + 0.03, (*union.shape, 3)).copy()
    for distance, part_colour in parts:
        over(sprite, soft(distance * scale), part_colour)
    sprite = np.minimum(sprite * light[..., None], 1)
    for t in range(canvas.shape[0]):
        y0, x0 = max(top[t], 0), max(left[t], 0)
        y1, x1 = min(top[t] + 2 * half + 1, height), min(left[t] + 2 * half + 1, width)
        if y0 < y1 and x0 < x1:
            window = (slice(y0 - top[t], y1 - top[t]), slice(x0 - left[t], x1 - left[t]))
            over(canvas[t, y0:y1, x0:x1], outline[t][window], sprite[t][window])
            seen = mask[t, y0:y1, x0:x1]
            np.maximum(seen, outline[t][window], out=seen)


def draw_shadow(canvas: Array, x: Array, ground_y: float, radius: Array, height_px: Array) -> None:
    """A soft shadow on the ground under a thing; it fades and widens as the thing goes up."""
    first = int(ground_y) - 6
    rows = np.arange(first, canvas.shape[1], dtype=np.float32)[None, :, None]
    columns = np.arange(canvas.shape[2], dtype=np.float32)[None, None, :]
    spread = (radius * (0.95 + 0.008 * height_px))[:, None, None]
    distance = np.sqrt(((columns + 0.5 - x[:, None, None]) / spread) ** 2 + ((rows - ground_y) / (0.28 * spread)) ** 2)
    strength = np.clip(0.42 - 0.005 * height_px, 0.1, 0.42)[:, None, None]
    alpha = strength * np.clip(1.5 - 1.5 * distance, 0, 1)
    canvas[:, first:] *= 1 - alpha[..., None]
