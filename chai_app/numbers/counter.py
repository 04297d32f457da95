"""A recurrent network that counts: it reads a number digit by digit, from the ones up, and writes the next number.

Nothing tells it about carries. Trained on the numbers of up to three digits, it can only be right on longer ones if
what it keeps from digit to digit is the carry and nothing that wears off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor

END = 10
"""The symbol after the last digit; as an answer it says that the new number has no digit more."""
SYMBOLS = 11
STATE = 16
TRAINED_DIGITS = 3
EPOCHS = 1_000
_LEARNING_RATE = 0.02
# Without noise a state may lean on small differences that add up over 30 digits; with it, what is kept is pushed to
# two well parted places.
_NOISE = 0.6


@dataclass(frozen=True)
class Counters:
    """S networks with H state units: `symbols` (S, 11, H), `recurrent` (S, H, H), `bias` and `start` (S, 1, H), `out`
    (S, H, 11), `out_bias` (S, 1, 11)."""

    symbols: Tensor
    recurrent: Tensor
    bias: Tensor
    start: Tensor
    out: Tensor
    out_bias: Tensor

    def one(self, i: int) -> Counters:
        """Network `i` alone."""
        parts = (self.symbols, self.recurrent, self.bias, self.start, self.out, self.out_bias)
        return Counters(*(part[i : i + 1] for part in parts))

    def step(self, state: Tensor, symbols: Tensor) -> Tensor:
        """The state (S, N, H) after one more symbol of each number, (N,)."""
        return (self.symbols[:, symbols] + state @ self.recurrent + self.bias).tanh()

    def states(self, read: Tensor, noise: float = 0.0, generator: Generator | None = None) -> Tensor:
        """Read whole numbers: (N, L) symbols -> (S, N, L, H)."""
        import torch

        state = self.start.expand(-1, len(read), -1)
        states = []
        for i in range(read.shape[1]):
            state = self.step(state, read[:, i])
            if noise:
                state = state + noise * torch.randn(state.shape, generator=generator)
            states.append(state)
        return torch.stack(states, dim=2)

    def answers(self, states: Tensor) -> Tensor:
        """The symbols that states (S, N, L, H) write: (S, N, L)."""
        return self.logits(states).argmax(-1)

    def logits(self, states: Tensor) -> Tensor:
        """(S, N, L, H) -> (S, N, L, 11)."""
        return states @ self.out[:, None] + self.out_bias[:, None]


def written(numbers: Sequence[int], digits: int | None = None) -> Tensor:
    """Numbers as symbols from the ones up, each followed by ENDs: (N, L) with L one more than the longest has digits.

    Args:
        digits: pad as if the longest had so many.
    """
    import torch

    texts = [str(number)[::-1] for number in numbers]
    length = 1 + (digits or max(map(len, texts)))
    table = [[*map(int, text), *[END] * (length - len(text))] for text in texts]
    return torch.tensor(table)


def successors(numbers: Sequence[int], length: int) -> Tensor:
    """What should be written for `numbers`: (N, length)."""
    return written([number + 1 for number in numbers], length)[:, :length]


def train(seeds: int, seed: int = 0, epochs: int = EPOCHS) -> Counters:
    """Train `seeds` networks on every number of up to three digits."""
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(seed)

    def started(*shape: int, size: float) -> Tensor:
        return torch.randn(seeds, *shape, generator=generator).mul_(size).requires_grad_()

    counters = Counters(
        started(SYMBOLS, STATE, size=0.5),
        started(STATE, STATE, size=STATE**-0.5),
        started(1, STATE, size=0.0),
        started(1, STATE, size=0.5),
        started(STATE, SYMBOLS, size=0.3),
        started(1, SYMBOLS, size=0.0),
    )
    weights = list(vars(counters).values())
    optimizer = torch.optim.Adam(weights, lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    numbers = list(range(10**TRAINED_DIGITS))
    read = written(numbers)
    wanted = successors(numbers, read.shape[1])
    for _ in range(epochs):
        # A third of the numbers at a time, those that carry far always among them: there are few.
        drawn = torch.randperm(len(numbers), generator=generator)[:300]
        rows = torch.cat([drawn, torch.tensor([9, 99, 199, 299, 899, 999])])
        logits = counters.logits(counters.states(read[rows], _NOISE, generator))
        right = wanted[rows].expand(seeds, -1, -1)
        loss = F.cross_entropy(logits.flatten(0, 2), right.flatten(), reduction="none").view(seeds, -1).mean(1)
        optimizer.zero_grad(set_to_none=True)
        loss.sum().backward()
        optimizer.step()
        schedule.step()
    return Counters(*(weight.detach() for weight in weights))


def is_right(counters: Counters, numbers: Sequence[int]) -> Tensor:
    """Whether each network writes the whole successor of each number: (S, N)."""
    import torch

    read = written(numbers)
    wanted = successors(numbers, read.shape[1])
    with torch.no_grad():
        return (counters.answers(counters.states(read)) == wanted).all(-1)


def count_on(counters: Counters, number: int, times: int) -> list[int]:
    """Let the first network count: `number` and what it writes, each answer read again, `times` in all.

    A reading ends where an answer is no number (an END before a digit); the list is shorter then.
    """
    import torch

    counted = [number]
    with torch.no_grad():
        for _ in range(times):
            symbols = counters.answers(counters.states(written([counted[-1]])))[0, 0].tolist()
            digits = symbols[: symbols.index(END)] if END in symbols else symbols
            if not digits or any(symbol != END for symbol in symbols[len(digits) :]):
                break
            counted.append(int("".join(map(str, digits[::-1]))))
    return counted
