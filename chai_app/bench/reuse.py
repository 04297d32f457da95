"""What reuse is worth when everything hits: `python -m chai_app.bench.reuse`.

Every prompt finds a donor in the cache that shares its object or its scene. On each prompt all arms take turns, with
one seed: the full run, and for each number of steps a fast run without the cache and one with Cache Attention. The
judge says what came out; the gain of the cache is the fewest steps that hold the quality of the full run, with it and
without.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..attention import Recipe
from ..demo.captions import caption
from ..demo.judge import Judge, load_judge
from ..demo.world import COLOURS, MOTIONS, OBJECTS, SCENES, ClipSpec, Thing, held_out_specs
from ..engine import Engine
from ..request import GenerationRequest
from ..settings import Settings
from .header import header
from .header import printed as printed_header

QUESTIONS = ("object", "colour", "scene", "motion")
RESAMPLES = 2_000
SEED = 23


@dataclass(frozen=True)
class Arm:
    """A way to make a video: the full schedule, or `steps` steps without the cache or with it."""

    reuse: str
    steps: int

    @property
    def name(self) -> str:
        words = {"full": "full", "fast": "no cache", "auto": "Cache Attention"}
        return f"{self.steps} steps, {words[self.reuse]}"


@dataclass(frozen=True)
class Sample:
    """One video of one arm. seconds are from prompt to frames, looking up and reading the donor included."""

    prompt: int
    arm: str
    seconds: float
    right: dict[str, bool]
    consistency: float
    psnr_db: float

    @property
    def score(self) -> float:
        """Share of the four questions that the judge answered as the prompt asked."""
        return sum(self.right[question] for question in QUESTIONS) / len(QUESTIONS)


def donor_spec(asked: ClipSpec, random: Random, shares_object: bool) -> ClipSpec:
    """A clip that shares the thing with `asked` and nothing else, or the scene and nothing else."""

    def another(names: Sequence[str], name: str) -> str:
        return random.choice([each for each in names if each != name])

    thing, scene = asked.things[0], another(SCENES, asked.scene)
    if not shares_object:
        thing, scene = Thing(another(OBJECTS, thing.object), another(COLOURS, thing.colour)), asked.scene
    return ClipSpec((thing,), 1, scene, another(MOTIONS, asked.motion), random.getrandbits(32))


def run(num_prompts: int, arms: Sequence[Arm], recipe: Recipe, home: Path) -> Iterator[Sample]:
    """All arms on all prompts, in turns; the first arm is what the others are compared with."""
    judge, random = load_judge(), Random(SEED)
    settings = Settings(home, home / "models", home)
    engine = Engine(settings=settings, recipe=recipe)
    asked = held_out_specs(num_prompts, seed=SEED)
    full_steps = arms[0].steps
    for i, spec in enumerate(asked):
        donor = donor_spec(spec, random, shares_object=i % 2 == 0)
        words = caption(donor, random, complete=True)
        engine.generate(GenerationRequest(words, seed=10_000 + i, reuse="full", num_inference_steps=full_steps))
    prompts = [caption(spec, random, complete=True) for spec in asked]
    engine.generate(GenerationRequest(prompts[0], seed=0, reuse="fast", is_private=True))  # warm
    for i, (prompt, spec) in enumerate(zip(prompts, asked, strict=True)):
        made: dict[Arm, tuple[NDArray[np.uint8], float]] = {}
        start = i % len(arms)
        for arm in (*arms[start:], *arms[:start]):
            request = GenerationRequest(
                prompt, seed=i, reuse=arm.reuse, num_inference_steps=full_steps, fast_steps=arm.steps, is_private=True
            )
            generation = engine.generate(request)
            reuse = generation.report.reuse
            if arm.reuse == "auto" and (reuse is None or reuse.outcome != "hit"):
                raise RuntimeError(f"{prompt!r} should hit: {reuse}")
            made[arm] = generation.frames, generation.report.making_seconds
        reference = made[arms[0]][0]
        for arm, (frames, seconds) in made.items():
            yield judged(judge, spec, i, arm, frames, seconds, reference)
    engine.close()


def judged(
    judge: Judge, spec: ClipSpec, i: int, arm: Arm, frames: NDArray[np.uint8], seconds: float, reference: Any
) -> Sample:
    verdict = judge.verdicts(frames[None])[0]
    right = {name: bool(value) for name, value in verdict.agrees(spec).items()}
    error = np.square(frames.astype(np.float64) - reference).mean()
    psnr_db = float(20 * np.log10(255) - 10 * np.log10(max(error, 1e-2)))
    return Sample(i, arm.name, seconds, right, verdict.consistency, psnr_db)


def rows(samples: Sequence[Sample], arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """One line of the table for each arm; intervals are paired bootstrap, 95 %, over prompts."""
    by_arm = {arm.name: sorted((s for s in samples if s.arm == arm.name), key=lambda s: s.prompt) for arm in arms}
    base = by_arm[arms[0].name]
    base_scores, base_seconds = np.array([s.score for s in base]), np.median([s.seconds for s in base])
    drawn = np.random.default_rng(SEED).integers(len(base), size=(RESAMPLES, len(base)))
    table = []
    for arm in arms:
        mine = by_arm[arm.name]
        seconds, scores = np.array([s.seconds for s in mine]), np.array([s.score for s in mine])
        low, high = np.percentile((scores - base_scores)[drawn].mean(1), (2.5, 97.5))
        table.append(
            {
                "arm": arm.name,
                "n": len(mine),
                "median_s": float(np.median(seconds)),
                "p95_s": float(np.percentile(seconds, 95)),
                "times_faster": float(base_seconds / np.median(seconds)),
                "score": float(scores.mean()),
                "difference": float((scores - base_scores).mean()),
                "interval": [float(low), float(high)],
                **{question: float(np.mean([s.right[question] for s in mine])) for question in QUESTIONS},
                "consistency": float(np.mean([s.consistency for s in mine])),
                "psnr_db": float(np.mean([s.psnr_db for s in mine])),
            }
        )
    return table


def printed(table: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| arm | n | median s | p95 s | faster | score | difference, 95 % interval | object | colour | scene | motion "
        "| consistency | PSNR to full |",
        "| --- |" + " --- |" * 12,
    ]
    for row in table:
        low, high = row["interval"]
        lines.append(
            f"| {row['arm']} | {row['n']} | {row['median_s']:.2f} | {row['p95_s']:.2f} | {row['times_faster']:.2f}x "
            f"| {100 * row['score']:.1f} | {100 * row['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) "
            + "".join(f"| {100 * row[question]:.1f} " for question in QUESTIONS)
            + f"| {row['consistency']:.3f} | {row['psnr_db']:.1f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--full-steps", type=int, default=30)
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 12, 6, 5, 4, 3, 2], help="of the fast arms")
    parser.add_argument("--json", type=Path, help="write the table and every sample here")
    chosen = parser.parse_args(arguments)
    arms = [Arm("full", chosen.full_steps)]
    arms += [Arm(reuse, steps) for steps in chosen.steps for reuse in ("fast", "auto")]
    told = header("reuse", sys.argv[1:] if arguments is None else arguments, SEED, ("torch", "diffusers"))
    print(printed_header(told), flush=True)
    with tempfile.TemporaryDirectory() as home:
        samples = list(run(chosen.prompts, arms, Recipe(), Path(home)))
    table = rows(samples, arms)
    print(printed(table))
    if chosen.json:
        values = {"header": told, "table": table, "samples": [asdict(sample) for sample in samples]}
        chosen.json.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
