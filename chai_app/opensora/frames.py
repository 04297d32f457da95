"""Decoded pixels, gathered chunk by chunk in the form that was asked for."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

OutputType = Literal["pt", "np", "pil", "uint8", "latent"]
OUTPUT_TYPES = ("pt", "np", "pil", "uint8", "latent")
Frames = Tensor | np.ndarray | list[list[Image.Image]]


class FrameCollector:
    """Takes the chunks of one clip after the other and turns each at once into what is kept of it.

    "uint8" and "pil" keep bytes, so that however long the video, one chunk at a time is held at full precision.
    "latent" keeps nothing.
    """

    def __init__(self, output_type: OutputType) -> None:
        self.output_type = output_type
        self._kept: list[Tensor] = []

    def add_clip(self, chunks: Iterable[Tensor], skip: int, keep: int) -> Tensor | None:
        """Take a clip.

        Args:
            chunks: (B, 3, T, H, W) each, pixels in -1..1.
            skip: frames at the beginning which the clip before has shown already.
            keep: frames at the end that the next clip will need.
        Returns: those frames, (B, 3, keep, H, W), pixels in -1..1; None if there are none.
        """
        tail = None
        for chunk in chunks:
            if keep:
                tail = (chunk if tail is None else torch.cat([tail, chunk], dim=2))[:, :, -keep:].clone()
            fresh = chunk[:, :, skip:]
            skip = max(0, skip - chunk.shape[2])
            if self.output_type != "latent" and fresh.shape[2]:
                self._kept.append(self._converted(fresh))
            del chunk, fresh
        return tail

    def _converted(self, chunk: Tensor) -> Tensor:
        """(B, 3, T, H, W) in -1..1 -> (B, T, 3, H, W) in 0..1 for "pt", or (B, T, H, W, 3), bytes but for "np"."""
        if self.output_type == "pt":
            return (chunk / 2 + 0.5).transpose(1, 2)
        channels_last = chunk.permute(0, 2, 3, 4, 1)  # (B, T, H, W, 3)
        if self.output_type == "np":
            return (channels_last / 2 + 0.5).cpu()
        return (channels_last * 127.5 + 127.5).round().to("cpu", torch.uint8)

    def result(self) -> Frames | None:
        """All frames so far; None for "latent"."""
        if self.output_type == "latent":
            return None
        frames = torch.cat(self._kept, dim=1)
        if self.output_type == "np":
            return frames.numpy()
        if self.output_type == "pil":
            return [[Image.fromarray(frame) for frame in video.numpy()] for video in frames]
        return frames
