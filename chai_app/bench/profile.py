"""Where the time of a run goes, operator by operator: `python app.py bench profile`.

A full run and a hit of the demo model, through the engine, under torch's profiler. Each operator's own time counts,
children apart, as a share of all; the stages are timed in runs of their own, without the profiler, which slows small
operators down.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from .journal import Journal, Sample
from .plots import COLOURS, GREY, figure
from .runner import Arm, Bench, Column, Row, in_turns
from .warm import STAGES, Warm, few, full
from .worlds import SEED

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


def profiled(warm: Warm, arm: Arm) -> Sample:
    """Stages in seconds, and the milliseconds of each kind of operator."""
    from torch.profiler import ProfilerActivity, profile

    warm.make(0, arm)  # warm
    stages = warm.make(0, arm)[1]["stages"]
    with profile(activities=[ProfilerActivity.CPU]) as record:
        warm.make(0, arm)
    kinds: dict[str, float] = {}
    for event in record.key_averages():
        kind = kind_of(event.key)
        kinds[kind] = kinds.get(kind, 0.0) + event.self_cpu_time_total / 1000
    return {"arm": arm.name, "stages_s": stages, "kinds_ms": dict(sorted(kinds.items(), key=lambda pair: -pair[1]))}


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--full-steps", type=int, default=30)
    parser.add_argument("--steps", type=int, default=2, help="of a hit")
    parser.add_argument(
        "--start-level", dest="first_sigma", type=float, default=0.8, help="noise that a hit begins with"
    )


def run(options: Namespace, journal: Journal) -> None:
    arms = [full(options.full_steps), few("auto", options.steps, options.first_sigma)]
    with tempfile.TemporaryDirectory() as home:
        warm = Warm(Path(home), 1, options.full_steps)
        in_turns(journal, arms, [0], lambda _, arms: [profiled(warm, arm) for arm in arms])
        warm.engine.close()


def draw(rows: list[Row], _samples: Sequence[Sample], path: Path) -> None:
    """One bar a run, of its kinds of operators."""
    colours = dict(zip([*KINDS, "all else"], [*COLOURS, "#a6761d", GREY], strict=True))
    with figure(path, figsize=(8, 1.4 + 0.6 * len(rows))) as (_, axes):
        for i, row in enumerate(rows):
            total, left = sum(row["kinds_ms"].values()), 0.0
            for kind, colour in colours.items():
                share = 100 * row["kinds_ms"].get(kind, 0.0) / total
                axes.barh(i, share, left=left, color=colour, label=kind if i == 0 else None, height=0.6)
                if share >= 5:
                    axes.text(left + share / 2, i, f"{share:.0f}", ha="center", va="center", color="white", fontsize=8)
                left += share
        axes.set_yticks(range(len(rows)), [row["arm"] for row in rows])
        axes.grid(False)
        axes.set(xlim=(0, 100), xlabel="share of operator time, %", title="Where the time of a run goes")
        axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.45, -0.35), fontsize=8)


def costs(row: Row) -> str:
    """The shares of all kinds, the largest first."""
    total = sum(row["kinds_ms"].values())
    return ", ".join(f"{kind} {100 * ms / total:.0f} %" for kind, ms in row["kinds_ms"].items())


TABLE: dict[str, Column] = {
    "run": "{arm}",
    "text, denoise, decode s": ", ".join(f"{{stages_s[{stage}]:.2f}}" for stage in STAGES),
    "the largest costs, share of operator time": costs,
}
BENCH = Bench(
    __doc__, {"": TABLE}, run, lambda samples, _: list(samples), options,
    settings=lambda options: {"arms": [options.full_steps, options.steps, options.first_sigma]}, draw=draw, seed=SEED,
)  # fmt: skip
