"""Anti-aliased drawing with signed distances, whole clips at a time.

A shape is a signed distance (negative inside); its coverage of a pixel is `clip(0.5 - distance_px, 0, 1)`, which
gives smooth edges without supersampling: a clip of 17 frames takes a few milliseconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def rgb(red: int, green: int, blue: int) -> Array:
    return np.array([red, green, blue], dtype=np.float32) / 255


def coverage(distance_px: Array) -> Array:
    return np.clip(0.5 - distance_px, 0.0, 1.0)


def soft(distance_px: Array) -> Array:
    """As `coverage`, with an edge two pixels wide: half as steep, it costs an autoencoder half as much to keep."""
    return np.clip(0.5 - 0.5 * distance_px, 0.0, 1.0)


def over(canvas: Array, alpha: Array, colour: Array) -> None:
    """Paint `colour` (..., 3 or broadcastable) with `alpha` (..., H, W) onto `canvas` (..., H, W, 3), in place."""
    if colour.ndim == 1 and alpha.ndim == 3:  # one colour: only where it covers something, which is most of the time
        rows, columns = np.flatnonzero(alpha.any((0, 2))), np.flatnonzero(alpha.any((0, 1)))
        if not len(rows):
            return
        if alpha.shape[1] == canvas.shape[1]:
            window = slice(rows[0], rows[-1] + 1)
            alpha, canvas = alpha[:, window], canvas[:, window]
        if alpha.shape[2] == canvas.shape[2]:
            window = slice(columns[0], columns[-1] + 1)
            alpha, canvas = alpha[:, :, window], canvas[:, :, window]
    canvas += alpha[..., None] * (colour - canvas)


def circle(u: Array, v: Array, radius: float | Array) -> Array:
    return np.sqrt(u * u + v * v) - radius


def ellipse(u: Array, v: Array, rx: float | Array, ry: float | Array) -> Array:
    """First-order distance to an ellipse: exact on the outline, good enough for a pixel around it."""
    k = np.sqrt((u / rx) ** 2 + (v / ry) ** 2)
    slope = np.sqrt((u / rx**2) ** 2 + (v / ry**2) ** 2)
    return (k - 1) * (k + 1e-4) / (slope + 1e-4 / np.minimum(rx, ry))


def box(u: Array, v: Array, half_width: float, half_height: float, radius: float = 0.0) -> Array:
    du, dv = np.abs(u) - half_width + radius, np.abs(v) - half_height + radius
    outside = np.sqrt(np.maximum(du, 0) ** 2 + np.maximum(dv, 0) ** 2)
    return outside + np.minimum(np.maximum(du, dv), 0) - radius


def polygon(u: Array, v: Array, *corners: tuple[float, float]) -> Array:
    """Convex polygon as the largest of its edges' half-plane distances; corners clockwise on screen (v points down)."""
    distance = np.full(np.broadcast(u, v).shape, -np.inf, dtype=np.float32)
    for (u0, v0), (u1, v1) in zip(corners, corners[1:] + corners[:1], strict=True):
        eu, ev = u1 - u0, v1 - v0
        length = float(np.hypot(eu, ev))
        distance = np.maximum(distance, ((u - u0) * ev - (v - v0) * eu) / length)
    return distance


def star(u: Array, v: Array, outer: float, inner: float, points: int = 5) -> Array:
    """Distance to the edge of a star, by folding the plane into one of its half points."""
    sector = np.pi / points
    angle = np.arctan2(u, -v)
    folded = np.abs((angle + sector) % (2 * sector) - sector)
    radius = np.sqrt(u * u + v * v)
    x, y = radius * np.cos(folded), radius * np.sin(folded)
    # The edge runs from the tip (outer, 0) to the notch (inner cos sector, inner sin sector).
    ex, ey = inner * np.cos(sector) - outer, inner * np.sin(sector)
    return ((x - outer) * -ey + y * ex) / -np.hypot(ex, ey)
