"""Networks that learn N -> N + 1 on 0 ... 98: one with a symbol for every number, one with tens and ones.

A number is written with `places` digits of a `base`, each digit one-hot: one place of base 100 is a memorised count
list, two places of base 10 are how number words name numbers. Between them and the answer, written the same way, lies
one small hidden layer. Many seeds are trained side by side as one batch of matrices.
Source: the two networks of arXiv 2311.15194; what the paper leaves open (activation, loss, optimiser) is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

PAIRS = 99
"""N -> N + 1 for N = 0 ... 98."""
HIDDEN = 8
EPOCHS = 400
LEARNING_RATE = 0.05
HELD_OUT = 20
"""Pairs that a network is not trained on: a fifth of all."""
_START_SIZE = 0.5

Loss = Literal["cross-entropy", "squared"]


@dataclass(frozen=True)
class Encoding:
    """How numbers below 100 are written."""

    name: str
    places: int
    base: int

    def digits(self, numbers: Tensor) -> Tensor:
        """(N,) -> (N, places), the highest place first."""
        import torch

        powers = torch.tensor([self.base**place for place in reversed(range(self.places))])
        return numbers[:, None] // powers % self.base

    def one_hot(self, numbers: Tensor) -> Tensor:
        """(N,) -> (N, places * base)."""
        import torch.nn.functional as F

        return F.one_hot(self.digits(numbers), self.base).flatten(1).float()


COUNT_LIST = Encoding("count list", 1, 100)
PLACE_VALUE = Encoding("place value", 2, 10)


@dataclass(frozen=True)
class Networks:
    """S networks of one encoding with H hidden units; `into` is (S, D, H), `out` (S, H, D), the biases (S, 1, H) and
    (S, 1, D), where D is places * base. `is_trained` (S, 99) tells which pairs each has been shown."""

    encoding: Encoding
    into: Tensor
    into_bias: Tensor
    out: Tensor
    out_bias: Tensor
    is_trained: Tensor

    def hidden(self, numbers: Tensor) -> Tensor:
        """What the hidden layers make of the numbers: (N,) -> (S, N, H), in 0..1."""
        return (self.encoding.one_hot(numbers) @ self.into + self.into_bias).sigmoid()

    def logits(self, numbers: Tensor) -> Tensor:
        """(N,) -> (S, N, places, base)."""
        scores = self.hidden(numbers) @ self.out + self.out_bias
        return scores.unflatten(-1, (self.encoding.places, self.encoding.base))

    def is_right(self, numbers: Tensor) -> Tensor:
        """(N,) -> (S, N): whether every place of the answer is that of N + 1."""
        return (self.logits(numbers).argmax(-1) == self.encoding.digits(numbers + 1)).all(-1)

    def confidence(self, numbers: Tensor) -> Tensor:
        """(N,) -> (S, N): the probability that the network gives to N + 1."""
        import torch

        right = self.encoding.digits(numbers + 1).expand(len(self.into), -1, -1)[..., None]
        return torch.exp(self.logits(numbers).log_softmax(-1).gather(-1, right).sum((-2, -1)))


@dataclass(frozen=True)
class Stage:
    """`epochs` on the pairs below `below`."""

    below: int
    epochs: int


AfterEpoch = Callable[[int, Networks], None]


def train(
    encoding: Encoding,
    seeds: int,
    stages: Sequence[Stage] = (Stage(PAIRS, EPOCHS),),
    held_out: int = HELD_OUT,
    hidden: int = HIDDEN,
    loss: Loss = "cross-entropy",
    seed: int = 0,
    after_epoch: AfterEpoch | None = None,
) -> Networks:
    """Train `seeds` networks from different starts, each on its own choice of pairs; they do not see each other.

    Args:
        held_out: pairs that each network is never trained on.
        after_epoch: called with the epoch, counted from 1 over all stages, and the networks as they are then.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    numbers = torch.arange(PAIRS)
    is_trained = torch.stack([torch.randperm(PAIRS, generator=generator) >= held_out for _ in range(seeds)])
    width = encoding.places * encoding.base
    shapes = ((seeds, width, hidden), (seeds, 1, hidden), (seeds, hidden, width), (seeds, 1, width))
    weights = [
        torch.randn(shape, generator=generator).mul_(_START_SIZE if shape[1] > 1 else 0).requires_grad_()
        for shape in shapes
    ]
    into, into_bias, out, out_bias = weights
    networks = Networks(encoding, into, into_bias, out, out_bias, is_trained)
    optimizer = torch.optim.Adam(weights, lr=LEARNING_RATE)
    epoch = 0
    for stage in stages:
        counts = (is_trained & (numbers < stage.below)).float()
        counts = counts / counts.sum(1, keepdim=True).clamp_min(1)
        for _ in range(stage.epochs):
            optimizer.zero_grad(set_to_none=True)
            # The sum over seeds leaves each seed's gradient its own.
            (_losses(networks, numbers, loss) * counts).sum().backward()
            optimizer.step()
            epoch += 1
            if after_epoch is not None:
                with torch.no_grad():
                    after_epoch(epoch, networks)
    into, into_bias, out, out_bias = (weight.detach() for weight in weights)
    return Networks(encoding, into, into_bias, out, out_bias, is_trained)


def _losses(networks: Networks, numbers: Tensor, loss: Loss) -> Tensor:
    """(N,) -> (S, N)."""
    logits = networks.logits(numbers)
    if loss == "squared":
        wanted = networks.encoding.one_hot(numbers + 1).view(1, *logits.shape[1:])
        return (logits.sigmoid() - wanted).square().sum((-2, -1))
    right = networks.encoding.digits(numbers + 1).expand(len(logits), -1, -1)[..., None]
    return -logits.log_softmax(-1).gather(-1, right).sum((-2, -1))
