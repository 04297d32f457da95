"""How fast: a step of the published transformer in several ways, whole videos, and the memory they take."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ...attention import Donor, cache_attention
from ...engine.decoding import decode
from ...engine.loading import compile_blocks
from ...media.video import write_video
from ...opensora.sizes import latent_size, video_size
from ..card import SMALL, XL, peak_flop_s, prompt_of, random_pipeline, step_flop
from ..step import CAPTION_CHANNELS, SEED, Size, measure, original_module
from .kit import Kit, Lack, needs

if TYPE_CHECKING:
    from torch import Tensor

SIZES = ("240p", "480p")
TEXT = 300
FULL_STEPS, HIT_STEPS = 30, 8


def steps() -> list[tuple[str, float, Callable[[Kit], dict[str, Any]]]]:
    """Name, budget in seconds, and work of each. What is wanted most comes first."""
    return [
        ("peak", 20, peak),
        ("step plain", 60, lambda kit: step(kit, "plain")),
        ("whole plain", 120, lambda kit: whole(kit, "plain")),
        ("step compiled", 120, lambda kit: step(kit, "on")),
        ("step graphs", 120, lambda kit: step(kit, "graphs")),
        ("whole graphs", 90, lambda kit: whole(kit, "graphs")),
        ("step original", 90, original),
    ]


def sizes_of(kit: Kit) -> dict[str, Size]:
    """The videos that are measured; small, one that a CPU makes in seconds."""
    kind = SMALL if kit.is_small else XL
    named = ("144p",) if kit.is_small else SIZES
    frames, text = (17, 12) if kit.is_small else (51, TEXT)
    return {
        name: Size(**kind, num_frames=frames, height=height, video_width=width, text=text)
        for name, (height, width) in ((name, video_size(name, "9:16")) for name in named)
    }


def peak(kit: Kit) -> dict[str, Any]:
    """What this very card gives: the fastest square product, and bytes copied in its memory."""
    import torch

    kit.kept["peak_flop_s"] = flop_s = peak_flop_s(kit.device, kit.dtype(), 1024 if kit.is_small else 8192)
    data = torch.randn(2**20 if kit.is_small else 2**30, device=kit.device)
    copy = torch.empty_like(data)
    seconds = min(kit.seconds(lambda: copy.copy_(data), 5))
    return {"tflop_s": flop_s / 1e12, "copied_tb_s": 2 * data.nbytes / seconds / 1e12}


class Transformer:
    """A transformer with random weights, and what it is called with."""

    def __init__(self, kit: Kit, size: Size) -> None:
        import torch

        from ...opensora import OpenSoraTransformer3DModel

        torch.manual_seed(SEED)
        self._kit = kit
        with torch.device(kit.device):
            self.model = OpenSoraTransformer3DModel(
                hidden_size=size.width,
                depth=size.depth,
                num_heads=size.heads,
                caption_channels=CAPTION_CHANNELS,
                model_max_length=size.padded,
            ).eval()
        for weight in self.model.parameters():
            if not weight.any():  # blocks that begin silent would hide that something is wrong in them
                torch.nn.init.normal_(weight, std=0.02)
        self.model.to(kit.dtype())

    def call(self, size: Size) -> Callable[[], Tensor]:
        """A step of both halves of guidance, with the text worked out before."""
        import torch

        make = torch.Generator(self._kit.device).manual_seed(SEED)
        where: dict[str, Any] = {"device": self._kit.device, "dtype": self._kit.dtype()}
        shape = (1, 4, *latent_size(size.num_frames, size.height, size.video_width))
        latents = torch.randn(shape, generator=make, **where).repeat(2, 1, 1, 1, 1)
        states = torch.randn(2, size.text, CAPTION_CHANNELS, generator=make, **where)
        timestep = torch.tensor(700.0, device=self._kit.device).expand(2)
        with torch.no_grad():
            text = self.model.encode_text(states)

        def run() -> Tensor:
            with torch.no_grad():
                out: Tensor = self.model(
                    latents, timestep, text, fps=24.0, height=size.height, width=size.video_width
                ).sample
            return out

        return run


def step(kit: Kit, how: str) -> dict[str, Any]:
    """Milliseconds of a step at each size, the share of the peak, and how far the output is from the plain one.

    Args: how: plain, on or graphs, as CHAI_COMPILE.
    """
    import torch

    if how == "graphs" and not kit.is_cuda:
        raise Lack(f"CUDA graphs need CUDA, and this is {kit.device}")
    torch._dynamo.reset()
    sizes = sizes_of(kit)
    transformer = Transformer(kit, next(iter(sizes.values())))
    calls = {name: transformer.call(size) for name, size in sizes.items()}
    exact = {name: call() for name, call in calls.items()}
    lines: dict[str, Any] = {}
    if how != "plain":
        compile_blocks(transformer.model, how)
    for name, call in calls.items():
        start = kit.clock()
        off = (call().float() - exact[name].float()).norm() / exact[name].float().norm()
        first_s = kit.clock() - start
        seconds = kit.seconds(call, 3 if kit.is_small else 15, warm=3)
        lines[name] = {"ms": 1000 * median(seconds), "first_s": first_s, "off": float(off), "seconds": seconds}
        if "peak_flop_s" in kit.kept:
            lines[name]["share"] = step_flop(sizes[name]) / median(seconds) / kit.kept["peak_flop_s"]
        kit.so_far(sizes=lines)
    if how != "plain":
        kit.kept[f"compiled {how}"] = True
    return {"sizes": lines}


def original(kit: Kit) -> dict[str, Any]:
    """The original's step beside ours, turn by turn."""
    folder = os.environ.get("OPENSORA_DIR")
    if folder is None:
        raise Lack("OPENSORA_DIR names no checkout of Open-Sora v1.2.0")
    for module, package in (
        ("einops", "einops"),
        ("timm", "timm"),
        ("rotary_embedding_torch", "rotary-embedding-torch"),
    ):
        needs(module, package)
    module, lines = original_module(Path(folder)), {}
    for name, size in sizes_of(kit).items():
        result = measure(module, size, 3 if kit.is_small else 7, kit.clock, kit.device, kit.dtype())
        ms = {arm: 1000 * median(each) for arm, each in result["seconds"].items()}
        lines[name] = {"ms": ms, "furthest": result["difference"], "seconds": result["seconds"]}
        kit.so_far(sizes=lines)
    return {"sizes": lines}


def whole(kit: Kit, how: str) -> dict[str, Any]:
    """Whole videos: a full run, and a hit that attends to it; seconds of each stage, and the most memory."""
    import torch

    if how != "plain" and f"compiled {how}" not in kit.kept:
        raise Lack(f"the step of this kind ({how}) did not end well")
    pipeline = kit.kept.pop("pipeline", None)
    if pipeline is None:
        pipeline = random_pipeline(kit.device, kit.dtype(), "full", kit.is_small).to(kit.device)
        pipeline.runs_on = torch.device(kit.device)
    if how != "plain":
        compile_blocks(pipeline.transformer, how)
    lines: list[dict[str, Any]] = []
    for name, size in sizes_of(kit).items():
        donor = None
        for number in (FULL_STEPS, FULL_STEPS, HIT_STEPS, HIT_STEPS):  # the first of each warms up
            is_hit = number == HIT_STEPS
            line, latents = _video(kit, pipeline, size, 2 if kit.is_small else number, donor if is_hit else None)
            donor = Donor(clean=latents) if donor is None else donor
            lines.append({"size": name, "run": "a hit" if is_hit else "a full run", **line})
            kit.so_far(videos=lines)
    if how == "plain":
        kit.kept["pipeline"] = pipeline
    return {"videos": lines}


def _video(kit: Kit, pipeline: Any, size: Size, number: int, donor: Donor | None) -> tuple[dict[str, Any], Tensor]:
    import torch

    if kit.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    prompt, marks = prompt_of(pipeline, size.text), [kit.clock()]
    with torch.no_grad():
        states, mask = pipeline.encode_prompt([prompt])
    marks.append(kit.clock())
    with nullcontext() if donor is None else cache_attention(pipeline.transformer, donor):
        latents = pipeline(
            prompt_embeds=states,
            prompt_attention_mask=mask,
            num_inference_steps=number,
            generator=torch.Generator().manual_seed(SEED),
            output_type="latent",
            height=size.height,
            width=size.video_width,
            num_frames=size.num_frames,
        ).latents
    marks.append(kit.clock())
    frames = decode(pipeline, latents, size.num_frames, size.height, size.video_width)
    marks.append(kit.clock())
    stages, lacks = ["text", "denoise", "decode"], ""
    try:
        needs("av", "av")
        with tempfile.TemporaryDirectory() as folder:
            write_video(Path(folder) / "video.mp4", frames, 24)
        marks.append(kit.clock())
        stages.append("mp4")
    except Lack as lack:
        lacks = str(lack)
    seconds = {stage: b - a for stage, (a, b) in zip(stages, pairwise(marks), strict=True)}
    line = {"steps": number, "tokens": int(mask.sum()), "seconds": seconds, "s": sum(seconds.values())}
    return {**line, "peak_gb": kit.peak_gb(), "lacks": lacks}, latents


def rows(found: dict[str, Any]) -> Iterator[str]:
    """Lines of the tables."""
    yield "| step | size | ms | share of the peak | off | first s |"
    yield "| --- |" + " --- |" * 5
    for how in ("plain", "compiled", "graphs"):
        for size, line in found.get(f"step {how}", {}).get("sizes", {}).items():
            share = f"{line['share']:.0%}" if "share" in line else ""
            yield f"| {how} | {size} | {line['ms']:.1f} | {share} | {line['off']:.1e} | {line['first_s']:.1f} |"
    for size, line in found.get("step original", {}).get("sizes", {}).items():
        for arm, ms in line["ms"].items():
            yield f"| beside the original: {arm} | {size} | {ms:.1f} | | {line['furthest'] or 0:.1e} | |"
    yield ""
    yield "| video | size | steps | stages, s | in all, s | peak GB |"
    yield "| --- |" + " --- |" * 5
    for how in ("plain", "graphs"):
        for line in found.get(f"whole {how}", {}).get("videos", ()):
            stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in line["seconds"].items())
            memory = "" if line["peak_gb"] is None else f"{line['peak_gb']:.1f}"
            yield f"| {how}, {line['run']} | {line['size']} | {line['steps']} | {stages} | {line['s']:.2f} | {memory} |"
