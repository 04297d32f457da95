"""What reuse is worth when everything hits: `python app.py bench reuse`.

The cache holds a video for each thing and each scene that is asked for, so every prompt finds one that shares its
object or its scene. On each prompt all arms take turns, with one seed, through the engine as a person's requests go:
the full run, and for each number of steps a fast run without the cache and one with Cache Attention, both from noise
alone, as in the paper, and both again begun below all noise (--start-level). Seconds are those from asking to frames,
lookup and donor included; the model is in memory. The judge says what came out; the gain of the cache is the fewest
steps that hold the quality of the full run, with it and without.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..attention import PAPER
from .journal import Journal, Sample
from .measures import QUESTIONS, difference
from .plots import draw_quality
from .runner import Arm, Bench, Column, Row, by_arm, in_turns, interval, points
from .warm import STAGES, Warm, compared, few, fingerprint, full, steps_options
from .worlds import SEED

RECIPES = {"paper": PAPER}
ALLOWED_LOSS = 0.005
"""Half a point of the judge's score."""


def options(parser: ArgumentParser) -> None:
    steps_options(parser, 200, (8, 12, 6, 5, 4, 3, 2))
    parser.add_argument(
        "--start-level",
        dest="first_sigmas",
        type=float,
        nargs="*",
        default=[0.8],
        help="noise that few steps begin with, beside 1",
    )
    parser.add_argument("--guidance", type=float, nargs="+", help="of few steps; what suits their number if left out")
    parser.add_argument("--recipe", choices=RECIPES, default="paper", help="how hits attend to their donors")


def settings(options: Namespace) -> dict[str, Any]:
    """The donors depend on the number of prompts."""
    arms = [full(options.full_steps)]
    arms += [
        few(reuse, steps, level, guidance)
        for steps in options.steps
        for level in (1.0, *options.first_sigmas)
        for guidance in options.guidance or [None]
        for reuse in ("fast", "auto")
    ]
    recipe = asdict(RECIPES[options.recipe])
    return {"model": fingerprint(), "prompts": options.prompts, "recipe": recipe, "arms": [asdict(arm) for arm in arms]}


def run(options: Namespace, journal: Journal) -> None:
    run_arms(journal, options.prompts, options.full_steps, RECIPES[options.recipe])


def run_arms(journal: Journal, prompts: int, full_steps: int, recipe: Any = PAPER) -> None:
    """All arms of the journal's settings on each prompt, over a cache in which each finds a donor."""
    arms = arms_of(journal.settings)
    with tempfile.TemporaryDirectory() as home:
        warm: list[Warm] = []  # made when first wanted

        def make(i: int, some: Sequence[Arm]) -> Iterable[Sample]:
            if not warm:
                warm.append(Warm(Path(home), prompts, full_steps, recipe))
            return warm[0].judged(i, some, arms[0].name)

        in_turns(journal, arms, range(prompts), make)
        for each in warm:
            each.engine.close()


def arms_of(settings: Mapping[str, Any]) -> list[Arm]:
    """The arms that settings tell."""
    return [Arm(**each) for each in settings["arms"]]


def rows(samples: Sequence[Sample], settings: Mapping[str, Any]) -> list[Row]:
    arms = arms_of(settings)
    table, found = compared(samples, arms), by_arm(samples)
    for row, arm in zip(table, arms, strict=True):
        row |= {"reuse": arm.how["reuse"], "steps": arm.how.get("fast_steps") or arm.how["num_inference_steps"]}
        plain = [other.name for other in arms if other.how == {**arm.how, "reuse": "fast"}]
        if arm.how["reuse"] == "auto" and plain:
            mine, others = ([sample["score"] for sample in found[name]] for name in (arm.name, plain[0]))
            row["gain_over_no_cache"] = difference(mine, others)
    return table


def fewest_steps(table: Sequence[Row], group: str) -> Row | None:
    """The row of the fewest steps that lose at most half a point to the full run, as do all rows of more steps."""
    best = None
    for row in sorted((each for each in table if each["group"] == group), key=lambda each: -each["steps"]):
        if row["difference"][0] < -ALLOWED_LOSS:
            break
        best = row
    return best


def conclusions(table: Sequence[Row]) -> list[str]:
    """What the table says, in sentences."""
    said = []
    for group in dict.fromkeys(row["group"] for row in table[1:]):
        row = fewest_steps(table, group)
        name = group[0].upper() + group[1:]
        if row is None:
            said.append(f"{name}: no number of steps holds the full run's quality within half a point.")
            continue
        sure = "" if row["difference"][1] >= -ALLOWED_LOSS else " (the interval reaches further down)"
        said.append(
            f"{name}: {row['steps']} steps hold the full run's quality within half a point{sure}: "
            f"{row['median_s']:.2f} s, {row['faster']:.2f}x faster."
        )
    return said


TABLE: dict[str, Column] = {
    "arm": "{arm}",
    "n": "{n}",
    "median s": "{median_s:.2f}",
    "p95 s": "{p95_s:.2f}",
    "faster": "{faster:.2f}x",
    "faster, decode apart": "{faster_without_decode:.2f}x",
    "score": points("score"),
    "difference, 95 % interval": interval("difference"),
    "gain over no cache": interval("gain_over_no_cache"),
    **{question: points(question) for question in QUESTIONS},
    "consistency": "{consistency:.3f}",
    "PSNR to full": "{psnr_db:.1f}",
    "SSIM": "{ssim:.3f}",
    "feature distance": "{feature_distance:.4f}",
    "text, denoise, decode s": ", ".join(f"{{stages_s[{stage}]:.2f}}" for stage in STAGES),
}
BENCH = Bench(
    __doc__, {"": TABLE}, run, rows, options, settings,
    said=conclusions, draw=lambda rows, _samples, path: draw_quality(rows, path), seed=SEED,
)  # fmt: skip
