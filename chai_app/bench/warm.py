"""The demo model's engine, asked as people ask, over a cache in which every prompt finds a donor: for what is timed."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..attention import Recipe
from ..demo.judge import Judge, load_judge
from ..demo.world import ClipSpec
from ..engine import Engine, Generation
from ..models import DEMO, find_model
from ..request import GenerationRequest
from ..settings import CountGate, Settings
from .journal import Sample
from .measures import QUESTIONS, Pixels, difference, measured
from .runner import Arm, Row, by_arm, note
from .worlds import asked_specs, shared, warm_specs, words

STAGES = ("text", "denoise", "decode")


def demo_engine(
    home: Path, full_steps: int | None = None, recipe: Recipe | None = None, count_gate: CountGate = "on"
) -> Engine:
    """With all that it keeps in `home`."""
    settings = Settings(home, home / "models", home, full_steps=full_steps, count_gate=count_gate)
    return Engine(settings=settings, recipe=recipe)


def fingerprint() -> str:
    """Of the demo model's weights."""
    settings = Settings.from_environment()
    return find_model(DEMO, settings).fingerprint(settings)


def timed(engine: Engine, request: GenerationRequest) -> tuple[Generation, dict[str, Any]]:
    """A video, and its part of a sample: seconds from asking to frames."""
    start = time.perf_counter()
    generation = engine.generate(request)
    seconds = time.perf_counter() - start
    report = generation.report
    outcome = report.reuse.outcome if report.reuse else None
    return generation, {"seconds": seconds, "stages": report.seconds, "steps": report.steps, "outcome": outcome}


@cache
def _judge() -> Judge:
    return load_judge()


def judged(spec: ClipSpec, made: Mapping[str, tuple[Pixels, Sample]], base: str) -> list[Sample]:
    """A sample of each arm from its video of one prompt, compared with that of the arm `base`."""
    clips = np.stack([frames for frames, _ in made.values()])
    references = np.stack([made[base][0]] * len(made))
    found = measured(_judge(), [spec] * len(made), clips, references)
    return [
        {"arm": arm, **told, **asdict(measures), "score": measures.score}
        for (arm, (_, told)), measures in zip(made.items(), found, strict=True)
    ]


class Warm:
    """The engine over a cache in `home` that holds what `warm_specs` lists. An arm is the fields of its requests."""

    def __init__(self, home: Path, prompts: int, full_steps: int, recipe: Recipe | None = None) -> None:
        self.asked, self.engine = asked_specs(prompts), demo_engine(home, full_steps, recipe)
        self.donors: dict[str, ClipSpec] = {}
        for i, spec in enumerate(warm_specs(self.asked)):
            request = GenerationRequest(
                words(spec, i, "warm"), seed=10_000 + i, reuse="full", num_inference_steps=full_steps,
                acceleration="none",
            )  # fmt: skip
            reuse = self.engine.generate(request).report.reuse
            if reuse is None or reuse.stored_entry_id is None:
                raise RuntimeError(f"{request.prompt!r} should be kept: {reuse}")
            self.donors[reuse.stored_entry_id] = spec
        note(f"the cache holds {len(self.donors)} videos")
        self.make(0, few("fast", 2))  # what a process does only once

    def make(self, i: int, arm: Arm) -> tuple[Pixels, Sample]:
        """The video of prompt `i`."""
        spec = self.asked[i]
        generation, told = timed(self.engine, GenerationRequest(words(spec, i), seed=i, is_private=True, **arm.how))
        reuse = generation.report.reuse
        if arm.how.get("reuse") == "auto" and (reuse is None or reuse.outcome != "hit"):
            raise RuntimeError(f"{words(spec, i)!r} should hit: {reuse}")
        donor = self.donors.get(reuse.entry_id or "") if reuse else None
        return generation.frames, told | {"donor_shares": shared(spec, donor) if donor else None}

    def judged(self, i: int, arms: Sequence[Arm], base: str) -> list[Sample]:
        """Prompt `i` by all arms, one after the other."""
        return judged(self.asked[i], {arm.name: self.make(i, arm) for arm in arms}, base)


def full(steps: int) -> Arm:
    """The full schedule, in which no donor is looked for."""
    return Arm(
        f"{steps} steps, full run", "full run", {"reuse": "full", "num_inference_steps": steps, "acceleration": "none"}
    )


def few(reuse: str, steps: int, first_sigma: float | None = None, guidance: float | None = None) -> Arm:
    """Few steps without the cache (fast) or with it (auto); None leaves a choice to the model."""
    group = {"fast": "no cache", "auto": "Cache Attention"}[reuse]
    group += "" if first_sigma in (None, 1) else f", from {first_sigma:g}"
    group += "" if guidance is None else f", guided by {guidance:g}"
    how = {"reuse": reuse, "fast_steps": steps, "start_level": first_sigma, "fast_guidance_scale": guidance}
    return Arm(f"{steps} steps, {group}", group, how | {"acceleration": "none"})


def steps_options(parser: ArgumentParser, prompts: int, steps: Iterable[int]) -> None:
    """What the benchmarks of reuse have in common."""
    parser.add_argument("--prompts", type=int, default=prompts)
    parser.add_argument("--full-steps", type=int, default=30)
    parser.add_argument("--steps", type=int, nargs="+", default=list(steps), help="of the fast arms")


def compared(samples: Sequence[Sample], arms: Sequence[Arm]) -> list[Row]:
    """A row for each arm; the first is what the others are compared with, prompt by prompt."""
    found = by_arm(samples)
    base = found[arms[0].name]
    rows: list[Row] = []
    for arm in arms:
        mine = found[arm.name]
        seconds, scores = ([sample[key] for sample in mine] for key in ("seconds", "score"))
        stages = {stage: median(sample["stages"].get(stage, 0.0) for sample in mine) for stage in STAGES}
        row: Row = {
            "arm": arm.name,
            "group": arm.group,
            "n": len(mine),
            "median_s": median(seconds),
            "p95_s": float(np.percentile(seconds, 95)),
            "without_decode_s": median(s["seconds"] - s["stages"].get("decode", 0.0) for s in mine),
            "difference": difference(scores, [sample["score"] for sample in base]),
            **{key: float(np.mean([sample[key] for sample in mine])) for key in MEANS},
            **{question: float(np.mean([sample["right"][question] for sample in mine])) for question in QUESTIONS},
            "stages_s": stages,
        }
        row["faster"] = (rows or [row])[0]["median_s"] / row["median_s"]
        row["faster_without_decode"] = (rows or [row])[0]["without_decode_s"] / row["without_decode_s"]
        rows.append(row)
    return rows


MEANS = ("score", "certainty", "consistency", "psnr_db", "ssim", "feature_distance")
