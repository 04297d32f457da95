"""What a video is measured by: the judge, and how close it comes to the full run of the same prompt and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..demo.judge import Judge
from ..demo.world import COLOURS, MOTIONS, OBJECTS, SCENES, ClipSpec

QUESTIONS = ("object", "colour", "scene", "motion")
ANSWERS = {"object": OBJECTS, "colour": COLOURS, "scene": SCENES, "motion": MOTIONS}
RESAMPLES = 2_000
Pixels = NDArray[np.uint8]
Interval = tuple[float, float, float]


@dataclass(frozen=True)
class Measures:
    """One video. right: whether the judge sees what the prompt asks for, question by question.

    certainty is the mean probability that the judge gives the four right answers: finer than right or wrong.
    consistency is the likeness of neighbouring frames. psnr_db, ssim and feature_distance (1 minus the cosine of the
    judge's features of a frame, averaged over frames) compare with the full run.
    """

    right: dict[str, bool]
    certainty: float
    consistency: float
    psnr_db: float
    ssim: float
    feature_distance: float

    @property
    def score(self) -> float:
        """Share of the four questions that are answered as the prompt asks."""
        return sum(self.right[question] for question in QUESTIONS) / len(QUESTIONS)


@torch.inference_mode()
def measured(judge: Judge, specs: Sequence[ClipSpec], clips: Pixels, references: Pixels) -> list[Measures]:
    """Measure clips of single things.

    Args:
        clips, references: (N, T, 64, 64, 3); references are the full runs of the same prompts and seeds.
    """
    logits, features = judge(_floats(clips))
    _, wanted = judge(_floats(references))
    steady = F.cosine_similarity(features[:, 1:], features[:, :-1], dim=-1).mean(1)
    near = F.cosine_similarity(features, wanted, dim=-1).mean(1)
    found = []
    for i, spec in enumerate(specs):
        asked = {"object": spec.things[0].object, "colour": spec.things[0].colour}
        asked |= {"scene": spec.scene, "motion": spec.motion}
        places = {question: ANSWERS[question].index(asked[question]) for question in QUESTIONS}
        right = {q: int(logits[q][i].argmax()) == place for q, place in places.items()}
        certainty = sum(float(logits[q][i].softmax(0)[place]) for q, place in places.items()) / len(places)
        found.append(
            Measures(
                right, certainty, float(steady[i]), psnr_db(clips[i], references[i]), ssim(clips[i], references[i]),
                1 - float(near[i]),
            )
        )  # fmt: skip
    return found


def _floats(clips: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(clips)).movedim(-1, -3).float() / 127.5 - 1  # (N, T, 3, H, W)


def psnr_db(clip: Pixels, reference: Pixels) -> float:
    """Peak signal to noise ratio; 68 dB where nothing differs."""
    error = np.square(clip.astype(np.float64) - reference).mean()
    return float(20 * np.log10(255) - 10 * np.log10(max(error, 1e-2)))


def ssim(clip: Pixels, reference: Pixels) -> float:
    """Structural similarity, mean over frames, channels and places where the window fits.

    Args: clip, reference: (T, H, W, 3).
    Source: Wang et al., Image Quality Assessment, 2004: Gaussian window of 11 x 11, sigma 1.5, K1 0.01, K2 0.03.
    """
    x, y = (torch.from_numpy(each).movedim(-1, 1).flatten(0, 1)[:, None].double() for each in (clip, reference))
    bell = torch.exp(-(torch.arange(-5, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2))
    window = torch.outer(bell, bell)[None, None] / bell.sum() ** 2

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(values, window)  # (3T, 1, H - 10, W - 10)

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    likeness = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(likeness.mean())


def difference(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Interval:
    """Mean of `ours` minus `theirs`, prompt by prompt, with a paired bootstrap interval of 95 %.

    Returns: mean, lower end, upper end.
    """
    values = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(1), (2.5, 97.5))
    return float(values.mean()), float(low), float(high)
