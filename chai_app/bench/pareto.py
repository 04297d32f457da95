"""Time against judged quality: reuse within a run, reuse across runs, and both: `python app.py bench pareto`.

Every prompt finds a donor in the cache. On each prompt all arms take turns with one seed: each of diffusers' techniques
on the full schedule and on the few steps of a hit, alone and joined with Cache Attention, and plain runs of as many
steps. Seconds are those from asking to frames with the model in memory, given with and without decoding. An arm is on
the frontier if no other is both quicker and better.

Samples are kept beside --json as they come, and the same command goes on where it was interrupted. --draw FILE makes
table and plot again without any run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..attention import DEFAULT
from ..demo.judge import load_judge
from ..presets import ACCELERATIONS, PRESETS
from ..request import GenerationRequest
from .header import header, printed
from .journal import Journal, read_json, write_json
from .measures import difference, measured
from .reuse import Bench, _fingerprint
from .worlds import SEED, asked_specs, words

TECHNIQUES = tuple(name for name in ACCELERATIONS if name not in ("none", "text-kv"))  # text is once per run anyway
KINDS = {"full": "full run", "fast": "no cache", "auto": "Cache Attention"}


@dataclass(frozen=True)
class Arm:
    """reuse: full or fast (no donor), auto (a hit); steps are those it takes. preset: instead of all these, but that a
    full run may be asked for, as for a prompt that finds no donor."""

    reuse: str = "full"
    steps: int = 30
    acceleration: str = "none"
    preset: str | None = None

    @property
    def name(self) -> str:
        if self.preset:
            return f"preset {self.preset}" + (", full run" if self.reuse == "full" and self.preset != "exact" else "")
        technique = "" if self.acceleration == "none" else f", {self.acceleration}"
        return f"{self.steps} steps, {KINDS[self.reuse]}{technique}"

    def request(self, prompt: str, seed: int) -> GenerationRequest:
        """The request that makes the arm's video."""
        if self.preset:
            reuse = "full" if self.reuse == "full" else None
            return GenerationRequest(prompt, seed=seed, preset=self.preset, reuse=reuse, is_private=True)
        return GenerationRequest(
            prompt, seed=seed, reuse=self.reuse, acceleration=self.acceleration, is_private=True,
            num_inference_steps=self.steps, fast_steps=self.steps,
        )  # fmt: skip


def arms_of(full: int, fewer: Sequence[int], techniques: Sequence[str]) -> list[Arm]:
    """The full run first, with which all others are compared."""
    arms = [Arm("full", full)] + [Arm("full", full, technique) for technique in techniques]
    for steps in fewer:
        arms += [Arm(reuse, steps, each) for reuse in ("fast", "auto") for each in ("none", *techniques)]
    presets = [Arm(reuse, preset=name) for name in PRESETS for reuse in ("full", "auto")]
    return arms + [arm for arm in presets if arm != Arm("auto", preset="exact")]  # which runs in full anyway


def run(journal: Journal, prompts: int, arms: Sequence[Arm]) -> None:
    """Fill the journal with what it lacks. A prompt is made by all arms or not at all: they take turns."""
    missing = [i for i in range(prompts) if not all(journal.has(i, arm.name) for arm in arms)]
    if not missing:
        return
    asked, judge = asked_specs(prompts), load_judge()
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(asked, arms[0].steps, DEFAULT, Path(home))
        for done, i in enumerate(missing, 1):
            start = i % len(arms)
            made = {}
            for arm in (*arms[start:], *arms[:start]):
                made[arm] = bench.engine.generate(arm.request(words(asked[i], i), i))
            clips = np.stack([made[arm].frames for arm in arms])
            found = measured(judge, [asked[i]] * len(arms), clips, np.stack([clips[0]] * len(arms)))
            for arm, measures in zip(arms, found, strict=True):
                report = made[arm].report
                lookup_s = report.reuse.lookup_ms / 1000 if report.reuse else 0.0
                told: dict[str, Any] = {
                    "seconds": report.making_seconds + lookup_s,
                    "decode_s": report.seconds.get("decode", 0.0),
                }
                told |= {"steps": report.steps, "outcome": report.reuse.outcome if report.reuse else "full"}
                journal.add({"prompt": i, "arm": arm.name, **told, **asdict(measures), "score": measures.score})
            journal.tell(done, len(missing))
        bench.engine.close()


def rows(samples: Sequence[dict[str, Any]], arms: Sequence[str]) -> list[dict[str, Any]]:
    """One line for each arm; the first is what the others are compared with."""
    by_arm = {arm: sorted((s for s in samples if s["arm"] == arm), key=lambda s: s["prompt"]) for arm in arms}
    base = by_arm[arms[0]]
    table: list[dict[str, Any]] = []
    for arm, mine in by_arm.items():
        seconds, decode = ([s[key] for s in mine] for key in ("seconds", "decode_s"))
        mean, low, high = difference([s["score"] for s in mine], [s["score"] for s in base])
        table.append(
            {
                "arm": arm,
                "n": len(mine),
                "median_s": float(np.median(seconds)),
                "p95_s": float(np.percentile(seconds, 95)),
                "without_decode_s": float(np.median(np.subtract(seconds, decode))),
                "score": float(np.mean([s["score"] for s in mine])),
                "difference": mean,
                "interval": [low, high],
                "psnr_db": float(np.mean([s["psnr_db"] for s in mine])),
            }
        )
    for line in table:
        line["faster"] = table[0]["median_s"] / line["median_s"]
        line["faster_without_decode"] = table[0]["without_decode_s"] / line["without_decode_s"]
        line["is_best"] = not any(
            other["median_s"] <= line["median_s"] and other["score"] >= line["score"] and other is not line
            and (other["median_s"], other["score"]) != (line["median_s"], line["score"])
            for other in table
        )  # fmt: skip
    return table


def as_text(table: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| arm | n | median s | p95 s | faster | faster, decode apart | score | difference, 95 % interval "
        "| PSNR to full | frontier |",
        "| --- |" + " --- |" * 9,
    ]
    for line in table:
        low, high = line["interval"]
        lines.append(
            f"| {line['arm']} | {line['n']} | {line['median_s']:.2f} | {line['p95_s']:.2f} | {line['faster']:.2f}x "
            f"| {line['faster_without_decode']:.2f}x | {100 * line['score']:.1f} | {100 * line['difference']:+.1f} "
            f"({100 * low:+.1f} to {100 * high:+.1f}) | {line['psnr_db']:.1f} | {'yes' if line['is_best'] else ''} |"
        )
    return "\n".join(lines)


def draw(table: Sequence[dict[str, Any]], path: Path) -> None:
    """Quality against seconds, with the frontier."""
    from .plots import BLUE, GREEN, GREY, RED, SKY, figure

    with figure(path, figsize=(8, 5)) as (_, axes):
        kinds = {
            "full run": (SKY, "^"),
            "no cache": (BLUE, "o"),
            "Cache Attention": (RED, "s"),
            "preset": (GREEN, "D"),
        }
        for kind, (colour, marker) in kinds.items():
            mine = [line for line in table if kind in line["arm"]]
            if mine:
                points = [(line["median_s"], 100 * line["score"]) for line in mine]
                axes.plot(*zip(*points, strict=True), marker, color=colour, label=kind, alpha=0.8)
        best = sorted((line for line in table if line["is_best"]), key=lambda line: line["median_s"])
        axes.plot([b["median_s"] for b in best], [100 * b["score"] for b in best], "-", color=GREY, zorder=0,
                  label="frontier")  # fmt: skip
        for i, line in enumerate(best):
            axes.annotate(
                line["arm"], (line["median_s"], 100 * line["score"]), xytext=(6, -10 if i % 2 else 6),
                textcoords="offset points", fontsize=7,
            )  # fmt: skip
        axes.set(xlabel="seconds from prompt to frames, median", ylabel="judged quality, %", title="Time and quality")
        axes.legend(loc="lower right")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="bench pareto", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--full-steps", type=int, default=30)
    parser.add_argument("--steps", type=int, nargs="+", default=[15, 8, 5], help="of the fast arms")
    parser.add_argument("--techniques", nargs="*", choices=TECHNIQUES, default=list(TECHNIQUES))
    parser.add_argument("--json", type=Path, help="write table and samples here; an interrupted run goes on")
    parser.add_argument("--plot", type=Path, help="draw quality against seconds here")
    parser.add_argument("--draw", type=Path, metavar="JSON", help="print and draw the results in a file, run nothing")
    chosen = parser.parse_args(arguments)
    if chosen.draw:
        values = read_json(chosen.draw)
    else:
        arms = arms_of(chosen.full_steps, chosen.steps, chosen.techniques)
        told = header("pareto", sys.argv[1:] if arguments is None else arguments, SEED, ("torch", "diffusers"))
        names = [arm.name for arm in arms]
        depends_on = {"bench": "pareto", "model": _fingerprint(), "arms": names, "prompts": chosen.prompts}
        journal = Journal(chosen.json, depends_on, lambda sample: (sample["prompt"], sample["arm"]))
        run(journal, chosen.prompts, arms)
        values = {"header": told, "arms": names, "samples": journal.samples()}
    table = rows(values["samples"], values["arms"])
    print(printed(values["header"]))
    print(as_text(table))
    if not chosen.draw:
        write_json(chosen.json, {**values, "table": table})
    if chosen.plot:
        draw(table, chosen.plot)


if __name__ == "__main__":
    main()
