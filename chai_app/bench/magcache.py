"""What MagCache has to know of a model, measured: `python app.py bench magcache --model NAME --save`.

Full runs of a few prompts; in each, by how much what the blocks add grows or shrinks from one step to the next. The
ratios are means over the prompts. MagCache takes them as they are for runs of as many steps, and picks the nearest ones
for others.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from ..engine import Engine
from ..errors import BadRequest
from ..files import whole_file
from ..models import DEMO, find_model
from ..models.mag_ratios import measuring, save_ratios
from ..request import GenerationRequest
from ..settings import Settings
from .journal import Journal, Sample
from .runner import Bench, Column, Row, in_turns
from .worlds import SEED, asked_specs, words

PROMPTS = (
    "a tiger walking through a jungle, soft morning light between the leaves",
    "waves rolling onto a rocky beach at sunset, seen from above",
    "a woman in a red coat crossing a snowy street at night, cars passing by",
    "a close-up of a cup of coffee on a wooden table, steam rising slowly",
    "a sailing boat on a calm lake, mountains behind it, clouds drifting",
    "a crowded market in an old town, the camera moving forward slowly",
)


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--model", default=DEMO)
    parser.add_argument("--prompts", type=int, default=6)
    parser.add_argument("--save", action="store_true", help="remember them in CHAI_HOME for this model")
    parser.add_argument("--ship", action="store_true", help="write them into the chai.json of the model's folder")


def settings(options: Namespace) -> dict[str, Any]:
    if options.prompts < 1:
        raise BadRequest(f"--prompts is {options.prompts}: at least one is needed.")
    here = Settings.from_environment()
    model = find_model(options.model, here)
    if options.ship and model.folder is None:
        raise BadRequest(f"{model.name} has no folder with a chai.json to write into: use --save.")
    return {"model": model.name, "fingerprint": model.fingerprint(here)}


def run(options: Namespace, journal: Journal) -> None:
    if options.model == DEMO:
        prompts = [words(spec, i) for i, spec in enumerate(asked_specs(options.prompts))]
    else:
        prompts = [PROMPTS[i % len(PROMPTS)] for i in range(options.prompts)]
    with closing(Engine(options.model)) as engine:
        engine.warm_up()
        assert engine.loaded is not None
        blocks = list(engine.loaded.pipeline.transformer.transformer_blocks)

        def make(i: int, arms: Sequence[str]) -> list[Sample]:
            with measuring(blocks) as ratios:
                engine.generate(GenerationRequest(prompts[i], seed=i, preset="exact", is_private=True))
            return [{"arm": arms[0], "ratios": list(ratios)}]

        in_turns(journal, ["exact"], range(len(prompts)), make)


def rows(samples: Sequence[Sample], _settings: Mapping[str, Any]) -> list[Row]:
    ratios = np.array([sample["ratios"] for sample in samples])  # (prompts, steps)
    means, spreads = ratios.mean(axis=0).tolist(), ratios.std(axis=0).tolist()
    pairs = enumerate(zip(means, spreads, strict=True), 1)
    return [{"step": step, "ratio": round(mean, 5), "spread": spread} for step, (mean, spread) in pairs]


def finish(options: Namespace, rows: list[Row]) -> None:
    here = Settings.from_environment()
    model, ratios = find_model(options.model, here), [row["ratio"] for row in rows]
    if options.save:
        print(f"\nremembered in {save_ratios(model, here, ratios)}")
    if options.ship and model.folder is not None:
        card = model.folder / "chai.json"
        values = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
        with whole_file(card) as temporary:
            temporary.write_text(json.dumps({**values, "mag_ratios": ratios}, indent=1) + "\n", encoding="utf-8")
        print(f"\nwritten into {card}")


TABLE: dict[str, Column] = {"step": "{step}", "ratio": "{ratio:.3f}", "spread over the prompts": "{spread:.3f}"}
BENCH = Bench(__doc__, {"": TABLE}, run, rows, options, settings, finish=finish, seed=SEED)
