"""Drawing words so that a prompt and a seed settle them, whatever else is in the batch; and watching the texts grow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria, TopPLogitsWarper


class Sampler(LogitsProcessor):
    """Adds Gumbel noise of one generator per row, so that the largest score is a draw from softmax(scores / T)."""

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._temperature = temperature
        self._top_p = TopPLogitsWarper(top_p) if top_p < 1 else None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """(B, V) scores, the largest of which is the drawn word."""
        if self._temperature == 0:
            return scores
        scores = scores.float() / self._temperature
        if self._top_p is not None:
            scores = self._top_p(input_ids, scores)
        noise = [torch.empty(scores.shape[1]).exponential_(generator=generator) for generator in self._generators]
        return scores - torch.stack(noise).log().to(scores.device)


class Watcher(StoppingCriteria):
    """Shows each step's ids to `watch`, which returns for each row whether its text is finished."""

    def __init__(self, watch: Callable[[Tensor], Sequence[bool]]) -> None:
        self._watch = watch

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        """(B,) bool."""
        return torch.tensor(list(self._watch(input_ids)), dtype=torch.bool, device=input_ids.device)
