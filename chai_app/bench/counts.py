"""What the gate on counts is worth: `python app.py bench counts`.

Of each thing of the demo world (a red ball, ...) the cache holds a video with one count, or with two of the counts one
to three, and every thing is asked for with all three counts, in prompts that name no scene. Without the gate each
prompt hits, whatever the donor's count. With it a prompt hits if its own count is there and runs in full if it is not.
The judge counts. A prompt, a seed and a donor make one video, so arms that decide alike share it.

How much a donor's count shows through depends on how it is attended to: --recipe takes a way of the ablation in place
of the default one.

Videos and samples are kept beside --json as they come, and the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, get_args

import numpy as np

from ..attention import DEFAULT, Recipe
from ..cache import LatentCache
from ..demo.captions import NOUNS
from ..demo.judge import load_judge
from ..demo.world import COLOURS, MAX_COUNT, MOTIONS, OBJECTS, SCENES, ClipSpec, Thing
from ..engine import Engine
from ..request import GenerationRequest
from ..settings import CountGate, Settings
from .arms import ARMS as ABLATION
from .header import header
from .header import printed as printed_header
from .journal import Journal, write_json

SEED = 29
QUESTIONS = ("count", "object", "colour", "motion")
_WORDS = ("a", "two", "three")
_RESAMPLES = 2_000
RECIPES = {"default": DEFAULT} | {name: arm.recipe for name, arm in ABLATION.items() if arm.is_plain}
ARMS: tuple[CountGate | str, ...] = ("full", "off", "equal", "on")


def words(spec: ClipSpec, names_scene: bool) -> str:
    """The prompt of a clip of one kind."""
    thing = spec.things[0]
    noun = NOUNS[thing.object][0][spec.count > 1]
    place = f" in the {spec.scene}" if names_scene else ""
    return f"{_WORDS[spec.count - 1]} {thing.colour} {noun} {spec.motion}{place}"


def chosen(num_things: int) -> tuple[list[ClipSpec], list[ClipSpec]]:
    """What the cache holds, and what is asked for.

    Every second thing is there with two counts, the others with one; each is asked for with all three.
    """
    random = Random(SEED)
    things = [Thing(name, colour) for name in OBJECTS for colour in COLOURS]
    random.shuffle(things)
    held, asked = [], []
    for i, thing in enumerate(things[:num_things]):
        motions = random.sample(MOTIONS, 2)
        for count in random.sample(range(1, MAX_COUNT + 1), 1 + i % 2):
            held.append(ClipSpec((thing,), count, random.choice(SCENES), motions[0], random.getrandbits(32)))
        asked += [ClipSpec((thing,), count, SCENES[0], motions[1], i) for count in range(1, MAX_COUNT + 1)]
    return held, asked


class Bench:
    """The demo model over a cache in `home`; what the cache lacks of `held` is made first."""

    def __init__(
        self, held: Sequence[ClipSpec], full_steps: int, fast_steps: int | None, home: Path, recipe: Recipe = DEFAULT
    ) -> None:
        settings = Settings(home, home / "models", home, full_steps=full_steps)
        self.full_steps, self.fast_steps = full_steps, fast_steps
        self.maker, self.judge = Engine(settings=settings, recipe=recipe), load_judge()
        self.gates = {gate: Engine(settings=replace(settings, count_gate=gate)) for gate in get_args(CountGate)}
        with closing(LatentCache(home)) as cache:
            there = {entry.prompt for entry in cache.entries()}
        for i, spec in enumerate(held):
            prompt = words(spec, names_scene=True)
            if prompt not in there:
                self.maker.generate(self.request(prompt, 10_000 + i, "full"))
            print(f"{i + 1} of {len(held)} donors", file=sys.stderr, flush=True)

    def request(self, prompt: str, seed: int, reuse: str, is_private: bool = False) -> GenerationRequest:
        return GenerationRequest(
            prompt, seed=seed, reuse=reuse, is_private=is_private, num_inference_steps=self.full_steps,
            fast_steps=self.fast_steps, acceleration="none",
        )  # fmt: skip

    def decide(self, prompt: str, seed: int) -> dict[str, tuple[str, str]]:
        """For each arm the donor's id, or full, and the donor's prompt."""
        made = {"full": ("full", "")}
        for gate, engine in self.gates.items():
            reuse = engine.plan(self.request(prompt, seed, "auto", is_private=True)).reuse
            made[gate] = (reuse.entry_id or "full", reuse.entry_prompt or "")
        return made

    def make(self, spec: ClipSpec, seed: int, reuse: str) -> dict[str, Any]:
        """What the judge sees of the video, the seconds from prompt to frames and the steps."""
        generation = self.maker.generate(self.request(words(spec, names_scene=False), seed, reuse, is_private=True))
        verdict = self.judge.verdicts(generation.frames[None])[0]
        right = {question: bool(verdict.agrees(spec)[question]) for question in QUESTIONS}
        report = generation.report
        return {"right": right, "counted": verdict.count, "seconds": report.making_seconds, "steps": report.steps}

    def close(self) -> None:
        for engine in (self.maker, *self.gates.values()):
            engine.close()


def run(asked: Sequence[ClipSpec], bench: Bench, journal: Journal) -> list[dict[str, Any]]:
    """One sample for each arm on each prompt."""
    for i, spec in enumerate(asked):
        if all(journal.has(i, arm) for arm in ARMS):
            continue
        videos: dict[str, dict[str, Any]] = {}
        for arm, (reuse, donor) in bench.decide(words(spec, names_scene=False), i).items():
            if reuse not in videos:
                videos[reuse] = bench.make(spec, i, reuse)
            journal.add({"prompt": i, "arm": arm, "wanted": spec.count, "donor": donor, **videos[reuse]})
        journal.tell(i + 1, len(asked))
    return journal.samples()


def rows(samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each arm; gains are over `off`, with a paired bootstrap interval of 95 % over prompts."""
    by_arm = {arm: sorted((s for s in samples if s["arm"] == arm), key=lambda s: s["prompt"]) for arm in ARMS}
    ungated = np.array([sample["right"]["count"] for sample in by_arm["off"]], float)
    drawn = np.random.default_rng(SEED).integers(len(ungated), size=(_RESAMPLES, len(ungated)))
    table = []
    for arm, mine in by_arm.items():
        counts = np.array([sample["right"]["count"] for sample in mine], float)
        low, high = np.percentile((counts - ungated)[drawn].mean(1), (2.5, 97.5))
        table.append(
            {
                "arm": arm,
                "n": len(mine),
                **{question: float(np.mean([s["right"][question] for s in mine])) for question in QUESTIONS},
                "gain": float((counts - ungated).mean()),
                "interval": [float(low), float(high)],
                "hit_rate": float(np.mean([bool(s["donor"]) for s in mine])),
                "steps": float(np.mean([s["steps"] for s in mine])),
                "seconds": float(np.mean([s["seconds"] for s in mine])),
            }
        )
    return table


def printed(table: Sequence[dict[str, Any]]) -> str:
    """The table in Markdown."""
    names = {"full": "no reuse", "off": "gate off", "equal": "equal counts only", "on": "gate on"}
    lines = [
        "| arm | n | count right | over gate off, 95 % interval | object | colour | motion | hit rate | mean steps "
        "| mean s |",
        "| --- |" + " --- |" * 9,
    ]
    for row in table:
        low, high = row["interval"]
        lines.append(
            f"| {names[row['arm']]} | {row['n']} | {100 * row['count']:.1f} "
            f"| {100 * row['gain']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) | {100 * row['object']:.1f} "
            f"| {100 * row['colour']:.1f} | {100 * row['motion']:.1f} | {100 * row['hit_rate']:.1f} "
            f"| {row['steps']:.1f} | {row['seconds']:.2f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="bench counts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--things", type=int, default=48, help="of 48; each is asked for with three counts")
    parser.add_argument("--full-steps", type=int, default=30)
    parser.add_argument("--fast-steps", type=int, help="of a hit; the model's own if left out")
    parser.add_argument("--recipe", choices=RECIPES, default="default", help="how hits attend to their donors")
    parser.add_argument("--json", type=Path, help="write the table and every sample here; videos are kept beside it")
    options = parser.parse_args(arguments)
    held, asked = chosen(options.things)
    told = header("counts", sys.argv[1:] if arguments is None else arguments, SEED, ("torch", "diffusers"))
    print(printed_header(told), flush=True)
    kept = nullcontext(options.json.with_suffix(".home")) if options.json else tempfile.TemporaryDirectory()
    with (
        kept as home,
        closing(Bench(held, options.full_steps, options.fast_steps, Path(home), RECIPES[options.recipe])) as bench,
    ):
        depends_on = {**vars(options), "json": None, "weights": _fingerprint(bench)}
        journal = Journal(options.json, depends_on, lambda sample: (sample["prompt"], sample["arm"]))
        samples = run(asked, bench, journal)
    table = rows(samples)
    print(printed(table))
    if options.json:
        write_json(options.json, {"header": told, "table": table, "samples": samples})


def _fingerprint(bench: Bench) -> str:
    from ..models import DEMO, find_model

    return find_model(DEMO, bench.maker.settings).fingerprint(bench.maker.settings)


if __name__ == "__main__":
    main()
