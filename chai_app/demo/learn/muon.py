"""Muon: momentum, made orthogonal before it is applied. torch has it for matrices; convolutions need it too.

Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the scale that lets AdamW's
learning rates serve is from Liu et al., arXiv 2502.16982.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the paper's quintic


class Muon(torch.optim.Optimizer):
    """For weights with two axes or more; a convolution counts as the matrix (out, in * kernel)."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            updates = self._updates(weights, group["momentum"])
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            for weight, update in zip(weights, updates, strict=True):
                scale = 0.2 * max(update.shape) ** 0.5  # AdamW's usual size of an update
                weight.add_(update.view(weight.shape), alpha=-group["lr"] * scale)

    def _updates(self, weights: list[nn.Parameter], momentum: float) -> list[Tensor]:
        """The orthogonal matrices of all weights; those of one shape are worked out together, since what small products
        cost is being called. Among several processes each works out its share."""
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        averages = [self.state[weight]["momentum"] for weight in weights]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        ahead = [each.flatten(1) for each in torch._foreach_lerp(gradients, averages, momentum)]
        processes, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
        updates = [torch.zeros_like(each) for each in ahead] if processes > 1 else ahead
        alike: dict[torch.Size, list[int]] = {}
        for i in range(rank, len(ahead), processes):
            alike.setdefault(ahead[i].shape, []).append(i)
        for numbers in alike.values():
            for i, update in zip(numbers, orthogonal(torch.stack([ahead[i] for i in numbers])), strict=True):
                updates[i] = update
        if processes > 1:
            flat = torch.cat([update.flatten() for update in updates])
            dist.all_reduce(flat)
            pieces = flat.split([update.numel() for update in updates])
            updates = [piece.view(update.shape) for piece, update in zip(pieces, updates, strict=True)]
        return updates


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Roughly the nearest matrices (..., M, N) whose singular values are all 1, by Newton-Schulz iteration."""
    a, b, c = _NEWTON_SCHULZ
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if is_tall else x


def optimizers_for(model: nn.Module, use_muon: bool, lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the inner weights and AdamW for the rest: vectors, embeddings, and whatever
    touches the outside (3 or 4 channels)."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    parameters = [p for p in model.parameters() if p.requires_grad]
    inner = [p for p in parameters if use_muon and p.ndim >= 2 and min(p.shape[:2]) > 8 and id(p) not in embeddings]
    chosen = {id(p) for p in inner}
    rest = [p for p in parameters if id(p) not in chosen]
    found: list[torch.optim.Optimizer] = []
    if inner:
        found.append(Muon(inner, lr, weight_decay=weight_decay))
    if rest:
        found.append(torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=weight_decay))
    return found
