"""Training the transformer: single frames first (a fifth of the tokens), then clips, as Open-Sora itself was trained.

Rectified flow: a straight line from noise to data, the velocity along it to be predicted. Times are drawn from a
logit-normal distribution and shifted as sampling shifts them. In part of the batches some frames are given, so that
image-to-video and extension work.

Source: Open-Sora 1.2's report; Esser et al., arXiv 2403.03206.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from ..opensora.autoencoder import AutoencoderKLOpenSora
from ..opensora.pipeline import IMAGE_FPS
from ..opensora.schedule import timestep_shift
from ..opensora.transformer import OpenSoraTransformer3DModel
from .captions import caption
from .learn.loop import Settings, first_process_first, process_count, process_rank, train, wait_for_all_processes
from .train_autoencoder import LATENT_CHANNELS, to_signed
from .train_text import MAX_LENGTH, with_unknown_words
from .world import FPS, FRAME_SIZE_PX, NUM_FRAMES, ClipSpec

FRAME_SETTINGS = Settings(steps=700, batch_size=64, peak_lr=1.2e-3, ema_decay=0.998, use_muon=True, seed=51)
CLIP_SETTINGS = Settings(steps=3600, batch_size=32, peak_lr=2e-3, ema_decay=0.998, use_muon=True, seed=52)
SHARE_WITH_GIVEN_FRAMES = 0.2


def new_transformer() -> OpenSoraTransformer3DModel:
    return OpenSoraTransformer3DModel(
        hidden_size=192,
        depth=4,
        num_heads=6,
        in_channels=LATENT_CHANNELS,
        caption_channels=128,
        model_max_length=MAX_LENGTH,
        pred_sigma=False,
        input_sq_size=FRAME_SIZE_PX,
    )


@torch.no_grad()
def encode_clips(
    model: AutoencoderKLOpenSora, clips: NDArray[np.uint8], path: Path, frames: bool
) -> NDArray[np.float16]:
    """Normalised latents of clips, or of one frame of each; kept on disk, resumed where an earlier call stopped.

    Several processes share the work: each takes every n-th block.

    Returns: (N, C, 5 or 1, 8, 8).
    """
    shape = (len(clips), model.latent_channels, 1 if frames else model.num_latent_frames(NUM_FRAMES), 8, 8)
    with first_process_first():
        if not path.exists():
            np.memmap(path, dtype=np.float16, mode="w+", shape=shape).flush()
    latents = np.memmap(path, dtype=np.float16, mode="r+", shape=shape)
    size = 256 if frames else 16
    mine = range(process_rank() * size, len(clips), process_count() * size)
    done_path = path.with_suffix(f".{process_rank()}-of-{process_count()}.done")
    done = int(done_path.read_text()) if done_path.exists() else 0
    for number, start in enumerate(mine[done:], done + 1):
        block = clips[start : start + size]
        if frames:
            block = block[np.arange(len(block)), (np.arange(len(block)) * 5 + start) % NUM_FRAMES][:, None]
        x = to_signed(block).transpose(1, 2)  # (B, 3, T, H, W)
        latents[start : start + len(block)] = model.encode(x).latent_dist.mode().numpy()
        done_path.write_text(str(number))
    wait_for_all_processes()
    return latents


def train_transformer(
    name: str,
    model: OpenSoraTransformer3DModel,
    tokenizer: PreTrainedTokenizerFast,
    text_encoder: T5EncoderModel,
    latents: NDArray[np.float16],
    specs: Sequence[ClipSpec],
    weight: Tensor,
    folder: Path,
    settings: Settings,
) -> OpenSoraTransformer3DModel:
    """Train on (N, C, T, h, w) normalised latents with captions of `specs`, worded anew each time.

    Args:
        weight: (C, 1, 1, 1), what an error in each channel weighs. With equal weights most of the training went into
            channels that can hardly be seen: after 900 steps on single frames colours were right and shapes were not.
    """
    num_latent_frames = latents.shape[2]
    num_frames = 1 if num_latent_frames == 1 else NUM_FRAMES
    shift = timestep_shift(FRAME_SIZE_PX, FRAME_SIZE_PX, num_frames, num_latent_frames, model.config.input_sq_size)
    fps = IMAGE_FPS if num_frames == 1 else float(FPS)

    def loss_of(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        random = Random(int(torch.randint(2**31, (), generator=generator)))
        torch.manual_seed(random.getrandbits(31))  # the model drops captions by the global generator
        rows = torch.randint(len(latents), (settings.batch_size,), generator=generator).numpy()
        texts = [with_unknown_words(caption(specs[row], random), random) for row in rows]
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
        with torch.no_grad():
            states = text_encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
        clean = torch.from_numpy(latents[rows].astype(np.float32))  # (B, C, T, h, w)
        noise = torch.randn(clean.shape, generator=generator)
        time = torch.randn(len(rows), generator=generator).sigmoid()
        time = shift * time / (1 + (shift - 1) * time)
        noisy = torch.lerp(clean, noise, time[:, None, None, None, None])
        frame_mask = None
        if num_latent_frames > 1 and random.random() < SHARE_WITH_GIVEN_FRAMES:
            given = torch.randint(0, num_latent_frames - 1, (len(rows), 1), generator=generator)
            frame_mask = torch.arange(num_latent_frames) >= given  # (B, T)  the first ones are given
            noisy = torch.where(frame_mask[:, None, :, None, None], noisy, clean)
        velocity = model(
            noisy, 1000 * time, states, tokens.attention_mask, fps, FRAME_SIZE_PX, FRAME_SIZE_PX, frame_mask
        ).sample
        error = (weight * (velocity - (clean - noise)).square()).mean((1, 3, 4))  # (B, T)
        if frame_mask is None:
            return error.mean(), {}
        return (error * frame_mask).sum() / frame_mask.sum(), {}

    return train(name, folder, model, settings, loss_of)
