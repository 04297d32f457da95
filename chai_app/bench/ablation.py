"""What makes a donor useful: `python app.py bench ablation`.

On the demo model, at few steps, arm by arm: which steps and blocks attend to the donor, which half of guidance, what
becomes of the video's own keys, what a donor is and what it shares with the prompt; a donor that shares nothing and one
that is the answer itself stand at the two ends. Judged quality and closeness to the full run of the same prompt and
seed; differences are against as many steps without the cache, prompt by prompt, with a bootstrap interval of 95 %.

Nothing is timed (see bench reuse). With more --prompts, --arms or --steps the same command makes only what is missing.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ..attention import Donor
from ..demo.judge import Judge, load_judge
from ..demo.world import ClipSpec
from .arms import ARMS, GROUPS, OTHER_SHAPES, Way
from .journal import Journal, Sample
from .measures import QUESTIONS, Pixels, difference, measured
from .plots import draw_gains
from .runner import Arm, Bench, Column, Row, interval, named, points
from .studio import Made, Studio, Task
from .variants import KeptSteps, OtherNoise, capture_points
from .warm import MEANS, fingerprint, steps_options
from .worlds import SEED, Shared, asked_specs, donor_spec, words

DONOR_SEED = 10_000
BATCH = 8
BASE = "no cache"
FULL = Arm("full", "baseline", Way("", recipe=None))
KINDS: tuple[Shared, ...] = get_args(Shared)


class Batch:
    """Prompts numbered `first` and on, made by all arms. Full runs and donors are made when first wanted."""

    def __init__(self, studio: Studio, judge: Judge, specs: Sequence[ClipSpec], first: int, full_steps: int) -> None:
        self.studio, self.judge, self.specs, self.full_steps = studio, judge, specs, full_steps
        self.numbers = range(first, first + len(specs))
        self.task = studio.task([words(spec, i) for spec, i in zip(specs, self.numbers, strict=True)], self.numbers)
        self._made: dict[str, Made] = {}
        self._reference: Pixels | None = None

    def donor(self, shares: str) -> Made:
        """Full runs of earlier prompts that share this much with ours; "answer" are our own."""
        if shares not in self._made:
            task = self.task if shares == "answer" else self._donor_task(shares)
            self._made[shares] = self.studio.make(task, self.full_steps, keep_inputs=True)
        return self._made[shares]

    def _donor_task(self, shares: Any) -> Task:
        specs = [
            donor_spec(spec, Random(f"{SEED} {shares} {i}"), shares)
            for spec, i in zip(self.specs, self.numbers, strict=True)
        ]
        texts = [words(spec, i, shares) for spec, i in zip(specs, self.numbers, strict=True)]
        offset = DONOR_SEED * (1 + KINDS.index(shares))
        return self.studio.task(texts, [offset + i for i in self.numbers])

    def latents_of(self, shows: str, pick: Callable[[Made], Tensor] = lambda made: made.latents) -> Tensor:
        """One donor for each prompt, (B, C, T, h, w)."""
        if shows != "hit":
            return pick(self.donor(shows))
        is_object = torch.tensor([i % 2 == 0 for i in self.numbers])[:, None, None, None, None]
        return torch.where(is_object, pick(self.donor("object")), pick(self.donor("scene")))

    def donors(self, way: Way, steps: int) -> list[Donor]:
        """What is attended to in a run of this many steps."""
        if way.shows == "object and scene":
            return [Donor(self.donor(shows).latents) for shows in ("object", "scene")]
        clean = self.latents_of(way.shows)
        if way.kind in OTHER_SHAPES:
            size, number = {"48 px": (48, 17), "96 px": (96, 17), "9 frames": (64, 9)}[way.kind]
            return [Donor(self.studio.encoded(self.studio.frames(clean)[:, :number], size))]
        if way.kind != "steps":
            return [OtherNoise(clean) if way.kind == "other noise" else Donor(clean)]
        full, fast = self.studio.levels(self.full_steps), self.studio.levels(steps)
        points = capture_points(full, fast, range(2, steps + 1))
        kept = {fast[step - 1]: self.latents_of(way.shows, _input_of(of_full)) for step, of_full in points.items()}
        return [KeptSteps(clean, by_noise_level=kept)]

    def make(self, arm: Arm, steps: int) -> Made:
        """The arm's videos, not decoded yet."""
        if arm is FULL:
            return self.donor("answer")
        way: Way = arm.how
        donors = [] if way.recipe is None else self.donors(way, steps)
        start = None if way.first_sigma == 1 else self.start(way)
        recipe = way.recipe_for(self.studio.levels(steps, way.first_sigma))
        return self.studio.make(self.task, steps, donors, recipe, way.processor, way.first_sigma, start)

    def start(self, way: Way) -> Tensor:
        """The latents to begin with, (B, C, T, h, w); where it attends, the mean of all, as in hits."""
        if way.shows == "" or way.recipe is not None:
            return torch.zeros_like(self.task.noise)
        if way.shows == "object and scene":
            return (self.donor("object").latents + self.donor("scene").latents) / 2
        return self.latents_of(way.shows)

    def samples(self, arm: Arm, steps: int) -> Iterator[Sample]:
        """One sample for each prompt."""
        made = self.make(arm, steps)
        if self._reference is None:
            self._reference = self.studio.frames(self.donor("answer").latents)
        frames = self._reference if arm is FULL else self.studio.frames(made.latents)
        found = measured(self.judge, self.specs, frames, self._reference)
        for i, measures in zip(self.numbers, found, strict=True):
            told = {"prompt": i, "arm": arm.name, "steps": steps, "passes": made.passes}
            yield {**told, **asdict(measures), "score": measures.score}


def _input_of(step: int) -> Callable[[Made], Tensor]:
    """What picks the latents that a step, counted from 1, began with."""
    return lambda made: list(made.inputs.values())[step - 1]


def options(parser: ArgumentParser) -> None:
    steps_options(parser, 24, (3, 4, 5, 8))
    parser.add_argument("--arms", nargs="+", default=[], metavar="NAME", help=f"some of: {'; '.join(ARMS)}")
    parser.add_argument("--groups", nargs="+", default=[], metavar="GROUP", help=f"some of: {'; '.join(GROUPS)}")


def settings(options: Namespace) -> dict[str, Any]:
    named(ARMS, options.arms, "arm")
    named(dict.fromkeys(GROUPS), options.groups, "group of arms")
    return {"model": fingerprint(), "seed": SEED, "full_steps": options.full_steps}


def run(options: Namespace, journal: Journal) -> None:
    """Eight prompts at a time, which are made together."""
    is_all = not options.arms and not options.groups
    arms = [a for a in ARMS.values() if is_all or a.name in (BASE, *options.arms) or a.group in options.groups]
    wanted = [(FULL, options.full_steps)] + [(arm, number) for number in options.steps for arm in arms]
    judge, specs, studio = load_judge(), asked_specs(options.prompts), Studio()
    for first in range(0, options.prompts, BATCH):
        last = min(first + BATCH, options.prompts)
        missing = [
            (arm, number)
            for arm, number in wanted
            if not all(journal.has(prompt=i, arm=arm.name, steps=number) for i in range(first, last))
        ]
        batch = Batch(studio, judge, specs[first:last], first, options.full_steps) if missing else None
        for arm, number in missing:
            assert batch is not None
            for sample in batch.samples(arm, number):
                journal.add(sample)
        journal.tell(last, options.prompts)


def rows(samples: Sequence[Sample], settings: Mapping[str, Any]) -> list[Row]:
    """A row for each arm and number of steps, over the prompts for which everything was made."""
    full_steps = settings["full_steps"]
    by_row: dict[tuple[str, int], dict[int, Sample]] = {}
    for sample in samples:
        by_row.setdefault((sample["arm"], sample["steps"]), {})[sample["prompt"]] = sample
    full = by_row[("full", full_steps)]
    table = []
    for (name, steps), by_prompt in by_row.items():
        base = by_row.get((BASE, steps), {})
        prompts = sorted(set(by_prompt) & set(full))
        paired = sorted(set(prompts) & set(base))
        mine = [by_prompt[i] for i in prompts]
        row: Row = {
            "arm": name,
            "group": ARMS[name].group if name in ARMS else FULL.group,
            "steps": steps,
            "full_steps": full_steps,
            "passes": mine[0]["passes"],
            "n": len(mine),
            **{key: float(np.mean([s[key] for s in mine])) for key in MEANS},
            **{question: float(np.mean([s["right"][question] for s in mine])) for question in QUESTIONS},
            "to_full": difference([s["score"] for s in mine], [full[i]["score"] for i in prompts]),
        }
        if name not in (FULL.name, BASE) and paired:
            for key in ("score", "certainty"):
                row[f"{key}_gain"] = difference([by_prompt[i][key] for i in paired], [base[i][key] for i in paired])
        table.append(row)
    order = [FULL.name, *ARMS]
    return sorted(table, key=lambda row: (row["steps"] != full_steps, row["steps"], order.index(row["arm"])))


TABLE: dict[str, Column] = {
    "steps": "{steps}",
    "arm": "{arm}",
    "n": "{n}",
    "passes": "{passes}",
    "score": points("score"),
    "gain over no cache, points": interval("score_gain"),
    "certainty gain": interval("certainty_gain"),
    "PSNR to full": "{psnr_db:.1f}",
    "SSIM": "{ssim:.3f}",
    "feature distance": "{feature_distance:.4f}",
    **{question: points(question) for question in QUESTIONS},
    "consistency": "{consistency:.3f}",
}


def _draw(rows: list[Row], _samples: Sequence[Sample], path: Path) -> None:
    draw_gains(rows, path)


BENCH = Bench(
    __doc__, {"": TABLE}, run, rows, options, settings,
    key=lambda sample: (sample["prompt"], sample["arm"], sample["steps"]), draw=_draw, seed=SEED,
)  # fmt: skip
