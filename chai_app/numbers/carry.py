"""Where a counting network keeps the carry: one direction of its state, and what happens when it is moved along it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .counter import END, Counters, written

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Carry:
    """What is known of one network's carry.

    axis: (H,), from the mean state without a carry to that with one; along_without, along_with: how far states lie
    along it, 0 at the one mean and 1 at the other; told_apart: share of states on the right side of the middle; flips:
    share of moves along the axis after which the network goes on as if the carry were the other one; flips_elsewhere:
    the same for moves of that length in a random direction across it.
    """

    axis: Tensor
    along_without: Tensor
    along_with: Tensor
    told_apart: float
    flips: float
    flips_elsewhere: float


def find_carry(counter: Counters, numbers: Sequence[int], seed: int = 0) -> Carry:
    """Look into the first network while it reads `numbers`, some of which should end in nines."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    counter = counter.one(0)
    read = written(numbers)
    with torch.no_grad():
        states = counter.states(read)[0]  # (N, L, H)
        carries = (read == 9).long().cumprod(1).bool()
        within = read != END
        on, off = states[carries & within], states[~carries & within]
        axis = on.mean(0) - off.mean(0)
        scale = axis @ axis
        along_on, along_off = ((each - off.mean(0)) @ axis / scale for each in (on, off))
        right = torch.cat([along_on > 0.5, along_off < 0.5]).float().mean()
        elsewhere = torch.randn(axis.shape, generator=generator)
        elsewhere -= (elsewhere @ axis / scale) * axis
        elsewhere *= axis.norm() / elsewhere.norm()
        moved = [_flipped(counter, read, states, carries, within, each) for each in (axis, elsewhere)]
    return Carry(axis, along_off, along_on, float(right), moved[0], moved[1])


def _flipped(counter: Counters, read: Tensor, states: Tensor, carries: Tensor, within: Tensor, move: Tensor) -> float:
    """How often the next answer is that of the other carry, once a state has been moved."""
    here = within[:, :-1]
    state, carry, following = states[:, :-1][here], carries[:, :-1][here], read[:, 1:][here]
    moved = state + move * (1 - 2 * carry.float())[:, None]
    answers = counter.answers(counter.step(moved[None], following)[:, :, None])[0, :, 0]
    with_carry = (following + 1) % 10
    with_carry[following == END] = 1
    return float((answers == following.where(carry, with_carry)).float().mean())
