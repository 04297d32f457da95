"""Training the autoencoder: single frames first, then latents through time, then clips to pixels.

The autoencoder is the ceiling of everything after it, and what a mean error forgets first is a small coloured thing on
a large calm ground. So the error is weighed by detail: each pixel by 1 + 4 |x - local mean|.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from numpy.typing import NDArray
from torch import Tensor

from ..opensora.autoencoder import AutoencoderKLOpenSora
from .training import Settings, train

SPATIAL = {
    "block_out_channels": (16, 32, 64, 96),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 1,
    "latent_channels": 8,
    "norm_num_groups": 8,
    "sample_size": 64,
}
FRAME_SETTINGS = Settings(steps=3000, batch_size=16, peak_lr=2e-3, seed=11)
LATENT_SETTINGS = Settings(steps=900, batch_size=4, peak_lr=2e-3, use_muon=True, seed=12)
CLIP_SETTINGS = Settings(steps=800, batch_size=3, peak_lr=8e-4, use_muon=True, seed=13)
DECODER_SETTINGS = Settings(steps=600, batch_size=3, peak_lr=5e-4, use_muon=True, seed=14)
FRAMES_PER_CLIP = 6  # of 17 are decoded to pixels: the spatial decoder is the costly half
SHARE_OF_STILLS = 0.12  # of the batches hold single frames, as image-to-video needs them
KL_WEIGHT = 1e-4


def new_autoencoder() -> AutoencoderKLOpenSora:
    """An untrained one; its latents' mean and spread are measured once it is trained."""
    model = AutoencoderKLOpenSora(
        spatial=SPATIAL,
        temporal_filters=24,
        temporal_num_res_blocks=1,
        temporal_channel_multipliers=(1, 2, 2, 3),
        temporal_norm_num_groups=8,
        micro_batch_size=17,
        latents_mean=(0.0,) * 8,
        latents_std=(1.0,) * 8,
    )
    model.spatial_vae.to(memory_format=torch.channels_last)
    return model


def to_signed(pixels: NDArray[np.uint8]) -> Tensor:
    """(..., H, W, 3) uint8 to (..., 3, H, W) float in -1..1."""
    return torch.from_numpy(pixels).movedim(-1, -3).float() / 127.5 - 1


def detail_error(x: Tensor, y: Tensor) -> Tensor:
    """Mean of L1 + L2 error, weighed by how far each pixel stands out from its 15 x 15 neighbourhood; (N, 3, H, W)."""
    mean = F.avg_pool2d(x, 15, stride=1, padding=7, count_include_pad=False)
    weight = 1 + 4 * (x - mean).abs().mean(1, keepdim=True)
    error = (x - y).abs() + (x - y).square()
    return (weight * error).mean()


def _psnr(x: Tensor, y: Tensor) -> float:
    return -10 * torch.log10((x - y).detach().div(2).square().mean()).item()


def train_frames(model: AutoencoderKLOpenSora, clips: NDArray[np.uint8], folder: Path, settings: Settings) -> None:
    """First stage: the spatial half on single frames, each from another clip."""

    def loss_of(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        rows = torch.randint(len(clips), (settings.batch_size,), generator=generator).numpy()
        times = torch.randint(clips.shape[1], (settings.batch_size,), generator=generator).numpy()
        x = to_signed(clips[rows, times]).contiguous(memory_format=torch.channels_last)
        if torch.rand((), generator=generator) < 0.5:
            x = x.flip(-1)
        posterior = model.spatial_vae.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        y = model.spatial_vae.decode(posterior.mean + posterior.std * noise).sample
        kl = posterior.kl().mean() / posterior.mean[0].numel()  # per latent number
        return detail_error(x, y) + KL_WEIGHT * kl, {"psnr": _psnr(x, y), "kl": kl.item()}

    train("autoencoder_frames", folder, model.spatial_vae, settings, loss_of)


def train_latents(model: AutoencoderKLOpenSora, clips: NDArray[np.uint8], folder: Path, settings: Settings) -> None:
    """Second stage: the temporal half alone learns to give back the latents of the spatial half, which stands still."""
    model.spatial_vae.requires_grad_(False)

    def loss_of(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        with torch.no_grad():
            frame_latents = _encode_frames(model, _batch(clips, settings, generator, is_still=False))
        posterior, again = _through_time(model, frame_latents, generator)
        spread = frame_latents.var().clamp_min(1e-4)
        error = (again - frame_latents).square().mean() / spread
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return error + (again - frame_latents).abs().mean() / spread.sqrt() + KL_WEIGHT * kl, {
            "unexplained": error.item(),
            "kl": kl.item(),
        }

    train("autoencoder_latents", folder, model.temporal_vae, settings, loss_of)
    model.spatial_vae.requires_grad_(True)


def train_clips(
    model: AutoencoderKLOpenSora,
    clips: NDArray[np.uint8],
    folder: Path,
    settings: Settings,
    name: str = "autoencoder_clips",
    with_encoders: bool = True,
) -> None:
    """Third stage: both halves together, from pixels to pixels, so that frames become latents which time can compress.

    With `with_encoders` off, the last stage: latents stay what they are (the transformer may be training on them
    already) and the decoders go on learning.
    """
    encoders = (model.spatial_vae.encoder, model.spatial_vae.quant_conv)
    for part in (*encoders, model.temporal_vae.encoder, model.temporal_vae.quant_conv):
        part.requires_grad_(with_encoders)

    def loss_of(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        is_still = bool(torch.rand((), generator=generator) < SHARE_OF_STILLS)
        x = _batch(clips, settings, generator, is_still)
        frame_latents = _encode_frames(model, x)
        posterior, again = _through_time(model, frame_latents, generator)
        chosen = torch.randperm(x.shape[1], generator=generator)[:FRAMES_PER_CLIP]
        frames = again[:, :, chosen].transpose(1, 2).flatten(0, 1) / model.config.spatial_scaling_factor
        y = model.spatial_vae.decode(frames.contiguous(memory_format=torch.channels_last)).sample
        goal = x[:, chosen].flatten(0, 1)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return detail_error(goal, y) + KL_WEIGHT * kl, {"psnr": _psnr(goal, y), "kl": kl.item()}

    train(name, folder, model, settings, loss_of)
    model.requires_grad_(True)


def _batch(clips: NDArray[np.uint8], settings: Settings, generator: torch.Generator, is_still: bool) -> Tensor:
    """Clips (B, T, 3, H, W), or four times as many single frames (4 B, 1, 3, H, W); half of the batches mirrored."""
    if is_still:
        rows = torch.randint(len(clips), (4 * settings.batch_size,), generator=generator).numpy()
        times = torch.randint(clips.shape[1], (len(rows),), generator=generator).numpy()
        x = to_signed(clips[rows, times])[:, None]
    else:
        x = to_signed(clips[torch.randint(len(clips), (settings.batch_size,), generator=generator).numpy()])
    return x.flip(-1) if torch.rand((), generator=generator) < 0.5 else x


def _encode_frames(model: AutoencoderKLOpenSora, x: Tensor) -> Tensor:
    """(B, T, 3, H, W) pixels to the latents of every frame for itself, (B, C, T, h, w)."""
    frames = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    latents = model.spatial_vae.encode(frames).latent_dist.mode() * model.config.spatial_scaling_factor
    return latents.unflatten(0, x.shape[:2]).transpose(1, 2).contiguous()


def _through_time(
    model: AutoencoderKLOpenSora, frame_latents: Tensor, generator: torch.Generator
) -> tuple[DiagonalGaussianDistribution, Tensor]:
    posterior = model.temporal_vae.encode(frame_latents)
    z = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
    return posterior, model.temporal_vae.decode(z, num_frames=frame_latents.shape[2])


@torch.no_grad()
def measure_latents(model: AutoencoderKLOpenSora, clips: NDArray[np.uint8]) -> None:
    """Set the latents' mean and spread per channel, over a sample of clips, so that normalised latents are N(0, 1)."""
    model.shift.zero_()
    model.scale.fill_(1)
    sample = clips[:256]
    z = torch.cat(
        [
            model.encode(to_signed(sample[i : i + 8]).transpose(1, 2)).latent_dist.mode()
            for i in range(0, len(sample), 8)
        ]
    )
    model.shift.copy_(z.mean((0, 2, 3, 4)).view_as(model.shift))
    model.scale.copy_(z.std((0, 2, 3, 4)).view_as(model.scale))


def without_normalisation(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a finished autoencoder as training wants them: latents are measured again when it is done."""
    return dict(state) | {"shift": torch.zeros_like(state["shift"]), "scale": torch.ones_like(state["scale"])}


@torch.no_grad()
def reconstruct(model: AutoencoderKLOpenSora, clips: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, T, H, W, 3) clips, encoded and decoded."""
    result = np.empty_like(clips)
    for i in range(0, len(clips), 8):
        x = to_signed(clips[i : i + 8]).transpose(1, 2)  # (B, 3, T, H, W)
        y = model.decode(model.encode(x).latent_dist.mode(), num_frames=x.shape[2]).sample
        result[i : i + 8] = ((y.clamp(-1, 1) + 1) * 127.5 + 0.5).byte().movedim(1, -1).numpy()
    return result


def psnr_db(clips: NDArray[np.uint8], others: NDArray[np.uint8]) -> float:
    """Mean over clips of the peak signal-to-noise ratio, in dB."""
    error = (clips.astype(np.float32) - others.astype(np.float32)).reshape(len(clips), -1)
    return float(np.mean(20 * np.log10(255) - 10 * np.log10((error**2).mean(1))))
