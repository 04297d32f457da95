"""Where the time of a run goes, operator by operator: `python app.py bench profile`.

A full run and a hit of the demo model, through the engine, under torch's profiler. Each operator's own time counts,
children apart, as a share of all; the stages are timed in runs of their own, without the profiler, which slows small
operators down.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..attention import DEFAULT
from .header import header, printed
from .journal import write_json
from .reuse import Arm, Bench
from .worlds import SEED, asked_specs, words

KINDS: dict[str, tuple[str, ...]] = {
    "matrix products": ("addmm", "mm", "bmm", "baddbmm"),
    "convolutions": ("convolution", "conv2d", "conv3d", "conv3d_forward"),
    "attention": ("scaled_dot_product", "softmax"),
    "norms": ("norm",),
    "GELU, SiLU, sigmoid": ("gelu", "silu", "sigmoid", "tanh"),
    "copies and layout": ("copy_", "cat", "contiguous", "clone", "pad", "flip", "upsample", "index"),
    "arithmetic": ("add", "mul", "div", "sub", "pow", "rsqrt", "addcmul", "lerp", "sin", "cos"),
}


def kind_of(operator: str) -> str:
    """The kind that an operator of torch's profiler counts to."""
    name = operator.removeprefix("aten::")
    for kind, parts in KINDS.items():
        if name.rstrip("_") in parts or any(len(part) > 3 and part in name for part in parts):
            return kind
    return "all else"


def profiled(bench: Bench, prompt: str, arm: Arm) -> dict[str, Any]:
    """Stages in seconds, and the milliseconds of each kind of operator."""
    from torch.profiler import ProfilerActivity, profile

    bench.make(prompt, 0, arm)  # warm
    stages = bench.make(prompt, 0, arm)[1]["stages"]
    with profile(activities=[ProfilerActivity.CPU]) as record:
        bench.make(prompt, 0, arm)
    kinds: dict[str, float] = {}
    for event in record.key_averages():
        kind = kind_of(event.key)
        kinds[kind] = kinds.get(kind, 0.0) + event.self_cpu_time_total / 1000
    return {"arm": arm.name, "stages_s": stages, "kinds_ms": dict(sorted(kinds.items(), key=lambda pair: -pair[1]))}


def as_text(results: Sequence[dict[str, Any]]) -> str:
    lines = ["| run | text, denoise, decode s | the largest costs, share of operator time |", "| --- | --- | --- |"]
    for result in results:
        total = sum(result["kinds_ms"].values())
        stages = ", ".join(f"{result['stages_s'].get(name, 0.0):.2f}" for name in ("text", "denoise", "decode"))
        costs = ", ".join(f"{kind} {100 * ms / total:.0f} %" for kind, ms in result["kinds_ms"].items())
        lines.append(f"| {result['arm']} | {stages} | {costs} |")
    return "\n".join(lines)


def draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """One bar a run, of its kinds of operators."""
    from .plots import COLOURS, GREY, figure

    kinds = [*KINDS, "all else"]
    colours = [*COLOURS, "#a6761d", GREY]
    with figure(path, figsize=(8, 1.4 + 0.6 * len(results))) as (_, axes):
        for i, result in enumerate(results):
            total, left = sum(result["kinds_ms"].values()), 0.0
            for kind, colour in zip(kinds, colours, strict=True):
                share = 100 * result["kinds_ms"].get(kind, 0.0) / total
                axes.barh(i, share, left=left, color=colour, label=kind if i == 0 else None, height=0.6)
                if share >= 5:
                    axes.text(left + share / 2, i, f"{share:.0f}", ha="center", va="center", color="white", fontsize=8)
                left += share
        axes.set_yticks(range(len(results)), [result["arm"] for result in results])
        axes.grid(False)
        axes.set(xlim=(0, 100), xlabel="share of operator time, %", title="Where the time of a run goes")
        axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.45, -0.35), fontsize=8)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="bench profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full-steps", type=int, default=30)
    parser.add_argument("--steps", type=int, default=2, help="of a hit")
    parser.add_argument("--start-level", dest="level", type=float, default=0.8, help="noise that a hit begins with")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plot", type=Path, help="draw them here")
    chosen = parser.parse_args(arguments)
    told = header("profile", sys.argv[1:] if arguments is None else arguments, SEED, ("torch", "diffusers"))
    asked = asked_specs(1)
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(asked, chosen.full_steps, DEFAULT, Path(home))
        arms = (Arm("full", chosen.full_steps), Arm("auto", chosen.steps, chosen.level))
        results = [profiled(bench, words(asked[0], 0), arm) for arm in arms]
        bench.engine.close()
    print(printed(told))
    print(as_text(results))
    write_json(chosen.json, {"header": told, "results": results})
    if chosen.plot:
        draw(results, chosen.plot)


if __name__ == "__main__":
    main()
