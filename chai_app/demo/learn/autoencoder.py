"""Training the autoencoder: single frames first, then latents through time, then clips to pixels, then decoders alone.

The autoencoder is the ceiling of everything after it, and what a mean error forgets first is a small coloured thing on
a large calm ground. So the error is weighed by detail: each pixel by 1 + 4 |x - local mean|. In a share of the batches
latents are made smaller or mirrored before they are decoded, and the picture has to follow: a transformer learns such
latents sooner.

At last the decoders go on alone, and learn to see through noise on the latents: what a transformer makes is never quite
what an encoder would have made.

Sources: EQ-VAE, Kouzelis et al., arXiv 2502.09509; decoders that know noise, RAE, Zheng et al., arXiv 2510.11690.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from numpy.typing import NDArray
from torch import Tensor

from ...opensora.autoencoder import AutoencoderKLOpenSora
from ..drawn.spec import FRAME_SIZE_PX
from .loop import LossOf, Settings

LATENT_CHANNELS = 12
SPATIAL = {
    "block_out_channels": (16, 32, 64, 96),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 1,
    "latent_channels": LATENT_CHANNELS,
    "norm_num_groups": 8,
    "sample_size": FRAME_SIZE_PX,
}
FRAMES = Settings(steps=5600, batch_size=28, peak_lr=2e-3, use_muon=True, seed=11)
LATENTS = Settings(steps=3000, batch_size=4, peak_lr=1.5e-3, use_muon=True, seed=12)
CLIPS = Settings(steps=1500, batch_size=3, peak_lr=1e-3, use_muon=True, seed=13)
DECODERS = Settings(steps=1000, batch_size=3, peak_lr=6e-4, ema_decay=0.995, use_muon=True, seed=14)
FRAMES_PER_CLIP = 6  # of 17 are decoded to pixels: the spatial decoder is the costly half
SHARE_OF_STILLS = 0.2  # of the batches hold single frames: a first frame that is given is encoded alone
STILLS_FOR_A_CLIP = 6  # cost as much as one
SHARE_CROPPED = 0.75  # of the batches of single frames show the middle, where the thing is, at under half the cost
CROP_PX = 64
SHARE_CHANGED = 0.2  # of the batches of single frames are decoded smaller or mirrored
KL_WEIGHT = 1e-4
NOISE_AT_LAST = 0.25  # standard deviation of the level of noise on what decoders learn from, in that of the latents
# L1 keeps edges sharp, squares are what PSNR counts: with errors of 0.05, as the last stage begins with, 10 lets both
# pull alike.
SQUARES_AT_LAST = 10.0


def new_autoencoder() -> AutoencoderKLOpenSora:
    """An untrained one; its latents' mean and spread are measured once it is trained."""
    torch.manual_seed(FRAMES.seed)
    model = AutoencoderKLOpenSora(
        spatial=SPATIAL,
        temporal_filters=48,
        temporal_num_res_blocks=1,
        temporal_channel_multipliers=(1, 1, 2, 3),
        temporal_norm_num_groups=8,
        micro_batch_size=17,
        latents_mean=(0.0,) * LATENT_CHANNELS,
        latents_std=(1.0,) * LATENT_CHANNELS,
    )
    model.spatial_vae.to(memory_format=torch.channels_last)
    _begin_with_little_noise(model)
    return model


@torch.no_grad()
def _begin_with_little_noise(model: AutoencoderKLOpenSora) -> None:
    """Let the temporal half begin with a posterior of standard deviation 0.05 around its mean: with 1, latents have
    to outgrow the noise before they can learn anything else."""
    bias = model.temporal_vae.quant_conv.conv.bias
    assert bias is not None
    bias[model.latent_channels :] = 2 * math.log(0.05)


def to_signed(pixels: NDArray[np.uint8]) -> Tensor:
    """(..., H, W, 3) uint8 to (..., 3, H, W) float in -1..1."""
    return torch.from_numpy(pixels).movedim(-1, -3).float() / 127.5 - 1


def detail_error(x: Tensor, y: Tensor, squares: float = 1.0) -> Tensor:
    """Mean of L1 and `squares` times L2 error, weighed by how far each pixel stands out from its 15 x 15 neighbourhood;
    (N, 3, H, W)."""
    mean = F.avg_pool2d(x, 15, stride=1, padding=7, count_include_pad=False)
    weight = 1 + 4 * (x - mean).abs().mean(1, keepdim=True)
    error = (x - y).abs() + squares * (x - y).square()
    return (weight * error).mean()


def _kl_per_number(posterior: DiagonalGaussianDistribution) -> Tensor:
    """In nats. diffusers sums over three axes, whether there are four or five."""
    return posterior.kl().sum() / posterior.mean.numel()


def _psnr(x: Tensor, y: Tensor) -> float:
    return -10 * torch.log10((x - y).detach().div(2).square().mean()).item()


def frame_loss(model: AutoencoderKLOpenSora, frames: NDArray[np.uint8], settings: Settings) -> LossOf:
    """First stage: the spatial half on single frames (N, 1, H, W, 3), each from another clip."""

    def loss_of(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        is_cropped = bool(torch.rand((), generator=generator) < SHARE_CROPPED)
        number = settings.batch_size if is_cropped else settings.batch_size // 2
        x = to_signed(frames[torch.randint(len(frames), (number,), generator=generator).numpy(), 0])
        if is_cropped:
            left, top = (8 * torch.randint(1, 4, (2,), generator=generator)).tolist()
            x = x[..., top : top + CROP_PX, left : left + CROP_PX]
        x = x.contiguous(memory_format=torch.channels_last)
        posterior = model.spatial_vae.encode(x).latent_dist
        z = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
        is_changed = bool(torch.rand((), generator=generator) < SHARE_CHANGED)
        if is_changed:
            side = x.shape[-1] // 8 - 2 * int(torch.randint(1, 3, (), generator=generator))
            z = F.interpolate(z.flip(-1), size=(side, side), mode="bilinear", antialias=True)
            x = F.interpolate(x.flip(-1), size=(8 * side, 8 * side), mode="bilinear", antialias=True)
        y = model.spatial_vae.decode(z.contiguous(memory_format=torch.channels_last)).sample
        kl = _kl_per_number(posterior)
        figures = {} if is_changed or is_cropped else {"psnr": _psnr(x, y)}
        return detail_error(x, y) + KL_WEIGHT * kl, {**figures, "kl": kl.item()}

    return loss_of


def latent_loss(model: AutoencoderKLOpenSora, clips: NDArray[np.uint8], folder: Path, settings: Settings) -> LossOf:
    """Second stage: the temporal half alone learns to give back the latents of the spatial half, which stands still and
    is asked once, for all clips. Each channel's error weighs what it would do to the pixels.

    Most batches show the middle alone, and all are seen both ways round.
    """
    model.spatial_vae.requires_grad_(False)
    weight = channel_weights(model, clips)
    known = _all_frame_latents(model, clips, folder / "frame-latents.f16")
    side = known.shape[-1]

    def loss_of(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        is_cropped = bool(torch.rand((), generator=generator) < SHARE_CROPPED)
        is_still = bool(torch.rand((), generator=generator) < SHARE_OF_STILLS)
        number = settings.batch_size * (2 if is_cropped else 1) * (STILLS_FOR_A_CLIP if is_still else 1)
        rows = torch.randint(len(known), (number,), generator=generator).numpy()
        if is_still:
            times = torch.randint(known.shape[2], (number,), generator=generator).numpy()
            chosen = known[rows, :, times][:, :, None]
        else:
            chosen = known[rows]
        frame_latents = torch.from_numpy(chosen.astype(np.float32))  # (B, C, T, h, w)
        if is_cropped:
            left, top = torch.randint(side - CROP_PX // 8 + 1, (2,), generator=generator).tolist()
            frame_latents = frame_latents[..., top : top + CROP_PX // 8, left : left + CROP_PX // 8].contiguous()
        posterior, again = _through_time(model, frame_latents, generator)
        difference = (again - frame_latents) * weight.sqrt()
        kl = _kl_per_number(posterior)
        error = difference.square().mean()
        figures = {"stills" if is_still else "crops" if is_cropped else "unexplained": error.item()}
        return error + difference.abs().mean() + KL_WEIGHT * kl, {**figures, "kl": kl.item()}

    return loss_of


@torch.no_grad()
def _all_frame_latents(model: AutoencoderKLOpenSora, clips: NDArray[np.uint8], path: Path) -> NDArray[np.float16]:
    """The latents of every frame for itself, (N, C, T, h, w), and those of the clips in a mirror after them; worked out
    once for one state of the spatial half."""
    frames, side = clips.shape[1], clips.shape[2] // 8
    shape = (2 * len(clips), model.latent_channels, frames, side, side)
    mark = path.with_suffix(".of")
    weights = torch.cat([parameter.flatten() for parameter in model.spatial_vae.encoder.parameters()])
    state = f"{len(clips)} {float(weights.double().square().sum()):.12g}"
    if not (path.exists() and mark.exists() and mark.read_text() == state):
        latents = np.memmap(path, np.float16, "w+", shape=shape)
        for start in range(0, len(clips), 8):
            x = to_signed(clips[start : start + 8])
            latents[start : start + len(x)] = _encode_frames(model, x).numpy()
            mirrored = slice(len(clips) + start, len(clips) + start + len(x))
            latents[mirrored] = _encode_frames(model, x.flip(-1)).numpy()
        latents.flush()
        mark.write_text(state)
    return np.memmap(path, np.float16, "r", shape=shape)


def clip_loss(
    model: AutoencoderKLOpenSora, clips: NDArray[np.uint8], settings: Settings, with_encoder: bool = True
) -> LossOf:
    """Third stage: from pixels to pixels. The spatial encoder stands still: it has learnt what there is in a frame, and
    a step costs a third less without it.

    With `with_encoder` off, the last stage: latents stay what they are (the transformer may be training on them
    already) and the decoders go on learning.
    """
    model.requires_grad_(True)
    model.spatial_vae.encoder.requires_grad_(False)
    model.spatial_vae.quant_conv.requires_grad_(False)
    model.temporal_vae.encoder.requires_grad_(with_encoder)
    model.temporal_vae.quant_conv.requires_grad_(with_encoder)

    def loss_of(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        is_still = bool(torch.rand((), generator=generator) < SHARE_OF_STILLS)
        x = _batch(clips, settings, generator, is_still)
        with torch.no_grad():
            frame_latents = _encode_frames(model, x)
        noise = 0.0 if with_encoder else NOISE_AT_LAST
        posterior, again = _through_time(model, frame_latents, generator, noise)
        chosen = torch.randperm(x.shape[1], generator=generator)[:FRAMES_PER_CLIP]
        frames = again[:, :, chosen].transpose(1, 2).flatten(0, 1) / model.config.spatial_scaling_factor
        y = model.spatial_vae.decode(frames.contiguous(memory_format=torch.channels_last)).sample
        goal = x[:, chosen].flatten(0, 1)
        kl = _kl_per_number(posterior)
        error = detail_error(goal, y, 1.0 if with_encoder else SQUARES_AT_LAST)
        return error + KL_WEIGHT * kl, {"psnr": _psnr(goal, y), "kl": kl.item()}

    return loss_of


def _batch(clips: NDArray[np.uint8], settings: Settings, generator: torch.Generator, is_still: bool) -> Tensor:
    """Clips (B, T, 3, H, W), or six times as many single frames (6 B, 1, 3, H, W); half of the batches mirrored."""
    if is_still:
        number = STILLS_FOR_A_CLIP * settings.batch_size
        rows = torch.randint(len(clips), (number,), generator=generator).numpy()
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
    model: AutoencoderKLOpenSora, frame_latents: Tensor, generator: torch.Generator, noise: float = 0.0
) -> tuple[DiagonalGaussianDistribution, Tensor]:
    """Encode and decode frames' latents (B, C, T, h, w); each clip's own level of noise lies between, |N(0, noise)|."""
    posterior = model.temporal_vae.encode(frame_latents)
    z = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
    if noise:
        level = noise * torch.randn(len(z), 1, 1, 1, 1, generator=generator).abs()
        z = z + level * model.scale * torch.randn(z.shape, generator=generator)
    return posterior, model.temporal_vae.decode(z, num_frames=frame_latents.shape[2])


@torch.no_grad()
def channel_weights(model: AutoencoderKLOpenSora, clips: NDArray[np.uint8], nudge: float = 0.1) -> Tensor:
    """How much an error in each channel of a frame's latents shows in the pixels, (1, C, 1, 1, 1).

    In units in which the weighted variance of the latents is 1 on average, so a weighted error is the share of what
    can be seen that is lost.
    """
    generator = torch.Generator().manual_seed(0)
    latents = _encode_frames(model, to_signed(clips[:32, ::8])).transpose(1, 2).flatten(0, 1)  # (N, C, h, w)

    def decoded(z: Tensor) -> Tensor:
        z = (z / model.config.spatial_scaling_factor).contiguous(memory_format=torch.channels_last)
        return model.spatial_vae.decode(z).sample

    plain, variance = decoded(latents), latents.var((0, 2, 3))
    seen = []  # by channel, in squared pixels per squared latent
    for channel in range(latents.shape[1]):
        step = nudge * variance[channel].sqrt() * torch.randn(latents[:, channel].shape, generator=generator)
        nudged = latents.clone()
        nudged[:, channel] += step
        seen.append((decoded(nudged) - plain).square().mean() / step.square().mean())
    weight = torch.stack(seen)
    return (weight / (weight * variance).mean()).view(1, -1, 1, 1, 1)


@torch.no_grad()
def importance(model: AutoencoderKLOpenSora, clips: NDArray[np.uint8], nudge: float = 0.1) -> Tensor:
    """How much an error in each channel of the finished, normalised latents shows in the pixels, (C, 1, 1, 1); 1 on
    average, never less than 0.1."""
    generator = torch.Generator().manual_seed(0)
    latents = model.encode(to_signed(clips[:3]).transpose(1, 2)).latent_dist.mode()
    num_frames = clips.shape[1]
    plain = model.decode(latents, num_frames=num_frames).sample
    seen = []
    for channel in range(latents.shape[1]):
        nudged = latents.clone()
        nudged[:, channel] += nudge * torch.randn(latents[:, channel].shape, generator=generator)
        seen.append((model.decode(nudged, num_frames=num_frames).sample - plain).square().mean())
    weight = torch.stack(seen)
    weight = (weight / weight.mean()).clamp_min(0.1)
    return (weight / weight.mean()).view(-1, 1, 1, 1)


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
