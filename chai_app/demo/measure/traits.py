"""Which one a thing or a place is: whether it stays that one through a clip, and whether it is the donor's.

Two clips that share nothing agree in a trait as often as its values happen to meet. So every likeness is told beside
the chance level of its own set of clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ..drawn.looks import SCENE_TRAITS, THING_TRAITS
from ..drawn.spec import ClipSpec

Traits = Mapping[str, NDArray[np.float32]]
"""By trait, the judge's probabilities, (N, T, values)."""
BACKGROUNDS = int(np.prod([len(values) for values in SCENE_TRAITS.values()]))


@dataclass(frozen=True, eq=False)
class Likeness:
    """share: of the traits that agree, (N,); chance: what clips paired at random would reach."""

    share: NDArray[np.float64]
    chance: float

    @property
    def above_chance(self) -> float:
        """0 is chance, 1 is all traits alike."""
        return float((self.share.mean() - self.chance) / max(1 - self.chance, 1e-9))


def kept(traits: Traits, names: Sequence[str] = tuple(THING_TRAITS)) -> NDArray[np.float64]:
    """Share of the named traits that are the same in the first and in the last frame, (N,)."""
    return np.mean([traits[name][:, 0].argmax(1) == traits[name][:, -1].argmax(1) for name in names], axis=0)


def kept_all(traits: Traits, names: Sequence[str] = tuple(THING_TRAITS)) -> NDArray[np.float64]:
    """1 where a thing keeps every one of its traits from the first to the last frame, (N,)."""
    return (kept(traits, names) == 1).astype(np.float64)


def values_of(traits: Traits, name: str) -> NDArray[np.intp]:
    """A trait's value in each clip, by the mean over its frames, (N,)."""
    return traits[name].mean(1).argmax(1)


def likeness(donors: Traits, made: Traits, names: Sequence[str]) -> Likeness:
    """How far the clips `made` take after their donors, row by row.

    Args: names: the traits to compare, of `THING_TRAITS` or `SCENE_TRAITS`.
    """
    alike, chances = [], []
    for name in names:
        ours, theirs = values_of(made, name), values_of(donors, name)
        number = made[name].shape[2]
        alike.append(ours == theirs)
        chances.append(
            float(np.bincount(ours, minlength=number) @ np.bincount(theirs, minlength=number))
            / (len(ours) * len(theirs))
        )
    return Likeness(np.mean(alike, axis=0), float(np.mean(chances)))


def background_variety(traits: Traits, specs: Sequence[ClipSpec]) -> float:
    """How varied the backgrounds of a scene are: share of pairs of clips with the same asked scene whose light or
    skyline differ, as a multiple of what the world itself has. 1 is as varied as the world, 0 is one background for
    all; NaN if no scene is asked for twice."""
    lights, skylines = (values_of(traits, name) for name in SCENE_TRAITS)
    differ = [
        (lights[i], skylines[i]) != (lights[j], skylines[j])
        for i, j in combinations(range(len(specs)), 2)
        if specs[i].scene.name == specs[j].scene.name
    ]
    return float(np.mean(differ)) / (1 - 1 / BACKGROUNDS) if differ else float("nan")
