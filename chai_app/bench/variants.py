"""Ways to attend to an earlier video that were tried, and that the product does without (docs/reuse.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention import CacheAttentionProcessor, Donor
from ..attention.cache_attention import KeysValues
from ..attention.donor import resampled
from .worlds import SEED


@dataclass(frozen=True, eq=False)
class KeptSteps(Donor):
    """The paper's donor: latents (B, C, T, h, w) that its own run had at some noise levels (0 clean to 1 noise).

    Those of the nearest level are shown."""

    by_noise_level: Mapping[float, Tensor] = field(default_factory=dict)

    def at(self, noise_level: float, noise: Tensor) -> Tensor:
        """Of another size, the noise that is in them is weakened."""
        nearest = min(self.by_noise_level, key=lambda level: abs(level - noise_level))
        return resampled(self.by_noise_level[nearest].to(noise), noise.shape)


class OtherNoise(Donor):
    """Finished latents under a noise that the run does not know."""

    def at(self, noise_level: float, noise: Tensor) -> Tensor:
        other = torch.randn(noise.shape[1:], generator=torch.Generator().manual_seed(SEED))
        return super().at(noise_level, other.to(noise).expand_as(noise))


class ConditionalHalf(CacheAttentionProcessor):
    """The unconditional half of a guidance batch, which comes first, keeps to itself."""

    def answer(self, query: Tensor, own: KeysValues, theirs: KeysValues) -> Tensor:
        alone, together = self.attend(query, own), super().answer(query, own, theirs)
        return torch.cat([alone.chunk(2)[0], together.chunk(2)[1]])


class HalfAndHalf(CacheAttentionProcessor):
    """The mean of what the video's own keys answer and of what the donor's do."""

    def answer(self, query: Tensor, own: KeysValues, theirs: KeysValues) -> Tensor:
        return torch.lerp(self.attend(query, own), self.attend(query, theirs), 0.5)


class ByLikeness(CacheAttentionProcessor):
    """At each token and head the donor's answer weighs as much as it is like the own one, and nothing if it opposes."""

    def answer(self, query: Tensor, own: KeysValues, theirs: KeysValues) -> Tensor:
        mine, donors = self.attend(query, own), self.attend(query, theirs)
        likeness = F.cosine_similarity(mine, donors, dim=-1).clamp(min=0).unsqueeze(-1)  # (B*T, S, H, 1)
        return torch.lerp(mine, donors, likeness)


def capture_points(full_levels: Sequence[float], fast_levels: Sequence[float], steps: Sequence[int]) -> dict[int, int]:
    """For each step of the fast run that reuses, the step of the full run whose input is nearest in noise.

    Args:
        full_levels, fast_levels: noise level (0 clean to 1 noise) of the input of each step, falling.
        steps: of the fast run, counted from 1; those past its end are left out.
    Returns: full step by fast step, both counted from 1.
    """
    return {
        step: min(range(len(full_levels)), key=lambda i: abs(full_levels[i] - fast_levels[step - 1])) + 1
        for step in steps
        if step <= len(fast_levels)
    }
