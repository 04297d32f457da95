"""Training the features that distances between sets of clips are measured by: no label is looked at.

From five frames of a clip the network learns two things: whether they are in order, and, of all frames of the batch,
which one follows two others. The clip's own earlier frames are among the wrong answers, so it has to see what moves.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..measure.features import Features
from .loop import LossOf, Settings, train

SETTINGS = Settings(steps=1500, batch_size=24, peak_lr=2e-3, ema_decay=0.99, use_muon=True, seed=41)
LENGTH = 5
TEMPERATURE = 0.1
CLIPS_FOR_SCALE = 512


def train_features(frames: NDArray[np.uint8], folder: Path, settings: Settings = SETTINGS) -> Features:
    """Train on every second frame of real clips, (N, T, H, W, 3)."""
    torch.manual_seed(settings.seed)
    features = Features().to(memory_format=torch.channels_last)
    train("features", folder, features, settings, order_loss(features, frames, settings))
    features.measure_scale(frames[:CLIPS_FOR_SCALE])
    return features.requires_grad_(False)


def order_loss(features: Features, frames: NDArray[np.uint8], settings: Settings) -> LossOf:
    def loss_of(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        rows = torch.randint(len(frames), (settings.batch_size,), generator=generator)
        first = int(torch.randint(frames.shape[1] - LENGTH + 1, (), generator=generator))
        batch = torch.from_numpy(frames[rows.numpy(), first : first + LENGTH])
        x = batch.flatten(0, 1).movedim(-1, 1).float() / 127.5 - 1
        embedded = features(x)[0].unflatten(0, (len(rows), LENGTH))  # (B, 5, WIDTH)
        is_shuffled = torch.rand(len(rows), generator=generator) < 0.5
        order = torch.arange(LENGTH).repeat(len(rows), 1)
        for i in is_shuffled.nonzero()[:, 0].tolist():
            order[i] = _disorder(generator)
        moving = features.through_time(embedded.gather(1, order[..., None].expand_as(embedded)).transpose(1, 2))
        guess = features.in_order(moving.mean(2))[:, 0]
        order_error = F.binary_cross_entropy_with_logits(guess, (~is_shuffled).float())

        pairs = torch.stack([embedded[:, :-2], embedded[:, 1:-1]], dim=2).flatten(2)  # (B, 3, 2 WIDTH)
        foretold = F.normalize(features.following(pairs), dim=-1).flatten(0, 1)  # (3 B, WIDTH)
        likeness = foretold @ F.normalize(embedded, dim=-1).flatten(0, 1).T / TEMPERATURE  # (3 B, 5 B)
        goal = (LENGTH * torch.arange(len(rows))[:, None] + torch.arange(2, LENGTH)).flatten()
        contrast = F.cross_entropy(likeness, goal)
        figures = {
            "order": ((guess > 0) != is_shuffled).float().mean().item(),
            "following": (likeness.argmax(1) == goal).float().mean().item(),
        }
        return order_error + contrast, figures

    return loss_of


def _disorder(generator: torch.Generator) -> Tensor:
    """A permutation that is neither the order nor its reverse: what rises, seen backwards, falls."""
    straight = torch.arange(LENGTH)
    while True:
        order = torch.randperm(LENGTH, generator=generator)
        if not (torch.equal(order, straight) or torch.equal(order, straight.flip(0))):
            return order
