"""Lynx: the tokens of a batch share experts in decode steps, so that fewer experts are read from memory.

Decoding a batch is bound by memory: its time grows with the number of distinct experts, and with 16 tokens of 8 experts
each nearly all 64 are somebody's. Most of them are nobody's first choice. Here each token's vote for an expert counts
by how near it comes to the token's best; experts with few confident votes give way to those that are needed anyway.

Source: arXiv 2411.08982, AffinityBinning. Two things are ours. The dial: where the paper reads one threshold off the
scores, it moves that threshold through their distribution. And the votes: the square of the weight that a token gives
an expert, which is what leaving the expert out costs that token in squared error; with the same number of experts it
loses less than the paper's bins of log-ratios (docs/history/enhance.md). Those are here too, as `votes="binned"`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import BadRequest
from .routing import Choice, Policy, Statistics, apply_policy, policy_on, remove_policy

if TYPE_CHECKING:
    from torch import Tensor

Votes = Literal["squared", "binned"]
"""What a token's vote for an expert counts: the square of its weight, or the paper's bin of its log-ratio."""

DEFAULT_DIAL = 0.65
_WIDEST = 1.5  # standard deviations from the mean score at either end of the dial


def apply_lynx(model: Any, dial: float = DEFAULT_DIAL, votes: Votes = "squared") -> Statistics:
    """Share experts in the decode steps of `model`, a transformers model, until `remove_lynx`.

    Args:
        dial: 0 is exact, 1 keeps little more than each token's best expert.
    Returns: experts touched before and after, per layer; it goes on counting.
    Raises: BadRequest for a dial outside 0 to 1, other votes, or a model without routers.
    """
    return apply_policy(model, lynx_policy(dial, votes))


def remove_lynx(model: Any) -> None:
    """Take Lynx off, if it is on; the model is bit for bit what it was."""
    remove_policy(model)


@contextmanager
def lynx(model: Any, dial: float = DEFAULT_DIAL, votes: Votes = "squared") -> Iterator[Statistics]:
    """Lynx is on within the block, and off after it, however it ends."""
    with policy_on(model, lynx_policy(dial, votes)) as statistics:
        yield statistics


def lynx_policy(dial: float, votes: Votes = "squared") -> Policy:
    """What Lynx does with one layer's choice."""
    if votes not in get_args(Votes):
        raise BadRequest(f"Lynx has no votes {votes!r}: choose one of {', '.join(get_args(Votes))}.")
    if not 0 <= dial <= 1:
        raise BadRequest(f"Lynx's dial is {dial:g}: give a number from 0 (exact) to 1 (fewest experts).")

    def share(choice: Choice) -> Tensor:
        return choice.experts if dial == 0 else remap(choice, needed(choice, dial, votes))

    return share


def bins(num_experts: int, top_k: int) -> tuple[float, int]:
    """How finely votes are told apart, from the sparsity alone.

    Returns: bins per unit of log-ratio, and the number of bins below the first.
    """
    halvings = math.log2(num_experts / top_k)
    return max(1.0, halvings), min(8, max(5, round(3 + halvings)))


def scores(choice: Choice, votes: Votes = "squared") -> Tensor:
    """(N,) in log B: what the votes of all tokens for an expert come to. Experts that no voter chose have -inf.

    squared: a vote is the square of the expert's share in the token's weights. binned: 0 is one token's first choice;
    a bin further down, B such votes count as one of the bin above.
    """
    if votes == "squared":
        each = choice.shares.square()
    else:
        alpha, beta = bins(choice.logits.shape[1], choice.experts.shape[1])
        chosen = choice.logits.gather(1, choice.experts)  # (B, k)
        ratio = chosen - chosen.amax(1, keepdim=True)
        each = float(choice.num_voters) ** (ratio * alpha).floor().clamp(-beta, 0)
    each = each * choice.is_voter[:, None]
    total = each.new_zeros(choice.logits.shape[1]).index_add(0, choice.experts.flatten(), each.flatten())
    return total.log() / math.log(choice.num_voters)


def needed(choice: Choice, dial: float, votes: Votes = "squared") -> Tensor:
    """(N,) bool: the experts that the batch goes on with.

    Every voter's best, the k of the highest scores, and those whose score is above the mean of all touched experts by
    so many standard deviations as the dial says.
    """
    import torch

    score = scores(choice, votes)
    is_touched = score.isfinite()
    count = is_touched.sum()
    finite = torch.where(is_touched, score, 0.0)
    mean = finite.sum() / count
    deviation = (torch.where(is_touched, finite - mean, 0.0).square().sum() / count).sqrt()
    keep = score >= mean + (2 * dial - 1) * _WIDEST * deviation
    keep[score.topk(choice.experts.shape[1]).indices] = True
    best = choice.logits.gather(1, choice.experts).argmax(1, keepdim=True)
    first = choice.experts.gather(1, best).flatten()  # (B,)
    return keep | (score.new_zeros(len(score)).index_add(0, first, choice.is_voter.to(score.dtype)) > 0)


def remap(choice: Choice, keep: Tensor) -> Tensor:
    """Give each token, in place of the experts that are not in `keep`, its best of those that are.

    Args:
        keep: (N,) bool, at least k of them.
    Returns: (B, k), distinct in each row; what is kept stays in its place.
    """
    stays = keep[choice.experts]  # (B, k)
    others = choice.logits.masked_fill(~keep, -math.inf).scatter(1, choice.experts, -math.inf)
    best = others.topk(choice.experts.shape[1], dim=1).indices  # (B, k), best first
    place = (~stays).cumsum(1) - 1  # the first place that is free takes the best
    return best.gather(1, place.clamp(min=0)).where(~stays, choice.experts)
