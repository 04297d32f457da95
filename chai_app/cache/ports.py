"""What a cache stands on: rows (with their embeddings) and blobs.

By default these are SQLite (`database.py`) and a folder of files (`latent_files.py`). Many machines share PostgreSQL
(`postgres.py`) and an object store (`objects.py`). Whatever else there is in this room knows these protocols only. SQL
is written once, in SQLite's words that PostgreSQL has too; `postgres.py` translates the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePath
from typing import Any, Protocol

from .entries import Entry


class Cursor(Protocol):
    """What a statement found, row by row."""

    @property
    def rowcount(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """A transaction that is under way."""

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Cursor: ...


class Rows(Protocol):
    """The database: readers never wait, writers queue, a failure leaves nothing behind."""

    @property
    def read_only(self) -> bool: ...

    is_shared: bool
    """Whether many machines use it: what is read comes over a network, and it can search embeddings by itself."""

    def beside(self) -> Rows:
        """The same rows, to read by a connection of its own what takes long."""

    def reading(self) -> AbstractContextManager[Connection]:
        """All reads of the block see the cache at one moment. Inside another transaction it is part of that."""

    def writing(self) -> AbstractContextManager[Connection]:
        """Commits if the block ends well, else undoes it. Nobody else writes meanwhile."""

    def alone(self) -> AbstractContextManager[bool]:
        """Nobody else writes meanwhile, if True; nothing is written."""

    def refuse_if_read_only(self) -> None:
        """Raises: CacheError."""

    def faults(self, connection: Connection) -> Iterable[str]:
        """What the database finds wrong with itself."""

    def close(self) -> None: ...


class Staged(Protocol):
    """One blob that is being written, and that no row speaks of yet."""

    def write(self, content: bytes) -> None:
        """All of it, to where a crash cannot reach it."""

    def move_to(self, target: Any) -> None:
        """Give the blob its name; only inside the write transaction that commits its row."""

    def keep(self) -> None:
        """The row is committed, or will be with this transaction: the blob stays."""


class Blobs(Protocol):
    """Latents and previews. They are there before their rows and go after them, so that no row is without its bytes.

    Names (`PurePath`) end in the id of the entry and a suffix.
    """

    def latents_of(self, entry: Entry) -> Any: ...
    def preview_of(self, id: str) -> Any: ...

    def staged(self, entry: Entry | None = None) -> AbstractContextManager[Staged]:
        """A blob that is gone after the block unless it was kept. entry: whose latents it will be."""

    def read_latents(self, entry: Entry) -> bytes:
        """Raises: ValueError if they are damaged or missing; OSError if they cannot be read just now."""

    def has_latents(self, entry: Entry) -> bool:
        """Whether they are there in full length."""

    def preview(self, id: str) -> Path | None:
        """A file with the picture of an entry, if there is one."""

    def exists(self, name: Any) -> bool:
        """Whether there is a blob of this name (as `latents_of` and `without_row` give them)."""

    def unlink(self, entries: Iterable[Entry]) -> None:
        """Away with what belongs to entries whose rows are gone."""

    def set_aside(self, entry: Entry) -> None:
        """Damaged latents go where they can be looked at."""

    def forget_set_aside(self, ids: set[str]) -> None:
        """Away with all that is no entry's, while nobody else writes rows."""

    def without_row(self, ids: set[str]) -> Sequence[PurePath]:
        """What is named for an entry, but for none of these."""

    def parts(self) -> Sequence[PurePath]:
        """What is being written."""

    def abandoned_parts(self) -> Sequence[PurePath]:
        """What is being written by nobody any more. Certain only while nobody else writes rows."""

    def has_litter(self, ids: set[str]) -> bool:
        """Whether `sweep` would find something to do, with these entries; looked at without any lock."""

    def sweep(self, ids: set[str], removed: Callable[[Iterable[str]], set[str]]) -> list[str]:
        """Look after what no row speaks of, while nobody else writes rows. Returns: what was done, in sentences.

        removed: tells of some ids which ones were entries that somebody took away.
        """


class Among(list[Any]):
    """Values for `IN (SELECT value FROM json_each(?))`."""

    def __conform__(self, protocol: object) -> str:
        """How SQLite takes it."""
        return json.dumps(self)


class Embedding(bytes):
    """An embedding as it is stored: numbers of 16 bits."""
