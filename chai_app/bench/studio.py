"""The demo model as experiments want it: several videos at once, any recipe, any donors. Nothing here is timed.

The engine makes one video at a time, as people ask for them, and is what the timed benchmarks use.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention import CacheAttentionProcessor, Donor, Recipe, cache_attention
from ..engine.loading import Machine, load
from ..models import find_model
from ..opensora.frames import FrameCollector
from ..opensora.schedule import set_timesteps, timestep_shift
from ..opensora.text_context import TextContext, guidance_context
from ..process import keep_freed_memory
from ..settings import Settings
from .measures import Pixels

MODEL = "demo"


@dataclass(frozen=True)
class Task:
    """Videos that are made together. noise: (B, C, T, h, w), of which each video's seed decides its own part."""

    text: TextContext
    noise: Tensor


@dataclass(frozen=True)
class Made:
    """What a run left: latents (B, C, T, h, w); what each step began with, by noise level; passes through the model."""

    latents: Tensor
    inputs: dict[float, Tensor]
    passes: int


class Studio:
    """The demo model on the CPU."""

    def __init__(self) -> None:
        keep_freed_memory()
        model = find_model(MODEL, Settings.from_environment())
        loaded = load(model, Machine("cpu", "fp32"), Settings.from_environment())
        self.pipeline, self.defaults = loaded.pipeline, model.defaults
        frames = self.pipeline.vae.num_latent_frames(self.defaults.num_frames)
        d, base_size = self.defaults, self.pipeline.transformer.config.input_sq_size
        self._shift = timestep_shift(d.height, d.width, d.num_frames, frames, base_size)

    @torch.no_grad()
    def task(self, prompts: Sequence[str], seeds: Sequence[int]) -> Task:
        """Texts and noise, as the pipeline makes them."""
        pipeline, d = self.pipeline, self.defaults
        states, mask = pipeline.encode_prompt(list(prompts))
        text = guidance_context(pipeline.transformer, states, mask, None, None, d.guidance_scale > 1)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        return Task(text, pipeline.prepare_latents(len(prompts), d.num_frames, d.height, d.width, generators))

    def levels(self, steps: int, first_sigma: float = 1.0) -> list[float]:
        """Noise level of the input of each step, falling."""
        set_timesteps(self.pipeline.scheduler, steps, self._shift, first_sigma=first_sigma)
        return self.pipeline.scheduler.sigmas[:-1].tolist()

    @torch.no_grad()
    def make(
        self,
        task: Task,
        steps: int,
        donors: Sequence[Donor] = (),
        recipe: Recipe | None = None,
        processor: type[CacheAttentionProcessor] = CacheAttentionProcessor,
        first_sigma: float = 1.0,
        start_from: Tensor | None = None,
        keep_inputs: bool = False,
    ) -> Made:
        """Denoise.

        Args:
            donors: what to attend to, by `recipe` and `processor`.
            first_sigma: where the run begins, 0 clean to 1 noise.
            start_from: (B, C, T, h, w), finished latents, brought to that level by the task's own noise.
        """
        pipeline, d = self.pipeline, self.defaults
        set_timesteps(pipeline.scheduler, steps, self._shift, first_sigma=first_sigma)
        latents = task.noise if start_from is None else torch.lerp(start_from, task.noise, first_sigma)
        inputs = {1.0: latents}
        sigmas = pipeline.scheduler.sigmas.tolist()
        size = {"height": d.height, "width": d.width, "fps": torch.tensor(float(d.fps))}

        def on_step(i: int, latents: Tensor) -> Tensor:
            if keep_inputs and i + 1 < steps:
                inputs[sigmas[i + 1]] = latents
            return latents

        with ExitStack() as stack:
            reuse = None
            if donors and recipe is not None:
                reuse = stack.enter_context(
                    cache_attention(pipeline.transformer, donors, recipe, first_sigma, processor)
                )
            latents = pipeline.denoise(latents, task.text, None, d.guidance_scale, size, on_step)
        return Made(latents, inputs, steps + (reuse.extra_passes if reuse else 0))

    @torch.no_grad()
    def frames(self, latents: Tensor) -> Pixels:
        """(B, C, T, h, w) -> (B, T, H, W, 3)."""
        collector = FrameCollector("uint8")
        collector.add_clip(self.pipeline.decode_latents(latents, self.defaults.num_frames), skip=0, keep=0)
        return cast(Tensor, collector.result()).numpy()

    @torch.no_grad()
    def encoded(self, frames: Pixels, side_px: int) -> Tensor:
        """Latents of videos in another size.

        Args: frames: (B, T, H, W, 3).
        Returns: (B, C, t, side_px / 8, side_px / 8).
        """
        videos, number = torch.from_numpy(frames).movedim(-1, 2).float() / 127.5 - 1, frames.shape[1]  # (B, T, 3, H, W)
        smooth = F.interpolate(videos.flatten(0, 1), size=(side_px, side_px), mode="bilinear", antialias=True)
        return self.pipeline.vae.encode(smooth.unflatten(0, (-1, number)).transpose(1, 2)).latent_dist.mode()
