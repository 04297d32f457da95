"""How much exactness is given for speed: three presets, and the settings that they stand for.

What a request says itself counts more than its preset. The figures behind the choices are those of docs/speed.md.
"""

from __future__ import annotations

from dataclasses import dataclass

ACCELERATIONS = ("none", "first-block", "taylorseer", "pab", "fastercache", "text-kv", "magcache")
"""diffusers' techniques that reuse within a run what changes little from step to step; `opensora.acceleration` says
how each is set."""

RECIPES = ("paper", "trained")
"""How a hit attends to its donor; `attention.RECIPES` says how each is made up."""

KEEPING = ("trained",)
"""Recipes by which a hit shows the donor's very thing or place again, not just one of that name (docs/reuse.md)."""

FEWEST_TO_ACCELERATE = 5
"""Steps of a run from which on it can reuse what it computed: in fewer, too much changes from one to the next."""

SIMILARITY_SPAN = 0.5
"""With adaptive steps, a hit takes the steps of a full run where its donor's similarity is this far below 1."""


@dataclass(frozen=True)
class Preset:
    """about: what it gives and takes, for the person. reuse and acceleration: as in a request; no acceleration is the
    model's own, which was measured on it. steps_share: of the model's own steps, of a full run and of a hit alike."""

    about: str
    reuse: str = "auto"
    acceleration: str | None = None
    steps_share: float = 1.0

    def steps(self, usual: int) -> int:
        """The steps in place of the model's `usual` ones; at least 2, unless the model itself takes fewer."""
        return min(usual, max(2, round(usual * self.steps_share)))


PRESETS = {
    "exact": Preset(
        "no approximation: every step is computed, no earlier video is looked at", reuse="full", acceleration="none"
    ),
    "balanced": Preset(
        "the usual: earlier videos help where they fit, in fewer steps, and a full run leaves out what was measured "
        "not to matter"
    ),
    "draft": Preset(
        "for a first look: half the steps, and what changes little is not computed again",
        acceleration="first-block",
        steps_share=0.5,
    ),
}
DEFAULT_PRESET = "balanced"


def hit_steps(similarity: float | None, fast: int, full: int) -> int:
    """Steps of a hit that grow from `fast` to `full` as the similarity of its donor falls.

    Args:
        similarity: of the best donor, 1 for the same words; None (a donor chosen by name) takes `fast`.
    """
    if similarity is None or fast >= full:
        return fast
    distance = min(1.0, max(0.0, 1 - similarity) / SIMILARITY_SPAN)
    return fast + round((full - fast) * distance)
