"""The arms of the ablation: what the donor is, how it is attended to, and what there is to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..attention import PAPER, CacheAttentionProcessor, Recipe
from .variants import ByLikeness, ConditionalHalf, HalfAndHalf

Shows = Literal["hit", "object", "scene", "both", "nothing", "answer", "object and scene", ""]
Kind = Literal["clean", "steps", "other noise", "48 px", "96 px", "9 frames"]

OTHER_SHAPES: tuple[Kind, ...] = ("48 px", "96 px", "9 frames")


@dataclass(frozen=True)
class Arm:
    """One way to make a video in few steps.

    shows: what the donor shares with the prompt. "hit" is the object or the scene, by turns, as entity matching finds
        them; "answer" is the full run of the very prompt and seed, the best donor there can be; "object and scene" are
        two donors. Empty for no donor.
    kind: finished latents under the run's own noise; those that the donor's run had at the nearest noise levels (the
        paper's way); finished latents under another noise; or those of the same video in another size or cut
        short, through the autoencoder, and resampled.
    recipe: None attends to nothing. processor: what attends.
    levels: in place of the recipe's steps, all from the second on whose noise lies between these.
    start_level: below 1, the run begins at that noise level with the donor's latents, of two donors with the mean of
        both; without a donor, with the mean of all latents, which is 0: no step is spent on more noise than that, and
        nothing else is gained.
    """

    name: str
    group: str
    shows: Shows = "hit"
    kind: Kind = "clean"
    recipe: Recipe | None = PAPER
    processor: type[CacheAttentionProcessor] = CacheAttentionProcessor
    levels: tuple[float, float] | None = None
    start_level: float = 1.0

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
    arms = [Arm("no cache", "baseline", "", recipe=None), Arm("paper", "baseline", kind="steps")]
    arms += [Arm("clean re-noised", "donor kind")]
    arms += [Arm("clean, other noise", "donor kind", kind="other noise")]
    arms += [Arm(f"donor of {kind}", "donor kind", kind=kind) for kind in OTHER_SHAPES]
    arms += [Arm("two donors joined", "donor kind", "object and scene")]
    arms += [Arm(f"shares {shows}", "relevance", shows) for shows in ("object", "scene", "both", "nothing")]
    arms += [Arm("the answer itself", "relevance", "answer")]
    windows = {"levels from 0.8": (0.8, 1.0), "levels from 0.6": (0.6, 1.0), "levels up to 0.6": (0.0, 0.6)}
    windows["all steps from 2"] = (0.0, 1.0)
    arms += [Arm(name, "steps", levels=levels) for name, levels in windows.items()]
    arms += [Arm("step 2 alone", "steps", recipe=replace(PAPER, steps=(2,)))]
    arms += [
        Arm("all blocks", "blocks", recipe=replace(PAPER, blocks=(0, 1, 2, 3))),
        Arm("blocks 2 to 4", "blocks", recipe=replace(PAPER, blocks=(1, 2, 3))),
        Arm("all blocks, donor through them", "blocks", recipe=replace(PAPER, blocks=(0, 1, 2, 3), through="blocks")),
        Arm(
            "the same, joined", "blocks",
            recipe=replace(PAPER, blocks=(0, 1, 2, 3), through="blocks", own_keys="joined"),
        ),
    ]  # fmt: skip
    arms += [Arm("conditional half alone", "guidance", processor=ConditionalHalf)]
    arms += [
        Arm("joined", "own keys", recipe=replace(PAPER, own_keys="joined")),
        Arm("blended, 0.5", "own keys", processor=HalfAndHalf),
        Arm("blended by likeness", "own keys", processor=ByLikeness),
        Arm("joined, levels from 0.6", "own keys", recipe=replace(PAPER, own_keys="joined"), levels=(0.6, 1.0)),
        Arm("joined, shares nothing", "own keys", "nothing", recipe=replace(PAPER, own_keys="joined")),
    ]
    arms += [
        Arm("donor at 0.4", "donor noise", recipe=replace(PAPER, donor_level=0.4)),
        Arm("donor clean", "donor noise", recipe=replace(PAPER, donor_level=0.0)),
        Arm("donor clean, joined", "donor noise", recipe=replace(PAPER, donor_level=0.0, own_keys="joined")),
    ]
    start, levels = "start below all noise", (0.95, 0.85, 0.75)
    arms += [Arm(f"start at {level:g}, no donor", start, "", recipe=None, start_level=level) for level in levels]
    arms += [Arm(f"start at {level:g}", start, recipe=None, start_level=level) for level in levels]
    arms += [
        Arm(f"start at 0.85, shares {shows}", start, shows, recipe=None, start_level=0.85)
        for shows in ("object", "scene", "both", "nothing")
    ]
    arms += [Arm("start at 0.85, two donors", start, "object and scene", recipe=None, start_level=0.85)]
    arms += [Arm("start at 0.85, attention too", start, start_level=0.85)]
    return arms


ARMS = {arm.name: arm for arm in _arms()}
GROUPS = list(dict.fromkeys(arm.group for arm in ARMS.values()))
