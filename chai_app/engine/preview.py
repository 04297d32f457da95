"""A picture of latents that are not finished, cheap enough to be shown while a video is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..opensora import AutoencoderKLOpenSora


def latent_preview(vae: AutoencoderKLOpenSora, latents: Tensor) -> np.ndarray:
    """Decode the latent frame in the middle, and no other.

    Hooks on the decoders do not fire: whoever watches them to learn when decoding begins is not misled.

    Args:
        latents: (1, C, T, h, w) as the model sees them, on any device, noisy or clean.
    Returns: uint8 (8 h, 8 w, 3).
    """
    import torch

    temporal, spatial = vae.temporal_vae, vae.spatial_vae
    middle = latents.shape[2] // 2
    with torch.inference_mode():
        z = latents[:1, :, middle : middle + 1].to(vae.device, vae.dtype)
        z = z * vae.scale.to(z) + vae.shift.to(z)
        frames = temporal.decoder.forward(temporal.post_quant_conv(z))  # (1, C, 4, h, w)
        frame = frames[:, :, -1] / vae.config.spatial_scaling_factor  # (1, C, h, w)
        pixels = spatial.decoder.forward(spatial.post_quant_conv(frame))[0]  # (3, H, W), around -1..1
        return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
