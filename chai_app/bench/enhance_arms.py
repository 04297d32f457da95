"""Lynx and its rivals: ways of touching fewer experts in the decode step of a batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..enhance.lynx import lynx_policy, needed, remap
from ..enhance.routing import NO_EXPERT, Choice, Policy
from .runner import Arm

if TYPE_CHECKING:
    from torch import Tensor

SEED = 23


def arms(
    dials: Iterable[float],
    fewer: Iterable[int] = (),
    first: Iterable[int] = (),
    random_dials: Sequence[float] = (),
    binned_dials: Iterable[float] = (),
) -> list[Arm]:
    """Policies, None for the routers' own choice.

    Plain; Lynx at each dial, and with the paper's votes at `binned_dials`; each token with `fewer` experts; OEA with
    its `first` experts fixed; random sets as large as Lynx's at `random_dials`.
    """
    return [
        Arm("plain", "plain"),
        *(Arm(f"Lynx {dial:g}", "Lynx", lynx_policy(dial)) for dial in dials),
        *(Arm(f"Lynx, binned, {dial:g}", "Lynx, binned votes", lynx_policy(dial, "binned")) for dial in binned_dials),
        *(Arm(f"k - {number}", "fewer experts", fewer_experts(number)) for number in fewer),
        *(Arm(f"OEA {number}", "OEA", opportunistic(number)) for number in first),
        *(Arm(f"random as Lynx {dial:g}", "random set", random_set(dial)) for dial in random_dials),
    ]


def fewer_experts(number: int) -> Policy:
    """Each token does without its last `number` experts."""

    def choose(choice: Choice) -> Tensor:
        is_first = _is_among_first(choice, choice.experts.shape[1] - number)
        return choice.experts.where(is_first, NO_EXPERT)

    return choose


def opportunistic(first: int) -> Policy:
    """Each token's best `first` experts; then, up to k, its best of those that are somebody's first anyway.

    Source: OEA, arXiv 2511.02237.
    """

    def choose(choice: Choice) -> Tensor:
        num_experts, top_k = choice.logits.shape[1], choice.experts.shape[1]
        is_first = _is_among_first(choice, first)
        voted = (is_first & choice.is_voter[:, None]).flatten().to(choice.logits.dtype)
        keep = choice.logits.new_zeros(num_experts).index_add(0, choice.experts.flatten(), voted) > 0
        own = choice.logits.masked_fill(~keep, -math.inf)
        own = own.scatter(1, choice.experts.where(is_first, choice.experts[:, :1]), -math.inf)
        own = own.scatter(1, choice.experts, own.gather(1, choice.experts).where(~is_first, -math.inf))
        best = own.topk(top_k, dim=1)
        found = best.indices.where(best.values.isfinite(), NO_EXPERT)
        place = (~is_first).cumsum(1) - 1
        return found.gather(1, place.clamp(min=0)).where(~is_first, choice.experts)

    return choose


def random_set(dial: float) -> Policy:
    """A random set of touched experts, as large as Lynx's at `dial`; what falls out of it goes to random ones in it."""
    import torch

    generator = torch.Generator().manual_seed(SEED)

    def choose(choice: Choice) -> Tensor:
        size = int(needed(choice, dial).sum())
        touched = choice.experts[choice.is_voter].unique()
        chosen = touched[torch.randperm(len(touched), generator=generator)[:size]]
        keep = torch.zeros(choice.logits.shape[1], dtype=torch.bool)
        keep[chosen] = True
        return remap(replace(choice, logits=torch.rand(choice.logits.shape, generator=generator)), keep)

    return choose


def _is_among_first(choice: Choice, number: int) -> Tensor:
    """(B, k) bool: whether a place holds one of its token's best `number` experts."""
    order = choice.logits.gather(1, choice.experts).sort(dim=1, descending=True).indices
    return order.sort(dim=1).indices < number
