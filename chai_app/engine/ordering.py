"""In which order many planned videos run, so that those that can serve others come before them.

A full run serves every later prompt that shares an object or a scene with it. So the fewest full runs are wanted, each
before all that it serves: the prompt that serves most of those not yet served runs first, and so on (a greedy cover);
each of the others follows the one that serves it best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TIE = 0.005  # as in a lookup: scores closer than this are equal


@dataclass(frozen=True)
class RunOrder:
    """places are those of the plans in the order in which to run them. expected_hits counts the hits that this order
    should bring, hits_as_given those of the order in which the plans came."""

    places: tuple[int, ...]
    expected_hits: int
    hits_as_given: int

    @property
    def gained_hits(self) -> int:
        """How many more hits than in the order that was given."""
        return self.expected_hits - self.hits_as_given


@dataclass(frozen=True)
class Standing:
    """What a planned video is to the others: is_served already (by an entry of the cache, or it wants nothing); or
    can_be_served; feeds: whether it will enter the cache if it runs in full; is_hit: whether it counts as one now."""

    is_hit: bool
    can_be_served: bool
    feeds: bool


def arrange(standings: Sequence[Standing], scores: NDArray[np.float32], covers: NDArray[np.int64]) -> RunOrder:
    """The order for plans of one model and one size.

    Args:
        scores, covers: (N, N); scores[i, j] is above 0 where an entry of i would serve j, and so well; covers counts
            how many of j's entities it has.
    """
    import numpy as np

    n = len(standings)
    feeds = np.array([standing.feeds for standing in standings], bool)
    wants = np.array([standing.can_be_served and not standing.is_hit for standing in standings], bool)
    serves = (scores > 0) & feeds[:, None]
    np.fill_diagonal(serves, False)

    as_given = sum(standing.is_hit for standing in standings) + _hits_in_turn(range(n), wants, feeds, serves)

    # What runs in full whatever happens feeds the others for nothing.
    forced = [i for i in range(n) if feeds[i] and not wants[i] and not standings[i].is_hit]
    full = sorted(forced, key=lambda i: -int((serves[i] & wants).sum()))
    unserved = wants.copy()
    for i in full:
        unserved &= ~serves[i]
    while unserved.any():
        gains = np.where(unserved, (serves & unserved).sum(axis=1), -1)
        first = int(np.argmax(gains))  # the first of equals, as they came
        if gains[first] == 0:
            full += np.flatnonzero(unserved).tolist()
            break
        full.append(first)
        unserved[first] = False
        unserved &= ~serves[first]
    is_full = np.zeros(n, bool)
    is_full[full] = True
    followers: dict[int, list[int]] = {i: [] for i in full}
    donors = [i for i in full if feeds[i]]
    for j in np.flatnonzero(wants & ~is_full).tolist():
        best = max(scores[i, j] for i in donors if serves[i, j])
        tied = [i for i in donors if serves[i, j] and scores[i, j] >= best - _TIE]
        followers[max(tied, key=lambda i: int(covers[i, j]))].append(j)
    # What the cache serves already comes first: its donors might have to make room for what the others store.
    rest = [i for i in range(n) if not is_full[i] and not wants[i]]
    places = tuple(rest + [each for i in full for each in (i, *followers[i])])
    expected = sum(standing.is_hit for standing in standings) + _hits_in_turn(places, wants, feeds, serves)
    if expected <= as_given:  # a greedy cover is not always the smallest; nothing is worse than what was asked for
        return RunOrder(tuple(range(n)), as_given, as_given)
    return RunOrder(places, expected, as_given)


def _hits_in_turn(
    places: Sequence[int], wants: NDArray[np.bool_], feeds: NDArray[np.bool_], serves: NDArray[np.bool_]
) -> int:
    """How many of those that want something find it, if all run in this order and only full runs enter."""
    import numpy as np

    is_served, hits = np.zeros(len(wants), bool), 0
    for i in places:
        if wants[i] and is_served[i]:
            hits += 1
        elif feeds[i]:
            is_served |= serves[i]
    return hits
