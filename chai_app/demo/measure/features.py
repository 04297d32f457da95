"""Features of a clip from a network that never saw a label, and distances between sets of clips by them.

The network learnt from drawn clips to tell whether frames are in order, and which frame comes next. A judge's features
would share the judge's blind spots; these do not know what a clip is asked to show.

Sources: KID, Binkowski et al., arXiv 1801.01401; density and coverage, Naeem et al., arXiv 2002.09797, and what is
wrong with both where sets have outliers, Stein et al., arXiv 2306.04675.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...settings import BUNDLED_MODELS
from ..drawn.spec import FRAME_SIZE_PX

WEIGHTS = BUNDLED_MODELS / "demo" / "measure" / "features.safetensors"
CHANNELS = (3, 16, 32, 48, 64)
SIDE = FRAME_SIZE_PX // 2 ** (len(CHANNELS) - 1)
WIDTH = 128
CLIPS_AT_ONCE = 8

Pixels = NDArray[np.uint8]
Numbers = NDArray[np.float64]


class Features(nn.Module):
    """Every frame by itself, then through time. `in_order` and `following` are what it learnt by."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, 2, padding=1), nn.GroupNorm(8, after), nn.SiLU())
            for before, after in itertools.pairwise(CHANNELS)
        )
        self.places = nn.Sequential(nn.Conv2d(CHANNELS[-1], 24, 1), nn.SiLU(), nn.Flatten())
        self.embed = nn.Linear(24 * SIDE**2, WIDTH)
        self.through_time = nn.Sequential(
            nn.SiLU(), nn.Conv1d(WIDTH, WIDTH, 3, padding=1), nn.SiLU(), nn.Conv1d(WIDTH, 64, 3, padding=1), nn.SiLU()
        )
        self.in_order = nn.Linear(64, 1)
        self.following = nn.Sequential(nn.Linear(2 * WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        size = 2 * sum(CHANNELS[1:]) + 2 * WIDTH + 64
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", torch.zeros(size))  # of real clips, so that every feature weighs alike
        self.register_buffer("spread", torch.ones(size))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Args: frames: (B, 3, H, W) in -1..1.

        Returns: embeddings (B, WIDTH), and mean and spread of every channel of every level (B, 2 * channels).
        """
        x = frames.contiguous(memory_format=torch.channels_last)
        textures = []
        for level in self.levels:
            x = level(x)
            textures += [x.mean((2, 3)), x.std((2, 3))]
        return self.embed(self.places(x)), torch.cat(textures, dim=1)

    @torch.inference_mode()
    def raw(self, clips: Pixels) -> Tensor:
        """Features of every second frame of (N, T, H, W, 3) clips before they are put to one scale, (N, D)."""
        found = []
        every = slice(None, None, 2 if clips.shape[1] > 9 else 1)
        for few in torch.from_numpy(np.ascontiguousarray(clips[:, every])).split(CLIPS_AT_ONCE):
            embedded, textures = self(few.flatten(0, 1).movedim(-1, 1).float() / 127.5 - 1)
            embedded, textures = (each.unflatten(0, few.shape[:2]) for each in (embedded, textures))
            moving = self.through_time(embedded.transpose(1, 2)).mean(2)
            steps = embedded.diff(dim=1).abs().mean(1)
            found.append(torch.cat([textures.mean(1), embedded.mean(1), steps, moving], dim=1))
        return torch.cat(found)

    def clip_features(self, clips: Pixels) -> Numbers:
        """(N, D), each feature with mean 0 and spread 1 over real clips."""
        return ((self.raw(clips) - self.mean) / self.spread).numpy().astype(np.float64)

    def measure_scale(self, real: Pixels) -> None:
        """Set the scale of every feature by real clips."""
        raw = self.raw(real)
        self.mean.copy_(raw.mean(0))
        self.spread.copy_(raw.std(0).clamp_min(1e-3))


def save_features(features: Features, path: Path = WEIGHTS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half().contiguous() for name, tensor in features.state_dict().items()}, path)


def load_features(path: Path = WEIGHTS) -> Features:
    features = Features()
    features.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return features.eval().requires_grad_(False)


def kid(a: Numbers, b: Numbers, subset_size: int = 100, seed: int = 0) -> tuple[float, float]:
    """Kernel distance between two sets of features (N, D) and (M, D), 0 for sets of one distribution.

    Args: subset_size: the sets are cut into pieces of this size that share nothing, so that their spread is honest.
    Returns: the mean over the pieces, and its standard error (NaN with one piece alone).
    """
    size = min(subset_size, len(a), len(b))
    if size < 2:
        raise ValueError(f"a kernel distance needs two clips on either side: got {len(a)} and {len(b)}")
    rng = np.random.default_rng(seed)
    a, b = a[rng.permutation(len(a))], b[rng.permutation(len(b))]
    found = [_mmd2(a[i : i + size], b[i : i + size]) for i in range(0, min(len(a), len(b)) - size + 1, size)]
    error = float(np.std(found, ddof=1) / np.sqrt(len(found))) if len(found) > 1 else float("nan")
    return float(np.mean(found)), error


def _mmd2(a: Numbers, b: Numbers) -> float:
    """Unbiased squared distance under the kernel (x y / D + 1)^3."""

    def kernel(x: Numbers, y: Numbers) -> Numbers:
        return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)

    aa, bb, n = kernel(a, a), kernel(b, b), len(a)
    within = (aa.sum() - np.trace(aa) + bb.sum() - np.trace(bb)) / (n * (n - 1))
    return float(within - 2 * kernel(a, b).mean())


def density_coverage(real: Numbers, made: Numbers, k: int = 5) -> tuple[Numbers, Numbers]:
    """Quality and variety apart, by the balls around real clips that reach to their k-th real neighbour.

    A made clip's density is how many balls it lies in, divided by k. Clipped at 1, so that a few clips in a crowded
    place do not make up for the others; and no ball is larger than the median, so that an outlier's does not take in
    everything.

    Returns: density of every made clip (M,), and for every real clip whether a made one lies in its ball (N,).
    """
    between = _distances(real, real)
    radius = np.partition(between, k, axis=1)[:, k]  # the nearest is the clip itself
    across = _distances(real, made)
    inside = across <= np.minimum(radius, np.median(radius))[:, None]
    density: Numbers = np.minimum(inside.sum(0) / k, 1.0)
    covered: Numbers = np.any(across <= radius[:, None], axis=1).astype(np.float64)
    return density, covered


def _distances(a: Numbers, b: Numbers) -> Numbers:
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0))


def blur(clips: Pixels, sigma_px: float) -> Pixels:
    reach = int(np.ceil(3 * sigma_px))
    bell = torch.exp(-(torch.arange(-reach, reach + 1).float() ** 2) / (2 * sigma_px**2))
    bell = (bell / bell.sum()).expand(3, 1, 1, -1)

    def along(x: Tensor, window: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
        return F.conv2d(F.pad(x, padding, mode="replicate"), window, groups=3)

    x = along(_frames(clips), bell, (reach, reach, 0, 0))
    return _clips(along(x, bell.transpose(2, 3), (0, 0, reach, reach)), clips)


def waver(clips: Pixels, sigma_px: float, seed: int = 0) -> Pixels:
    """Every frame moved by its own random way."""
    x = _frames(clips)
    generator = torch.Generator().manual_seed(seed)
    moves = torch.eye(2, 3).repeat(len(x), 1, 1)
    moves[:, :, 2] = 2 * sigma_px / FRAME_SIZE_PX * torch.randn(len(x), 2, generator=generator)
    grid = F.affine_grid(moves, list(x.shape), align_corners=False)
    return _clips(F.grid_sample(x, grid, padding_mode="border", align_corners=False), clips)


def shuffled(clips: Pixels, share: float, seed: int = 0) -> Pixels:
    """A share of the frames of every clip trade places."""
    rng = np.random.default_rng(seed)
    mixed = clips.copy()
    for i in range(len(clips)):
        chosen = rng.permutation(clips.shape[1])[: max(2, round(share * clips.shape[1]))]
        mixed[i, chosen] = clips[i, np.roll(chosen, 1)]
    return mixed


def noise(clips: Pixels, sigma: float, seed: int = 0) -> Pixels:
    """Args: sigma: of pixels in 0 to 255."""
    rng = np.random.default_rng(seed)
    noisy = clips + sigma * rng.standard_normal(clips.shape, dtype=np.float32)
    return np.asarray(np.clip(noisy + 0.5, 0, 255)).astype(np.uint8)


def _frames(clips: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(clips)).flatten(0, 1).movedim(-1, 1).float()


def _clips(frames: Tensor, like: Pixels) -> Pixels:
    return (frames + 0.5).clamp(0, 255).byte().movedim(1, -1).numpy().reshape(like.shape)


@dataclass(frozen=True)
class Corruption:
    name: str
    of: Callable[[Pixels, float], Pixels]
    strengths: tuple[float, ...]


def corruptions(round_trip: Callable[[Pixels], Pixels] | None = None) -> list[Corruption]:
    """Known ways to spoil clips, each with strengths from hardly seen to ruined.

    Args: round_trip: encodes and decodes clips; its strength is how often.
    """
    found = [
        Corruption("blur (px)", blur, (0.5, 1.0, 2.0, 4.0)),
        Corruption("waver (px)", waver, (0.5, 1.0, 2.0, 4.0)),
        Corruption("shuffled time (share)", shuffled, (0.25, 0.5, 1.0)),
        Corruption("noise (of 255)", noise, (4.0, 8.0, 16.0, 32.0)),
    ]
    if round_trip is not None:

        def again(clips: Pixels, times: float) -> Pixels:
            for _ in range(round(times)):
                clips = round_trip(clips)
            return clips

        found.append(Corruption("autoencoder (times)", again, (1.0, 2.0)))
    return found


@dataclass(frozen=True)
class Calibrated:
    corruption: str
    strength: float
    kid: float
    error: float


def calibrate(
    features: Features, real: Pixels, others: Pixels, spoilers: Sequence[Corruption], subset_size: int = 100
) -> list[Calibrated]:
    """What kernel distance a known corruption of `others` has from `real`; strength 0 first, as the floor."""
    wanted = features.clip_features(real)
    curve = [Calibrated("none", 0.0, *kid(wanted, features.clip_features(others), subset_size))]
    for spoiler in spoilers:
        for strength in spoiler.strengths:
            spoilt = features.clip_features(spoiler.of(others, strength))
            curve.append(Calibrated(spoiler.name, strength, *kid(wanted, spoilt, subset_size)))
    return curve
