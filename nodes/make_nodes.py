"""Nodes that make a video: from a plan to latents to frames, or from a prompt in one go."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import handles, host, starts, words
from .definition import CACHE, PIPELINE, PLAN, Call, Input, Node, Output, Result
from .load_nodes import DEMO, model_names, model_path
from .plan_nodes import ORIGINAL, PROMPT, REUSE, SIZE, request_of, with_sampling
from .retrievals import RETRIEVALS, asking, found_by
from .widgets import widget, widgets

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..chai_app.engine import Engine, Generation
    from ..chai_app.request import GenerationRequest
    from .retrievals import Question

_MADE = "chai"  # where a LATENT of ours carries what it comes from, beside ComfyUI's "samples"
_PREVIEW_SHARE = 0.15  # of the time of a run

SEED = Input(
    "seed",
    "INT",
    "The same seed, prompt and settings make the same video again.",
    default=0,
    least=0,
    most=2**53 - 1,
    seed=True,
)
START = Input("start_image", "IMAGE", "A picture to start from. It is cut to the size of the video.", optional=True)


def make(engine: Engine, request: GenerationRequest, question: Question | None, cache: handles.Cache) -> Generation:
    """Run the engine under ComfyUI's progress bar, preview and cancel button.

    Raises: ChaiError with its sentence; ComfyUI's own exception after cancel.
    """
    bar = host.Progress()
    shows = host.wants_previews()
    spent, started = 0.0, time.perf_counter()

    def progress(done: int, total: int, latents: Tensor | None) -> None:
        nonlocal spent
        pixels = None
        before = time.perf_counter()
        if shows and latents is not None and (spent <= _PREVIEW_SHARE * (before - started) or done == total):
            pixels = engine.preview(latents)
            spent += time.perf_counter() - before
        bar.update(done, total, pixels)

    generation = engine.generate(request, progress, on_stage=lambda _stage: host.stop_if_asked())
    if question is not None and generation.report.reuse is not None:
        question.settle(generation.report.reuse)
    reuse = generation.report.reuse
    host.send("chai.cache", {"cache": cache.key, "outcome": None if reuse is None else reuse.outcome})
    return generation


def latent_of(generation: Generation) -> dict[str, Any]:
    """ComfyUI's LATENT: "samples" (1, C, t, h, w); what made them rides along, for Decode."""
    return {"samples": generation.latents.clone(), _MADE: generation}


def report_json(generation: Generation) -> str:
    """Request and report as our files carry them."""
    values = {"request": generation.request.to_json(), "report": generation.report.to_json()}
    return json.dumps(values, ensure_ascii=False)


def video_of(generation: Generation, call: Call) -> Any:
    """ComfyUI's VIDEO: our encoded file, with our metadata and ComfyUI's, so that saving only copies its streams."""
    path = host.temporary_folder() / f"chai_{secrets.token_hex(8)}.mp4"
    generation.save(path, host.tags(call.prompt, call.workflow))
    return host.video_from_file(path)


class Sampler(Node):
    id = "CHAI_Sampler"
    name = "CHAI Sampler"
    about = "Carry a plan out: denoise, attending to the donor where there is one. Keeps what a full run has made."
    inputs = (
        Input("pipeline", PIPELINE, "From Load Pipeline."),
        Input("plan", PLAN, "From Plan: prompt, size, and what was found. The cache is looked into once more here."),
        SEED,
        *widgets("--steps", "--fast-steps", "--guidance", "--negative"),
        START,
        *widgets("--width", "--height", "--frames", usual="as planned; another one needs another donor"),
        widget("--start-level"),
        Input(
            "extend",
            "VIDEO",
            "An earlier video to go on from, with its size and speed where they are left open: from Load Video, Decode "
            "or Create Video. The new one begins with all of it.",
            optional=True,
            needs_video=True,
        ),
        *widgets("--acceleration", "--aesthetic", "--motion-score", "--camera"),
    )
    outputs = (
        Output("LATENT", "latent", "The video's latents, (1, C, t, h, w), for Decode."),
        Output("STRING", "report", "What happened, as JSON, for Report to Text."),
    )

    @classmethod
    def run(cls, call: Call, **values: Any) -> Result:
        planned: handles.Planned = values["plan"]
        image = starts.picture_file(values.get("start_image"), planned.cache)
        extend = starts.video_file(values.get("extend"), planned.cache)
        request = with_sampling(planned.request, values, image, extend)
        engine = values["pipeline"].engine(planned.cache)
        is_as_planned = values["pipeline"] is planned.pipeline and image is None and extend is None
        is_as_planned = is_as_planned and not any(values.get(name) for name in ("width", "height", "num_frames"))
        generation = make(engine, request, planned.question if is_as_planned else None, planned.cache)
        text = words.report_text(generation.request, generation.report)
        return Result((latent_of(generation), report_json(generation)), text)


class Decode(Node):
    id = "CHAI_Decode"
    name = "CHAI Decode"
    about = "Latents to frames. What the Sampler gave is not decoded a second time; what was changed since then is."
    inputs = (
        Input("pipeline", PIPELINE, "From Load Pipeline: the model that made the latents."),
        Input("latent", "LATENT", "From the Sampler, or latents of the same model from elsewhere."),
    )
    outputs = (
        Output("IMAGE", "frames", "All frames, (T, H, W, 3) in 0..1, for Create Video and every image node."),
        Output("FLOAT", "fps", "Frames per second, for Create Video."),
        Output("VIDEO", "video", "The encoded video, for Save Video; it carries its settings.", needs_video=True),
    )
    hidden = ("prompt", "extra_pnginfo")

    @classmethod
    def run(cls, call: Call, **values: Any) -> Result:
        from dataclasses import replace

        samples, made = values["latent"]["samples"], values["latent"].get(_MADE)
        if made is not None and _checksum(samples) == made.report.latents_sha256:
            return Result((host.image_from_frames(made.frames), made.fps, video_of(made, call)))
        engine = values["pipeline"].engine(handles.default_cache())
        fits = made is not None and samples.shape == made.latents.shape
        fits = fits and made.request.num_loops == 1 and made.request.extend is None
        size = (made.report.num_frames, made.report.height, made.report.width) if fits else (None, None, None)
        frames = engine.decode(samples.float().cpu(), *size)
        fps = made.fps if made is not None else _model_fps(values["pipeline"])
        if made is not None:
            note = "The latents were changed after this run: its settings alone do not make this video again."
            report = replace(made.report, notes=(*made.report.notes, note), num_frames=len(frames))
            report = replace(report, height=frames.shape[1], width=frames.shape[2], latents_sha256=_checksum(samples))
            video = video_of(replace(made, frames=frames, latents=samples, report=report), call)
        else:
            video = _plain_video(frames, fps, call)
        return Result((host.image_from_frames(frames), fps, video))


class PromptToVideo(Node):
    id = "CHAI_PromptToVideo"
    name = "CHAI Prompt to Video"
    about = "The whole way in one node: prompt in, video out, faster when an earlier one shows the same thing or place."
    inputs = (
        PROMPT,
        Input(
            "model",
            "COMBO",
            "demo comes with this pack; opensora-1.2 are the published weights, for a GPU.",
            choices=model_names,
            default=DEMO,
        ),
        SEED,
        *SIZE,
        *widgets("--steps", "--guidance"),
        REUSE,
        START,
        Input(
            "pipeline",
            PIPELINE,
            "From Load Pipeline, in place of the model above: device, number format, offloading.",
            optional=True,
        ),
        Input("cache", CACHE, "From Open Cache. Not connected: the usual cache.", optional=True),
        widget("--preset"),
        ORIGINAL,
    )
    outputs = (
        Output("IMAGE", "frames", "All frames, (T, H, W, 3) in 0..1."),
        Output("FLOAT", "fps", "Frames per second."),
        Output("STRING", "report", "What happened, as JSON, for Report to Text."),
        Output("VIDEO", "video", "The encoded video, for Save Video; it carries its settings.", needs_video=True),
    )
    hidden = ("unique_id", "prompt", "extra_pnginfo")
    has_fingerprint = True

    @classmethod
    def run(cls, call: Call, **values: Any) -> Result:
        cache = values.get("cache") or handles.default_cache()
        pipeline = values.get("pipeline") or _pipeline(model_path(values["model"]))
        image = starts.picture_file(values.get("start_image"), cache)
        request = request_of(values, is_private=cache.is_private, image=image)
        engine = pipeline.engine(cache)
        plan = engine.plan(request)
        question = RETRIEVALS.note(cls.id, call, asking(engine, request), found_by(plan.reuse))
        generation = make(engine, request, question, cache)
        text = words.report_text(generation.request, generation.report)
        frames = host.image_from_frames(generation.frames)
        return Result((frames, generation.fps, report_json(generation), video_of(generation, call)), text)

    @classmethod
    def fingerprint(cls, node_id: str | None, **constants: Any) -> str:
        return RETRIEVALS.fingerprint(cls.id, node_id, constants)


_PIPELINES: dict[str, handles.Pipeline] = {}


def _pipeline(model: str) -> handles.Pipeline:
    """The pipeline of the one-node way, which has no Load Pipeline to keep it: one model at a time."""
    if model not in _PIPELINES:
        for other in list(_PIPELINES):
            del _PIPELINES[other]
        _PIPELINES[model] = handles.Pipeline(model, host.device())
    return _PIPELINES[model]


def _checksum(samples: Tensor) -> str:
    return hashlib.sha256(samples.float().cpu().contiguous().numpy().tobytes()).hexdigest()


def _model_fps(pipeline: handles.Pipeline) -> float:
    from ..chai_app.models import find_model

    return float(find_model(pipeline.model, handles.settings()).defaults.fps)


def _plain_video(frames: np.ndarray, fps: float, call: Call) -> Any:
    from ..chai_app.media.video import write_video

    path: Path = host.temporary_folder() / f"chai_{secrets.token_hex(8)}.mp4"
    write_video(path, frames, fps, None, host.tags(call.prompt, call.workflow))
    return host.video_from_file(path)
