"""One SQLite connection and its transactions: readers never wait, writers queue, a failure leaves nothing behind."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

from .errors import CacheError, CannotStore, DamagedCache
from .ports import Connection
from .schema import VERSION, check, older, prepare

_LONGEST_WAIT_S = 60.0
_RETRY_S = 0.01
_NOTHING = ":memory:"


class Database:
    """A connection that threads of one process share, one transaction at a time.

    read_only leaves the disk as it is; a file that is not there reads as an empty cache.
    """

    is_shared = False

    def __init__(self, path: Path, read_only: bool) -> None:
        self.path, self.read_only = path, read_only
        self._lock = threading.RLock()
        with self._in_plain_words():
            self._open()

    def beside(self) -> Database:
        """The same rows, to read by a connection of its own what takes long."""
        return Database(self.path, read_only=True)

    def close(self) -> None:
        """Waits for the transactions of other threads. Further use is a bug."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """All reads of the block see the cache at one moment. Inside another transaction it is part of that."""
        with self._lock, self._in_plain_words():
            if self._connection.in_transaction:
                yield self._connection
                return
            self._follow()
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                _roll_back(self._connection)

    def refuse_if_read_only(self) -> None:
        """Raises: CacheError."""
        if self.read_only:
            raise CacheError("The cache is open for reading only, so nothing in it can be changed.")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Commits if the block ends well, else undoes it. No other process writes meanwhile.

        Raises: CacheError if the cache is open for reading only, or another process writes for a whole minute.
        """
        self.refuse_if_read_only()
        with self._lock, self._in_plain_words():
            assert not self._connection.in_transaction, "a write cannot begin inside another transaction"
            self._follow()
            # IMMEDIATE: a transaction that reads first and writes later could fail in between, when another wrote.
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                _roll_back(self._connection)
                raise

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """For a look at things that others change: what they were in the midst of is finished, and nobody begins.

        True if that could be made sure of, which needs the permission to write; nothing is written all the same.
        """
        if not self.read_only:
            with self.writing():
                yield True
            return
        with closing(self._guard()) if self.path.exists() else nullcontext() as guard:
            yield guard is None or guard.in_transaction

    def faults(self, connection: Connection) -> Iterator[str]:
        """What SQLite finds wrong with the file."""
        for (line,) in connection.execute("PRAGMA integrity_check").fetchall():
            if line != "ok":
                yield line
        for table, row, *_ in connection.execute("PRAGMA foreign_key_check").fetchall():
            yield f"row {row} of {table} refers to nothing"

    def _guard(self) -> sqlite3.Connection:
        """A connection that holds the write lock if it may."""
        address = self.path.absolute().as_uri() + "?mode=rw"
        guard = sqlite3.connect(address, uri=True, isolation_level=None, timeout=_LONGEST_WAIT_S)
        with suppress(sqlite3.Error):
            guard.execute("BEGIN IMMEDIATE")
        return guard

    def _open(self) -> None:
        if not self.read_only:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CannotStore(f"The folder {self.path.parent} cannot be made ({error.strerror}).") from error
        is_there = self.path.exists()
        mode = "?mode=ro" if self.read_only else ""
        address = self.path.absolute().as_uri() + mode if is_there or not self.read_only else _NOTHING
        self._file = _identity(self.path) if is_there else None
        self._connection = _connect(address)
        try:
            self._set_up(is_there)
        except BaseException:
            self._connection.close()
            raise
        self._log = _identity(self._log_path)

    @property
    def _log_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}-wal")

    def _follow(self) -> None:
        """Open the database anew if another file has taken its place, as when a backup is put back. Writing on into
        the old one would be writing to nowhere."""
        if _identity(self.path) != self._file:
            self._connection.close()
            # SQLite leaves the log of a file that has moved, and would play it back into the one that came.
            if not self.read_only and self._log is not None and _identity(self._log_path) == self._log:
                self._log_path.unlink(missing_ok=True)
            self._open()

    def _set_up(self, is_there: bool) -> None:
        connection = self._connection
        connection.execute("PRAGMA foreign_keys = ON")
        if self.read_only and is_there:
            version = self._version()
            if version == 0:  # its tables are yet to be made: an empty cache
                self._connection.close()
                self._connection, self._file = _connect(_NOTHING), None
                self._set_up(is_there=False)
                return
            if version != VERSION:
                raise older(version, str(self.path))
            return
        if not self.read_only:
            self._file = _identity(self.path)
        version = self._version()  # before anything in a file that is not ours could change
        self._use_wal()
        # FULL: a deletion commits before its file is unlinked. Were that commit lost in a power cut, a row would
        # stand without its file.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")  # what was purged does not linger in free pages
        if version == VERSION:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            prepare(connection, str(self.path))
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise

    def _version(self) -> int:
        self._connection.execute("BEGIN")  # one moment: another process may be making the tables
        try:
            return check(self._connection, str(self.path))
        finally:
            _roll_back(self._connection)

    def _use_wal(self) -> None:
        # The change of journal needs the file for itself, and SQLite does not always wait for that: processes that
        # open a new cache in one moment get in each other's way.
        until = time.monotonic() + _LONGEST_WAIT_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(_RETRY_S)

    @contextmanager
    def _in_plain_words(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None)
            code = None if code is None else code & 0xFF
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise CannotStore(
                    f"The disk that holds {self.path.parent} is full or failing, so the cache was left as it was: "
                    f"free some space."
                ) from error
            if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
                raise CannotStore(
                    f"{self.path} cannot be opened or written: check its permissions, or set CHAI_HOME."
                ) from error
            if code == sqlite3.SQLITE_BUSY:
                raise CacheError(
                    f"Another process has been writing to {self.path} for {_LONGEST_WAIT_S:g} s: try again later."
                ) from error
            if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):  # a bug of ours
                raise
            # Damage shows in many ways: a page that is none, a table or a column that is not there, a broken rule.
            raise DamagedCache(
                f"The database {self.path} is damaged ({error}): put a backup in its place, or move it away, with its "
                f"-wal file if there is one, to begin with an empty cache."
            ) from error


def _connect(address: str) -> sqlite3.Connection:
    return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False, timeout=_LONGEST_WAIT_S)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # a full disk has SQLite roll back by itself
        connection.execute("ROLLBACK")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
