"""The model in its full size on one card: ms per step, seconds of a whole run, and which settings fit which card.

STDiT3-XL/2, the released autoencoder's sizes and T5-XXL with random weights, so that nothing has to be fetched; time
and memory do not depend on what the weights are. `OPENSORA_DIR` (see `bench step`) adds the original transformer, with
the same weights and turn by turn. The share of the peak is what a step's matrix products and attention take at the rate
of the card's fastest square product, over what it took.

--small runs the same on a model of a few million weights: for trying the script where there is no such card.
"""

from __future__ import annotations

import gc
import itertools
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.decoding import decode
from ..engine.loading import Machine, choose_machine
from ..errors import BadRequest
from ..media.video import write_video
from ..models import DEMO
from ..opensora.sizes import latent_size, video_size
from ..settings import BUNDLED_MODELS
from .journal import Journal, Sample
from .runner import Bench, Columns, Row, note
from .step import SEED, Size, measure, original_at_hand
from .step import rows as step_rows

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


def steps(options: Namespace, journal: Journal, original: Any, machine: Machine) -> None:
    """Rounds of a step for each size, ours and the original's."""
    kind = SMALL if options.small else XL
    for name in options.sizes:
        height, width = video_size(name, "9:16")
        size = Size(**kind, num_frames=options.frames, height=height, video_width=width, text=options.text)
        clock = clock_of(machine.device)
        measure(journal, original, size, options.rounds, clock, machine.device, machine.torch_dtype)
    peak = peak_flop_s(machine.device, machine.torch_dtype, 1024 if options.small else 8192)
    journal.add({"part": "peak", "arm": "", "size": "", "prompt": 0, "flop_s": peak})


def whole(options: Namespace, journal: Journal, machine: Machine) -> None:
    """Seconds of text, denoising, decoding and writing and the most memory, for each size and number of steps."""
    import torch

    device = machine.device
    pipeline = random_pipeline(device, machine.torch_dtype, "full", options.small).to(device)
    clock, prompt = clock_of(device), prompt_of(pipeline, options.text)
    for name, number in itertools.product(options.sizes, options.steps):
        height, width = video_size(name, "9:16")
        size = {"height": height, "width": width, "num_frames": options.frames}
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
        told = {"size": name, "steps": number, "stages_s": seconds, "peak_gb": _peak_gb()}
        journal.add({"part": "whole", "arm": str(number), "prompt": 0, **told})


def memory(options: Namespace, journal: Journal, machine: Machine) -> None:
    """The most memory of the card, two steps and the decode, for each way to keep weights and each size."""
    for text_encoder, offload in itertools.product(("full", "int8"), ("none", "model", "sequential")):
        pipeline = random_pipeline("cpu", machine.torch_dtype, text_encoder, options.small)
        if offload == "none":
            pipeline.to(machine.device)
        elif offload == "model":
            pipeline.enable_model_cpu_offload(device=machine.device)
        else:
            pipeline.enable_sequential_cpu_offload(device=machine.device)
        prompt = prompt_of(pipeline, options.text)
        for name in options.sizes:
            height, width = video_size(name, "9:16")
            size = {"height": height, "width": width, "num_frames": options.frames}
            problem = ""
            _forget_peak()
            try:
                pipeline(prompt, num_inference_steps=2, output_type="uint8", **size)
            except RuntimeError as error:
                problem = str(error).splitlines()[0]
            told = {"size": name, "text_encoder": text_encoder, "offload": offload, "problem": problem}
            arm = f"{text_encoder}, {offload}"
            journal.add({"part": "memory", "arm": arm, "prompt": 0, **told, "peak_gb": _peak_gb()})
        del pipeline


def _forget_peak() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak_gb() -> float | None:
    import torch

    return torch.cuda.max_memory_reserved() / GB if torch.cuda.is_available() else None


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", help="cuda if there is one")
    parser.add_argument("--dtype", choices=("bf16", "fp16", "fp32"), help="bf16 on CUDA")
    parser.add_argument("--sizes", nargs="+", default=["240p", "480p"])
    parser.add_argument("--frames", type=int, default=51)
    parser.add_argument("--text", type=int, default=300, help="tokens of the prompt")
    parser.add_argument("--steps", type=int, nargs="+", default=[30, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="a small model, to try the script")


def settings(options: Namespace) -> dict[str, Any]:
    machine = choose_machine(options.device, options.dtype, None)
    if not machine.device.startswith("cuda") and not options.small:
        raise BadRequest(
            f"In its full size the model needs a CUDA device, not {machine.device}: --small tries the script."
        )
    return {"is_small": options.small, "device": machine.device, "dtype": machine.dtype, "frames": options.frames}


def run(options: Namespace, journal: Journal) -> None:
    machine = choose_machine(options.device, options.dtype, None)
    if "step" in options.parts:
        steps(options, journal, original_at_hand(), machine)
    if "whole" in options.parts:
        whole(options, journal, machine)
    if "memory" in options.parts:
        if machine.device.startswith("cuda"):
            memory(options, journal, machine)
        else:
            note(f"What fits which card cannot be seen on {machine.device}: left out.")


def rows(samples: Sequence[Sample], settings: Mapping[str, Any]) -> list[Row]:
    """Those of three tables. Seconds of a run with the original's steps are worked out where its steps were timed."""
    parts = {part: [sample for sample in samples if sample["part"] == part] for part in (*PARTS, "peak")}
    table = step_rows(parts["step"], settings)
    originals = {}
    for row in table:
        size = Size(**row["size"])
        row |= {"height": f"{size.height}p", "median_ms": 1000 * row["median_s"]}
        if row["arm"] == "ours":
            row["peak_tflop_s"] = parts["peak"][0]["flop_s"] / 1e12
            row["share"] = step_flop(size) / row["median_s"] / parts["peak"][0]["flop_s"]
        if row["arm"] == "original" and not settings["is_small"]:  # small, the two parts are about other transformers
            originals[row["height"]] = row["median_s"]
    for sample in parts["whole"]:
        stages = sample["stages_s"]
        row = {**sample, "total_s": sum(stages.values())}
        table.append(row)
        if sample["size"] in originals:
            denoise = sample["steps"] * originals[sample["size"]]
            total = row["total_s"] - stages["denoise"] + denoise
            told = {"steps": sample["steps"], "stages_s": {"denoise": denoise}, "total_s": total}
            table.append({"part": "whole", "size": f"{sample['size']}, the original's steps", **told})
    for sample in parts["memory"]:
        peak, problem = sample["peak_gb"], sample["problem"]
        fits = [str(card) for card in CARDS_GB if peak is not None and peak + OUTSIDE_TORCH_GB <= card]
        row = {**sample, "peak": problem or ("" if peak is None else f"{peak:.1f}")}
        table.append({**row, "fits": "" if problem else ", ".join(fits) or "none"})
    return table


TABLES: dict[str, Columns] = {
    "step": {
        "size": "{height}",
        "arm": "{arm}",
        "ms per step": "{median_ms:.1f}",
        "ours / this": "{ratio:.2f}",
        "share of the peak": "{share:.0%} of {peak_tflop_s:.3g} TFLOP/s",
    },
    "whole": {
        "size": "{size}",
        "steps": "{steps}",
        **{stage: f"{{stages_s[{stage}]:.2f}}" for stage in ("text", "denoise", "decode", "mp4")},
        "s in all": "{total_s:.2f}",
        "peak GB": "{peak_gb:.1f}",
    },
    "memory": {
        "size": "{size}",
        "text encoder": "{text_encoder}",
        "offload": "{offload}",
        "peak GB": "{peak}",
        "fits GB": "{fits}",
    },
}
BENCH = Bench(
    __doc__, TABLES, run, rows, options, settings,
    key=lambda sample: (sample["part"], str(sample["size"]), sample["arm"], sample["prompt"]), seed=SEED,
)  # fmt: skip
