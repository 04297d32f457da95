"""What makes a donor useful: `python app.py bench ablation`.

On the demo model, at few steps, arm by arm: which steps and blocks attend to the donor, which half of guidance, what
becomes of the video's own keys, what a donor is and what it shares with the prompt; a donor that shares nothing and one
that is the answer itself stand at the two ends. Judged quality and closeness to the full run of the same prompt and
seed; differences are against as many steps without the cache, prompt by prompt, with a bootstrap interval of 95 %.

Nothing is timed (see bench reuse). Samples are kept beside --json as they come: the same command goes on where it was
interrupted, with more --prompts, --arms or --steps it makes only what is missing. --draw FILE makes table and plot
again without any run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..attention import Donor
from ..demo.judge import Judge, load_judge
from ..demo.world import ClipSpec
from ..errors import BadRequest
from .arms import ARMS, GROUPS, OTHER_SHAPES, Arm
from .header import header
from .header import printed as printed_header
from .journal import Journal, read_json, write_json
from .measures import QUESTIONS, Pixels, difference, measured
from .studio import Made, Studio, Task
from .variants import KeptSteps, OtherNoise, capture_points
from .worlds import SEED, Shared, asked_specs, donor_spec, words

DONOR_SEED = 10_000
BATCH = 8
BASE = "no cache"
FULL = Arm("full", "baseline", "", recipe=None)
KINDS: tuple[Shared, ...] = ("object", "scene", "both", "nothing")


class Bench:
    """Prompts numbered `first` and on, made by all arms. Full runs and donors are made when first wanted."""

    def __init__(self, studio: Studio, judge: Judge, specs: Sequence[ClipSpec], first: int, full_steps: int) -> None:
        self.studio, self.judge, self.specs, self.first, self.full_steps = studio, judge, specs, first, full_steps
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

    def _donor_task(self, shares: str) -> Task:
        specs = [
            donor_spec(spec, Random(f"{SEED} {shares} {i}"), cast(Shared, shares))
            for spec, i in zip(self.specs, self.numbers, strict=True)
        ]
        texts = [words(spec, i, shares) for spec, i in zip(specs, self.numbers, strict=True)]
        offset = DONOR_SEED * (1 + KINDS.index(cast(Shared, shares)))
        return self.studio.task(texts, [offset + i for i in self.numbers])

    def latents_of(self, shows: str, pick: Callable[[Made], Tensor]) -> Tensor:
        """One donor for each prompt, (B, C, T, h, w)."""
        if shows != "hit":
            return pick(self.donor(shows))
        is_object = torch.tensor([i % 2 == 0 for i in self.numbers])[:, None, None, None, None]
        return torch.where(is_object, pick(self.donor("object")), pick(self.donor("scene")))

    def donors(self, arm: Arm, steps: int) -> list[Donor]:
        """What the arm attends to in a run of this many steps."""
        if arm.shows == "object and scene":
            return [Donor(clean=self.donor(shows).latents) for shows in ("object", "scene")]
        if arm.kind in OTHER_SHAPES:
            frames = self.studio.frames(self.latents_of(arm.shows, lambda made: made.latents))
            size, number = {"48 px": (48, 17), "96 px": (96, 17), "9 frames": (64, 9)}[arm.kind]
            return [Donor(clean=self.studio.encoded(frames[:, :number], size))]
        if arm.kind != "steps":
            kind = OtherNoise if arm.kind == "other noise" else Donor
            return [kind(clean=self.latents_of(arm.shows, lambda made: made.latents))]
        full, fast = self.studio.levels(self.full_steps), self.studio.levels(steps)
        points = capture_points(full, fast, range(2, steps + 1))
        kept = {}
        for step, full_step in points.items():
            kept[fast[step - 1]] = self.latents_of(arm.shows, _input_of(full_step))
        return [KeptSteps(self.latents_of(arm.shows, lambda made: made.latents), by_noise_level=kept)]

    def make(self, arm: Arm, steps: int) -> Made:
        """The arm's videos, not decoded yet."""
        if arm is FULL:
            return self.donor("answer")
        donors = [] if arm.recipe is None else self.donors(arm, steps)
        start = None if arm.start_level == 1 else self.start(arm)
        recipe = arm.recipe_for(self.studio.levels(steps, arm.start_level))
        return self.studio.make(self.task, steps, donors, recipe, arm.processor, arm.start_level, start)

    def start(self, arm: Arm) -> Tensor:
        """The latents that an arm begins with, (B, C, T, h, w); where it attends, the mean of all, as in hits."""
        if arm.shows == "" or arm.recipe is not None:
            return torch.zeros_like(self.task.noise)
        if arm.shows == "object and scene":
            return (self.donor("object").latents + self.donor("scene").latents) / 2
        return self.latents_of(arm.shows, lambda made: made.latents)

    def samples(self, arm: Arm, steps: int) -> Iterator[dict[str, Any]]:
        """One sample for each prompt."""
        made = self.make(arm, steps)
        if self._reference is None:
            self._reference = self.studio.frames(self.donor("answer").latents)
        frames = self._reference if arm is FULL else self.studio.frames(made.latents)
        found = measured(self.judge, self.specs, frames, self._reference)
        for i, measures in zip(self.numbers, found, strict=True):
            values = {"prompt": i, "arm": arm.name, "steps": steps, "passes": made.passes}
            yield {**values, **asdict(measures), "score": measures.score}


def _input_of(step: int) -> Callable[[Made], Tensor]:
    """What picks the latents that a step, counted from 1, began with."""
    return lambda made: list(made.inputs.values())[step - 1]


def run(
    studio: Studio, journal: Journal, prompts: int, arms: Sequence[Arm], steps: Sequence[int], full_steps: int
) -> None:
    """Fill the journal with what it lacks."""
    judge, specs = load_judge(), asked_specs(prompts)
    wanted = [(FULL, full_steps)]
    wanted += [(arm, number) for number in steps for arm in arms]
    for first in range(0, prompts, BATCH):
        last = min(first + BATCH, prompts)
        missing = [(arm, n) for arm, n in wanted if not all(journal.has(i, arm.name, n) for i in range(first, last))]
        bench = Bench(studio, judge, specs[first:last], first, full_steps) if missing else None
        for arm, number in missing:
            assert bench is not None
            for sample in bench.samples(arm, number):
                journal.add(sample)
        journal.tell(last, prompts)


def rows(samples: Sequence[dict[str, Any]], full_steps: int) -> list[dict[str, Any]]:
    """One line for each arm and number of steps, over the prompts for which everything was made."""
    by_line: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
    for sample in samples:
        by_line.setdefault((sample["arm"], sample["steps"]), {})[sample["prompt"]] = sample
    full = by_line[("full", full_steps)]
    table = []
    for (name, steps), by_prompt in by_line.items():
        base = by_line.get((BASE, steps), {})
        prompts = sorted(set(by_prompt) & set(full))
        paired = sorted(set(prompts) & set(base))
        mine = [by_prompt[i] for i in prompts]
        line: dict[str, Any] = {
            "arm": name,
            "group": ARMS[name].group if name in ARMS else "baseline",
            "steps": steps,
            "passes": mine[0]["passes"],
            "n": len(mine),
            **{key: float(np.mean([s[key] for s in mine])) for key in _MEANS},
            **{question: float(np.mean([s["right"][question] for s in mine])) for question in QUESTIONS},
            "to_full": difference([s["score"] for s in mine], [full[i]["score"] for i in prompts]),
        }
        if name not in ("full", BASE) and paired:
            pairs = [(by_prompt[i], base[i]) for i in paired]
            for key in ("score", "certainty", "psnr_db"):
                line[f"{key}_gain"] = difference([a[key] for a, _ in pairs], [b[key] for _, b in pairs])
        table.append(line)
    order = ["full", *ARMS]
    return sorted(table, key=lambda line: (line["steps"] != full_steps, line["steps"], order.index(line["arm"])))


_MEANS = ("score", "certainty", "consistency", "psnr_db", "ssim", "feature_distance")


def printed(table: Sequence[dict[str, Any]]) -> str:
    """The table as text; points are hundredths of the score."""
    lines = [
        "| steps | arm | n | passes | score | gain over no cache, points | certainty gain | PSNR to full | SSIM "
        "| feature distance | object | colour | scene | motion | consistency |",
        "| --- | --- |" + " --- |" * 13,
    ]
    for row in table:
        gain = _interval(row["score_gain"], 100, "+.1f") if "score_gain" in row else ""
        certain = _interval(row["certainty_gain"], 100, "+.1f") if "certainty_gain" in row else ""
        lines.append(
            f"| {row['steps']} | {row['arm']} | {row['n']} | {row['passes']} | {100 * row['score']:.1f} | {gain} "
            f"| {certain} | {row['psnr_db']:.1f} | {row['ssim']:.3f} | {row['feature_distance']:.4f} "
            + "".join(f"| {100 * row[question]:.1f} " for question in QUESTIONS)
            + f"| {row['consistency']:.3f} |"
        )
    return "\n".join(lines)


def _interval(values: Sequence[float], times: float, form: str) -> str:
    mean, low, high = (format(times * value, form) for value in values)
    return f"{mean} ({low} to {high})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="bench ablation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--steps", type=int, nargs="+", default=[3, 4, 5, 8], help="of the fast runs")
    parser.add_argument("--full-steps", type=int, default=30)
    parser.add_argument("--arms", nargs="+", default=[], metavar="NAME", help=f"some of: {'; '.join(ARMS)}")
    parser.add_argument("--groups", nargs="+", default=[], metavar="GROUP", help=f"some of: {'; '.join(GROUPS)}")
    parser.add_argument("--json", type=Path, help="write table and samples here; an interrupted run goes on")
    parser.add_argument("--plot", type=Path, help="draw the gains here")
    parser.add_argument("--draw", type=Path, metavar="JSON", help="print and draw the results in a file, run nothing")
    chosen = parser.parse_args(arguments)
    if chosen.draw:
        told = read_json(chosen.draw)
        samples, told, full_steps = told["samples"], told["header"], told["full_steps"]
    else:
        full_steps = chosen.full_steps
        unknown = [name for name in chosen.arms if name not in ARMS] + [n for n in chosen.groups if n not in GROUPS]
        if unknown:
            raise BadRequest(f"There is no arm or group {unknown[0]!r}: bench ablation --help names them.")
        some = [arm for arm in ARMS.values() if arm.name in (BASE, *chosen.arms) or arm.group in chosen.groups]
        arms = some if chosen.arms or chosen.groups else list(ARMS.values())
        told = header("ablation", sys.argv[1:] if arguments is None else arguments, SEED, ("torch", "diffusers"))
        studio = Studio()
        journal = Journal(
            chosen.json,
            {"bench": "ablation", "seed": SEED, "model": studio.fingerprint, "full_steps": full_steps},
            lambda sample: (sample["prompt"], sample["arm"], sample["steps"]),
        )
        run(studio, journal, chosen.prompts, arms, chosen.steps, full_steps)
        samples = [s for s in journal.samples() if s["prompt"] < chosen.prompts]
    print(printed_header(told))
    table = rows(samples, full_steps)
    print(printed(table))
    if not chosen.draw:
        write_json(chosen.json, {"header": told, "full_steps": full_steps, "table": table, "samples": samples})
    if chosen.plot:
        from .plots import draw_gains

        draw_gains(table, full_steps, chosen.plot)


if __name__ == "__main__":
    main()
