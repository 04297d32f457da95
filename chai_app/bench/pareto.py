"""Time against judged quality: reuse within a run, reuse across runs, and both: `python app.py bench pareto`.

Every prompt finds a donor in the cache. On each prompt all arms take turns with one seed: each of diffusers' techniques
on the full schedule and on the few steps of a hit, alone and joined with Cache Attention, plain runs of as many steps,
and the presets. Seconds are those from asking to frames with the model in memory, given with and without decoding. An
arm is on the frontier if no other is both quicker and better.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..presets import ACCELERATIONS, PRESETS
from . import reuse
from .journal import Journal, Sample
from .plots import BLUE, GREEN, GREY, RED, SKY, figure
from .runner import Arm, Bench, Column, Row
from .warm import compared, few, fingerprint, full, steps_options
from .worlds import SEED

TECHNIQUES = tuple(name for name in ACCELERATIONS if name not in ("none", "text-kv"))  # text is once per run anyway


def options(parser: ArgumentParser) -> None:
    steps_options(parser, 60, (15, 8, 5))
    parser.add_argument("--techniques", nargs="*", choices=TECHNIQUES, default=list(TECHNIQUES))


def arms_of(full_steps: int, fewer: Sequence[int], techniques: Sequence[str]) -> list[Arm]:
    """The full run first, with which all others are compared."""
    ways = [full(full_steps), *(few(way, steps) for steps in fewer for way in ("fast", "auto"))]
    arms = []
    for way in ways:
        arms.append(way)
        arms += [replace(way, name=f"{way.name}, {t}", how={**way.how, "acceleration": t}) for t in techniques]
    for preset in PRESETS:
        how = {"preset": preset}
        if preset != "exact":  # which runs in full anyway
            arms.append(Arm(f"preset {preset}, full run", "preset", {**how, "reuse": "full"}))
        arms.append(Arm(f"preset {preset}", "preset", how))
    return arms


def settings(options: Namespace) -> dict[str, Any]:
    arms = arms_of(options.full_steps, options.steps, options.techniques)
    return {"model": fingerprint(), "prompts": options.prompts, "arms": [asdict(arm) for arm in arms]}


def run(options: Namespace, journal: Journal) -> None:
    reuse.run_arms(journal, options.prompts, options.full_steps)


def rows(samples: Sequence[Sample], settings: Mapping[str, Any]) -> list[Row]:
    table = compared(samples, reuse.arms_of(settings))
    for row in table:
        place = (row["median_s"], -row["score"])
        others = [(other["median_s"], -other["score"]) for other in table]
        row["is_best"] = not any(a <= place[0] and b <= place[1] and (a, b) != place for a, b in others)
    return table


def draw(table: list[Row], _samples: Sequence[Sample], path: Path) -> None:
    """Quality against seconds, with the frontier."""
    kinds = {"full run": (SKY, "^"), "no cache": (BLUE, "o"), "Cache Attention": (RED, "s"), "preset": (GREEN, "D")}
    with figure(path, figsize=(8, 5)) as (_, axes):
        for kind, (colour, marker) in kinds.items():
            points = [(row["median_s"], 100 * row["score"]) for row in table if row["group"] == kind]
            if points:
                axes.plot(*zip(*points, strict=True), marker, color=colour, label=kind, alpha=0.8)
        best = sorted((row for row in table if row["is_best"]), key=lambda row: row["median_s"])
        places = [(row["median_s"], 100 * row["score"]) for row in best]
        axes.plot(*zip(*places, strict=True), "-", color=GREY, zorder=0, label="frontier")
        for i, (row, place) in enumerate(zip(best, places, strict=True)):
            offset = (6, -10 if i % 2 else 6)
            axes.annotate(row["arm"], place, xytext=offset, textcoords="offset points", fontsize=7)
        axes.set(xlabel="seconds from prompt to frames, median", ylabel="judged quality, %", title="Time and quality")
        axes.legend(loc="lower right")


COLUMNS = ("arm", "n", "median s", "p95 s", "faster", "faster, decode apart", "score", "difference, 95 % interval")
TABLE: dict[str, Column] = {name: reuse.TABLE[name] for name in (*COLUMNS, "PSNR to full")}
TABLE["frontier"] = lambda row: "yes" if row["is_best"] else ""
BENCH = Bench(__doc__, {"": TABLE}, run, rows, options, settings, draw=draw, seed=SEED)
