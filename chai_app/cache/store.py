"""Entries come and go: rows and files together, each change one transaction."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import cast

from . import events, rows
from .entries import Entity, Entry, NewEntry, Selection, plain
from .errors import CacheError
from .eviction import DEFAULT_BUDGET_BYTES, EvictionPolicy, make_room, order_of
from .latent_files import LATENTS_SUFFIX
from .ports import Blobs, Connection, Rows, Staged

_DAY_S = 86_400

Clock = Callable[[], float]


@dataclass(frozen=True)
class Arrival:
    """An entry that is about to be committed: its files are written, under names that nobody reads yet.

    entities are (fingerprint of the embedder, entity).
    """

    entry: Entry
    entities: Sequence[tuple[str, Entity]]
    latents: Staged
    preview: Staged | None


class Store:
    """Rows and blobs of one cache. Unlike the facade above it, it knows no embedder and no index."""

    def __init__(self, database: Rows, files: Blobs, clock: Clock) -> None:
        self.database, self.files, self.clock = database, files, clock

    def new_row(self, new: NewEntry, content: bytes) -> Entry:
        """The row of an entry whose latents file is `content`; it gets its number when it is committed."""
        now, id = self.clock(), secrets.token_hex(8)
        return Entry(
            id=id,
            number=0,
            fingerprint=new.fingerprint,
            shape=new.shape,
            prompt=plain(new.prompt),
            seed=new.seed,
            schedule=new.schedule,
            file=f"{id}{LATENTS_SUFFIX}",
            bytes=len(content),
            checksum=hashlib.sha256(content).hexdigest(),
            hits=0,
            created=now,
            last_used=now,
            is_pinned=False,
            parent=new.parent,
            root=new.root,
            reuse_depth=new.reuse_depth,
            drift=new.drift,
            compute_seconds=new.compute_seconds,
            extra=dict(new.extra),
        )

    def commit(self, arrivals: Sequence[Arrival]) -> list[Entry]:
        """Give files their names and commit their rows, all or none; other entries leave to make room.

        Returns: the entries that left.
        """
        now = self.clock()
        try:
            with self.database.writing() as connection:
                leaving = self._make_room(connection, sum(arrival.entry.bytes for arrival in arrivals), now)
                for arrival in arrivals:
                    if rows.entry_by_id(connection, arrival.entry.id) is not None:  # two imports of one archive
                        raise CacheError(f"Entry {arrival.entry.id} was added by another process just now: try again.")
                    # Rename, then commit, both under the write lock. A crash in between leaves a file without a row,
                    # which the next to open sweeps. The other order would leave a row without its file.
                    id = arrival.entry.id
                    arrival.latents.move_to(self.files.latents_of(arrival.entry))
                    arrival.latents.keep()
                    if arrival.preview is not None:
                        arrival.preview.move_to(self.files.preview_of(id))
                        arrival.preview.keep()
                    rows.add_entry(connection, arrival.entry, arrival.entities)
                    events.record(connection, now, "insert", id, arrival.entry.bytes)
        except BaseException:
            with suppress(CacheError):  # what cannot be taken away now is swept later
                self._unlink(arrival.entry for arrival in arrivals)
            raise
        self._unlink(leaving)
        return leaving

    def touch(self, id: str) -> bool:
        """Count a reuse. False if the entry is no longer here."""
        with self.database.writing() as connection:
            now = self.clock()
            cursor = connection.execute(
                "UPDATE entries SET hits = hits + 1, last_used = CASE WHEN last_used < ? THEN ? ELSE last_used END "
                "WHERE id = ?",
                [now, now, id],
            )
            if cursor.rowcount:
                events.record(connection, now, "hit", id)
            return bool(cursor.rowcount)

    def count_miss(self) -> None:
        """Count a generation that found nothing to reuse."""
        with self.database.writing() as connection:
            events.record(connection, self.clock(), "miss")

    def set_pinned(self, id: str, is_pinned: bool) -> bool:
        """False if the entry is not here."""
        with self.database.writing() as connection:
            cursor = connection.execute("UPDATE entries SET is_pinned = ? WHERE id = ?", [int(is_pinned), id])
            return bool(cursor.rowcount)

    def put_preview(self, id: str, preview: Staged) -> bool:
        """Give a staged picture the place of an entry's preview. False if the entry is not here."""
        with self.database.writing() as connection:
            if rows.entry_by_id(connection, id) is None:
                return False
            preview.move_to(self.files.preview_of(id))
            preview.keep()
            return True

    def remove(self, selection: Selection) -> list[Entry]:
        """Take away what is selected, pinned entries too. Returns: what went."""
        with self.database.writing() as connection:
            entries = rows.selected(connection, selection)
            self._forget(connection, entries, "remove")
            if entries and self.database.is_shared:
                rows.have_indexes_made_anew(connection)
        self._unlink(entries)
        if selection == Selection():  # nothing at all is to be left
            with self.database.writing() as connection:
                self.files.forget_set_aside(rows.all_ids(connection))
        return entries

    def drop(self, entry: Entry) -> bool:
        """Take one entry away. False if it was gone already."""
        with self.database.writing() as connection:
            here = rows.entry_by_id(connection, entry.id)
            if here is None:
                return False
            self._forget(connection, [here], "remove")
        self._unlink([entry])
        return True

    def set_aside(self, entry: Entry) -> bool:
        """Take an entry away whose latents are damaged, and these into quarantine. False if it was gone already, or
        has come in anew, by an import, since it was looked at."""
        with self.database.writing() as connection:
            here = rows.entry_by_id(connection, entry.id)
            if here is None or here.number != entry.number:
                return False
            self.files.set_aside(entry)
            self._forget(connection, [here], "damage")
        self._unlink([entry])
        return True

    def budget(self) -> tuple[int, EvictionPolicy]:
        """Bytes that latents may take, and who leaves first: settings of the folder, shared by all processes."""
        with self.database.reading() as connection:
            return _budget(connection)

    def set_budget(self, budget_bytes: int, policy: EvictionPolicy) -> list[Entry]:
        """Returns: the entries that left because of it. Pinned ones stay, even if they alone exceed it."""
        order_of(policy)
        with self.database.writing() as connection:
            rows.write_setting(connection, "budget_bytes", budget_bytes)
            rows.write_setting(connection, "policy", policy)
            leaving = self._make_room(connection, 0, self.clock())
        self._unlink(leaving)
        return leaving

    def sweep(self, is_opening: bool = False) -> list[str]:
        """Look after blobs that no row speaks of. Returns: what was done, one sentence for each.

        Looks without the write lock first: a cache that is sound, which is nearly always, is opened without waiting.
        An opening looks once a day where it takes seconds.
        """
        with self.database.reading() as connection:
            last = float(rows.read_setting(connection, "swept", 0))
            if self.database.is_shared and is_opening and time.time() - last < _DAY_S:
                return []
            here = rows.all_ids(connection)
        if self.database.is_shared:
            with self.database.writing() as connection:
                rows.write_setting(connection, "swept", time.time())
        if not self.files.has_litter(here):
            return []
        with self.database.writing() as connection:
            return self.files.sweep(rows.all_ids(connection), partial(events.removed, connection))

    def _unlink(self, entries: Iterable[Entry]) -> None:
        """Away with the blobs of entries whose rows are gone for good. Under the write lock, because an import in
        another process can bring an id back, and its file with it, as soon as the commit has let go of the lock."""
        gone = list(entries)
        if gone:
            with self.database.writing() as connection:
                here = rows.all_ids(connection, [entry.id for entry in gone])
                self.files.unlink([entry for entry in gone if entry.id not in here])

    def _make_room(self, connection: Connection, needed_bytes: int, now: float) -> list[Entry]:
        leaving = make_room(connection, needed_bytes, *_budget(connection))
        for entry in leaving:
            events.record(connection, now, "evict", entry.id, entry.bytes)
        return leaving

    def _forget(self, connection: Connection, entries: Iterable[Entry], kind: events.EventKind) -> None:
        for entry in entries:
            rows.forget(connection, [entry.number])
            events.record(connection, self.clock(), kind, entry.id, entry.bytes)


def _budget(connection: Connection) -> tuple[int, EvictionPolicy]:
    budget_bytes = rows.read_setting(connection, "budget_bytes", DEFAULT_BUDGET_BYTES)
    return int(budget_bytes), cast(EvictionPolicy, rows.read_setting(connection, "policy", "lru"))
