"""Training the judge, on rendered clips of the whole world (held-out combinations too: it must be fair to all)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .judge import Judge, targets
from .learn.loop import Settings, train
from .world import MOTIONS, ClipSpec

MIRRORED = torch.tensor(
    [MOTIONS.index({"moving left": "moving right", "moving right": "moving left"}.get(name, name)) for name in MOTIONS]
)
SETTINGS = Settings(steps=2200, batch_size=32, peak_lr=1.5e-3, seed=21)


def train_judge(
    clips: NDArray[np.uint8], specs: Sequence[ClipSpec], folder: Path, settings: Settings = SETTINGS
) -> Judge:
    """Train on (N, T, H, W, 3) clips; a little noise and blur keep the judge from leaning on single pixels."""
    torch.manual_seed(settings.seed)
    judge, wanted = Judge(), targets(specs)

    def loss_of(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        rows = torch.randint(len(clips), (settings.batch_size,), generator=generator)
        x = torch.from_numpy(clips[rows.numpy()])[:, ::2].movedim(-1, -3).float() / 127.5 - 1  # (B, T, 3, H, W)
        motion = wanted["motion"][rows]
        if torch.rand((), generator=generator) < 0.5:  # seen in a mirror, left is right
            x, motion = x.flip(-1), MIRRORED[motion]
        blur = 0.7 * torch.rand(len(x), 1, 1, 1, 1, generator=generator)
        soft = F.avg_pool2d(x.flatten(0, 1), 3, stride=1, padding=1, count_include_pad=False).view_as(x)
        x = x + blur * (soft - x) + 0.04 * torch.randn(x.shape, generator=generator)
        logits, _ = judge(x)
        loss = torch.zeros(())
        figures: dict[str, float] = {}
        for name, answer in logits.items():
            goal = motion if name == "motion" else wanted[name][rows]
            if goal.ndim == 2:
                loss = loss + 3 * F.binary_cross_entropy_with_logits(answer, goal)
                right = goal[torch.arange(len(goal)), answer.argmax(1)] == 1
            else:
                loss = loss + F.cross_entropy(answer, goal)
                right = answer.argmax(1) == goal
            figures[name] = right.float().mean().item()
        return loss, figures

    train("judge", folder, judge, settings, loss_of)
    return judge
