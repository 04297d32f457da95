"""How the work of a model's blocks grows and shrinks from step to step: what MagCache has to know of a model.

MagCache (arXiv 2506.09045) skips steps for as long as the products of these ratios stay near 1. They belong to weights:
a folder's chai.json may bring them, and `bench magcache --save` measures them for any model into `CHAI_HOME`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import remembered, whole_file

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..settings import Settings
    from .catalogue import Model

FILE = "mag_ratios.json"


def ratios_of(model: Model, settings: Settings) -> tuple[float, ...]:
    """Those that were measured here, else those that the model brings; empty if there are none."""
    known = remembered(settings.home / FILE)
    measured = known.get(model.fingerprint(settings)) if known else None
    return tuple(measured) if measured and _are_ratios(measured) else model.mag_ratios


def save_ratios(model: Model, settings: Settings, ratios: Sequence[float]) -> Path:
    """Remember them for this model's weights, beside those of others.

    Returns: the file. Raises: CannotWrite if the system refuses.
    """
    path = settings.home / FILE
    values = {**remembered(path), model.fingerprint(settings): list(ratios)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return path


@contextmanager
def measuring(blocks: Sequence[nn.Module]) -> Iterator[list[float]]:
    """Within the block, every step adds the mean over all tokens of |what the blocks add now| / |what they added in the
    step before|; the first step adds 1."""
    import torch

    ratios: list[float] = []
    before: list[Tensor] = []
    entered: list[Tensor] = []

    def enters(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entered[:] = [args[0] if args else kwargs["hidden_states"]]

    def leaves(_module: nn.Module, _args: Any, output: Tensor) -> None:
        added = torch.linalg.vector_norm((output - entered[0]).float(), dim=-1)
        ratios.append(float((added / before[0].clamp_min(1e-8)).mean()) if before else 1.0)
        before[:] = [added]

    handles = [
        blocks[0].register_forward_pre_hook(enters, with_kwargs=True),
        blocks[-1].register_forward_hook(leaves),
    ]
    try:
        yield ratios
    finally:
        for handle in handles:
            handle.remove()


def _are_ratios(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(v, float | int) and v > 0 for v in values)
