"""Entries for a person who looks around: whatever is most like some words, of any model, any size and any count.

A lookup decides what one video can reuse; a search shows what there is, a match or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .entries import Entity, Entry, Kind
from .ports import Connection
from .rows import entry_by_number
from .shelves import Searchable, Shelves, Space
from .thresholds import Thresholds

_FIRST_PHRASES = 16


@dataclass(frozen=True)
class Found:
    """An entry and what makes it come up: its phrase of `kind` whose cosine with the words is `score`."""

    entry: Entry
    kind: Kind
    text: str
    score: float
    threshold: float

    @property
    def is_match(self) -> bool:
        """Whether a lookup would take the two phrases for the same."""
        return self.score >= self.threshold

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {**asdict(self), "is_match": self.is_match}


def search(
    connection: Connection,
    shelves: Shelves,
    embedder: Space,
    wanted: Sequence[Entity],
    thresholds: Thresholds,
    limit: int,
    is_match: bool,
) -> list[Found]:
    """For each of at most `limit` entries its phrase most like one of `wanted`, best first, the newer first of two that
    are equal. is_match leaves out what is below the threshold of its kind."""
    best: dict[int, tuple[float, int, Kind]] = {}  # entry: score, vector, kind
    for entity in wanted:
        least = thresholds.of(entity.kind) if is_match else -2.0
        for shelf in shelves.of_kind(connection, embedder, entity.kind):
            for number, vector, score in _nearest(shelf, entity, limit):
                if score >= least and (number not in best or score > best[number][0]):
                    best[number] = (score, vector, entity.kind)
    ranked = sorted(best.items(), key=lambda item: (-item[1][0], -item[0]))[:limit]
    found = []
    for number, (score, vector, kind) in ranked:
        entry = entry_by_number(connection, number)
        query = "SELECT text FROM entities WHERE vector = ? AND entry = ? ORDER BY number"
        row = connection.execute(query, [vector, number]).fetchone()
        if entry is not None and row is not None:
            found.append(Found(entry, kind, row[0], score, thresholds.of(kind)))
    return found


def _nearest(shelf: Searchable, entity: Entity, limit: int) -> list[tuple[int, int, float]]:
    """(entry, vector, cosine), best first, of at least `limit` entries if the shelf has so many."""
    query, most = entity.embedding[None].astype(np.float32), max(limit, _FIRST_PHRASES)
    while True:
        places, cosines = shelf.search(query, most)  # (1, K)
        is_found = places[0] >= 0
        near, scores = places[0][is_found], cosines[0][is_found]
        which, entries, _ = shelf.rows_at(near)
        if len(np.unique(entries)) >= limit or most >= len(shelf.vectors):
            break
        most *= 4
    # The newest first of equals, so that a phrase that thousands of entries share shows its last ones.
    order = np.lexsort((-entries, -scores[which]))
    _, first = np.unique(entries[order], return_index=True)
    taken = order[np.sort(first)][:limit]
    return [(int(entries[i]), int(shelf.vectors[near[which[i]]]), float(scores[which[i]])) for i in taken.tolist()]
