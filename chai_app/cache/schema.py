"""Tables of the database, version by version. A new file goes through every step, an older one through the rest."""

from __future__ import annotations

import secrets
import sqlite3

from ..settings import PROGRAM
from .errors import DamagedCache, OlderCache

APPLICATION_ID = 0x43484149  # "CHAI": tells our file from any other SQLite database

_VERSION_1 = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value) WITHOUT ROWID;

CREATE TABLE entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    latent_shape TEXT NOT NULL,
    num_frames INTEGER NOT NULL,
    height INTEGER NOT NULL,
    width INTEGER NOT NULL,
    fps REAL NOT NULL,
    prompt TEXT NOT NULL,
    seed INTEGER NOT NULL,
    schedule TEXT NOT NULL,
    file TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL,
    checksum TEXT NOT NULL,
    hits INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    last_used REAL NOT NULL,
    is_pinned INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX entries_by_use ON entries (is_pinned, last_used, number);
CREATE INDEX entries_by_bytes ON entries (is_pinned, bytes);

-- A shelf holds what one lookup may find: one embedder, one model, one size of latents, one kind.
CREATE TABLE shelves (
    number INTEGER PRIMARY KEY,
    embedder TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    latent_shape TEXT NOT NULL,
    kind TEXT NOT NULL,
    dim INTEGER NOT NULL,
    UNIQUE (embedder, kind, fingerprint, latent_shape)
);
-- Embeddings are kept once per shelf, in fp16: a thousand entries with a tiger share one row.
CREATE TABLE vectors (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    shelf INTEGER NOT NULL REFERENCES shelves (number),
    digest BLOB NOT NULL,
    embedding BLOB NOT NULL,
    UNIQUE (shelf, digest)
);
CREATE TABLE entities (
    number INTEGER PRIMARY KEY,
    entry INTEGER NOT NULL REFERENCES entries (number) ON DELETE CASCADE,
    vector INTEGER NOT NULL REFERENCES vectors (number),
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    head TEXT NOT NULL,
    count INTEGER
);
CREATE INDEX entities_by_entry ON entities (entry);
CREATE INDEX entities_by_vector ON entities (vector, entry);

-- Rises by one for every entry that is added, removed or refiled (under other embeddings). An index that stands for
-- number n catches up from n + 1.
CREATE TABLE changes (number INTEGER PRIMARY KEY AUTOINCREMENT, entry INTEGER NOT NULL, what TEXT NOT NULL);

CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    entry TEXT,
    bytes INTEGER NOT NULL
);
"""

# Lineage, what an entry cost to make (which a policy weighs), the caller's own data, and sums by day: events are
# forgotten after a while, their sums are not.
_VERSION_2 = """
ALTER TABLE entries ADD COLUMN parent TEXT;
ALTER TABLE entries ADD COLUMN reuse_depth INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN drift REAL;
ALTER TABLE entries ADD COLUMN compute_seconds REAL NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN extra TEXT NOT NULL DEFAULT '{}';
CREATE TABLE days (
    day TEXT NOT NULL,
    kind TEXT NOT NULL,
    times INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (day, kind)
) WITHOUT ROWID;
INSERT INTO days SELECT date(at, 'unixepoch'), kind, count(*), sum(bytes) FROM events GROUP BY 1, 2;
"""

# The full run that a line of reuse began with. What is here already finds its own along the line of parents, as far as
# they are still here; no line is longer than its depth says, and a lie about that ends at 100.
_VERSION_3 = """
ALTER TABLE entries ADD COLUMN root TEXT;
UPDATE entries SET root = (
    WITH RECURSIVE line (ancestor, depth) AS (
        SELECT entries.parent, 1
        UNION ALL
        SELECT e.parent, line.depth + 1 FROM line JOIN entries e ON e.id = line.ancestor
        WHERE e.parent IS NOT NULL AND line.depth < min(entries.reuse_depth, 100)
    )
    SELECT ancestor FROM line WHERE depth = entries.reuse_depth
) WHERE parent IS NOT NULL;
CREATE INDEX entries_by_parent ON entries (parent) WHERE parent IS NOT NULL;
CREATE INDEX entries_reused ON entries (number, reuse_depth) WHERE reuse_depth > 0;
"""

# A number that nobody can guess, so that an index can tell this history from another one that came as far: after a
# backup was put back, the numbers of changes begin again where it stood.
_VERSION_4 = """
ALTER TABLE changes ADD COLUMN mark INTEGER NOT NULL DEFAULT 0;
"""

_STEPS = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4)
VERSION = len(_STEPS)


def steps_from(version: int) -> list[str]:
    """The statements that bring tables of a version up to date."""
    return [part for step in _STEPS[version:] for part in step.split(";\n")]  # no statement has ";\n" inside


def prepare(connection: sqlite3.Connection, name: str) -> None:
    """Make or upgrade the tables, in the transaction that is under way.

    Raises: DamagedCache if the file is newer than this program or not a cache.
    """
    version = check(connection, name)
    for statement in steps_from(version):  # `executescript` would commit
        connection.execute(statement)
    if version == 0:
        connection.execute("INSERT INTO settings VALUES ('cache', ?)", [secrets.token_hex(8)])
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def check(connection: sqlite3.Connection, name: str) -> int:
    """The version of the tables, 0 if there are none yet.

    Raises: DamagedCache if the file is newer than this program or not a cache.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != APPLICATION_ID:
        raise DamagedCache(
            f"{name} is a database of another program: move it away, or set CHAI_HOME to another folder."
        )
    refuse_newer(version, name, "set CHAI_HOME to another folder")
    return int(version)


def refuse_newer(version: int, name: str, otherwise: str) -> None:
    """Raises: DamagedCache if this program is too old for the tables."""
    if version > VERSION:
        raise DamagedCache(
            f"{name} was written by a newer version of this program (its tables are version {version}, this program "
            f"knows {VERSION}): update the program, or {otherwise}."
        )


def older(version: int, name: str) -> OlderCache:
    """What to say of tables that have to be upgraded first."""
    return OlderCache(
        f"{name} was written by an older version of this program (its tables are version {version}, this program's "
        f"{VERSION}): run {PROGRAM} cache upgrade, or make a video, to upgrade it."
    )
