"""Rows in PostgreSQL with pgvector, for a cache that many machines share.

It keeps what `database.py` promises: readers see one moment and never wait; writers queue for an advisory lock, so that
numbers rise in the order of commits and every index can catch up from `changes`; a failure leaves nothing behind.

SQL comes in SQLite's words. The tables are made of the same statements, with PostgreSQL's types; two functions that it
does not have are defined beside them.
"""

from __future__ import annotations

import re
import secrets
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psycopg
from psycopg import errors
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format, TransactionStatus
from psycopg.types import TypeInfo

from .database import Database
from .errors import CacheError, CannotStore, DamagedCache
from .ports import Connection, Cursor, Embedding
from .schema import APPLICATION_ID, VERSION, older, refuse_newer, steps_from

_LONGEST_WAIT_S, _CONNECT_S = 60, 10
_SETTINGS = f"SET search_path = chai, public; SET lock_timeout = '{_LONGEST_WAIT_S}s'"
# A machine that vanishes in the midst of a change holds the lock no longer than others wait for it.
_LOCK = f"""SELECT pg_advisory_xact_lock({APPLICATION_ID}),
set_config('idle_in_transaction_session_timeout', '{_LONGEST_WAIT_S // 2}s', true)"""
_FUNCTIONS = (
    "CREATE FUNCTION instr(text, text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT strpos($1, $2)'",
    "CREATE FUNCTION length(halfvec) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * vector_dims($1)'",
)
_TYPES = (
    (r"INTEGER PRIMARY KEY( AUTOINCREMENT)?", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
    (r"\bINTEGER\b", "BIGINT"),
    (r"\bREAL\b", "DOUBLE PRECISION"),
    (r"embedding BLOB", "embedding halfvec"),
    (r"\bBLOB\b", "BYTEA"),
    (r"\bTEXT\b", 'TEXT COLLATE "C"'),  # bytes are compared, as SQLite does
    (r", value\)", ", value TEXT)"),
    (r" WITHOUT ROWID", ""),
    (r"--.*", ""),
)


class Postgres:
    """A connection that threads of one process share, one transaction at a time.

    read_only changes nothing; a database without our tables reads as an empty cache.
    Raises: CacheError if it cannot be reached, or used.
    """

    is_shared = True

    def __init__(self, url: str, read_only: bool) -> None:
        self.read_only, self._url = read_only, url
        parts = urlsplit(url)
        self._shown = f"{parts.hostname or 'localhost'}{parts.path}"  # no name, no password
        self._lock = threading.RLock()
        self._empty: Database | None = None
        self._current: Connection = self
        self._connection: psycopg.Connection[Any] | None = None
        with self._in_plain_words():
            self._open()

    def beside(self) -> Postgres:
        """The same rows, to read by a connection of its own what takes long."""
        return Postgres(self._url, read_only=True)

    def close(self) -> None:
        """Waits for the transactions of other threads. Further use is a bug."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._url = ""

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """All reads of the block see the cache at one moment. Inside another transaction it is part of that."""
        with self._lock, self._in_plain_words():
            if self._is_in_transaction:
                yield self._current
                return
            self._begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                with self._empty.reading() if self._empty else nullcontext(self) as self._current:
                    yield self._current
            finally:
                self._current = self
                self._roll_back()

    def refuse_if_read_only(self) -> None:
        """Raises: CacheError."""
        if self.read_only:
            raise CacheError("The cache is open for reading only, so nothing in it can be changed.")

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Commits if the block ends well, else undoes it. No other process writes meanwhile.

        Raises: CacheError if the cache is open for reading only, or another process writes for a whole minute.
        """
        self.refuse_if_read_only()
        with self._lock, self._in_plain_words():
            assert not self._is_in_transaction, "a write cannot begin inside another transaction"
            self._begin("BEGIN")
            try:
                self.execute(_LOCK)
                yield self
                self.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """For a look at things that others change: what they were in the midst of is finished, and nobody begins."""
        with self._lock, self._in_plain_words():
            self._begin("BEGIN READ ONLY")
            try:
                self.execute(_LOCK)
                yield True
            finally:
                self._roll_back()

    def faults(self, connection: Connection) -> list[str]:
        """None: the server looks after itself, and no row that refers to nothing can be written."""
        return []

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Cursor:
        """One statement of the transaction that is under way."""
        assert self._connection is not None
        return self._connection.execute(_translated(sql), values, binary=True)

    def _open(self) -> None:
        assert self._url, "the cache was closed"
        if self._connection is not None:
            self._connection.close()
        self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=_CONNECT_S)
        try:
            self._set_up()
        except BaseException:
            self._connection.close()
            raise

    def _set_up(self) -> None:
        assert self._connection is not None
        self._connection.execute(_SETTINGS)
        version = self._version()
        refuse_newer(version, self._shown, "set CHAI_CACHE to another database")
        self._empty = None
        if self.read_only and version == 0:
            self._empty = Database(Path(":memory:"), read_only=True)
            return
        if self.read_only and version != VERSION:
            raise older(version, self._shown)
        if version != VERSION:
            self._prepare()
        _teach_embeddings(self._connection)

    def _version(self) -> int:
        # A look into the catalogue, and not to_regclass, which remembers what there was before the wait for a lock.
        query = "SELECT 1 FROM pg_tables WHERE schemaname = 'chai' AND tablename = 'settings'"
        if self.execute(query).fetchone() is None:
            return 0
        return int(self.execute("SELECT value FROM settings WHERE name = 'version'").fetchone()[0])

    def _prepare(self) -> None:
        assert self._connection is not None
        with self._connection.transaction():
            self.execute(_LOCK)
            version = self._version()  # another process may have been faster
            if version == 0:
                self.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
                self.execute("CREATE SCHEMA chai")
            for statement in steps_from(version):
                for pattern, type in _TYPES:
                    statement = re.sub(pattern, type, statement)
                # In new tables there is nothing yet that a step could have to change.
                if statement.strip() and (version or not statement.strip().startswith(("INSERT", "UPDATE"))):
                    self.execute(statement)
            if version == 0:
                for function in _FUNCTIONS:
                    self.execute(function)
                self.execute("INSERT INTO settings VALUES ('cache', ?)", [secrets.token_hex(8)])
            set_version = "INSERT INTO settings VALUES ('version', ?) ON CONFLICT (name) DO UPDATE SET value = ?"
            self.execute(set_version, [str(VERSION)] * 2)

    @property
    def _is_in_transaction(self) -> bool:
        assert self._connection is not None
        return self._connection.info.transaction_status == TransactionStatus.INTRANS

    def _begin(self, how: str) -> None:
        """With a connection of now, if the server was away meanwhile or there were no tables yet."""
        if self._empty is not None:
            self._open()
        try:
            self.execute(how)
        except psycopg.OperationalError:
            self._open()
            self.execute(how)

    def _roll_back(self) -> None:
        with suppress(psycopg.Error):
            self.execute("ROLLBACK")

    @contextmanager
    def _in_plain_words(self) -> Iterator[None]:
        try:
            yield
        except errors.LockNotAvailable as error:
            raise CacheError(
                f"Another process has been writing to {self._shown} for {_LONGEST_WAIT_S} s: try again later."
            ) from error
        except (errors.DiskFull, errors.InsufficientPrivilege, errors.FeatureNotSupported) as error:
            raise CannotStore(
                f"The database {self._shown} refused it, so the cache was left as it was ({_first_line(error)})."
            ) from error
        except errors.UndefinedObject as error:
            raise CacheError(
                f"The database {self._shown} has no pgvector 0.7 or later in its schema public "
                f"({_first_line(error)}): install it, or set CHAI_CACHE to another database."
            ) from error
        except (errors.UndefinedTable, errors.UndefinedColumn, errors.DataCorrupted, errors.IndexCorrupted) as error:
            raise DamagedCache(
                f"The database {self._shown} is damaged ({_first_line(error)}): put a backup in its place, or drop its "
                "schema chai to begin with an empty cache."
            ) from error
        except (psycopg.OperationalError, errors.IdleInTransactionSessionTimeout) as error:
            raise CacheError(
                f"The database {self._shown} cannot be reached ({_first_line(error)}): check CHAI_CACHE, or try again "
                "later."
            ) from error


@lru_cache(maxsize=256)
def _translated(sql: str) -> bytes:
    sql = sql.replace("IN (SELECT value FROM json_each(?))", "= ANY(?)")
    return sql.replace("CROSS JOIN", "JOIN").replace("%", "%%").replace("?", "%s").encode()


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]


class _EmbeddingLoader(Loader):
    """halfvec to the bytes that SQLite keeps: a head of four bytes goes, and the others change places."""

    format = Format.BINARY

    def load(self, data: Any) -> bytes:
        return np.frombuffer(data, ">u2", offset=4).astype("<u2").tobytes()


class _EmbeddingDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Embedding) -> bytes:
        return struct.pack(">HH", len(obj) // 2, 0) + np.frombuffer(obj, "<u2").astype(">u2").tobytes()


def _teach_embeddings(connection: psycopg.Connection[Any]) -> None:
    halfvec = TypeInfo.fetch(connection, "halfvec")
    assert halfvec is not None, "the tables have a column of this type"
    connection.adapters.register_loader(halfvec.oid, _EmbeddingLoader)
    connection.adapters.register_dumper(Embedding, type("Dumper", (_EmbeddingDumper,), {"oid": halfvec.oid}))
