"""What the gate on counts is worth: `python app.py bench counts`.

Of each thing of the demo world (a red ball, ...) the cache holds a video with one count, or with two of the counts one
to three, and every thing is asked for with all three counts, in prompts that name no scene. Without the gate each
prompt hits, whatever the donor's count. With it a prompt hits if its own count is there and runs in full if it is not.
The judge counts. A prompt, a seed and a donor make one video, so arms that decide alike share it.

How much a donor's count shows through depends on how it is attended to: --recipe takes a way of the ablation in place
of the default one. With --json the donors' videos are kept too, for the next run.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from typing import Any, get_args

import numpy as np

from ..attention import PAPER
from ..cache import LatentCache
from ..demo.captions import NOUNS
from ..demo.judge import load_judge
from ..demo.world import COLOURS, MAX_COUNT, MOTIONS, OBJECTS, SCENES, ClipSpec, Thing
from ..request import GenerationRequest
from ..settings import CountGate
from .arms import ARMS as ABLATION
from .journal import Journal, Sample
from .measures import difference
from .runner import Bench, Column, Row, by_arm, in_turns, interval, note, points
from .warm import demo_engine, fingerprint, timed

SEED = 29
QUESTIONS = ("count", "object", "colour", "motion")
_WORDS = ("a", "two", "three")
RECIPES = {"default": PAPER} | {name: arm.how.recipe for name, arm in ABLATION.items() if arm.how.is_plain}
ARMS = {"full": "no reuse", "off": "gate off", "equal": "equal counts only", "on": "gate on"}


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


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--things", type=int, default=48, help="of 48; each is asked for with three counts")
    parser.add_argument("--full-steps", type=int, default=30)
    parser.add_argument("--fast-steps", type=int, help="of a hit; the model's own if left out")
    parser.add_argument("--recipe", choices=RECIPES, default="default", help="how hits attend to their donors")


def settings(options: Namespace) -> dict[str, Any]:
    names = ("things", "full_steps", "fast_steps", "recipe")
    return {"model": fingerprint(), **{name: getattr(options, name) for name in names}}


def run(options: Namespace, journal: Journal) -> None:
    """What the cache lacks is made first."""
    held, asked = chosen(options.things)
    judge = load_judge()

    def request(prompt: str, seed: int, reuse: str, is_private: bool) -> GenerationRequest:
        return GenerationRequest(
            prompt, seed=seed, reuse=reuse, is_private=is_private, num_inference_steps=options.full_steps,
            fast_steps=options.fast_steps, acceleration="none",
        )  # fmt: skip

    with ExitStack() as stack:
        home = Path(
            options.json.with_suffix(".home") if options.json else stack.enter_context(tempfile.TemporaryDirectory())
        )
        maker = stack.enter_context(closing(demo_engine(home, options.full_steps, RECIPES[options.recipe])))
        gates = {
            gate: stack.enter_context(closing(demo_engine(home, options.full_steps, count_gate=gate)))
            for gate in get_args(CountGate)
        }
        with closing(LatentCache(home)) as cache:
            there = {entry.prompt for entry in cache.entries()}
        for i, spec in enumerate(held):
            prompt = words(spec, names_scene=True)
            if prompt not in there:
                maker.generate(request(prompt, 10_000 + i, "full", is_private=False))
                note(f"{i + 1} of {len(held)} donors")

        def make(i: int, arms: Sequence[str]) -> Iterator[Sample]:
            spec, prompt = asked[i], words(asked[i], names_scene=False)
            made: dict[str, Sample] = {}
            for arm in arms:
                plan = gates[arm].plan(request(prompt, i, "auto", is_private=True)).reuse if arm in gates else None
                donor, text = (plan.entry_id or "full", plan.entry_prompt or "") if plan else ("full", "")
                if donor not in made:
                    generation, told = timed(maker, request(prompt, i, donor, is_private=True))
                    verdict = judge.verdicts(generation.frames[None])[0]
                    right = {question: bool(verdict.agrees(spec)[question]) for question in QUESTIONS}
                    made[donor] = {**told, "right": right, "counted": verdict.count}
                yield {"arm": arm, "wanted": spec.count, "donor": text, **made[donor]}

        in_turns(journal, list(ARMS), range(len(asked)), make)


def rows(samples: Sequence[Sample], _settings: Mapping[str, Any]) -> list[Row]:
    """A row for each arm; gains are over `off`."""
    found = by_arm(samples)
    ungated = [sample["right"]["count"] for sample in found["off"]]
    table = []
    for arm, name in ARMS.items():
        mine = found[arm]
        means = {key: float(np.mean([sample[key] for sample in mine])) for key in ("steps", "seconds")}
        means |= {question: float(np.mean([sample["right"][question] for sample in mine])) for question in QUESTIONS}
        gain = difference([sample["right"]["count"] for sample in mine], ungated, SEED)
        hit_rate = float(np.mean([bool(sample["donor"]) for sample in mine]))
        table.append({"arm": arm, "name": name, "n": len(mine), **means, "gain": gain, "hit_rate": hit_rate})
    return table


TABLE: dict[str, Column] = {
    "arm": "{name}",
    "n": "{n}",
    "count right": points("count"),
    "over gate off, 95 % interval": interval("gain"),
    **{question: points(question) for question in QUESTIONS[1:]},
    "hit rate": points("hit_rate"),
    "mean steps": "{steps:.1f}",
    "mean s": "{seconds:.2f}",
}
BENCH = Bench(__doc__, {"": TABLE}, run, rows, options, settings, seed=SEED)
