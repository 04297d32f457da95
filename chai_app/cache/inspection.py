"""Looking into a cache, and small corrections: where its entities lie, what a smaller budget would cost, what an entry
is found by, what an archive would bring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import rows
from .archive import check_archive
from .entries import Entry, Kind, Phrase, Selection
from .eviction import EvictionPolicy, leaving

if TYPE_CHECKING:
    from .archive import ImportReport
    from .cache import LatentCache


@dataclass(frozen=True)
class Point:
    """An entity on the map. x and y are from 0 to 1; near ones mean much the same. entries is how many have it."""

    entry_id: str
    kind: Kind
    text: str
    x: float
    y: float
    entries: int


@dataclass(frozen=True)
class EntityMap:
    """Objects and scenes of the newest entries; explained is the share of their spread that two axes can show."""

    points: tuple[Point, ...]
    explained: float


def entity_map(cache: LatentCache, most_entries: int = 1_000) -> EntityMap:
    """Lay the embeddings of objects and scenes on a plane, along the two directions in which they differ most."""
    import numpy as np

    found: dict[tuple[str, str], tuple[str, int]] = {}
    vectors = []
    with cache._database.reading() as connection:
        for entry in rows.selected(connection, Selection(), most_entries):
            for embedder, phrase, embedding in rows.filed_entities(connection, entry.number):
                if phrase.kind == "prompt" or embedder != cache.embedder.fingerprint:
                    continue
                key = (phrase.kind, phrase.text)
                if key not in found:
                    vectors.append(np.frombuffer(embedding, rows.EMBEDDING_DTYPE).astype(np.float32))
                id, count = found.get(key, (entry.id, 0))
                found[key] = (id, count + 1)
    if not vectors:
        return EntityMap((), 0.0)
    matrix = np.stack(vectors)
    matrix -= matrix.mean(0)
    _, strengths, axes = np.linalg.svd(matrix, full_matrices=False)
    plane = np.zeros((len(matrix), 2), np.float32)
    shown = matrix @ axes[:2].T
    plane[:, : shown.shape[1]] = shown
    low, span = plane.min(0), np.ptp(plane, axis=0)
    places = (plane - low) / np.where(span > 1e-6, span, 1)
    places[:, span <= 1e-6] = 0.5
    total = float((strengths**2).sum())
    explained = float((strengths[:2] ** 2).sum()) / total if total > 0 else 1.0
    points = [
        Point(id, "object" if kind == "object" else "scene", text, float(x), float(y), count)
        for ((kind, text), (id, count)), (x, y) in zip(found.items(), places, strict=True)
    ]
    return EntityMap(tuple(points), explained)


def would_leave(
    cache: LatentCache, needed_bytes: int = 0, budget_bytes: int | None = None, policy: EvictionPolicy | None = None
) -> list[Entry]:
    """Which entries would leave for an entry of `needed_bytes`, or with another budget or policy, in their order.

    Raises: CacheFull if it would not fit even then.
    """
    now_bytes, now_policy = cache._store.budget()
    with cache._database.reading() as connection:
        budget_bytes = now_bytes if budget_bytes is None else budget_bytes
        return leaving(connection, needed_bytes, budget_bytes, policy or now_policy)


def rename(cache: LatentCache, entry: Entry, phrases: Sequence[Phrase]) -> bool:
    """File an entry under other phrases; its prompt goes with them if it is among them. False if it is gone.

    Raises: CacheError if the cache was opened without an embedder.
    """
    entities = cache.embed(phrases)
    embedder = cache.embedder.fingerprint
    with cache._database.writing() as connection:
        here = rows.entry_by_id(connection, entry.id)
        if here is None:
            return False
        rows.refile(connection, here, [(embedder, entity) for entity in entities])
    cache._settle()
    return True


def only(entry: Entry) -> Selection:
    """The selection of one entry, for exporting it: there is one of its prompt at its moment."""
    return Selection(prompt=entry.prompt, since=entry.created, before=math.nextafter(entry.created, math.inf))


def what_archive_brings(cache: LatentCache, path: Path) -> ImportReport:
    """What importing an archive would do, after checking all of it. Changes nothing.

    Raises: BadArchive, CacheFull as importing would.
    """
    return check_archive(cache._store, path, cache._embedder)
