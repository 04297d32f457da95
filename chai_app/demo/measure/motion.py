"""How well a thing keeps to the world's law of the motion that was asked for.

The judge's poses give a path: x, y, radius and angle in every frame. The nearest lawful path is worked out (right
speed, straight line, even growth or turn), and how far the two are apart is told in pixels. A turn counts by the way of
a point at the thing's edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..drawn.spec import FRAME_SIZE_PX, ClipSpec
from .judge import Poses

# The law of `drawn.render.path_of`, in px, radians and clips of length 1.
TRAVEL_PX = (27.0, 33.0)
BOB_PX = 1.6
TURN = (0.85 * np.pi, 1.1 * np.pi)
SMALLEST, GROWTH = 0.62, 0.5
ROOM = {1: 1.0, 2: 0.7, 3: 0.6}
ENDS = 3  # frames at either end that a drift is taken between

Path = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MotionErrors:
    """Each (N,). residual_px: root mean square distance from the nearest lawful path. velocity_px: how far the mean
    speed is off the lawful range, per clip. jerk_px: root mean square third difference, px per frame cubed.
    radius_drift: growth that the law does not know, from the first to the last frames, as a logarithm."""

    residual_px: NDArray[np.float64]
    velocity_px: NDArray[np.float64]
    jerk_px: NDArray[np.float64]
    radius_drift: NDArray[np.float64]


def motion_errors(poses: Poses, specs: Sequence[ClipSpec]) -> MotionErrors:
    paths = np.stack(
        [poses.x, poses.y, poses.radius, np.unwrap(poses.angle, axis=1)], axis=2, dtype=np.float64
    )  # (N, T, 4)
    return MotionErrors(*np.array([_errors(path, spec) for path, spec in zip(paths, specs, strict=True)]).T)


def _errors(path: Path, spec: ClipSpec) -> tuple[float, float, float, float]:
    time = np.linspace(0, 1, len(path))
    in_px = np.array([1, 1, 1, path[:, 2].mean()])
    lawful, speed_error = nearest_lawful(path, spec)
    growth = SMALLEST + GROWTH * time if spec.motion == "coming closer" else np.ones_like(time)
    size = np.log(path[:, 2] / growth)
    return (
        float(np.sqrt(np.square((path - lawful) * in_px).sum(1).mean())),
        float(np.sqrt(np.square(speed_error * in_px).sum())),
        float(np.sqrt(np.square(np.diff(path * in_px, n=3, axis=0)).sum(1).mean())),
        float(abs(size[-ENDS:].mean() - size[:ENDS].mean())),
    )


def nearest_lawful(path: Path, spec: ClipSpec) -> tuple[Path, Path]:
    """Args: path: (T, 4), x, y, radius in px, unwrapped angle.

    Returns: the path of the asked motion that is nearest to it (T, 4), and how far each mean speed is off (4,).
    """
    time = np.linspace(0, 1, len(path))
    middle = path.mean(0)
    slope = ((time - 0.5)[:, None] * (path - middle)).sum(0) / np.square(time - 0.5).sum()
    asked = np.zeros(4)
    bob = np.zeros_like(path)
    slowest, fastest = (ROOM[spec.count] * way for way in TRAVEL_PX)
    match spec.motion:
        case "rising" | "falling":
            way = 1 if spec.motion == "falling" else -1
            asked[1] = way * np.clip(way * slope[1], slowest, fastest)
            # Whatever the clip, rising and falling things pass this height in the middle of their way.
            middle[1] = FRAME_SIZE_PX / 2 + 3
        case "moving right" | "moving left":
            way = 1 if spec.motion == "moving right" else -1
            asked[0] = way * np.clip(way * slope[0], slowest, fastest)
            middle[0] = FRAME_SIZE_PX / 2
            wave = 2 * np.pi * time
            basis = np.stack([np.ones_like(time), np.sin(wave), np.cos(wave)], axis=1)
            height, *swing = np.linalg.lstsq(basis, path[:, 1], rcond=None)[0]
            swing = np.array(swing) * min(1.0, BOB_PX / max(float(np.hypot(*swing)), 1e-9))
            middle[1] = height
            bob[:, 1] = basis[:, 1:] @ swing
            slope[1] = 0  # within a bob that is not seen whole, speed says nothing
        case "spinning":
            turn = float(time @ path[:, 3] / (time @ time))  # every turn begins upright
            asked[3] = np.sign(turn or 1.0) * np.clip(abs(turn), *TURN)
            slope[3] = turn
            middle[3] = asked[3] / 2
        case "coming closer":
            asked[2] = middle[2] * GROWTH / (SMALLEST + GROWTH / 2)
    if spec.motion != "spinning":
        middle[3] = 0
    return middle + (time - 0.5)[:, None] * asked + bob, slope - asked
