"""How well a thing keeps to the world's law of the motion that was asked for.

The judge's poses give a path: x, y, radius and angle in every frame. The nearest lawful path is worked out (right
speed, straight line, even growth or turn), and how far the two are apart is told in pixels. A turn counts by the way of
a point at the thing's edge. The law itself is read off the renderer, so the two cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random

import numpy as np
from numpy.typing import NDArray

from ..drawn.render import path_of
from ..drawn.spec import NUM_FRAMES, ClipSpec, sample_any_spec
from .judge import Poses

SAMPLES = 200  # of the renderer's paths show how far apart its slowest and fastest are
ENDS = 3  # frames at either end that a drift is taken between

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MotionErrors:
    """Each (N,). residual_px: root mean square distance from the nearest lawful path. velocity_px: how far the mean
    speed is off the lawful range, per clip. jerk_px: root mean square third difference, px per frame cubed.
    radius_drift: growth that the law does not know, from the first to the last frames, as a logarithm."""

    residual_px: Numbers
    velocity_px: Numbers
    jerk_px: Numbers
    radius_drift: Numbers


@dataclass(frozen=True, eq=False)
class Law:
    """What x, y, radius (in units of its mean) and angle do from the first to the last frame of a motion, each (4,).

    way: 1 or -1 up or down, 0 either. swing: how far it may swing around a straight line.
    """

    slowest: Numbers
    fastest: Numbers
    way: Numbers
    swing: Numbers


def motion_errors(poses: Poses, specs: Sequence[ClipSpec]) -> MotionErrors:
    angle = np.unwrap(poses.angle, axis=1)
    paths = np.stack([poses.x, poses.y, poses.radius, angle], axis=2, dtype=np.float64)  # (N, T, 4)
    return MotionErrors(*np.array([_errors(path, spec) for path, spec in zip(paths, specs, strict=True)]).T)


def _errors(path: Numbers, spec: ClipSpec) -> tuple[float, float, float, float]:
    law = law_of(spec.motion, spec.count)
    in_px = np.array([1, 1, 1, path[:, 2].mean()])
    lawful, speed_error = nearest_lawful(path, law)
    growth = (law.way * (law.slowest + law.fastest) / 2)[2]
    size = np.log(path[:, 2] / (1 + growth * (_time(path) - 0.5)))
    return (
        float(np.sqrt(np.square((path - lawful) * in_px).sum(1).mean())),
        float(np.sqrt(np.square(speed_error * in_px).sum())),
        float(np.sqrt(np.square(np.diff(path * in_px, n=3, axis=0)).sum(1).mean())),
        float(abs(size[-ENDS:].mean() - size[:ENDS].mean())),
    )


@cache
def law_of(motion: str, count: int) -> Law:
    asked = replace(sample_any_spec(Random(0), share_counted=0, share_pairs=0), motion=motion, count=count)
    slopes, swings = [], []
    for seed in range(SAMPLES):
        path = path_of(replace(asked, seed=seed), np.linspace(0, 1, NUM_FRAMES, dtype=np.float32))
        middle, slope, *swing = _line(np.stack([path.x, path.y, path.radius, path.angle], axis=1, dtype=np.float64))
        slopes.append(slope / _unit(middle))
        swings.append(np.hypot(*swing))
    speed, ways = np.abs(slopes), np.sign(slopes)
    is_one_way = (ways == ways[0]).all(0)
    return Law(speed.min(0), speed.max(0), np.where(is_one_way, ways[0], 0), np.max(swings, axis=0))


def nearest_lawful(path: Numbers, law: Law) -> tuple[Numbers, Numbers]:
    """Args: path: (T, 4), x, y, radius in px, unwrapped angle.

    Returns: the path of the law that is nearest to it (T, 4), and how far each mean speed is off (4,). Where the thing
        is in the middle of the clip is left to the clip, but every turn begins upright.
    """
    middle, slope, *swing = _line(path)
    unit = _unit(middle)
    way = np.where(law.way == 0, np.where(slope < 0, -1, 1), law.way)
    asked = way * np.clip(way * slope / unit, law.slowest, law.fastest) * unit
    middle[3] = asked[3] / 2
    share = np.minimum(1, law.swing / np.maximum(np.hypot(*swing), 1e-9))
    return _basis(path) @ np.stack([middle, asked, *(share * each for each in swing)]), slope - asked


def _time(path: Numbers) -> Numbers:
    return np.linspace(0, 1, len(path))


def _basis(path: Numbers) -> Numbers:
    """A straight line and one swing, (T, 4)."""
    time = _time(path)
    wave = 2 * np.pi * time
    return np.stack([np.ones_like(time), time - 0.5, np.sin(wave), np.cos(wave)], axis=1)


def _line(path: Numbers) -> Numbers:
    """The middle, slope per clip and swing (sine, cosine) of each coordinate, (4, 4)."""
    return np.asarray(np.linalg.lstsq(_basis(path), path, rcond=None)[0])


def _unit(middle: Numbers) -> Numbers:
    """What a slope is told in: growth in units of the size."""
    return np.array([1, 1, middle[2], 1])
