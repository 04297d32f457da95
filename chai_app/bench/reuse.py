"""What reuse is worth when everything hits: `python app.py bench reuse`.

The cache holds a video for each thing and each scene that is asked for, so every prompt finds one that shares its
object or its scene. On each prompt all arms take turns, with one seed, through the engine as a person's requests go:
the full run, and for each number of steps a fast run without the cache and one with Cache Attention, both from noise
alone, as in the paper, and both again begun below all noise (--start-level). Seconds are those from asking to frames,
lookup and donor included; the model is in memory. The judge says what came out; the gain of the cache is the fewest
steps that hold the quality of the full run, with it and without.

Samples are kept beside --json as they come, and the same command goes on where it was interrupted. --draw FILE makes
table and plot again without any run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..attention import DEFAULT, PAPER, Recipe
from ..demo.judge import Judge, load_judge
from ..demo.world import ClipSpec
from ..engine import Engine
from ..request import GenerationRequest
from ..settings import Settings
from .header import header
from .header import printed as printed_header
from .journal import Journal, read_json, write_json
from .measures import QUESTIONS, Pixels, difference, measured
from .worlds import SEED, asked_specs, shared, warm_specs, words

RECIPES = {"default": DEFAULT, "paper": PAPER}
ALLOWED_LOSS = 0.005
"""Half a point of the judge's score."""


@dataclass(frozen=True)
class Arm:
    """A way to make a video: the full schedule, or `steps` steps without the cache or with it; those begin at the noise
    level `start_level`, under `guidance` if it is given."""

    reuse: str
    steps: int
    start_level: float = 1.0
    guidance: float | None = None

    @property
    def kind(self) -> str:
        """The arm but for its number of steps."""
        begins = "" if self.start_level == 1 else f", from {self.start_level:g}"
        guided = "" if self.guidance is None else f", guided by {self.guidance:g}"
        return {"full": "full", "fast": "no cache", "auto": "Cache Attention"}[self.reuse] + begins + guided

    @property
    def name(self) -> str:
        return f"{self.steps} steps, {self.kind}"


class Bench:
    """The demo model's engine over a cache in `home`, in which every prompt finds a donor."""

    def __init__(self, asked: Sequence[ClipSpec], full_steps: int, recipe: Recipe, home: Path) -> None:
        self.full_steps = full_steps
        settings = Settings(home, home / "models", home, full_steps=full_steps)
        self.engine = Engine(settings=settings, recipe=recipe)
        self.donors: dict[str, ClipSpec] = {}
        warm = warm_specs(asked)
        for i, spec in enumerate(warm):
            request = GenerationRequest(
                words(spec, i, "warm"),
                seed=10_000 + i,
                reuse="full",
                num_inference_steps=full_steps,
                acceleration="none",
            )
            reuse = self.engine.generate(request).report.reuse
            if reuse is None or reuse.stored_entry_id is None:
                raise RuntimeError(f"{request.prompt!r} should be kept: {reuse}")
            self.donors[reuse.stored_entry_id] = spec
        print(f"the cache holds {len(warm)} videos", file=sys.stderr, flush=True)
        self.make(words(asked[0], 0), 0, Arm("fast", 2))  # what a process does only once

    def make(self, prompt: str, seed: int, arm: Arm) -> tuple[Pixels, dict[str, Any]]:
        """The video, and its part of a sample."""
        request = GenerationRequest(
            prompt, seed=seed, reuse=arm.reuse, num_inference_steps=self.full_steps, fast_steps=arm.steps,
            start_level=arm.start_level, fast_guidance_scale=arm.guidance, acceleration="none", is_private=True,
        )  # fmt: skip
        start = time.perf_counter()
        generation = self.engine.generate(request)
        seconds = time.perf_counter() - start
        reuse = generation.report.reuse
        if arm.reuse == "auto" and (reuse is None or reuse.outcome != "hit"):
            raise RuntimeError(f"{prompt!r} should hit: {reuse}")
        told = {"seconds": seconds, "stages": generation.report.seconds, "arm": arm.name}
        return generation.frames, told | {"donor": reuse.entry_id if reuse else None}

    def samples(self, judge: Judge, spec: ClipSpec, i: int, arms: Sequence[Arm]) -> list[dict[str, Any]]:
        """All arms on one prompt, another one first each time; the first of `arms` is what others are compared with."""
        start = i % len(arms)
        made = {arm: self.make(words(spec, i), i, arm) for arm in (*arms[start:], *arms[:start])}
        clips = np.stack([made[arm][0] for arm in arms])
        found = measured(judge, [spec] * len(arms), clips, np.stack([clips[0]] * len(arms)))
        samples = []
        for arm, measures in zip(arms, found, strict=True):
            told = made[arm][1]
            donor = told.pop("donor")
            told["donor_shares"] = shared(spec, self.donors[donor]) if donor else None
            samples.append({"prompt": i, **told, **asdict(measures), "score": measures.score})
        return samples


def run(journal: Journal, prompts: int, arms: Sequence[Arm], recipe: Recipe) -> None:
    """Fill the journal with what it lacks. A prompt is made by all arms or not at all: they take turns."""
    asked, judge = asked_specs(prompts), load_judge()
    missing = [i for i in range(prompts) if not all(journal.has(i, arm.name) for arm in arms)]
    if not missing:
        return
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(asked, arms[0].steps, recipe, Path(home))
        for done, i in enumerate(missing, 1):
            for sample in bench.samples(judge, asked[i], i, arms):
                journal.add(sample)
            if done % 5 == 0 or done == len(missing):
                journal.tell(done, len(missing))
        bench.engine.close()


def rows(samples: Sequence[dict[str, Any]], arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """One line of the table for each arm; intervals are paired bootstrap, 95 %, over prompts."""
    by_arm = {arm.name: sorted((s for s in samples if s["arm"] == arm.name), key=lambda s: s["prompt"]) for arm in arms}
    base = by_arm[arms[0].name]
    base_seconds = np.median([s["seconds"] for s in base])
    table = []
    for arm in arms:
        mine = by_arm[arm.name]
        seconds = [s["seconds"] for s in mine]
        mean, low, high = difference([s["score"] for s in mine], [s["score"] for s in base])
        line: dict[str, Any] = {
            "arm": arm.name,
            "reuse": arm.reuse,
            "kind": arm.kind,
            "steps": arm.steps,
            "start_level": arm.start_level,
            "guidance": arm.guidance,
            "n": len(mine),
            "median_s": float(np.median(seconds)),
            "p95_s": float(np.percentile(seconds, 95)),
            "times_faster": float(base_seconds / np.median(seconds)),
            "score": _mean(mine, "score"),
            "difference": mean,
            "interval": [low, high],
            **{question: float(np.mean([s["right"][question] for s in mine])) for question in QUESTIONS},
            **{key: _mean(mine, key) for key in ("consistency", "psnr_db", "ssim", "feature_distance")},
            "stages_s": {
                stage: float(np.median([s["stages"].get(stage, 0.0) for s in mine]))
                for stage in ("text", "denoise", "decode")
            },
        }
        plain = by_arm.get(replace(arm, reuse="fast").name)
        if arm.reuse == "auto" and plain:
            line["gain_over_no_cache"] = difference([s["score"] for s in mine], [s["score"] for s in plain])
        table.append(line)
    return table


def _mean(samples: Sequence[dict[str, Any]], key: str) -> float:
    return float(np.mean([sample[key] for sample in samples]))


def fewest_steps(table: Sequence[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    """The line of the fewest steps that lose at most half a point to the full run, as do all lines of more steps."""
    best = None
    for line in sorted((each for each in table if each["kind"] == kind), key=lambda each: -each["steps"]):
        if line["difference"] < -ALLOWED_LOSS:
            break
        best = line
    return best


def conclusions(table: Sequence[dict[str, Any]]) -> list[str]:
    """What the table says, in sentences."""
    said = []
    for kind in dict.fromkeys(line["kind"] for line in table[1:]):
        line = fewest_steps(table, kind)
        name = kind[0].upper() + kind[1:]
        if line is None:
            said.append(f"{name}: no number of steps holds the full run's quality within half a point.")
            continue
        sure = "" if line["interval"][0] >= -ALLOWED_LOSS else " (the interval reaches further down)"
        said.append(
            f"{name}: {line['steps']} steps hold the full run's quality within half a point{sure}: "
            f"{line['median_s']:.2f} s, {line['times_faster']:.2f}x faster."
        )
    for line in table:
        if "gain_over_no_cache" in line:
            mean, low, high = (100 * value for value in line["gain_over_no_cache"])
            said.append(
                f"{line['arm']}: {mean:+.1f} points ({low:+.1f} to {high:+.1f}) over as many without the cache."
            )
    return said


def printed(table: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| arm | n | median s | p95 s | faster | score | difference, 95 % interval | object | colour | scene | motion "
        "| consistency | PSNR to full | SSIM | feature distance | text, denoise, decode s |",
        "| --- |" + " --- |" * 15,
    ]
    for row in table:
        low, high = row["interval"]
        lines.append(
            f"| {row['arm']} | {row['n']} | {row['median_s']:.2f} | {row['p95_s']:.2f} | {row['times_faster']:.2f}x "
            f"| {100 * row['score']:.1f} | {100 * row['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) "
            + "".join(f"| {100 * row[question]:.1f} " for question in QUESTIONS)
            + f"| {row['consistency']:.3f} | {row['psnr_db']:.1f} | {row['ssim']:.3f} | {row['feature_distance']:.4f} "
            + "| " + ", ".join(f"{seconds:.2f}" for seconds in row["stages_s"].values()) + " |"
        )  # fmt: skip
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="bench reuse", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--full-steps", type=int, default=30)
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 12, 6, 5, 4, 3, 2], help="of the fast arms")
    parser.add_argument(
        "--start-level",
        type=float,
        nargs="*",
        default=[0.8],
        help="noise that few steps begin with, beside 1",
    )
    parser.add_argument("--guidance", type=float, nargs="+", help="of few steps; what suits their number if left out")
    parser.add_argument("--recipe", choices=RECIPES, default="default", help="how hits attend to their donors")
    parser.add_argument("--json", type=Path, help="write table and samples here; an interrupted run goes on")
    parser.add_argument("--plot", type=Path, help="draw quality against seconds here")
    parser.add_argument("--draw", type=Path, metavar="JSON", help="print and draw the results in a file, run nothing")
    chosen = parser.parse_args(arguments)
    if chosen.draw:
        values = read_json(chosen.draw)
        keys = ("reuse", "steps", "start_level", "guidance")
        arms = [Arm(*(line.get(key) for key in keys)) for line in values["table"]]
    else:
        arms = [Arm("full", chosen.full_steps)]
        for steps in chosen.steps:
            arms += [
                Arm(reuse, steps, level, guidance)
                for level in (1.0, *chosen.start_level)
                for guidance in chosen.guidance or [None]
                for reuse in ("fast", "auto")
            ]
        told = header("reuse", sys.argv[1:] if arguments is None else arguments, SEED, ("torch", "diffusers"))
        depends_on = {"bench": "reuse", "seed": SEED, "model": _fingerprint(), "arms": [arm.name for arm in arms]}
        # The donors depend on the number of prompts.
        depends_on |= {"prompts": chosen.prompts, "recipe": asdict(RECIPES[chosen.recipe])}
        journal = Journal(chosen.json, depends_on, lambda sample: (sample["prompt"], sample["arm"]))
        run(journal, chosen.prompts, arms, RECIPES[chosen.recipe])
        samples = journal.samples()
        values = {"header": told, "recipe": depends_on["recipe"], "samples": samples}
    table = rows(values["samples"], arms)
    print(printed_header(values["header"]))
    print(printed(table))
    print("\n".join(conclusions(table)))
    if not chosen.draw:
        write_json(chosen.json, {**values, "table": table, "conclusions": conclusions(table)})
    if chosen.plot:
        from .plots import draw_quality

        draw_quality(table, chosen.plot)


def _fingerprint() -> str:
    from ..models import DEMO, find_model

    settings = Settings.from_environment()
    return find_model(DEMO, settings).fingerprint(settings)


if __name__ == "__main__":
    main()
