"""What MagCache has to know of a model, measured: `python app.py bench magcache --model NAME --save`.

Full runs of a few prompts; in each, by how much what the blocks add grows or shrinks from one step to the next. The
ratios are means over the prompts. MagCache takes them as they are for runs of as many steps, and picks the nearest ones
for others.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..engine import Engine
from ..errors import BadRequest
from ..files import whole_file
from ..models import DEMO, find_model
from ..models.mag_ratios import measuring, save_ratios
from ..request import GenerationRequest
from .header import header, printed
from .worlds import SEED, asked_specs, words

PROMPTS = (
    "a tiger walking through a jungle, soft morning light between the leaves",
    "waves rolling onto a rocky beach at sunset, seen from above",
    "a woman in a red coat crossing a snowy street at night, cars passing by",
    "a close-up of a cup of coffee on a wooden table, steam rising slowly",
    "a sailing boat on a calm lake, mountains behind it, clouds drifting",
    "a crowded market in an old town, the camera moving forward slowly",
)


def measured(engine: Engine, prompts: Sequence[str]) -> np.ndarray:
    """(prompts, steps) ratios; a line for each on standard error."""
    engine.warm_up()
    assert engine.loaded is not None
    blocks = list(engine.loaded.pipeline.transformer.transformer_blocks)
    rows = []
    for i, prompt in enumerate(prompts):
        with measuring(blocks) as ratios:
            engine.generate(GenerationRequest(prompt, seed=i, preset="exact", is_private=True))
        rows.append(ratios)
        print(f"{i + 1} of {len(prompts)}: {prompt}", file=sys.stderr, flush=True)
    return np.array(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="bench magcache", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEMO)
    parser.add_argument("--prompts", type=int, default=6)
    parser.add_argument("--save", action="store_true", help="remember them in CHAI_HOME for this model")
    parser.add_argument("--ship", action="store_true", help="write them into the chai.json of the model's folder")
    options = parser.parse_args(arguments)
    if options.prompts < 1:
        raise BadRequest(f"--prompts is {options.prompts}: at least one is needed.")
    engine = Engine(options.model)
    model = find_model(options.model, engine.settings)
    if options.ship and model.folder is None:
        raise BadRequest(f"{model.name} has no folder with a chai.json to write into: use --save.")
    if options.model == DEMO:
        prompts = [words(spec, i) for i, spec in enumerate(asked_specs(options.prompts))]
    else:
        prompts = [PROMPTS[i % len(PROMPTS)] for i in range(options.prompts)]
    told = header("magcache", sys.argv[1:] if arguments is None else arguments, SEED, ("torch", "diffusers"))
    print(printed(told), flush=True)
    rows = measured(engine, prompts)
    ratios = [round(float(ratio), 5) for ratio in rows.mean(axis=0)]
    print("\n| step | ratio | spread over the prompts |\n| --- | --- | --- |")
    for i, (ratio, spread) in enumerate(zip(ratios, rows.std(axis=0), strict=True), 1):
        print(f"| {i} | {ratio:.3f} | {spread:.3f} |")
    if options.save:
        print(f"\nremembered in {save_ratios(model, engine.settings, ratios)}")
    if options.ship and model.folder is not None:
        _ship(model.folder / "chai.json", ratios)
        print(f"\nwritten into {model.folder / 'chai.json'}")
    engine.close()


def _ship(card: Path, ratios: Sequence[float]) -> None:
    values = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    with whole_file(card) as temporary:
        temporary.write_text(json.dumps({**values, "mag_ratios": list(ratios)}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
