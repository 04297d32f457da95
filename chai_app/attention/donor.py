"""What an earlier video gives: its latents, at the noise level of the step that asks for them.

The paper keeps the latents that the donor's own run went through at three steps. Here the finished latents alone are
kept, and noise is put on them again: a third of the bytes, and any schedule can use it (`bench ablation` compares).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Donor:
    """Latents of an earlier video.

    Args:
        clean: (B, C, T, h, w), finished latents; B is 1, or one donor for each video of a batch.
        mask: (B, T, rows, columns) of tokens, True for those that a masked recipe may look at; None for all.
    Raises: ValueError for latents of another form.
    """

    clean: Tensor
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.clean.ndim != 5:
            raise ValueError(f"a donor has latents (B, C, T, h, w), not {tuple(self.clean.shape)}")

    def at(self, noise_level: float, noise: Tensor) -> Tensor:
        """Latents at a noise level: the clean ones with noise on them.

        Args:
            noise: (B, C, T, h, w), what the run that asks began with: so the donor differs from the run's own latents
                by content alone. With guidance, every video is there twice.
        Returns: (B, C, T, h, w) of the shape of `noise`; another size or duration is resampled.
        """
        return torch.lerp(resampled(self.clean.to(noise), noise.shape), noise, noise_level)

    def seen_tokens(self, frames: int, rows: int, columns: int, videos: int) -> Tensor | None:
        """The mask for as many frames and tokens as the run has, (videos * frames, rows * columns); None for all."""
        if self.mask is None:
            return None
        share = self.mask[:, None].float()  # (B, 1, T, rows, columns)
        share = F.interpolate(share, size=(frames, rows, columns), mode="nearest")[:, 0]
        return (share > 0.5).repeat(videos // share.shape[0], 1, 1, 1).flatten(2).flatten(0, 1)


def resampled(latents: Tensor, shape: torch.Size) -> Tensor:
    """Bring latents to another batch, number of frames, rows and columns.

    Args: latents: (B', C, T', h', w'); they are repeated if B is a multiple of B'.
    Returns: (B, C, T, h, w), of `shape`. Frames are the nearest ones, so that none is an average of two moments.
    Raises: ValueError if the channels differ, or the donors do not go evenly into the batch.
    """
    if latents.shape[1] != shape[1] or shape[0] % latents.shape[0]:
        raise ValueError(f"a donor of shape {tuple(latents.shape)} cannot serve latents of shape {tuple(shape)}")
    if latents.shape[2] != shape[2]:
        index = torch.linspace(0, latents.shape[2] - 1, shape[2]).round().long()
        latents = latents[:, :, index.to(latents.device)]
    if latents.shape[3:] != shape[3:]:
        frames = latents.transpose(1, 2).flatten(0, 1)  # (B*T, C, h', w')
        frames = F.interpolate(frames, size=tuple(shape[3:]), mode="bilinear", antialias=True)
        latents = frames.unflatten(0, (-1, shape[2])).transpose(1, 2)  # (B, C, T, h, w)
    return latents.repeat(shape[0] // latents.shape[0], 1, 1, 1, 1)
