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

OUTLINE_PX = 1.5  # about the width of the dark line that a thing is drawn with
BEATS = (0.0, 0.25, 0.75)  # a tail in the middle, and at either end of its way
STEP = np.array([1.6, 1.6, 1.2, 0.12])  # of x, y, radius (px) and angle, in the first round
ROUNDS, TRIES, SHORTER = 7, 20, 0.6  # each round tries shorter steps than the last
BOTH_WAYS = 2  # rounds that are gone both ways: a rough guess hides which way a thing looks


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
    plain = replace(thing.look, pattern="plain")  # a pattern lies within the body
    for part, _ in thing_parts(thing.object, thing.colour, plain, u, v, phase):
        distance = part if distance is None else np.minimum(distance, part)
    assert distance is not None
    return coverage((distance * radius - OUTLINE_PX) / 2)


def soft_iou(a: Array, b: Array) -> NDArray[np.float64]:
    """Of (..., H, W) masks with values in 0 to 1."""
    together = np.maximum(a, b).sum((-2, -1), dtype=np.float64)
    return np.minimum(a, b).sum((-2, -1), dtype=np.float64) / np.maximum(together, 1e-6)


def fit_frames(
    thing: Thing, frames: NDArray[np.uint8], masks: Array, start: Array
) -> tuple[Array, Array, Array, Array]:
    """Fit one thing to F frames of a clip.

    Args: frames: (F, H, W, 3). masks: (F, H/2, W/2), what a thing covers. start: (F, 4), a guess of its poses.
    Returns: IoU, margin and artefacts, each (F,), and poses (F, 4).
    """
    iou, pose, beat = search(thing, masks, start[:, None])
    # A rival is found by its outline where the thing was guessed and where it was found, and then moved as freely.
    guesses = np.stack([start, pose], axis=1)
    rivals = [
        replace(thing, object=name, look=replace(thing.look, build=build))
        for name in OBJECTS
        if name != thing.object
        for build in BUILDS
    ]
    first = [overlaps(rival, masks, *_every(guesses, (1.0, -1.0), BEATS[:1])).max(1).mean() for rival in rivals]
    rival_iou, _, _ = search(rivals[int(np.argmax(first))], masks, guesses)
    # The outline of a ball does not tell which way it looks, its face does.
    artefacts = np.minimum(*(artefact_energy(thing, frames, masks, pose, side, beat) for side in (1, -1)))
    return iou, iou - rival_iou, artefacts, pose


def search(thing: Thing, masks: Array, guesses: Array) -> tuple[Array, Array, Array]:
    """Move a thing in every frame until it covers what is covered; guesses: (F, G, 4).

    Returns: IoU (F,), poses (F, 4), beats (F,).
    """
    rows = np.arange(len(masks))
    steps = np.random.default_rng(0).standard_normal((ROUNDS, TRIES, 4)) * STEP
    steps *= SHORTER ** np.arange(ROUNDS)[:, None, None]
    found = []
    for way in (1.0, -1.0):
        poses, ways, beats = _every(guesses, (way,), BEATS)
        scores = overlaps(thing, masks, poses, ways, beats)
        best = scores.argmax(1)
        iou, pose, beat = (each[rows, best] for each in (scores, poses, beats))
        found.append((*_climb(thing, masks, iou, pose, beat, ways[:, 0], steps[:BOTH_WAYS]), ways[:, 0]))
    iou, pose, beat, way = (
        np.where((found[0][0] >= found[1][0]).reshape(-1, *(1,) * (one.ndim - 1)), one, other)
        for one, other in zip(*found, strict=True)
    )
    return _climb(thing, masks, iou, pose, beat, way, steps[BOTH_WAYS:])


def _climb(
    thing: Thing, masks: Array, iou: Array, pose: Array, beat: Array, way: Array, steps: Array
) -> tuple[Array, Array, Array]:
    """Try steps (R, K, 4) in R rounds and take the best, if it is one forward."""
    rows, tries = np.arange(len(masks)), steps.shape[1]
    for step in steps:
        poses = pose[:, None] + step
        poses[..., 2] = np.clip(poses[..., 2], 3, 0.6 * FRAME_SIZE_PX)
        scores = overlaps(thing, masks, poses, way[:, None].repeat(tries, 1), beat[:, None].repeat(tries, 1))
        best = scores.argmax(1)
        is_better = scores[rows, best] > iou
        iou = np.where(is_better, scores[rows, best], iou)
        pose = np.where(is_better[:, None], poses[rows, best], pose)
    return iou, pose, beat


def _every(guesses: Array, ways: Sequence[float], beats: Sequence[float]) -> tuple[Array, Array, Array]:
    """Every guess (F, G, 4) looking every way at every beat: poses (F, K, 4), facing and beat (F, K)."""
    count = len(guesses)
    which, sides, phases = (grid.ravel() for grid in np.meshgrid(np.arange(guesses.shape[1]), ways, beats))
    return guesses[:, which], sides[None].repeat(count, 0), phases[None].repeat(count, 0)


def overlaps(thing: Thing, masks: Array, poses: Array, facing: Array, beat: Array) -> NDArray[np.float64]:
    """IoU of K drawings for each of F frames, (F, K). Args: poses: (F, K, 4). facing, beat: (F, K)."""
    drawn = silhouettes(thing, poses.reshape(-1, 4), facing.ravel(), beat.ravel())
    return soft_iou(drawn.reshape(*poses.shape[:2], MASK_SIZE_PX, MASK_SIZE_PX), masks[:, None])


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
