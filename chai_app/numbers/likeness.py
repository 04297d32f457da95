"""How alike two counts are, as the place-value networks see it.

The networks have learned to count. Their hidden states for 0, 1, 2, ... are places on a path, and how far a number lies
along it is the sum of the steps that counting takes to get there. Two counts are as alike as these lengths are in
ratio, raised to a power: people, too, tell numbers apart by their ratio, and 2 of 3 are further apart than 20 of 21.

The cosine of two hidden states does not do: the straight way between two places says little of the way along the path.
`python app.py numbers study` measures both.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from ..settings import BUNDLED_MODELS
from .counts import CountRange

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WEIGHTS = BUNDLED_MODELS / "numbers" / "place_value.safetensors"
PARTS = ("into", "into_bias", "out", "out_bias")
TENTH = 0.92
"""Likeness of counts that differ by a tenth: what the strictest of the cache's defaults lets through."""


class CountLikeness:
    """The likeness of counts by the hidden states of S place-value networks.

    Args:
        states: (S, 100, H), of 0 ... 99.
    """

    def __init__(self, states: NDArray[np.floating[Any]]) -> None:
        import numpy as np

        steps = np.sqrt(np.square(np.diff(states.astype(np.float64), axis=1)).sum(-1))  # (S, 99)
        steps /= steps.mean(1, keepdims=True)  # no network counts for more because its states are larger
        self.places: NDArray[np.float64] = np.concatenate([[0.0], steps.mean(0).cumsum()])
        # From 100 on numbers lie as those of a tenth of their size do, so much further out.
        self._tenfold = (self.places[99] + 1) / self.places[10]
        differ = [self.place(11 * n / 10) / self.place(n) for n in range(10, 91)]
        self.power = float(np.log(1 / TENTH) / np.log(differ).mean())

    def place(self, number: float) -> float:
        """How far along the path a number from 0 on lies; a step is 1 on average."""
        if number >= 100:
            return float(self._tenfold * self.place(number / 10))
        if number > 99:
            return float(self.places[99] + number - 99)
        below = int(number)
        part = number - below
        return float(self.places[below] + (part * (self.places[below + 1] - self.places[below]) if part else 0.0))

    def __call__(self, wanted: int | None, found: int | None) -> float:
        """0 to 1: how far a video that shows `found` serves a prompt that asks for `wanted`.

        1 for equal counts, for a count that is not said on either side, and for one within the range that is wanted.
        """
        if wanted is None or found is None:
            return 1.0
        if isinstance(wanted, CountRange):
            wanted = min(max(found, wanted.least), wanted.most)
        less, more = sorted((int(wanted), int(found)))
        if less == more:
            return 1.0
        return (self.place(less) / self.place(more)) ** self.power


@cache
def shipped_states() -> NDArray[np.float64]:
    """Hidden states of the shipped place-value networks, (S, 100, H)."""
    import numpy as np
    from safetensors.numpy import load_file

    weights = {name: value.astype(np.float64) for name, value in load_file(WEIGHTS).items()}
    numbers = np.arange(100)
    digits = np.eye(10)
    written = np.concatenate([digits[numbers // 10], digits[numbers % 10]], axis=1)
    return np.asarray(1 / (1 + np.exp(-(written @ weights["into"] + weights["into_bias"]))))


@cache
def count_likeness() -> CountLikeness:
    """The likeness that the cache is given."""
    return CountLikeness(shipped_states())
