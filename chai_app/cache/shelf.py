"""One FAISS index over the distinct embeddings of a shelf, and the rows that each of them leads to.

An embedding is in the index once, however many entries share it. Were each entry's copy in there, a thousand tigers
would be each other's nearest neighbours: a graph of them cannot be walked out of, and they fill every answer.

Rows are kept as three arrays in order of their embedding, so that a lookup gathers them without SQL. What comes later
waits in `_fresh`, what goes is listed in `_gone`, and `compact` settles both. An embedding without rows (its entries
went) stays in FAISS as a tombstone, for a graph cannot forget; when they are many, the index is made anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

GRAPH_FROM_ENTITIES = 50_000
"""From here on a graph (HNSW) is walked instead of comparing with every embedding."""

_GRAPH_FROM_NUMBERS = GRAPH_FROM_ENTITIES * 64
# Comparing costs entities x width: at width 768 the same half millisecond is spent at 4,166 entities already.

# Of 40,000 noun-and-attribute directions that share nothing else, width 64, built with a breadth of 80, a search finds
# 82 of 100 nearest neighbours, however many links it follows; built with 200, it finds 97 and costs no more.
_NEIGHBOURS = 32
_BUILD_BREADTH = 200
_SEARCH_BREADTH = 48
# A step of the walk costs as much as an embedding is wide. At width 768 half the breadth finds the same: of 100,000
# phrases the nearest always and 99.9 % of the ten nearest; of directions that share nothing, as many as breadth 64.
_WIDE, _WIDE_SEARCH_BREADTH = 256, 24

MOST_ROWS_PER_EMBEDDING = 4_096  # the newest ones; among so many entries with one phrase, no older one is missed

Row = tuple[int, int, int]
"""(vector, entry, count)"""

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class Shelf:
    """What one lookup may find. `change` is the number of the change up to which it knows the database, and that
    change's mark."""

    def __init__(self, dim: int) -> None:
        self.dim, self.change = dim, (0, 0)
        self.index: Any = faiss.IndexFlatIP(dim)
        self.vectors: Ints = np.empty(0, np.int64)  # number of the embedding at each place, rising
        self._ends: Ints = np.zeros(1, np.int64)  # rows of place i are those from _ends[i] to _ends[i + 1]
        self._entries: Ints = np.empty(0, np.int64)
        self._counts: Ints = np.empty(0, np.int64)
        self._fresh: dict[int, list[tuple[int, int]]] = {}
        self._gone: Ints = np.empty(0, np.int64)

    @property
    def is_graph(self) -> bool:
        """Whether searches walk a graph; otherwise they are exact."""
        return isinstance(self.index, faiss.IndexHNSW)

    @property
    def wants_graph(self) -> bool:
        """Whether a graph is overdue."""
        n = len(self.vectors)
        return not self.is_graph and (n >= GRAPH_FROM_ENTITIES or n * self.dim >= _GRAPH_FROM_NUMBERS)

    @property
    def tombstones(self) -> int:
        """Embeddings that no settled row has."""
        return int((np.diff(self._ends) == 0).sum())

    @property
    def unsettled(self) -> int:
        """Rows that `compact` would put into place, or away."""
        return sum(map(len, self._fresh.values())) + len(self._gone)

    def fill(self, vectors: Ints, embeddings: Floats, rows: Sequence[Row]) -> None:
        """Take all of (n,), (n, D) and the rows in order of their vector; the shelf is empty."""
        self.vectors = vectors
        self.index.add(embeddings)
        table = np.array(rows, np.int64).reshape(-1, 3)
        places = np.searchsorted(vectors, table[:, 0])
        self._ends = np.searchsorted(places, np.arange(len(vectors) + 1))
        self._entries, self._counts = table[:, 1].copy(), table[:, 2].copy()

    def add(self, vectors: Ints, embeddings: Floats, rows: Iterable[Row]) -> None:
        """Take what is new: embeddings that were not here, and rows of these and of others."""
        if len(vectors):
            assert not len(self.vectors) or vectors[0] > self.vectors[-1], "new embeddings have higher numbers"
            self.vectors = np.concatenate([self.vectors, vectors])
            self.index.add(embeddings)
        for vector, entry, count in rows:
            place = int(np.searchsorted(self.vectors, vector))
            assert self.vectors[place] == vector, "an embedding comes no later than its first row"
            self._fresh.setdefault(place, []).append((entry, count))

    def remove(self, entries: Iterable[int]) -> None:
        """Forget entries, whether they are here or not."""
        self._gone = np.union1d(self._gone, np.fromiter(entries, np.int64))

    def search(self, queries: Floats, most: int) -> tuple[Ints, Floats]:
        """(Q, K) places and cosines of the embeddings nearest to each of (Q, D), best first; K is `most` or all there
        are, and a place of -1 is none."""
        most = min(most, len(self.vectors))
        if most == 0:
            return np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
        breadth = max(_SEARCH_BREADTH if self.dim < _WIDE else _WIDE_SEARCH_BREADTH, most)
        walk = faiss.SearchParametersHNSW(efSearch=breadth) if self.is_graph else None  # type: ignore[attr-defined]
        with _one_thread():
            cosines, places = self.index.search(queries, most, params=walk)
        return places, cosines

    def rows_at(self, places: Ints) -> tuple[Ints, Ints, Ints]:
        """(which, entries, counts) of the live rows at `places`; which is an index into `places`."""
        settled = np.minimum(places, len(self._ends) - 2) if len(self._ends) > 1 else None
        if settled is None:
            which = entries = counts = np.empty(0, np.int64)
        else:
            is_settled = places == settled
            ends = self._ends[settled + 1]
            starts = np.maximum(self._ends[settled], ends - MOST_ROWS_PER_EMBEDDING)
            lengths = np.where(is_settled, ends - starts, 0)
            which = np.repeat(np.arange(len(places)), lengths)
            rows = np.arange(lengths.sum()) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
            entries, counts = self._entries[rows], self._counts[rows]
        if self._fresh:
            fresh = [(i, *row) for i, place in enumerate(places.tolist()) for row in self._fresh.get(place, ())]
            if fresh:
                more = np.array(fresh, np.int64)
                which = np.concatenate([which, more[:, 0]])
                entries = np.concatenate([entries, more[:, 1]])
                counts = np.concatenate([counts, more[:, 2]])
        if len(self._gone):
            is_live = np.isin(entries, self._gone, invert=True)
            which, entries, counts = which[is_live], entries[is_live], counts[is_live]
        return which, entries, counts

    def compact(self) -> Shelf:
        """The same content with every row in its place."""
        places, entries, counts = self._all_rows()
        order = np.lexsort((entries, places))
        settled = Shelf(self.dim)
        settled.change, settled.index, settled.vectors = self.change, self.index, self.vectors
        settled._ends = np.searchsorted(places[order], np.arange(len(self.vectors) + 1))
        settled._entries, settled._counts = entries[order], counts[order]
        return settled

    def without_tombstones(self) -> Shelf:
        """A compacted shelf without the embeddings that have no rows; flat, so that a graph may be due anew."""
        assert not self.unsettled
        is_used = np.diff(self._ends) > 0
        pruned = Shelf(self.dim)
        pruned.change, pruned.vectors = self.change, self.vectors[is_used]
        pruned.index.add(self.embeddings()[is_used])
        pruned._ends = np.concatenate([self._ends[:1], self._ends[1:][is_used]])
        pruned._entries, pruned._counts = self._entries, self._counts
        return pruned

    def embeddings(self) -> Floats:
        """(n, D), in the order of the places."""
        return self.index.reconstruct_n(0, len(self.vectors)) if len(self.vectors) else np.empty((0, self.dim), "f4")

    def live_rows(self) -> set[tuple[int, int]]:
        """Every (vector, entry) that a search could lead to."""
        places, entries, _ = self._all_rows()
        return set(zip(self.vectors[places].tolist(), entries.tolist()))

    def to_bytes(self, stands_for: dict[str, str]) -> bytes:
        """A safetensors file of everything; `compact` first, or what is unsettled is lost."""
        assert not self.unsettled
        arrays: dict[str, NDArray[Any]] = {
            "faiss": faiss.serialize_index(self.index),
            "vectors": self.vectors,
            "ends": self._ends,
            "entries": self._entries,
            "counts": self._counts,
        }
        change, mark = map(str, self.change)
        metadata = {
            **stands_for,
            **{"dim": str(self.dim), "change": change, "mark": mark, "checksum": _checksum(arrays)},
        }
        return save(arrays, metadata=metadata)

    def put_graph(self, graph: Any) -> None:
        """Let a graph that was built aside take the index's place, with what came in the meantime."""
        missing = len(self.vectors) - graph.ntotal
        if missing:
            graph.add(self.index.reconstruct_n(graph.ntotal, missing))
        self.index = graph

    def _all_rows(self) -> tuple[Ints, Ints, Ints]:
        places = np.repeat(np.arange(len(self._ends) - 1), np.diff(self._ends))
        fresh = np.array([(p, *row) for p, rows in self._fresh.items() for row in rows], np.int64).reshape(-1, 3)
        places = np.concatenate([places, fresh[:, 0]])
        entries = np.concatenate([self._entries, fresh[:, 1]])
        counts = np.concatenate([self._counts, fresh[:, 2]])
        is_live = np.isin(entries, self._gone, invert=True)
        return places[is_live], entries[is_live], counts[is_live]


def read_shelf(path: Path, stands_for: dict[str, str]) -> Shelf | None:
    """What `to_bytes` wrote, or None: not there, damaged, or of another cache or shelf."""
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if any(metadata.get(name) != value for name, value in stands_for.items()):
                return None
            arrays = {name: file.get_tensor(name) for name in ("faiss", "vectors", "ends", "entries", "counts")}
        # FAISS trusts its bytes, and wrong ones can end the process: so the checksum comes first.
        if metadata["checksum"] != _checksum(arrays):
            return None
        shelf = Shelf(int(metadata["dim"]))
        shelf.change = (int(metadata["change"]), int(metadata["mark"]))
    except Exception:  # whatever is wrong with a file that can be built anew, it is built anew
        return None
    shelf.index = faiss.deserialize_index(arrays["faiss"])
    shelf.vectors, shelf._ends = arrays["vectors"], arrays["ends"]
    shelf._entries, shelf._counts = arrays["entries"], arrays["counts"]
    return shelf


def graph_of(embeddings: Floats) -> Any:
    """A graph over (n, D) embeddings; takes many seconds from 100,000 on."""
    dim = embeddings.shape[1]
    # fp16, as the database has them: nothing is lost that was there, and half the memory is read.
    fp16: Any = faiss.ScalarQuantizer.QT_fp16
    graph = faiss.IndexHNSWSQ(dim, fp16, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = _BUILD_BREADTH
    graph.add(embeddings)
    return graph


@contextmanager
def _one_thread() -> Iterator[None]:
    """FAISS's threads wait for each other busily: on two cores that have other work too, a lookup of three entities
    took 67 ms with two threads and 2 ms with one. The number is this thread's own, and is put back."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _checksum(arrays: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()
