"""Is everything as it should be, and if not, make it so."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from . import events, rows
from .entries import Entity, Entry, Selection
from .errors import CacheError
from .eviction import used
from .ports import Among, Blobs, Connection
from .store import Store

if TYPE_CHECKING:
    from .shelves import Shelves
    from .thresholds import Embedder

_REEMBED_AT_ONCE = 500
_LONGEST_UNLINKING_S = 2.0
_LOOK_AGAIN_S = 0.02


def problems(
    store: Store, shelves: Shelves | None, is_thorough: bool, embedder: Embedder | None = None
) -> Iterator[str]:
    """One sentence for everything that is not as promised. Thorough: reads every latents file and every saved index.

    Other processes may be at work. A file has its name before its row is committed, and damaged latents are set aside
    before their row is gone; so whatever looks wrong is looked at again while nobody writes. A removed entry's files
    are unlinked after the commit, and a temporary file is locked just after it is made: they get a moment.
    """
    with store.database.reading() as connection:
        yield from (f"database: {fault}" for fault in store.database.faults(connection))
        for number in rows.unreadable(connection):
            yield f"database: row {number} of entries says what no entry can be"
        entries = rows.selected(connection, Selection())
        yield from _row_problems(store, connection, embedder)
        if shelves is not None:
            yield from shelves.problems(connection, with_saved=is_thorough)
    suspects = [entry for entry in entries if _file_problem(store, entry, is_thorough) is not None]
    strays = store.files.without_row({entry.id for entry in entries})
    parts: Sequence[PurePath] = []
    if suspects or strays or store.files.parts():
        with store.database.alone() as is_sure, store.database.reading() as connection:
            suspects = [entry for entry in suspects if rows.entry_by_id(connection, entry.id) is not None]
            found = [(entry.id, _file_problem(store, entry, is_thorough)) for entry in suspects]
            strays = store.files.without_row(rows.all_ids(connection))
            parts = store.files.abandoned_parts() if is_sure else []
            leaving = events.removed(connection, {path.stem for path in strays})
        yield from (f"entry {id}: {problem.text}" for id, problem in found if problem is not None)
        _wait_for(store.files, [path for path in strays if path.stem in leaving])
    if parts:
        time.sleep(_LOOK_AGAIN_S)
        parts = [path for path in parts if path in store.files.abandoned_parts()]
    yield from (
        f"file {path.parent.name}/{path.name}: no entry has it"
        for path in [*strays, *parts]
        if store.files.exists(path)
    )


def _wait_for(files: Blobs, left: list[PurePath]) -> None:
    """Until all are unlinked, or it takes longer than that ever should."""
    until = time.monotonic() + _LONGEST_UNLINKING_S
    while left and time.monotonic() < until:
        time.sleep(_LOOK_AGAIN_S)
        left = [path for path in left if files.exists(path)]


def _row_problems(store: Store, connection: Connection, embedder: Embedder | None) -> Iterator[str]:
    counts = {
        "embeddings that no entity has": "SELECT count(*) FROM vectors v WHERE NOT EXISTS "
        "(SELECT 1 FROM entities WHERE vector = v.number)",
        "entities on a shelf that is not their entry's": "SELECT count(*) FROM entities e "
        "JOIN entries t ON t.number = e.entry "
        "JOIN vectors v ON v.number = e.vector JOIN shelves s ON s.number = v.shelf "
        "WHERE (s.fingerprint, s.latent_shape, s.kind) != (t.fingerprint, t.latent_shape, e.kind)",
    }
    for what, query in counts.items():
        (count,) = connection.execute(query).fetchone()
        if count:
            yield f"database: {count} {what}"
    count = len(_wrong_vectors(connection, embedder))
    if count:
        yield f"database: {count} embeddings of a wrong width"
    used_bytes, pinned_bytes = used(connection)
    budget_bytes, _ = store.budget()
    if used_bytes > max(budget_bytes, pinned_bytes):
        yield f"budget: {used_bytes:,} bytes are used of {budget_bytes:,}, and not because of pinned entries"


def _wrong_vectors(connection: Connection, embedder: Embedder | None) -> list[int]:
    """The numbers of embeddings that are not as wide as their shelf, or whose shelf is not as wide as the embedder."""
    query = "SELECT v.number FROM vectors v JOIN shelves s ON s.number = v.shelf WHERE length(v.embedding) != 2 * s.dim"
    values: list[object] = []
    if embedder is not None:
        query += " OR (s.embedder = ? AND s.dim != ?)"
        values = [embedder.fingerprint, embedder.dim]
    return [number for (number,) in connection.execute(query, values)]


@dataclass(frozen=True)
class _Problem:
    """What is wrong with an entry's file. Damage stays; what cannot be read just now may be sound."""

    text: str
    is_damage: bool = True


def _file_problem(store: Store, entry: Entry, is_thorough: bool) -> _Problem | None:
    if not is_thorough and store.files.has_latents(entry):
        return None
    try:
        store.files.read_latents(entry)
    except ValueError as error:
        return _Problem(str(error))
    except OSError as error:
        return _Problem(f"its latents file cannot be read just now ({error.strerror or error})", is_damage=False)
    return None


def repair(store: Store, shelves: Shelves, embedder: Embedder | None = None) -> list[str]:
    """Put right what `problems` finds. Returns: what was done, one sentence for each thing.

    Args:
        embedder: files anew, from their texts, what has embeddings of a wrong width; without one these go.
    """
    done = store.sweep()
    with store.database.reading() as connection:
        entries, broken = rows.selected(connection, Selection()), rows.unreadable(connection)
    if broken:
        with store.database.writing() as connection:
            rows.forget(connection, broken)
        done += [f"removed row {number} of the entries, which said what no entry can be" for number in broken]
        done += store.sweep()
    for entry in entries:
        problem = _file_problem(store, entry, is_thorough=True)
        if problem is None:
            continue
        if not problem.is_damage:
            done.append(f"left entry {entry.id} as it is: {problem.text}")
        elif store.set_aside(entry):
            done.append(f"removed entry {entry.id}: {problem.text}")
    done += _mend_widths(store, embedder)
    with store.database.writing() as connection:
        query = "SELECT number FROM vectors v WHERE NOT EXISTS (SELECT 1 FROM entities WHERE vector = v.number)"
        unused = [number for (number,) in connection.execute(query).fetchall()]
        rows.drop_unused_vectors(connection, unused)
    if unused:
        done.append(f"removed {len(unused)} embeddings that no entity had")
    done += [f"evicted entry {entry.id}" for entry in store.set_budget(*store.budget())]
    shelves.rebuild()
    return [*done, "rebuilt the indexes"]


def _mend_widths(store: Store, embedder: Embedder | None) -> list[str]:
    with store.database.reading() as connection:
        wrong = _wrong_vectors(connection, embedder)
        query = "SELECT DISTINCT entry FROM entities WHERE vector IN (SELECT value FROM json_each(?))"
        numbers = [number for (number,) in connection.execute(query, [Among(wrong)])]
    if not wrong:
        return []
    if embedder is not None:
        _refile(store, embedder, numbers)
        return [f"filed {len(numbers)} entries anew, whose embeddings had a wrong width"]
    with store.database.writing() as connection:
        connection.execute("DELETE FROM entities WHERE vector IN (SELECT value FROM json_each(?))", [Among(wrong)])
        rows.drop_unused_vectors(connection, wrong)
    return [f"removed {len(wrong)} embeddings of a wrong width"]


def reembed(store: Store, embedder: Embedder, old_fingerprint: str) -> int:
    """File what another embedder embedded under `embedder`, from the texts. Returns: how many entries were moved.

    In steps, each a transaction: a process that is stopped in between goes on at the next call.
    """
    if embedder.fingerprint == old_fingerprint:
        raise CacheError("These entities already use this embedder.")
    moved = 0
    while True:
        with store.database.reading() as connection:
            query = """
                SELECT DISTINCT e.entry FROM entities e JOIN vectors v ON v.number = e.vector
                JOIN shelves s ON s.number = v.shelf WHERE s.embedder = ? LIMIT ?
            """
            numbers = [number for (number,) in connection.execute(query, [old_fingerprint, _REEMBED_AT_ONCE])]
        refiled = _refile(store, embedder, numbers)
        if not refiled:
            return moved
        moved += refiled


def _refile(store: Store, embedder: Embedder, numbers: Sequence[int]) -> int:
    """File entries anew from the texts of their phrases. Returns: how many are still here."""
    with store.database.reading() as connection:
        texts = {phrase.text for number in numbers for phrase in rows.phrases_of(connection, number)}
    embeddings = dict(zip(sorted(texts), embedder.embed(sorted(texts)), strict=True))
    refiled = 0
    with store.database.writing() as connection:
        for number in numbers:
            entry = rows.entry_by_number(connection, number)
            if entry is None:
                continue
            phrases = [phrase for phrase in rows.phrases_of(connection, number) if phrase.text in embeddings]
            entities = [Entity(p.kind, p.text, p.head, p.count, embeddings[p.text]) for p in phrases]
            rows.refile(connection, entry, [(embedder.fingerprint, entity) for entity in entities])
            refiled += 1
    return refiled
