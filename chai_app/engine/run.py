"""One run of a planned request through a loaded model: its stages, its clock, and what comes of it."""

from __future__ import annotations

import hashlib
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .. import __version__
from ..errors import Cancelled
from ..media.video import WrittenVideo, write_video
from ..request import Plan, Report, ResolvedRequest, Reuse
from .loading import LoadedModel, memory_in_plain_words
from .prompt_notes import late_prompt_notes
from .start import read_start

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..attention import Donor, Recipe

Progress = Callable[[int, int, "Tensor | None"], bool | None]
"""Called with (steps done, steps in all, latents (1, C, T, H, W)): before the first step, without latents, and after
each; returning False stops the run."""

OnStage = Callable[[str], None]
"""Called with load, text, denoise or decode as each of them begins."""

_LIBRARIES = ("torch", "diffusers", "transformers")


@dataclass(frozen=True)
class Generation:
    """A finished video in memory: frames uint8 (T, H, W, 3), latents (1, C, T, H, W) in fp32 on the CPU."""

    request: ResolvedRequest
    frames: np.ndarray
    latents: Tensor
    fps: float
    report: Report

    def save(self, path: Path, tags: Mapping[str, str] | None = None) -> tuple[WrittenVideo, Report]:
        """Write the video as what the name says (`write_video`), its request and report with it: the report as far as
        it tells of this video alone.

        Args:
            tags: what another program wants to find in the file, by name; mp4 and webm carry them.
        Returns: the file, and the report with the time of writing and what there is to say about it.
        Raises: BadRequest, CannotWrite.
        """
        start = time.perf_counter()
        reuse = self.report.reuse
        told = replace(self.report, reuse=None if reuse is None else reuse.without_others())
        metadata = {"chai": {"request": self.request.to_json(), "report": told.to_json()}}
        written = write_video(path, self.frames, self.fps, metadata, tags)
        seconds = {**self.report.seconds, "write": time.perf_counter() - start}
        return written, replace(self.report, seconds=seconds, notes=(*self.report.notes, *written.notes))


@dataclass
class Run:
    """What one run knows: who wants to hear of it, which stage it is in, how long each took, how many steps it did."""

    plan: Plan
    progress: Progress | None = None
    cancel: threading.Event | None = None
    on_stage: OnStage | None = None
    _seconds: dict[str, float] = field(default_factory=dict, init=False)
    _stage: str | None = field(default=None, init=False)
    _since: float = field(default=0.0, init=False)
    _steps_done: int = field(default=0, init=False)
    _start_notes: tuple[str, ...] = field(default=(), init=False)

    def carry_out(
        self,
        load: Callable[[ResolvedRequest], LoadedModel],
        donors: Sequence[Donor] = (),
        recipe: Recipe | None = None,
    ) -> Generation:
        """Load the model, make the video, and report.

        Args:
            donors: earlier videos' latents to attend to; of several, keys and values are joined.
            recipe: how; None is the one that the request names.
        Raises: Cancelled if stopped; ChaiError, in the words for the person.
        """
        self._enter("load")
        loaded = load(self.plan.request)
        machine = loaded.machine
        request = replace(self.plan.request, device=machine.device, dtype=machine.dtype, offload=machine.offload)
        size = f"{request.num_frames} frames of {request.width}x{request.height}"
        with self._watched(loaded), memory_in_plain_words(machine, size, "ask for a smaller size or fewer frames"):
            frames, latents, reuse = self._make(request, loaded, donors, recipe)
        self._enter(None)
        report = Report(
            model=loaded.model.name,
            model_fingerprint=loaded.fingerprint,
            steps=self._steps_done,
            height=frames.shape[1],
            width=frames.shape[2],
            num_frames=len(frames),
            fps=float(request.fps or 0),
            device=machine.device,
            dtype=machine.dtype,
            latents_sha256=hashlib.sha256(latents.numpy().tobytes()).hexdigest(),
            seconds=self._seconds,
            versions=dict(_versions()),
            notes=(*self.plan.notes, *late_prompt_notes(request, loaded), *loaded.notes, *self._start_notes),
            reuse=reuse,
            acceleration=self.plan.acceleration,
            threads=_threads() if machine.device == "cpu" else None,
        )
        return Generation(request, frames, latents, report.fps, report)

    def _make(
        self, request: ResolvedRequest, loaded: LoadedModel, donors: Sequence[Donor], recipe: Recipe | None
    ) -> tuple[np.ndarray, Tensor, Reuse]:
        """Frames uint8 (T, H, W, 3) and latents (1, C, t, h, w) of a request in which nothing is left open, and what
        the donors did for them."""
        import torch

        from ..attention import RECIPES, cache_attention
        from ..opensora.acceleration import accelerated

        pipeline, start = loaded.pipeline, read_start(request)
        self._start_notes = () if start is None else start.notes
        # A full run goes the whole way, from noise alone, under full guidance.
        has_few_steps = self.plan.reuse.outcome in ("hit", "fast")
        level = request.start_level if has_few_steps else 1.0
        guidance = request.fast_guidance_scale if has_few_steps else request.guidance_scale
        steps, fps = self.plan.reuse.steps, request.fps
        # Latents come in steps of 8 pixels: make the next larger size and cut off what was not asked for.
        ratio = pipeline.vae.spatial_compression_ratio
        height, width = (-(-side // ratio) * ratio for side in (request.height, request.width))
        condition = None if start is None else start.condition(pipeline, request.num_frames, height, width)
        total_steps = steps * request.num_loops
        self._tell(0, total_steps, None)
        with ExitStack() as stack:
            stack.enter_context(accelerated(pipeline, self.plan.acceleration, steps, loaded.mag_ratios))
            reuse = None
            if donors:
                recipe = recipe or RECIPES[request.recipe]
                reuse = stack.enter_context(cache_attention(pipeline.transformer, donors, recipe, level))
            output = pipeline(
                prompt=request.prompt,
                negative_prompt=request.negative_prompt,
                height=height,
                width=width,
                num_frames=request.num_frames,
                fps=fps,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=torch.Generator("cpu").manual_seed(request.seed),
                first_sigma=level,
                conditions=None if condition is None else [condition],
                num_loops=request.num_loops,
                aesthetic_score=request.aesthetic_score,
                motion_score=request.motion_score,
                camera_motion=request.camera_motion,
                output_type="uint8",
                return_dict=False,
                callback_on_step_end=lambda _pipeline, _i, _timestep, tensors: self._step(total_steps, tensors),
            )
        video, latents = cast("tuple[Tensor, Tensor]", output)
        frames = video[0, :, : request.height, : request.width].numpy()  # (T, H, W, 3)
        if start is not None and condition is not None:
            frames = start.finished(frames, condition)
        did = Reuse.of(self.plan.reuse, start_level=level if level < 1 else None, guidance_scale=guidance)
        if reuse is not None:
            did = replace(did, reused_steps=tuple(reuse.steps_done))
        return frames, latents.float().cpu().contiguous(), did

    @contextmanager
    def _watched(self, loaded: LoadedModel) -> Iterator[None]:
        """Within the block, each part of the model tells when its turn comes: that is where stages begin, and where
        a run can stop between two steps."""
        vae = loaded.pipeline.vae
        parts = {
            "text": [loaded.pipeline.text_encoder],
            "denoise": [loaded.pipeline.transformer],
            "decode": [vae.temporal_vae.decoder, vae.spatial_vae.decoder],
        }
        with ExitStack() as hooks:
            for stage, modules in parts.items():
                for module in modules:
                    handle = module.register_forward_pre_hook(lambda *_, stage=stage: self._enter(stage))
                    hooks.callback(handle.remove)
            yield

    def _enter(self, stage: str | None) -> None:
        """The run comes to `stage`: stop if that was asked for, and let the clock of the stage before stop."""
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled
        if stage == self._stage:
            return
        if self._stage is not None:  # before the first one torch may still be on its way in
            _wait_for_gpu()
        now = time.perf_counter()
        if self._stage is not None:
            self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now
        if stage is not None and self.on_stage is not None:
            self.on_stage(stage)

    def _step(self, total_steps: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        self._steps_done += 1
        self._tell(self._steps_done, total_steps, tensors["latents"])
        return tensors

    def _tell(self, steps_done: int, total_steps: int, latents: Tensor | None) -> None:
        if self.progress is not None and self.progress(steps_done, total_steps, latents) is False:
            raise Cancelled
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _wait_for_gpu() -> None:
    """CUDA works behind one's back; a clock that does not wait for it tells the time of asking, not of doing."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


@cache
def _versions() -> dict[str, str]:
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"chai": __version__, "python": platform.python_version(), **libraries}
