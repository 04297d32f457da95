"""What a prompt names: the things it shows and the places it shows them in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mention:
    """One thing or place.

    `phrase` is lower-case, as written but for articles and possessives ("two red balls"). `head` is its noun in the
    singular ("ball"), or all of a compound that is not what its last word says ("hot dog"). `attributes` are the words
    before the head, one by one. `count` is None where the prompt does not tell ("balls"), or tells a range ("several
    balls"): then `count_range` is its least and its most.
    """

    head: str
    phrase: str
    attributes: tuple[str, ...] = ()
    count: int | None = None
    count_range: tuple[int, int] | None = None


@dataclass(frozen=True)
class Mentions:
    """Objects and scenes in the order of the prompt, each named once."""

    objects: tuple[Mention, ...] = ()
    scenes: tuple[Mention, ...] = ()
