"""The model in its full size on one card: ms per step, seconds of a whole run, and which settings fit which card.

STDiT3-XL/2, the released autoencoder's sizes and T5-XXL with random weights, so that nothing has to be fetched; time
and memory do not depend on what the weights are. `OPENSORA_DIR` (see `bench step`) adds the original transformer, with
the same weights and turn by turn. The share of the peak is what a step's matrix products and attention take at the rate
of the card's fastest square product, over what it took.

--small runs the same on a model of a few million weights: for trying the script where there is no such card.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ..engine.decoding import decode
from ..engine.loading import choose_machine
from ..media.video import write_video
from ..models import DEMO
from ..opensora.sizes import latent_size, video_size
from ..settings import BUNDLED_MODELS
from .header import header, printed
from .journal import write_json
from .step import SEED, Size, measure, original_module

if TYPE_CHECKING:
    import torch

    from ..opensora import OpenSoraPipeline

PARTS = ("step", "whole", "memory")
XL = {"width": 1152, "depth": 28, "heads": 16}
SMALL = {"width": 96, "depth": 2, "heads": 4}
CARDS_GB = (8, 12, 24, 80)
OUTSIDE_TORCH_GB = 0.7  # of CUDA's own, and of what a desktop takes, on the tighter cards
GB = 1e9


def step_flop(size: Size) -> float:
    """Floating point operations of one step, both halves of the guidance batch: 14 products of width x width per token
    and block, and self- and cross-attention; what lies outside the blocks is left out."""
    frames, _, _ = latent_size(size.num_frames, size.height, size.video_width)
    places = -(-(size.height // 8) // 2) * -(-(size.video_width // 8) // 2)
    tokens = 2 * frames * places
    linear = 2 * 14 * size.width**2
    return tokens * size.depth * (2 * linear + 4 * size.width * (places + frames + 2 * size.text))


def peak_flop_s(device: str, dtype: torch.dtype, largest: int = 8192) -> float:
    """The most that square matrix products reach here, in operations per second."""
    import torch

    best = 0.0
    clock = clock_of(device)
    for n in (largest // 4, largest // 2, largest):
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        a @ b
        for _ in range(5):
            start = clock()
            a @ b
            best = max(best, 2 * n**3 / (clock() - start))
    return best


def clock_of(device: str) -> Callable[[], float]:
    """Seconds by the clock, once the device has finished what it was given."""
    import torch

    if not device.startswith("cuda"):
        return time.perf_counter

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return clock


def random_pipeline(device: str, dtype: torch.dtype, text_encoder: str, is_small: bool) -> OpenSoraPipeline:
    """The published model's parts in their sizes with random weights; or, small, the demo model.

    Args:
        text_encoder: full or int8.
    """
    import torch
    from transformers import AutoTokenizer, T5Config, T5EncoderModel

    from ..opensora import AutoencoderKLOpenSora, OpenSoraPipeline, OpenSoraTransformer3DModel
    from ..opensora.schedule import new_scheduler

    demo = BUNDLED_MODELS / DEMO
    if is_small:
        pipeline = OpenSoraPipeline.from_pretrained(demo, torch_dtype=dtype)
    else:
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device if text_encoder == "full" else "cpu"):
                sizes = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
                t5 = T5EncoderModel(T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", **sizes)).eval()
            with torch.device(device):
                vae, transformer = AutoencoderKLOpenSora().eval(), OpenSoraTransformer3DModel().eval()
        finally:
            torch.set_default_dtype(before)
        # The tokenizer's vocabulary is the demo's: a token more or less is all the same to random weights.
        tokenizer = AutoTokenizer.from_pretrained(demo / "tokenizer")
        pipeline = OpenSoraPipeline(tokenizer, t5, vae, transformer, new_scheduler())
    if text_encoder == "int8":
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        quantize_(pipeline.text_encoder, Int8WeightOnlyConfig())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def prompt_of(pipeline: OpenSoraPipeline, tokens: int) -> str:
    """A prompt of about so many tokens, as far as the model reads."""
    words = ["a", "red", "balloon", "rising", "in", "the", "desert"]
    text = ""
    for word in itertools.cycle(words):
        longer = f"{text} {word}".strip()
        if len(pipeline.tokenizer(longer).input_ids) > min(tokens, pipeline.transformer.config.model_max_length):
            return text
        text = longer
    raise AssertionError("words come round again")


def steps(options: argparse.Namespace, original: Any, dtype: torch.dtype) -> list[dict[str, Any]]:
    """A line for each size: seconds of a step of ours and of the original's, and the share of the peak."""
    kind = SMALL if options.small else XL
    peak = peak_flop_s(options.device, dtype, 1024 if options.small else 8192)
    lines = []
    for name in options.sizes:
        height, width = video_size(name, "9:16")
        size = Size(**kind, num_frames=options.frames, height=height, video_width=width, text=options.text)
        result = measure(original, size, options.rounds, clock_of(options.device), options.device, dtype)
        seconds = {arm: median(each) for arm, each in result["seconds"].items()}
        share = step_flop(size) / seconds["ours"] / peak
        own = {"size": name, "seconds": seconds, "rounds": result["seconds"], "share": share, "peak_flop_s": peak}
        lines.append({**result, **own})
    return lines


def whole(options: argparse.Namespace, dtype: torch.dtype) -> list[dict[str, Any]]:
    """A line for each size and number of steps: seconds of text, denoising, decoding and writing, the most memory."""
    import torch

    pipeline = random_pipeline(options.device, dtype, "full", options.small).to(options.device)
    clock, prompt = clock_of(options.device), prompt_of(pipeline, options.text)
    lines = []
    for name in options.sizes:
        height, width = video_size(name, "9:16")
        size = {"height": height, "width": width, "num_frames": options.frames}
        for number in options.steps:
            _forget_peak()
            marks = [clock()]
            with torch.no_grad():
                states, mask = pipeline.encode_prompt([prompt])
            marks.append(clock())
            output = pipeline(
                prompt_embeds=states,
                prompt_attention_mask=mask,
                num_inference_steps=number,
                generator=torch.Generator().manual_seed(SEED),
                output_type="latent",
                **size,
            )
            marks.append(clock())
            frames = decode(pipeline, output.latents, options.frames, height, width)
            marks.append(clock())
            with tempfile.TemporaryDirectory() as folder:
                write_video(Path(folder) / "video.mp4", frames, 24)
                marks.append(clock())
            stages = ("text", "denoise", "decode", "mp4")
            seconds = dict(zip(stages, (b - a for a, b in itertools.pairwise(marks)), strict=True))
            lines.append({"size": name, "steps": number, "seconds": seconds, "peak_gb": _peak_gb()})
    return lines


def memory(options: argparse.Namespace, dtype: torch.dtype) -> list[dict[str, Any]]:
    """A line for each way to keep weights and each size: the most memory of the card, two steps and the decode."""
    lines = []
    for text_encoder, offload in itertools.product(("full", "int8"), ("none", "model", "sequential")):
        pipeline = random_pipeline("cpu", dtype, text_encoder, options.small)
        if offload == "none":
            pipeline.to(options.device)
        elif offload == "model":
            pipeline.enable_model_cpu_offload(device=options.device)
        else:
            pipeline.enable_sequential_cpu_offload(device=options.device)
        prompt = prompt_of(pipeline, options.text)
        for name in options.sizes:
            height, width = video_size(name, "9:16")
            line = {"size": name, "text_encoder": text_encoder, "offload": offload, "problem": ""}
            _forget_peak()
            try:
                pipeline(
                    prompt,
                    height=height,
                    width=width,
                    num_frames=options.frames,
                    num_inference_steps=2,
                    output_type="uint8",
                )
            except RuntimeError as error:
                line["problem"] = str(error).splitlines()[0]
            peak = _peak_gb()
            fits = [card for card in CARDS_GB if peak is not None and peak + OUTSIDE_TORCH_GB <= card]
            lines.append({**line, "peak_gb": peak, "fits": fits})
        del pipeline
    return lines


def _forget_peak() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak_gb() -> float | None:
    import torch

    return torch.cuda.max_memory_reserved() / GB if torch.cuda.is_available() else None


def as_text(found: dict[str, Any]) -> str:
    """The tables."""
    text = []
    if found.get("step"):
        text += ["| size | arm | ms per step | ours / this | share of the peak |", "| --- |" + " --- |" * 4]
        for line in found["step"]:
            for arm, seconds in line["seconds"].items():
                share = f"{line['share']:.0%} of {line['peak_flop_s'] / 1e12:.3g} TFLOP/s" if arm == "ours" else ""
                ratio = line["seconds"]["ours"] / seconds
                text.append(f"| {line['size']} | {arm} | {1000 * seconds:.1f} | {ratio:.2f} | {share} |")
    if found.get("whole"):
        text += ["", "| size | steps | text | denoise | decode | mp4 | s in all | peak GB |", "| --- |" + " --- |" * 7]
        # Small, the two parts are about different transformers.
        known = [] if found.get("is_small") else found.get("step") or []
        originals = {line["size"]: line["seconds"].get("original") for line in known}
        for line in found["whole"]:
            stages = line["seconds"]
            cells = " | ".join(f"{seconds:.2f}" for seconds in stages.values())
            peak = "" if line["peak_gb"] is None else f"{line['peak_gb']:.1f}"
            text.append(f"| {line['size']} | {line['steps']} | {cells} | {sum(stages.values()):.2f} | {peak} |")
            step = originals.get(line["size"])
            if step is not None:
                denoise = line["steps"] * step
                rest = sum(stages.values()) - stages["denoise"]
                text.append(
                    f"| {line['size']}, the original's steps | {line['steps']} | | {denoise:.2f} | | "
                    f"| {denoise + rest:.2f} | |"
                )
    if found.get("memory"):
        text += ["", "| size | text encoder | offload | peak GB | fits GB |", "| --- |" + " --- |" * 4]
        for line in found["memory"]:
            peak = line["problem"] or ("" if line["peak_gb"] is None else f"{line['peak_gb']:.1f}")
            cards = ", ".join(map(str, line["fits"])) or "none" if peak and not line["problem"] else ""
            text.append(f"| {line['size']} | {line['text_encoder']} | {line['offload']} | {peak} | {cards} |")
    return "\n".join(text)


def main(arguments: Sequence[str] | None = None) -> None:
    import torch

    parser = argparse.ArgumentParser(
        prog="bench card", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", help="cuda if there is one")
    parser.add_argument("--dtype", choices=("bf16", "fp16", "fp32"), help="bf16 on CUDA")
    parser.add_argument("--sizes", nargs="+", default=["240p", "480p"])
    parser.add_argument("--frames", type=int, default=51)
    parser.add_argument("--text", type=int, default=300, help="tokens of the prompt")
    parser.add_argument("--steps", type=int, nargs="+", default=[30, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="a small model, to try the script")
    parser.add_argument("--json", type=Path, help="write the raw figures here")
    options = parser.parse_args(arguments)
    machine = choose_machine(options.device, options.dtype, None)
    options.device = machine.device
    told = header("card", sys.argv[1:] if arguments is None else arguments, SEED, ("torch", "diffusers"))
    if machine.device.startswith("cuda"):
        told["card"] = torch.cuda.get_device_name(machine.device)
    elif not options.small:
        parser.error(f"in its full size the model needs a CUDA device, not {machine.device}: --small tries the script")
    print(printed(told), flush=True)
    folder = os.environ.get("OPENSORA_DIR")
    if folder is None and "step" in options.parts:
        print("OPENSORA_DIR is not set, so that ours stands alone here.")
    original = None if folder is None else original_module(Path(folder))
    found: dict[str, Any] = {"is_small": options.small}
    if "step" in options.parts:
        found["step"] = steps(options, original, machine.torch_dtype)
    if "whole" in options.parts:
        found["whole"] = whole(options, machine.torch_dtype)
    if "memory" in options.parts:
        if machine.device.startswith("cuda"):
            found["memory"] = memory(options, machine.torch_dtype)
        else:
            print(f"What fits which card cannot be seen on {machine.device}: left out.")
    print(as_text(found))
    write_json(options.json, {"header": told, **found})


if __name__ == "__main__":
    main()
