"""The arms of the ablation: what the donor is, how it is attended to, and what there is to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..attention import PAPER, CacheAttentionProcessor, Recipe
from .runner import Arm
from .variants import ByLikeness, ConditionalHalf, HalfAndHalf

Shows = Literal["hit", "object", "scene", "both", "nothing", "answer", "object and scene", ""]
Kind = Literal["clean", "steps", "other noise", "48 px", "96 px", "9 frames"]

OTHER_SHAPES: tuple[Kind, ...] = ("48 px", "96 px", "9 frames")


@dataclass(frozen=True)
class Way:
    """One way to make a video in few steps.

    shows: what the donor shares with the prompt. "hit" is the object or the scene, by turns, as entity matching finds
        them; "answer" is the full run of the very prompt and seed, the best donor there can be; "object and scene" are
        two donors. Empty for no donor.
    kind: finished latents under the run's own noise; those that the donor's run had at the nearest noise levels (the
        paper's way); finished latents under another noise; or those of the same video in another size or cut
        short, through the autoencoder, and resampled.
    recipe: None attends to nothing. processor: what attends.
    levels: in place of the recipe's steps, all from the second on whose noise lies between these.
    first_sigma: below 1, the run begins at that noise level with the donor's latents, of two donors with the mean of
        both; without a donor, with the mean of all latents, which is 0: no step is spent on more noise than that, and
        nothing else is gained.
    """

    shows: Shows = "hit"
    kind: Kind = "clean"
    recipe: Recipe | None = PAPER
    processor: type[CacheAttentionProcessor] = CacheAttentionProcessor
    levels: tuple[float, float] | None = None
    first_sigma: float = 1.0

    @property
    def is_plain(self) -> bool:
        """Whether the recipe says all about how it attends, so that the product can do the same."""
        return self.recipe is not None and self.processor is CacheAttentionProcessor and self.levels is None

    def recipe_for(self, levels: Sequence[float]) -> Recipe | None:
        """The recipe in a run whose steps begin at these noise levels."""
        if self.recipe is None or self.levels is None:
            return self.recipe
        least, most = self.levels
        steps = tuple(step for step, level in enumerate(levels, 1) if step > 1 and least <= level <= most)
        return replace(self.recipe, steps=steps)


def _arms() -> list[Arm]:
    arms = []

    def add(group: str, name: str, **way: Any) -> None:
        arms.append(Arm(name, group, Way(**way)))

    add("baseline", "no cache", shows="", recipe=None)
    add("baseline", "paper", kind="steps")
    add("donor kind", "clean re-noised")
    add("donor kind", "clean, other noise", kind="other noise")
    for kind in OTHER_SHAPES:
        add("donor kind", f"donor of {kind}", kind=kind)
    add("donor kind", "two donors joined", shows="object and scene")
    for shows in ("object", "scene", "both", "nothing"):
        add("relevance", f"shares {shows}", shows=shows)
    add("relevance", "the answer itself", shows="answer")
    add("steps", "levels from 0.8", levels=(0.8, 1.0))
    add("steps", "levels from 0.6", levels=(0.6, 1.0))
    add("steps", "levels up to 0.6", levels=(0.0, 0.6))
    add("steps", "all steps from 2", levels=(0.0, 1.0))
    add("steps", "step 2 alone", recipe=replace(PAPER, steps=(2,)))
    all_blocks, joined = replace(PAPER, blocks=(0, 1, 2, 3)), replace(PAPER, own_keys="joined")
    through = replace(all_blocks, through="blocks")
    add("blocks", "all blocks", recipe=all_blocks)
    add("blocks", "blocks 2 to 4", recipe=replace(PAPER, blocks=(1, 2, 3)))
    add("blocks", "all blocks, donor through them", recipe=through)
    add("blocks", "the same, joined", recipe=replace(through, own_keys="joined"))
    add("guidance", "conditional half alone", processor=ConditionalHalf)
    add("own keys", "joined", recipe=joined)
    add("own keys", "blended, 0.5", processor=HalfAndHalf)
    add("own keys", "blended by likeness", processor=ByLikeness)
    add("own keys", "joined, levels from 0.6", recipe=joined, levels=(0.6, 1.0))
    add("own keys", "joined, shares nothing", shows="nothing", recipe=joined)
    add("donor noise", "donor at 0.4", recipe=replace(PAPER, donor_level=0.4))
    add("donor noise", "donor clean", recipe=replace(PAPER, donor_level=0.0))
    add("donor noise", "donor clean, joined", recipe=replace(joined, donor_level=0.0))
    start, levels = "start below all noise", (0.95, 0.85, 0.75)
    for level in levels:
        add(start, f"start at {level:g}, no donor", shows="", recipe=None, first_sigma=level)
    for level in levels:
        add(start, f"start at {level:g}", recipe=None, first_sigma=level)
    for shows in ("object", "scene", "both", "nothing"):
        add(start, f"start at 0.85, shares {shows}", shows=shows, recipe=None, first_sigma=0.85)
    add(start, "start at 0.85, two donors", shows="object and scene", recipe=None, first_sigma=0.85)
    add(start, "start at 0.85, attention too", first_sigma=0.85)
    return arms


ARMS = {arm.name: arm for arm in _arms()}
GROUPS = list(dict.fromkeys(arm.group for arm in ARMS.values()))
