"""The rows of an entry: written together, read back as values, gone together. Callers bring the transaction."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from .entries import KINDS, MOST_COUNT, Entity, Entry, Kind, Order, Phrase, Schedule, Selection, Shape, plain
from .ports import Among, Connection, Embedding

NO_COUNT = -1
"""Stands in an index for a count that the phrase does not say."""

# (vector, entry, count) of a shelf: whole embeddings alone, of `dim` numbers; a count beyond all counting is none.
ROWS = f"""
    SELECT e.vector, e.entry, CASE WHEN e.count BETWEEN 0 AND {MOST_COUNT} THEN e.count ELSE {NO_COUNT} END
    FROM entities e JOIN vectors v ON v.number = e.vector WHERE v.shelf = ? AND length(v.embedding) = ?
"""

Change = Literal["added", "removed", "refiled"]

KEPT_CHANGES = 50_000
"""How far an index may lag behind and still catch up; what lags further is read afresh."""

EMBEDDING_DTYPE = "float16"  # moves a cosine by less than 0.0005

_COLUMNS = (
    "number, id, fingerprint, latent_shape, num_frames, height, width, fps, prompt, seed, schedule, file, bytes, "
    "checksum, hits, created, last_used, is_pinned, parent, root, reuse_depth, drift, compute_seconds, extra"
)
_ORDERS: dict[Order, str] = {
    "made": "number DESC",
    "used": "last_used DESC, number DESC",
    "hits": "hits DESC, number DESC",
    "bytes": "bytes DESC, number DESC",
}
_OWN_COLUMNS = _COLUMNS.removeprefix("number, ")
_PLACES = ", ".join("?" * len(_OWN_COLUMNS.split(",")))
_ALL = 2**62


def add_entry(connection: Connection, entry: Entry, entities: Iterable[tuple[str, Entity]]) -> int:
    """Write an entry and its (embedder, entity) pairs; its own number is passed over for a new one, returned."""
    values = (
        entry.id,
        entry.fingerprint,
        entry.shape.latent_key,
        entry.shape.num_frames,
        entry.shape.height,
        entry.shape.width,
        entry.shape.fps,
        entry.prompt,
        entry.seed,
        _schedule_text(entry.schedule),
        entry.file,
        entry.bytes,
        entry.checksum,
        entry.hits,
        entry.created,
        entry.last_used,
        int(entry.is_pinned),
        entry.parent,
        entry.root,
        entry.reuse_depth,
        entry.drift,
        entry.compute_seconds,
        json.dumps(dict(entry.extra)),
    )
    query = f"INSERT INTO entries ({_OWN_COLUMNS}) VALUES ({_PLACES}) RETURNING number"
    ((number,),) = connection.execute(query, values).fetchall()
    _file(connection, number, entry, entities)
    _tell(connection, number, "added")
    return int(number)


def refile(connection: Connection, entry: Entry, entities: Iterable[tuple[str, Entity]]) -> None:
    """Put (embedder, entity) pairs in the place of all that an entry was found by."""
    _unfile(connection, entry.number)
    _file(connection, entry.number, entry, entities)
    _tell(connection, entry.number, "refiled")


def _file(connection: Connection, number: int, entry: Entry, entities: Iterable[tuple[str, Entity]]) -> None:
    for embedder, entity in entities:
        shelf = _shelf(connection, embedder, entry.fingerprint, entry.shape.latent_key, entity)
        vector = _vector(connection, shelf, Embedding(entity.embedding.astype(EMBEDDING_DTYPE).tobytes()))
        connection.execute(
            "INSERT INTO entities (entry, vector, kind, text, head, count) VALUES (?, ?, ?, ?, ?, ?)",
            (number, vector, entity.kind, entity.text, entity.head, entity.count),
        )


def forget(connection: Connection, numbers: Iterable[int]) -> None:
    """Take entries away with all that only they needed; their files are the caller's to unlink, after the commit."""
    for number in numbers:
        _unfile(connection, number)
        connection.execute("DELETE FROM entries WHERE number = ?", [number])
        _tell(connection, number, "removed")


def _unfile(connection: Connection, number: int) -> None:
    vectors = connection.execute("SELECT DISTINCT vector FROM entities WHERE entry = ?", [number]).fetchall()
    connection.execute("DELETE FROM entities WHERE entry = ?", [number])
    drop_unused_vectors(connection, (vector for (vector,) in vectors))


def drop_unused_vectors(connection: Connection, vectors: Iterable[int]) -> None:
    connection.execute(
        "DELETE FROM vectors WHERE number IN (SELECT value FROM json_each(?)) "
        "AND NOT EXISTS (SELECT 1 FROM entities WHERE vector = vectors.number)",
        [Among(vectors)],
    )


def entry_by_id(connection: Connection, id: str) -> Entry | None:
    return next(iter(_entries(connection, "WHERE id = ?", [id])), None)


def entry_by_number(connection: Connection, number: int) -> Entry | None:
    return next(iter(_entries(connection, "WHERE number = ?", [number])), None)


def entries_beginning(connection: Connection, digits: str, limit: int) -> tuple[list[Entry], int]:
    """Entries whose ids begin with some hexadecimal digits, newest first, and how many there are of them."""
    between = "id >= ? AND id < ?"  # unlike LIKE, a range of the ids' own index
    values = [digits, digits + "g"]
    (count,) = connection.execute(f"SELECT count(*) FROM entries WHERE {between}", values).fetchone()
    return _entries(connection, f"WHERE {between} ORDER BY number DESC LIMIT ?", [*values, limit]), count


def children_of(connection: Connection, id: str) -> list[Entry]:
    """Entries that were made by reusing one, oldest first."""
    return _entries(connection, "WHERE parent = ? ORDER BY number", [id])


def reuse_depths(connection: Connection, numbers: Sequence[int]) -> dict[int, int]:
    """Of some entries those that no full run made, and how many generations they are away from one."""
    (is_any,) = connection.execute("SELECT EXISTS (SELECT 1 FROM entries WHERE reuse_depth > 0)").fetchone()
    if not is_any:
        return {}
    query = (
        "SELECT number, reuse_depth FROM entries WHERE reuse_depth > 0 AND number IN (SELECT value FROM json_each(?))"
    )
    return dict(connection.execute(query, [Among(numbers)]).fetchall())


def selected(
    connection: Connection, selection: Selection, limit: int | None = None, offset: int = 0, order: Order = "made"
) -> list[Entry]:
    """Latest (or most) first, newest first of equals."""
    where, values = _where(selection)
    return _entries(
        connection,
        f"{where} ORDER BY {_ORDERS[order]} LIMIT ? OFFSET ?",
        [*values, _ALL if limit is None else limit, offset],
    )


def count_selected(connection: Connection, selection: Selection) -> int:
    where, values = _where(selection)
    return int(connection.execute(f"SELECT count(*) FROM entries {where}", values).fetchone()[0])


def _where(selection: Selection) -> tuple[str, list[Any]]:
    parts: list[str] = []
    values: list[Any] = []
    for value, condition in (
        (selection.prompt, "instr(lower(prompt), lower(?)) > 0"),
        (selection.since, "created >= ?"),
        (selection.before, "created < ?"),
        (selection.fingerprint, "fingerprint = ?"),
        (None if selection.is_pinned is None else int(selection.is_pinned), "is_pinned = ?"),
    ):
        if value is not None:
            parts.append(condition)
            values.append(value)
    if selection.entity is not None:
        parts.append("number IN (SELECT entry FROM entities WHERE lower(text) = lower(?) OR lower(head) = lower(?))")
        values += [selection.entity] * 2
    return (f"WHERE {' AND '.join(parts)}" if parts else ""), values


def phrases_of(connection: Connection, number: int) -> list[Phrase]:
    """What an entry is filed under, in the order in which it was given."""
    query = "SELECT kind, text, head, count FROM entities WHERE entry = ? ORDER BY number"
    return [_phrase(*row) for row in connection.execute(query, [number])]


def filed_entities(connection: Connection, number: int) -> Iterator[tuple[str, Phrase, bytes]]:
    """(embedder, phrase, embedding as it is stored) for each entity of an entry."""
    query = """
        SELECT s.embedder, v.embedding, e.kind, e.text, e.head, e.count FROM entities e
        JOIN vectors v ON v.number = e.vector JOIN shelves s ON s.number = v.shelf
        WHERE e.entry = ? ORDER BY e.number
    """
    for embedder, embedding, *words in connection.execute(query, [number]):
        yield embedder, _phrase(*words), embedding


def embedding_of(connection: Connection, embedder: str, text: str) -> bytes | None:
    """The embedding that an embedder gave to `text`, as it is stored; None if nothing is filed under it."""
    query = """
        SELECT v.embedding FROM entities e
        JOIN vectors v ON v.number = e.vector JOIN shelves s ON s.number = v.shelf
        WHERE s.embedder = ? AND e.text = ? AND length(v.embedding) = 2 * s.dim LIMIT 1
    """
    row = connection.execute(query, [embedder, text]).fetchone()
    return None if row is None else row[0]


def _phrase(kind: Kind, text: str, head: str, count: int | None) -> Phrase:
    """Whatever is in the database: an archive of before, which nobody looked at closely, could have brought it."""
    is_count = isinstance(count, int) and 0 <= count <= MOST_COUNT
    return Phrase(kind if kind in KINDS else "object", plain(text) or "?", plain(head), count if is_count else None)


def all_ids(connection: Connection, among: Iterable[str] | None = None) -> set[str]:
    """The ids of all entries, or those that there are `among` some."""
    if among is None:
        return {id for (id,) in connection.execute("SELECT id FROM entries")}
    query = "SELECT id FROM entries WHERE id IN (SELECT value FROM json_each(?))"
    return {id for (id,) in connection.execute(query, [Among(among)])}


def widths(connection: Connection) -> dict[str, int]:
    """How many numbers the embeddings of each embedder have, as most of them are."""
    query = (
        "SELECT s.embedder, s.dim FROM shelves s JOIN vectors v ON v.shelf = s.number "
        "GROUP BY s.embedder, s.dim ORDER BY count(*)"
    )
    return dict(connection.execute(query).fetchall())


def read_setting(connection: Connection, name: str, default: Any = None) -> Any:
    row = connection.execute("SELECT value FROM settings WHERE name = ?", [name]).fetchone()
    return default if row is None else row[0]


def write_setting(connection: Connection, name: str, value: Any) -> None:
    query = "INSERT INTO settings VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    connection.execute(query, [name, str(value)])


def have_indexes_made_anew(connection: Connection) -> None:
    """So that no machine's copy remembers what was purged."""
    _tell(connection, 0, "refiled")


def _tell(connection: Connection, number: int, what: Change) -> None:
    values = [number, what, secrets.randbits(62)]
    query = "INSERT INTO changes (entry, what, mark) VALUES (?, ?, ?) RETURNING number"
    ((change,),) = connection.execute(query, values).fetchall()
    connection.execute("DELETE FROM changes WHERE number <= ?", [change - KEPT_CHANGES])


def _shelf(connection: Connection, embedder: str, fingerprint: str, latent_shape: str, entity: Entity) -> int:
    dim = len(entity.embedding)
    key = (embedder, entity.kind, fingerprint, latent_shape)
    query = "SELECT number, dim FROM shelves WHERE embedder = ? AND kind = ? AND fingerprint = ? AND latent_shape = ?"
    row = connection.execute(query, key).fetchone()
    if row is None:
        connection.execute(
            "INSERT INTO shelves (embedder, kind, fingerprint, latent_shape, dim) VALUES (?, ?, ?, ?, ?)", (*key, dim)
        )
        row = connection.execute(query, key).fetchone()
    if row[1] == dim:
        return int(row[0])
    set_shelf_aside(connection, row[0])
    return _shelf(connection, embedder, fingerprint, latent_shape, entity)


def set_shelf_aside(connection: Connection, number: int) -> None:
    """Let a shelf go under another embedder's name: its embeddings have a width that its own never gives. The texts
    are still there, so that an embedder can file them anew."""
    connection.execute(
        "UPDATE shelves SET embedder = embedder || '/' || dim || '/' || number WHERE number = ?", [number]
    )


def _vector(connection: Connection, shelf: int, embedding: Embedding) -> int:
    digest = hashlib.blake2b(embedding, digest_size=16).digest()
    query = "SELECT number FROM vectors WHERE shelf = ? AND digest = ?"
    row = connection.execute(query, [shelf, digest]).fetchone()
    if row is not None:
        return int(row[0])
    query = "INSERT INTO vectors (shelf, digest, embedding) VALUES (?, ?, ?) RETURNING number"
    ((number,),) = connection.execute(query, [shelf, digest, embedding]).fetchall()
    return int(number)


def unreadable(connection: Connection) -> list[int]:
    """The numbers of entries whose rows say what no row says: the database was damaged, or written by others."""
    query = f"SELECT {_COLUMNS} FROM entries ORDER BY number"
    return [row[0] for row in connection.execute(query) if _read(row) is None]


def _entries(connection: Connection, rest: str, values: Sequence[Any]) -> list[Entry]:
    """Those whose rows can be read; one damaged row stands in nobody's way."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM entries {rest}", values)
    return [entry for entry in map(_read, rows) if entry is not None]


def _read(row: Sequence[Any]) -> Entry | None:
    try:
        return _entry(row)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _entry(row: Sequence[Any]) -> Entry:
    number, id, fingerprint, latent_key, num_frames, height, width, fps, prompt, seed, schedule, file, *rest = row
    size, checksum, hits, created, last_used, is_pinned, parent, root, depth, drift, compute_seconds, extra = rest
    return Entry(
        id=id,
        number=number,
        fingerprint=fingerprint,
        shape=Shape(tuple(map(int, latent_key.split("x"))), num_frames, height, width, fps),
        prompt=plain(prompt),
        seed=seed,
        schedule=Schedule(**json.loads(schedule)),
        file=file,
        bytes=size,
        checksum=checksum,
        hits=hits,
        created=created,
        last_used=last_used,
        is_pinned=bool(is_pinned),
        parent=parent,
        root=root,
        reuse_depth=depth,
        drift=drift,
        compute_seconds=compute_seconds,
        extra=json.loads(extra),
    )


def _schedule_text(schedule: Schedule) -> str:
    return json.dumps(
        {
            "steps": schedule.steps,
            "guidance_scale": schedule.guidance_scale,
            "timesteps": dict(schedule.timesteps),
        }
    )
