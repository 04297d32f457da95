"""How well a drawing of the thing that was asked for fits what a frame shows.

The judge says where the thing is and what it covers; the renderer draws the outline of the named thing there, and a
small search moves it until both agree best. A sharp clip fits closely, and no other thing fits as well; mush fits all
things alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..drawn.drawing import Array, coverage
from ..drawn.looks import BUILDS, THING_TRAITS, ThingLook
from ..drawn.spec import COLOURS, FRAME_SIZE_PX, OBJECTS, ClipSpec, Thing
from ..drawn.things import draw_thing, thing_parts
from .judge import MASK_SIZE_PX, Judge, Poses

OUTLINE_PX = 1.4  # a thing is drawn with a dark line of this width around it
BEATS = (0.0, 0.25, 0.75)  # a tail in the middle, and at either end of its way
STEP = np.array([1.6, 1.6, 1.2, 0.12])  # of x, y, radius (px) and angle, in the first round
ROUNDS, TRIES = 5, 20  # each round tries steps half as long


@dataclass(frozen=True, eq=False)
class Fit:
    """How a drawing fits, each (N, F): intersection over union with what is seen, by how much that is more than any
    other thing's, and the mean squared error (pixels in 0 to 1) to the drawing within both. NaN where a clip shows
    several things. poses: (N, F, 4), x, y, radius in px, angle."""

    iou: NDArray[np.float64]
    margin: NDArray[np.float64]
    artefacts: NDArray[np.float64]
    poses: NDArray[np.float64]


def silhouettes(thing: Thing, poses: Array, facing: Array, beat: Array) -> Array:
    """What a thing covers at half the size of a frame.

    Args: poses: (K, 4), x, y, radius in px, angle. facing: (K,) 1 or -1. beat: (K,).
    Returns: (K, H/2, W/2), 0 to 1.
    """
    x, y, radius, angle, mirror, phase = (
        values[:, None, None].astype(np.float32) for values in (*poses.T, facing, beat)
    )
    middle = 2 * np.arange(MASK_SIZE_PX, dtype=np.float32) + 1
    px, py = middle[None, None, :] - x, middle[None, :, None] - y
    cos, sin = np.cos(angle), np.sin(angle)
    u, v = mirror * (px * cos + py * sin) / radius, (py * cos - px * sin) / radius
    distance = None
    for part, _ in thing_parts(thing.object, thing.colour, thing.look, u, v, phase):
        distance = part if distance is None else np.minimum(distance, part)
    assert distance is not None
    return coverage((distance * radius - OUTLINE_PX) / 2)


def soft_iou(a: Array, b: Array) -> NDArray[np.float64]:
    """Of (..., H, W) masks with values in 0 to 1."""
    together = np.maximum(a, b).sum((-2, -1), dtype=np.float64)
    return np.minimum(a, b).sum((-2, -1), dtype=np.float64) / np.maximum(together, 1e-6)


def fit_frames(
    thing: Thing, frames: NDArray[np.uint8], masks: Array, start: Array, facing: Array | None = None
) -> tuple[Array, Array, Array, Array]:
    """Fit one thing to F frames of a clip.

    Args: frames: (F, H, W, 3). masks: (F, H/2, W/2), what a thing covers. start: (F, 4), a guess of its poses.
        facing: (F,) 1 or -1; both ways are tried if it is left out.
    Returns: IoU, margin and artefacts, each (F,), and poses (F, 4).
    """
    number = len(frames)

    def tried(poses: Array, ways: Array, beats: Array) -> Array:
        """IoU of K drawings for each frame, (F, K); poses: (F, K, 4)."""
        drawn = silhouettes(thing, poses.reshape(-1, 4), ways.ravel(), beats.ravel())
        return soft_iou(drawn.reshape(number, -1, MASK_SIZE_PX, MASK_SIZE_PX), masks[:, None])

    def best_of(scores: Array, *choices: Array) -> list[Array]:
        chosen = scores.argmax(1)
        return [each[np.arange(number), chosen] for each in choices]

    sides = np.array([1.0, -1.0]) if facing is None else np.array([1.0])
    ways, beats = (grid.ravel()[None].repeat(number, 0) for grid in np.meshgrid(sides, BEATS))
    if facing is not None:
        ways = ways * facing[:, None]
    poses = start[:, None].repeat(ways.shape[1], 1)
    pose, way, beat = best_of(tried(poses, ways, beats), poses, ways, beats)
    directions = np.random.default_rng(0).standard_normal((ROUNDS, TRIES, 4))
    directions[:, 0] = 0  # what is best so far stays in the race
    for i, direction in enumerate(directions):
        poses = pose[:, None] + 0.5**i * STEP * direction
        poses[..., 2] = np.clip(poses[..., 2], 3, 0.6 * FRAME_SIZE_PX)
        scores = tried(poses, way[:, None].repeat(TRIES, 1), beat[:, None].repeat(TRIES, 1))
        (pose,) = best_of(scores, poses)
    iou = tried(pose[:, None], way[:, None], beat[:, None])[:, 0]

    rival = np.zeros(number)
    both = np.repeat([1.0, -1.0], number)
    for name in OBJECTS:
        if name == thing.object:
            continue
        for build in BUILDS:
            other = replace(thing, object=name, look=replace(thing.look, build=build))
            drawn = silhouettes(other, np.tile(pose, (2, 1)), both, np.tile(beat, 2))
            rival = np.maximum(rival, soft_iou(drawn.reshape(2, *masks.shape), masks).max(0))
    artefacts = np.minimum(
        *(artefact_energy(thing, frames, masks, pose, side, beat) for side in (1, -1))
    )  # the outline of a ball does not tell which way it looks, its face does
    return iou, iou - rival, artefacts, pose


def artefact_energy(
    thing: Thing, frames: NDArray[np.uint8], masks: Array, poses: Array, facing: int, beat: Array
) -> Array:
    """Mean squared error of F frames (pixels in 0 to 1) to the drawn thing, where either covers anything; (F,).

    Behind the drawing each row has the mean colour of what the picture shows beside the thing.
    """
    picture = frames.astype(np.float32) / 255
    seen = masks.repeat(2, 1).repeat(2, 2).astype(np.float32)
    outside = 1 - seen
    row = (picture * outside[..., None]).sum(2) / (outside.sum(2) + 1e-3)[..., None]  # (F, H, 3)
    drawn = row[:, :, None].repeat(FRAME_SIZE_PX, 2)
    covered = np.zeros_like(seen)
    x, y, radius, angle = poses.T.astype(np.float32)
    draw_thing(
        drawn, covered, thing.object, thing.colour, thing.look, x, y, radius, angle, beat.astype(np.float32), facing
    )
    union = np.maximum(seen, covered)
    error = np.square(picture - drawn).mean(3)
    return (error * union).sum((1, 2), dtype=np.float64) / union.sum((1, 2), dtype=np.float64)


def fit_clips(
    judge: Judge, clips: NDArray[np.uint8], specs: Sequence[ClipSpec], frames: Sequence[int] = (0, 8, 16)
) -> Fit:
    """Fit the named thing to a few frames of every clip. Its colour and traits are read off the clip: how the thing is
    drawn is asked here, not whether it is the one that was asked for."""
    looked_at = np.ascontiguousarray(clips[:, list(frames)])
    seen = judge.look(looked_at)
    chosen = {name: seen.traits[name].mean(1).argmax(1) for name in THING_TRAITS}
    colours = seen.logits["colour"].argmax(1).tolist()
    start = as_array(seen.poses)
    shape = looked_at.shape[:2]
    unknown = np.full(shape, np.nan)
    fit = Fit(unknown, unknown.copy(), unknown.copy(), np.full((*shape, 4), np.nan))
    for i, spec in enumerate(specs):
        if spec.count == 1:
            look = ThingLook(**{name: values[chosen[name][i]] for name, values in THING_TRAITS.items()})
            thing = Thing(spec.things[0].object, COLOURS[colours[i]], look)
            fit.iou[i], fit.margin[i], fit.artefacts[i], fit.poses[i] = fit_frames(
                thing, looked_at[i], seen.masks[i], start[i]
            )
    return fit


def as_array(poses: Poses) -> NDArray[np.float64]:
    """x, y, radius, angle, (N, T, 4)."""
    return np.stack([poses.x, poses.y, poses.radius, poses.angle], axis=-1).astype(np.float64)
