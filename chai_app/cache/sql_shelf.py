"""A shelf that pgvector searches: slower at each lookup than a FAISS copy, and there at once."""

from __future__ import annotations

import numpy as np

from .ports import Among, Connection, Embedding
from .rows import EMBEDDING_DTYPE, ROWS
from .shelf import MOST_ROWS_PER_EMBEDDING, Floats, Ints


class SqlShelf:
    """What `Shelf` is to a lookup, for as long as one transaction lasts. Places are those of the last search."""

    def __init__(self, connection: Connection, number: int, dim: int) -> None:
        self._connection, self._number, self._dim = connection, number, dim
        self.vectors: Ints = np.empty(0, np.int64)

    def search(self, queries: Floats, most: int) -> tuple[Ints, Floats]:
        """(Q, K) places and cosines of the embeddings nearest to each of (Q, D), best first; a place of -1 is none."""
        query = "SELECT number, -(embedding <#> ?) FROM vectors WHERE shelf = ? ORDER BY embedding <#> ? LIMIT ?"
        found = []
        for wanted in queries:
            packed = Embedding(wanted.astype(EMBEDDING_DTYPE).tobytes())
            found.append(self._connection.execute(query, [packed, self._number, packed, most]).fetchall())
        self.vectors = np.unique([vector for rows in found for vector, _ in rows]).astype(np.int64)
        places = np.full((len(found), max(map(len, found), default=0)), -1, np.int64)
        cosines = np.full(places.shape, -1, np.float32)
        for i, rows in enumerate(found):
            places[i, : len(rows)] = np.searchsorted(self.vectors, [vector for vector, _ in rows])
            cosines[i, : len(rows)] = [cosine for _, cosine in rows]
        return places, cosines

    def rows_at(self, places: Ints) -> tuple[Ints, Ints, Ints]:
        """(which, entries, counts) of the rows at `places`; which is an index into `places`."""
        query = f"{ROWS} AND v.number IN (SELECT value FROM json_each(?)) ORDER BY e.vector, e.entry"
        values = [self._number, 2 * self._dim, Among(self.vectors[places].tolist())]
        rows: dict[int, list[tuple[int, int]]] = {}
        for vector, entry, count in self._connection.execute(query, values):
            rows.setdefault(vector, []).append((entry, count))
        wanted = enumerate(self.vectors[places].tolist())
        table = [(i, *row) for i, vector in wanted for row in rows.get(vector, [])[-MOST_ROWS_PER_EMBEDDING:]]
        which, entries, counts = np.array(table, np.int64).reshape(-1, 3).T
        return which, entries, counts
