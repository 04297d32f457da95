"""How an earlier video is reused: in which steps, in which blocks, and what becomes of the video's own keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OwnKeys = Literal["replaced", "joined", "blended", "by likeness"]
Through = Literal["embedding", "blocks"]


@dataclass(frozen=True)
class Recipe:
    """The choices of Cache Attention.

    Args:
        steps: steps of the run that attend to the donor, counted from 1. The first one has nothing to ask with: its
            queries are noise.
        noise_levels: (least, most), 0 clean to 1 noise: a step also has to lie between them. With few steps, "2 to 4"
            reaches the end of the run, where the donor's details would be copied.
        blocks: spatial blocks, from 0.
        own_keys: what becomes of the video's own keys and values. Replaced by the donor's; joined with them, so that
            the queries choose; blended: both attended to apart, the donor's answer weighing `weight`; or blended by
            likeness: at each token and head, `weight` times the cosine of the two answers, 0 where they oppose.
        weight: of the donor's answer, 0 to 1; for the two blends alone.
        conditional_only: whether the unconditional half of a guidance batch keeps to itself.
        donor_noise: how noisy the donor is shown, 0 to 1, in units of the step's own noise level.
        donor_level: how noisy the donor is shown whatever the step, 0 clean to 1 noise, in place of `donor_noise`. What
            blocks hear of it is then the same in every step, and worked out once for the whole run, under no prompt.
        masked: only those of a donor's tokens are seen that its mask names, such as those of the thing that two prompts
            share. Own keys have to be joined: a frame in which the mask names nothing has to look somewhere.
        through: how the donor's latents come to a block. Straight from the embedding, as in the paper, which is all
            that the first block would see anyway; or through the blocks before it, under the prompt at hand, at the
            price of another pass through the model in each such step.
    Raises: ValueError for a weight, a level or a noise outside 0 to 1, a step before 1, a block before 0, or a mask
        without own keys.
    """

    steps: tuple[int, ...] = (2, 3, 4)
    noise_levels: tuple[float, float] = (0.0, 1.0)
    blocks: tuple[int, ...] = (0,)
    own_keys: OwnKeys = "replaced"
    weight: float = 1.0
    conditional_only: bool = False
    donor_noise: float = 1.0
    donor_level: float | None = None
    masked: bool = False
    through: Through = "embedding"

    def __post_init__(self) -> None:
        least, most = self.noise_levels
        if not 0 <= least <= most <= 1:
            raise ValueError(f"noise levels {self.noise_levels} must rise and lie within 0 to 1")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight {self.weight} must lie within 0 to 1")
        if not 0 <= self.donor_noise <= 1:
            raise ValueError(f"donor noise {self.donor_noise} must lie within 0 to 1")
        if self.donor_level is not None and not 0 <= self.donor_level <= 1:
            raise ValueError(f"donor level {self.donor_level} must lie within 0 to 1")
        if self.masked and self.own_keys != "joined":
            raise ValueError(f"a mask needs own keys that are joined, not {self.own_keys}")
        if any(step < 1 for step in self.steps) or any(block < 0 for block in self.blocks):
            raise ValueError(f"steps {self.steps} count from 1, blocks {self.blocks} from 0")

    def applies(self, step: int, noise_level: float) -> bool:
        """Whether a step, counted from 1, attends to the donor."""
        least, most = self.noise_levels
        return step in self.steps and least <= noise_level <= most


PAPER = Recipe()
"""arXiv 2602.16132, section 3: steps 2 to 4, the first spatial block, keys and values replaced, in both halves."""

DEFAULT = PAPER
"""How hits attend to their donors where nobody says otherwise (docs/reuse.md has the measurements)."""
