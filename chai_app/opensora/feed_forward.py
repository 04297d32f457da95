"""The feed-forward network of a block: diffusers' own, and a way through it that suits a CPU's caches."""

import torch
from diffusers.models.attention import FeedForward
from torch import Tensor

from .cpu import takes_cpu_path

ROWS = 1024  # tokens at a time: enough for the matrix product, and what it makes is still in the cache afterwards
PIECE = 48 * 1024  # numbers that the activation takes at a time: they and a copy fit a core's own cache


class OpenSoraFeedForward(FeedForward):
    """Linear, GELU (tanh form), linear. Child names are those of diffusers' `FeedForward`."""

    def __init__(self, hidden_size: int, inner_size: int) -> None:
        super().__init__(hidden_size, inner_dim=inner_size, activation_fn="gelu-approximate")

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        if not takes_cpu_path(hidden_states):
            return super().forward(hidden_states)
        first, _, second = self.net
        rows = hidden_states.flatten(0, -2).split(ROWS)
        return torch.cat([second(gelu_(first.proj(few))) for few in rows]).view(hidden_states.shape)


def gelu_(values: Tensor) -> Tensor:
    """The tanh form of GELU, in place, on a contiguous tensor.

    Its tanh is rewritten as a sigmoid, x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), which torch works out on a CPU in
    a third of the time.
    """
    for piece in values.view(-1).split(PIECE):
        cubic = (piece * piece).mul_(0.0713548162726).add_(1.5957691216057308).mul_(piece)
        piece.mul_(cubic.sigmoid_())
    return values
