"""Latents to frames outside a run: what the cache keeps, and what another program hands over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import BadRequest

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..opensora import OpenSoraPipeline


def decode(
    pipeline: OpenSoraPipeline, latents: Tensor, num_frames: int | None, height: int | None, width: int | None
) -> np.ndarray:
    """Decode the latents of one clip.

    Args:
        latents: (1, C, t, h, w) as the model sees them.
        num_frames, height, width: of the video, in pixels; None is the most that the latents hold.
    Returns: uint8 (T, H, W, 3).
    Raises: BadRequest for latents that another model made, or that are not of that size.
    """
    import torch

    from ..opensora.frames import FrameCollector

    vae = pipeline.vae
    if latents.ndim != 5 or latents.shape[:2] != (1, vae.latent_channels):
        raise BadRequest(
            f"These latents are {tuple(latents.shape)}, but this model decodes (1, {vae.latent_channels}, frames, "
            "height, width): give it latents that it made."
        )
    num_frames = num_frames or vae.num_frames(latents.shape[2])
    rows, columns = (side * vae.spatial_compression_ratio for side in latents.shape[3:])
    height, width = height or rows, width or columns
    if vae.num_latent_frames(num_frames) != latents.shape[2] or height > rows or width > columns:
        raise BadRequest(
            f"Latents of {latents.shape[2]} frames of {columns}x{rows} pixels do not hold {num_frames} frames of "
            f"{width}x{height}: ask for what they hold."
        )
    collector = FrameCollector("uint8")
    with torch.no_grad():
        collector.add_clip(pipeline.decode_latents(latents.to(vae.device), num_frames), skip=0, keep=0)
    frames = collector.result()
    assert isinstance(frames, torch.Tensor)
    return frames[0, :, :height, :width].numpy()
