"""Clips and frames to learn from, drawn once and kept on disk: files that grow, safe to interrupt.

A split is an endless row of pairs of clips, each made from its own number, so that any part of it can be drawn by
itself, and more of it later. The second clip of a pair shares the thing, the scene, both or nothing with the first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .render import render
from .spec import (
    FRAME_SIZE_PX,
    NUM_FRAMES,
    ClipSpec,
    Shared,
    sample_any_spec,
    sample_follower,
    sample_training_follower,
    sample_training_spec,
)

Split = Literal["train", "judge", "test"]
SHARES: dict[Shared, float] = {"thing": 0.45, "scene": 0.2, "both": 0.1, "nothing": 0.25}
assert set(SHARES) == set(get_args(Shared))


def pair(split: Split, number: int) -> tuple[ClipSpec, ClipSpec, Shared]:
    """Pair `number` of a split. Only `train` leaves the held-out combinations out: the generator learns from it alone,
    while a judge has to know every combination to be fair to all of them."""
    random = Random(f"{split} {number}")
    shared: Shared = random.choices(list(SHARES), list(SHARES.values()))[0]
    if split == "train":
        first = sample_training_spec(random)
        return first, sample_training_follower(first, shared, random), shared
    first = sample_any_spec(random)
    return first, sample_follower(first, shared, random), shared


def specs(split: Split, number: int, start: int = 0) -> list[ClipSpec]:
    """Clips `start` to `start + number` of a split; 2 i and 2 i + 1 are a pair."""
    pairs = range(start // 2, (start + number + 1) // 2)
    return [spec for i in pairs for spec in pair(split, i)[:2]][start % 2 :][:number]


def moment_of(spec: ClipSpec) -> NDArray[np.float32]:
    """One moment of a clip, (1,) in 0 to 1: the frame that stands for it where single frames are learnt from."""
    return np.array([Random(spec.seed).randrange(NUM_FRAMES) / (NUM_FRAMES - 1)], dtype=np.float32)


def _draw(job: tuple[ClipSpec, bool]) -> NDArray[np.uint8]:
    spec, is_still = job
    return render(spec, moment_of(spec) if is_still else None).frames


def clips(folder: Path, split: Split, number: int, workers: int = 2, still: bool = False) -> NDArray[np.uint8]:
    """Pixels of the first `number` clips of a split, or of one frame of each; drawn if they are not on disk yet.

    Returns: (N, T, H, W, 3), memory-mapped: 470 kB a clip, 28 kB a frame.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{split}-{'frames' if still else 'clips'}-{number}"
    path, counter = folder / f"{name}.u8", folder / f"{name}.json"
    shape = (number, 1 if still else NUM_FRAMES, FRAME_SIZE_PX, FRAME_SIZE_PX, 3)
    done = json.loads(counter.read_text())["done"] if counter.exists() and path.exists() else 0
    pixels = np.memmap(path, dtype=np.uint8, mode="r+" if path.exists() else "w+", shape=shape)
    if done < number:
        with ProcessPoolExecutor(workers) as pool:
            for start in range(done, number, 512):
                block: Sequence[ClipSpec] = specs(split, min(512, number - start), start)
                for i, clip in enumerate(pool.map(_draw, [(spec, still) for spec in block], chunksize=16)):
                    pixels[start + i] = clip
                pixels.flush()
                counter.write_text(json.dumps({"done": start + len(block)}))
    return pixels
