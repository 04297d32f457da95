"""Train the small networks that are shipped: `python -m chai_app.numbers.make_assets`."""

from __future__ import annotations

from pathlib import Path

from . import counter, successor
from .likeness import PARTS, WEIGHTS

NETWORKS = 10
EPOCHS = 1_500
"""More than in the study: all of them are to count without a slip."""
COUNTERS = 5
"""As many as in the study, of which the first is shipped: noise is drawn for all together."""
COUNTER_WEIGHTS = WEIGHTS.with_name("counter.safetensors")


def make(folder: Path = WEIGHTS.parent) -> None:
    """Write place_value.safetensors (networks that have learned all 99 pairs) and counter.safetensors (one network)."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    stages = (successor.Stage(successor.PAIRS, EPOCHS),)
    networks = successor.train(successor.PLACE_VALUE, NETWORKS, stages, held_out=0)
    save_file({part: getattr(networks, part).contiguous() for part in PARTS}, folder / WEIGHTS.name)
    counters = counter.train(COUNTERS).one(0)
    save_file({name: part.contiguous() for name, part in vars(counters).items()}, folder / COUNTER_WEIGHTS.name)


def shipped_networks() -> successor.Networks:
    """The place-value networks from which the likeness of counts comes."""
    import torch
    from safetensors.torch import load_file

    weights = load_file(WEIGHTS)
    is_trained = torch.ones(len(weights["into"]), successor.PAIRS, dtype=torch.bool)
    return successor.Networks(encoding=successor.PLACE_VALUE, is_trained=is_trained, **weights)


def shipped_counter() -> counter.Counters:
    """The recurrent network that counts."""
    from safetensors.torch import load_file

    return counter.Counters(**load_file(COUNTER_WEIGHTS))


if __name__ == "__main__":
    make()
