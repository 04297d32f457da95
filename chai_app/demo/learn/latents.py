"""What the transformer learns from: latents of drawn clips and of single frames, made once and kept.

A store grows: the same call with a larger number draws and encodes what is missing. Beside the latents it keeps how
much of each token's square a thing covers, which is what the probe of `transformer.py` learns to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...opensora.autoencoder import AutoencoderKLOpenSora
from ..drawn.data import Split, moment_of, specs
from ..drawn.render import Rendering, render
from ..drawn.spec import FRAME_SIZE_PX, NUM_FRAMES, ClipSpec
from .autoencoder import LATENT_CHANNELS, to_signed

TOKENS_PER_SIDE = FRAME_SIZE_PX // 16
BLOCK = 32


@dataclass(frozen=True, eq=False)
class Latents:
    """latents: (N, C, T, h, w) fp16, normalised. coverage: (N, T, S), 0 to 255; both of the clips `specs(split, N)`."""

    latents: NDArray[np.float16]
    coverage: NDArray[np.uint8]


def covered(mask: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(T, H, W) shares of pixels to (t, S) shares of tokens: the first frame, then the mean of every four."""
    side = TOKENS_PER_SIDE
    share = mask.reshape(len(mask), side, 16, side, 16).mean((2, 4)).reshape(len(mask), -1)  # (T, S)
    groups = [share[:1], *(share[i : i + 4] for i in range(1, len(share), 4))]
    return (255 * np.stack([group.mean(0) for group in groups]) + 0.5).astype(np.uint8)


def encode(vae: AutoencoderKLOpenSora, folder: Path, split: Split, number: int, still: bool) -> Latents:
    """Latents of the first `number` clips of a split, in whole blocks, encoded if they are not on disk yet."""
    name = f"{split}-{'frames' if still else 'clips'}"
    length, side = vae.num_latent_frames(1 if still else NUM_FRAMES), FRAME_SIZE_PX // 8
    folder.mkdir(parents=True, exist_ok=True)
    path, covers, counter = (folder / f"{name}.{kind}" for kind in ("latents", "coverage", "json"))
    done = json.loads(counter.read_text())["done"] if counter.exists() else 0
    while done < number:
        latents, coverage = _encoded(vae, [draw(spec, still) for spec in specs(split, BLOCK, done)])
        _put(path, latents, done)
        _put(covers, coverage, done)
        done += BLOCK
        counter.write_text(json.dumps({"done": done}))
    return Latents(
        np.memmap(path, np.float16, "r", shape=(done, LATENT_CHANNELS, length, side, side)),
        np.memmap(covers, np.uint8, "r", shape=(done, length, TOKENS_PER_SIDE**2)),
    )


def _put(path: Path, rows: NDArray[Any], start: int) -> None:
    """Write rows from number `start` on."""
    with path.open("r+b" if start else "wb") as file:
        file.seek(start * rows[0].nbytes)
        file.write(rows.tobytes())


def draw(spec: ClipSpec, still: bool) -> Rendering:
    return render(spec, moment_of(spec) if still else None)


@torch.no_grad()
def _encoded(vae: AutoencoderKLOpenSora, drawn: Iterable[Rendering]) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    drawn = list(drawn)
    x = to_signed(np.stack([rendering.frames for rendering in drawn])).transpose(1, 2)  # (B, 3, T, H, W)
    parts = [vae.encode(few).latent_dist.mode().half() for few in x.split(32 if x.shape[2] == 1 else 4)]
    return torch.cat(parts).numpy(), np.stack([covered(rendering.mask) for rendering in drawn])
