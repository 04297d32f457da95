"""Clips on disk, so that training does not wait for the renderer.

One file of pixels per split, filled in order and safe to interrupt: a counter beside it says how many clips are whole.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .render import render
from .world import FRAME_SIZE_PX, NUM_FRAMES, ClipSpec, sample_any_spec, sample_training_spec

Split = Literal["train", "judge", "test"]
SPLIT_SEEDS: dict[Split, int] = {"train": 1, "judge": 2, "test": 3}


def specs(split: Split, number: int) -> list[ClipSpec]:
    """The first `number` clips of a split. Only `train` leaves the held-out combinations out: the generator learns
    from it alone, while the judge has to know every combination to be fair to all of them."""
    random = Random(SPLIT_SEEDS[split])
    draw = sample_training_spec if split == "train" else sample_any_spec
    return [draw(random) for _ in range(number)]


def clips(folder: Path, split: Split, number: int, workers: int = 2) -> NDArray[np.uint8]:
    """Pixels of the first `number` clips of a split, rendered if they are not on disk yet.

    Returns: (N, T, H, W, 3), memory-mapped: 209 kB a clip.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, counter = folder / f"{split}-{number}.u8", folder / f"{split}-{number}.json"
    shape = (number, NUM_FRAMES, FRAME_SIZE_PX, FRAME_SIZE_PX, 3)
    done = json.loads(counter.read_text())["done"] if counter.exists() and path.exists() else 0
    pixels = np.memmap(path, dtype=np.uint8, mode="r+" if path.exists() else "w+", shape=shape)
    if done < number:
        wanted = specs(split, number)
        with ProcessPoolExecutor(workers) as pool:
            for start in range(done, number, 256):
                block = wanted[start : start + 256]
                for i, clip in enumerate(pool.map(render, block, chunksize=8)):
                    pixels[start + i] = clip
                pixels.flush()
                counter.write_text(json.dumps({"done": start + len(block)}))
    return pixels
