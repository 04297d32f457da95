"""The shelves of a cache in memory: read when first asked for, kept up with the database, saved for the next start.

Partitioned by embedder, kind, model and size of latents rather than filtered afterwards: a filter needs over-fetch, and
no over-fetch is enough when a thousand entries of another model lie nearer than the one that fits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np

from .entries import Kind
from .errors import CacheError
from .latent_files import LatentFiles
from .ports import Connection, Rows
from .rows import EMBEDDING_DTYPE, ROWS, read_setting
from .shelf import Floats, Ints, Shelf, graph_of, read_shelf
from .sql_shelf import SqlShelf

# Shares of a shelf's embeddings.
_MOST_UNSETTLED = 0.1
_MOST_TOMBSTONES = 0.2
_FEWEST_TO_SAVE = 2_000
_MOST_AT_ONCE = 20_000  # more embeddings than a lookup would wait for, where they come over a network

Change = tuple[int, int]
"""(number, mark)"""

Space = tuple[str, int]
"""An embedder's fingerprint and the width of its embeddings. What says it is of one embedder and has another width is a
lie of an archive, and is never looked at."""

Searchable = Shelf | SqlShelf


class Shelves:
    """Every shelf that was asked for. They are touched inside a transaction only, whose lock keeps threads apart."""

    def __init__(self, database: Rows, files: LatentFiles) -> None:
        self._database, self._files = database, files
        self._loaded: dict[int, Shelf] = {}
        self._saved: dict[int, Change] = {}  # shelf: the change that its file stands for
        self._builds: dict[int, threading.Thread] = {}  # shelf: who builds its graph aside

    def find(
        self, connection: Connection, embedder: Space, kind: Kind, fingerprint: str, latent_key: str
    ) -> Searchable | None:
        """The one shelf that fits, up to date with the transaction; None if nothing was ever put there."""
        row = connection.execute(
            "SELECT number FROM shelves "
            "WHERE (embedder, dim) = (?, ?) AND kind = ? AND fingerprint = ? AND latent_shape = ?",
            [*embedder, kind, fingerprint, latent_key],
        ).fetchone()
        return None if row is None else self._searchable(connection, row[0])

    def others(
        self, connection: Connection, embedder: Space, kind: Kind, fingerprint: str, latent_key: str, most: int
    ) -> Iterator[tuple[str, Searchable]]:
        """(why it does not fit, shelf) for shelves of the same embedder and kind, the same model's first."""
        query = """
            SELECT number, fingerprint FROM shelves
            WHERE (embedder, dim) = (?, ?) AND kind = ? AND (fingerprint != ? OR latent_shape != ?)
            ORDER BY fingerprint != ?, number DESC LIMIT ?
        """
        values = [*embedder, kind, fingerprint, latent_key, fingerprint, most]
        for number, other in connection.execute(query, values).fetchall():
            yield "other size" if other == fingerprint else "another model", self._searchable(connection, number)

    def of_kind(self, connection: Connection, embedder: Space, kind: Kind) -> Iterator[Searchable]:
        """Every shelf of an embedder and a kind, of whatever model and size, the latest first."""
        query = "SELECT number FROM shelves WHERE (embedder, dim) = (?, ?) AND kind = ? ORDER BY number DESC"
        for (number,) in connection.execute(query, [*embedder, kind]).fetchall():
            yield self._searchable(connection, number)

    def has_other_width(self, connection: Connection, embedder: Space) -> bool:
        """Whether there is something that says it is of this embedder and cannot be."""
        query = "SELECT 1 FROM shelves s JOIN vectors v ON v.shelf = s.number WHERE embedder = ? AND dim != ? LIMIT 1"
        return connection.execute(query, embedder).fetchone() is not None

    def get(self, connection: Connection, number: int) -> Shelf:
        """One shelf, up to date with the transaction."""
        if number not in self._loaded:
            shelf = read_shelf(self._path(number), self._stands_for(connection, number))
            self._saved[number] = shelf.change if shelf else (-1, 0)
            self._loaded[number] = shelf or _from_rows(connection, number)
        if not _catch_up(connection, number, self._loaded[number]):
            self._loaded[number] = _from_rows(connection, number)
        return self._loaded[number]

    def _searchable(self, connection: Connection, number: int) -> Searchable:
        """A shelf for a lookup: one that the database searches while a copy is made that would take long."""
        if number in self._loaded or not self._database.is_shared or self._path(number).exists():
            return self.get(connection, number)
        query = "SELECT s.dim, (SELECT count(*) FROM vectors WHERE shelf = s.number) FROM shelves s WHERE s.number = ?"
        dim, count = connection.execute(query, [number]).fetchone()
        if count <= _MOST_AT_ONCE:
            return self.get(connection, number)
        if not self._is_building(number):
            self._builds[number] = threading.Thread(target=self._copy, args=[number], daemon=True)
            self._builds[number].start()
        return SqlShelf(connection, number, dim)

    def _copy(self, number: int) -> None:
        """Read a shelf by a connection of its own, and let it serve from then on."""
        with suppress(CacheError), closing(self._database.beside()) as database:
            with database.reading() as connection:
                shelf = _from_rows(connection, number)
            with self._database.reading():
                self._saved.setdefault(number, (-1, 0))
                self._loaded.setdefault(number, shelf)

    def settle(self, aside: bool = False) -> None:
        """Do what would make a lookup wait: put rows in place, build graphs that are due, and save if much changed.

        aside: a graph takes half a minute at 100,000 embeddings; it is built by a thread of its own, and lookups and
        inserts go on with the old index until it is done.
        """
        if not aside:
            self.wait()
        for number in list(self._loaded):
            with self._database.reading() as connection:
                shelf = self.get(connection, number)
                is_worth_saving = shelf.unsettled > max(_FEWEST_TO_SAVE, _MOST_UNSETTLED * len(shelf.vectors))
                if shelf.unsettled > _MOST_UNSETTLED * len(shelf.vectors):
                    shelf = shelf.compact()
                    if shelf.tombstones > _MOST_TOMBSTONES * len(shelf.vectors):
                        shelf = shelf.without_tombstones()
                    self._loaded[number] = shelf
                vectors = shelf.vectors
                wants_graph = shelf.wants_graph and not self._is_building(number)
                embeddings = shelf.embeddings() if wants_graph else None
            if embeddings is not None and aside:
                thread = threading.Thread(target=self._build, args=(number, vectors, embeddings), daemon=True)
                self._builds[number] = thread
                thread.start()
            elif embeddings is not None:
                self._build(number, vectors, embeddings)
            elif is_worth_saving:
                self.save(number)

    def wait(self) -> None:
        """Until the graphs that are being built aside have taken their places."""
        for thread in list(self._builds.values()):
            thread.join()
        self._builds.clear()

    def _is_building(self, number: int) -> bool:
        return number in self._builds and self._builds[number].is_alive()

    def _build(self, number: int, vectors: Ints, embeddings: Floats) -> None:
        """Build a graph and let it take the index's place, unless the index was made anew meanwhile."""
        graph = graph_of(embeddings)
        with self._database.reading():
            shelf = self._loaded.get(number)
            if shelf is None or shelf.is_graph or not np.array_equal(shelf.vectors[: len(vectors)], vectors):
                return
            shelf.put_graph(graph)
        with suppress(CacheError):  # the graph serves, and an index that was not saved is made anew
            self.save(number)

    def save_all(self) -> None:
        """Write every shelf whose file lags behind."""
        for number, shelf in list(self._loaded.items()):
            if self._saved[number] != shelf.change:
                self.save(number)

    def save(self, number: int) -> None:
        """Write one shelf, whole or not at all."""
        with self._database.reading() as connection:
            shelf = self._loaded[number] = self._loaded[number].compact()
            content = shelf.to_bytes(self._stands_for(connection, number))
        with self._files.staged() as staged:
            staged.write(content)
            staged.move_to(self._path(number))
            staged.keep()
        self._saved[number] = shelf.change

    def rebuild(self) -> None:
        """Forget every index, in memory and on disk, and make all of them from the database."""
        self._database.refuse_if_read_only()
        with self._database.reading():
            self._loaded.clear()
            self._saved.clear()
        for path in self._files.index.glob("*.safetensors"):
            path.unlink(missing_ok=True)
        with self._database.reading() as connection:
            for (number,) in connection.execute("SELECT number FROM shelves").fetchall():
                self.get(connection, number)
        self.settle()
        self.save_all()

    def problems(self, connection: Connection, with_saved: bool) -> Iterator[str]:
        """Where an index, brought up to date, and the database say different things: those in memory, and of the others
        what was saved, if that is asked for. One that was not saved, or long ago, is made anew when it is needed."""
        for (number,) in connection.execute("SELECT number FROM shelves ORDER BY number").fetchall():
            if number in self._loaded:
                shelf = self.get(connection, number)
            elif with_saved and self._path(number).exists():
                stands_for = self._stands_for(connection, number)
                saved = read_shelf(self._path(number), stands_for) or read_shelf(self._path(number), stands_for)
                if saved is None:  # twice: another process may have put a new one there
                    with suppress(FileNotFoundError):
                        yield f"index {number}: {_why_unread(self._path(number))}"
                    continue
                if not _catch_up(connection, number, saved):
                    continue
                shelf = saved
            else:
                continue
            wanted = {row[:2] for row in connection.execute(ROWS, [number, 2 * shelf.dim])}
            found = shelf.live_rows()
            if wanted != found:
                yield (
                    f"index {number}: {len(wanted - found)} rows of the database are missing and "
                    f"{len(found - wanted)} are too many"
                )

    def kinds(self) -> dict[int, str]:
        """How each shelf that is in memory is searched: flat or HNSW."""
        return {number: "HNSW" if shelf.is_graph else "flat" for number, shelf in self._loaded.items()}

    def _path(self, number: int) -> Path:
        return self._files.index / f"shelf-{number}.safetensors"

    def _stands_for(self, connection: Connection, number: int) -> dict[str, str]:
        return {"cache": str(read_setting(connection, "cache")), "shelf": str(number)}


def _why_unread(path: Path) -> str:
    """Raises: FileNotFoundError if it has gone meanwhile."""
    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise
    except OSError as error:
        return f"its file cannot be read just now ({error.strerror})"
    return "its file is damaged, or of another cache"


def _from_rows(connection: Connection, number: int) -> Shelf:
    """A flat shelf, which 100,000 embeddings fill in a fraction of a second; `settle` makes the graph later."""
    (dim,) = connection.execute("SELECT dim FROM shelves WHERE number = ?", [number]).fetchone()
    shelf = Shelf(dim)
    vectors, embeddings = _read_vectors(connection, number, dim, after=-1)
    rows = connection.execute(f"{ROWS} ORDER BY e.vector, e.entry", [number, 2 * dim]).fetchall()
    shelf.fill(vectors, embeddings, rows)
    shelf.change = _latest(connection)
    return shelf


def _catch_up(connection: Connection, number: int, shelf: Shelf) -> bool:
    """Bring a shelf up to date; False if it has to be read afresh: after a lag longer than changes are kept, or if it
    stands for another history of the database, which was put back from a backup and went on from there."""
    latest = _latest(connection)
    if shelf.change == latest:
        return True
    change, mark = shelf.change
    query = "SELECT mark FROM changes WHERE number = ?" if change else "SELECT 0 FROM changes WHERE number = 1"
    if connection.execute(query, [change] if change else []).fetchone() != (mark,):
        return False
    changes = connection.execute("SELECT entry, what FROM changes WHERE number > ?", [change]).fetchall()
    if any(what == "refiled" for _, what in changes):
        return False
    shelf.remove(entry for entry, what in changes if what == "removed")
    added = "e.entry IN (SELECT entry FROM changes WHERE number > ? AND what = 'added')"
    rows = connection.execute(f"{ROWS} AND {added}", [number, 2 * shelf.dim, change]).fetchall()
    if rows:
        after = int(shelf.vectors[-1]) if len(shelf.vectors) else -1
        vectors, embeddings = _read_vectors(connection, number, shelf.dim, after)
        shelf.add(vectors, embeddings, rows)
    shelf.change = latest
    return True


def _read_vectors(connection: Connection, number: int, dim: int, after: int) -> tuple[Ints, Floats]:
    query = "SELECT number, embedding FROM vectors WHERE shelf = ? AND number > ? AND length(embedding) = ? "
    rows = connection.execute(query + "ORDER BY number", [number, after, 2 * dim]).fetchall()
    embeddings = np.frombuffer(b"".join(blob for _, blob in rows), EMBEDDING_DTYPE).reshape(-1, dim)
    return np.array([vector for vector, _ in rows], np.int64), embeddings.astype(np.float32)


def _latest(connection: Connection) -> Change:
    row = connection.execute("SELECT number, mark FROM changes ORDER BY number DESC LIMIT 1").fetchone()
    return (0, 0) if row is None else (row[0], row[1])
