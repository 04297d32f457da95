"""Which of many prompts would serve which, were a video of each in the cache: what a lookup would say, all at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .entries import KINDS, Entity
from .lookup import CountLikeness, same_count
from .thresholds import Thresholds

Scores = NDArray[np.float32]
Counts = NDArray[np.int64]


def serving(
    named: Sequence[Sequence[Entity]], thresholds: Thresholds, count_likeness: CountLikeness = same_count
) -> tuple[Scores, Counts]:
    """For each prompt (row) and each other (column): the score with which an entry of the row would serve the column's
    prompt, 0 where it would not, and how many of the column's entities it would cover.

    Args: named: the entities of each of N prompts.
    Returns: (N, N) and (N, N).
    """
    n = len(named)
    scores, covers = np.zeros((n, n), np.float32), np.zeros((n, n), np.int64)
    for kind in KINDS:
        places: dict[tuple[str, int | None], int] = {}
        directions = []
        of_prompt: list[list[int]] = []
        for entities in named:
            mine = []
            for entity in entities:
                if entity.kind == kind:
                    key = (entity.text, entity.count)
                    if key not in places:
                        places[key] = len(places)
                        directions.append(entity.embedding)
                    mine.append(places[key])
            of_prompt.append(mine)
        if not directions:
            continue
        counts = list(dict.fromkeys(count for _, count in places))
        likeness = np.array([[count_likeness(wanted, found) for found in counts] for wanted in counts], np.float32)
        which = np.array([counts.index(count) for _, count in places])
        matrix = np.stack(directions)
        alike = (matrix @ matrix.T) * likeness[np.ix_(which, which)]  # (U, U), wanted by found
        alike[alike < thresholds.of(kind)] = 0
        best = np.zeros((len(places), n), np.float32)  # of each phrase, what the entry of each prompt has for it
        for i, mine in enumerate(of_prompt):
            if mine:
                best[:, i] = alike[:, mine].max(axis=1)
        for j, mine in enumerate(of_prompt):
            if mine:
                scores[:, j] = np.maximum(scores[:, j], best[mine].max(axis=0))
                covers[:, j] += (best[mine] > 0).sum(axis=0)
    return scores, covers
