"""The cache that the engine and every face stand on: generations go in, and are found again by what they show.

One object serves all threads of a process, and any number of processes share one folder, or many machines one database
(`ports.py`). The database is the truth; what stands beside it (indexes, previews) can be made anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ..settings import SharedCache
from . import events, rows, upkeep
from .database import Database
from .entries import KINDS, Entity, Entry, Kind, LoadedLatents, NewEntry, Order, Phrase, Selection, Shape
from .errors import CacheError, UnknownEntry
from .eviction import EvictionPolicy
from .latent_files import LatentFiles
from .ports import Blobs, Rows
from .store import Arrival, Store
from .thresholds import Embedder, Thresholds, thresholds_for

if TYPE_CHECKING:
    from .archive import ExportReport, ImportReport
    from .codec import Storage
    from .copying import CopyReport
    from .lookup import CountLikeness, LookupResult
    from .search import Found
    from .shelves import Shelves

_DATABASE = "cache.sqlite3"
_NAMED_IF_AMBIGUOUS = 3


class LatentCache:
    """A cache in the folder `home`; close it, or use it as a context, so that indexes are saved for the next start.

    Ways to an entry: `lookup` (what a prompt can reuse, and why), `search` (what is like some words, with scores),
    `find` (by the first digits of an id), `entry` (by its whole id) and `entries` (pages, by what a row says).

    Args:
        embedder: what entities are embedded by; without one, everything but lookup and insert works.
        read_only: nothing on the disk changes; for a private run. A folder that is not there is an empty cache.
        storage: of new entries; those of before are read whatever it is.
        clock: seconds since 1970.
        shared: where a cache is that many machines share; `home` then holds copies of its indexes alone.
    Raises: CacheError, one sentence, if the cache cannot be opened.
    """

    def __init__(
        self,
        home: Path,
        embedder: Embedder | None = None,
        read_only: bool = False,
        storage: Storage = "fp16",
        clock: Callable[[], float] = time.time,
        shared: SharedCache | None = None,
    ) -> None:
        self.home, self.read_only = home, read_only
        self._embedder, self._storage = embedder, storage
        self._database: Rows
        self._files: Blobs
        self._indexes_in = home
        if shared is None:
            self._database, self._files = Database(home / _DATABASE, read_only), LatentFiles(home)
        else:
            self._database, self._files, self._indexes_in = _opened(shared, home, read_only)
        self._store = Store(self._database, self._files, clock)
        self._shelves: Shelves | None = None
        self.thresholds = thresholds_for(embedder, home) if embedder else Thresholds()
        if not read_only:
            self._store.sweep(is_opening=True)

    def close(self) -> None:
        """Save the indexes and let go of the database."""
        if self._shelves is not None:
            self._shelves.wait()
            if not self.read_only:
                with suppress(CacheError):  # an index that was not saved is made anew
                    self._shelves.settle()
                    self._shelves.save_all()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # Finding and reading

    def embed(self, phrases: Sequence[Phrase]) -> list[Entity]:
        """The phrases with their embeddings, ready for `lookup` and `NewEntry`."""
        embeddings = self.embedder.embed([phrase.text for phrase in phrases])
        return [Entity(p.kind, p.text, p.head, p.count, e) for p, e in zip(phrases, embeddings, strict=True)]

    def lookup(
        self,
        wanted: Sequence[Entity],
        fingerprint: str,
        shape: Shape,
        count_likeness: CountLikeness | None = None,
        thresholds: Thresholds | None = None,
    ) -> LookupResult:
        """The entry to reuse for a prompt that names `wanted`, or a miss; either way with reasons.

        No latents are read and nothing is counted: whoever acts upon it calls `touch` or `count_miss`.
        Args:
            fingerprint: of the model; entries of another are never offered.
            count_likeness: of a wanted count and a found one, 0 to 1, None for one that is not said; without it, two
                counts that differ never match.
            thresholds: in place of the embedder's own.
        """
        from .lookup import decide, same_count

        with self._database.reading() as connection:
            return decide(
                connection,
                self.shelves,
                (self.embedder.fingerprint, self.embedder.dim),
                wanted,
                fingerprint,
                shape,
                thresholds or self.thresholds,
                count_likeness or same_count,
                self._files.has_latents,
            )

    def load(self, entry: Entry) -> LoadedLatents:
        """Read an entry's latents and check them. Damaged ones are set aside and their entry is removed."""
        from .codec import decode

        missed = f"Entry {entry.id} cannot be reused"
        try:
            content = self._files.read_latents(entry)
            return LoadedLatents(decode(content))
        except OSError as error:
            return LoadedLatents(None, f"{missed}: its latents cannot be read just now ({error.strerror or error}).")
        except ValueError as error:
            reason = str(error)
        if self.read_only:
            return LoadedLatents(None, f"{missed}: {reason}; cache repair takes it out.")
        done = "set aside" if self._files.exists(self._files.latents_of(entry)) else "taken out"
        if not self._store.set_aside(entry):
            return LoadedLatents(None, f"{missed}: it was removed in the meantime.")
        return LoadedLatents(None, f"{missed}: {reason}, so it was {done}.")

    def entry(self, id: str) -> Entry | None:
        """The entry called `id`, None if it is not (or no longer) here."""
        with self._database.reading() as connection:
            return rows.entry_by_id(connection, id)

    def find(self, prefix: str) -> Entry:
        """The one entry whose id begins with `prefix`; a # before it and capitals make no difference. Reads the index
        of the ids, however many entries there are.

        Raises: UnknownEntry, one sentence, if that is nobody's or could be several entries'.
        """
        digits = prefix.strip().removeprefix("#").lower()
        found: list[Entry] = []
        count = 0
        if digits:
            with self._database.reading() as connection:
                found, count = rows.entries_beginning(connection, digits, limit=_NAMED_IF_AMBIGUOUS)
        if not found:
            raise UnknownEntry(f"There is no entry {prefix!r} in the cache: take an id from cache ls.")
        if count > 1:
            names = ", ".join(entry.id for entry in found) + (", ..." if count > len(found) else "")
            raise UnknownEntry(f"{count} entries begin with {prefix}: {names}; give more digits.")
        return found[0]

    def search(self, text: str, kind: Kind | None = None, limit: int = 20, is_match: bool = False) -> list[Found]:
        """Entries that show what is most like `text`, best first: of any model and size, each once, with its score.

        Reads the indexes and at most `limit` entries. Nothing is found of entries that another embedder has filed.
        Args:
            kind: compare with objects, scenes or whole prompts alone; None with all of them.
            limit: how many entries at most.
            is_match: leave out what a lookup would not take for the same (`Found.threshold`).
        Raises: CacheError if the cache was opened without an embedder.
        """
        text = " ".join(text.split())
        if not text or limit < 1:
            return []
        fingerprint = self.embedder.fingerprint
        with self._database.reading() as connection:
            if fingerprint not in rows.widths(connection):  # nothing to compare with: the embedder stays on the disk
                return []
            filed = rows.embedding_of(connection, fingerprint, text.lower())

        import numpy as np

        from .search import search

        # What entries are filed under was embedded before; it is a hundred times as fast to read as a model to load.
        if filed is None:
            (embedding,) = self.embedder.embed([text])
        else:
            embedding = np.frombuffer(filed, rows.EMBEDDING_DTYPE).astype(np.float32)
        wanted = [Entity(each, text, text, None, embedding) for each in (KINDS if kind is None else (kind,))]
        with self._database.reading() as connection:
            space = (fingerprint, self.embedder.dim)
            return search(connection, self.shelves, space, wanted, self.thresholds, limit, is_match)

    def entries(
        self,
        selection: Selection | None = None,
        limit: int | None = None,
        offset: int = 0,
        order: Order = "made",
    ) -> list[Entry]:
        """Newest first, or by when they were used last, by hits or by bytes, the most first."""
        with self._database.reading() as connection:
            return rows.selected(connection, selection or Selection(), limit, offset, order)

    def count(self, selection: Selection | None = None) -> int:
        """How many entries are meant; the total of the pages that `entries` gives."""
        with self._database.reading() as connection:
            return rows.count_selected(connection, selection or Selection())

    def phrases(self, entry: Entry) -> list[Phrase]:
        """What an entry is found by."""
        with self._database.reading() as connection:
            return rows.phrases_of(connection, entry.number)

    def children(self, entry: Entry) -> list[Entry]:
        """Those that were made by reusing it, oldest first."""
        with self._database.reading() as connection:
            return rows.children_of(connection, entry.id)

    def preview(self, entry: Entry) -> Path | None:
        """The picture that an entry was stored with, if it is there."""
        return self._files.preview(entry.id)

    # Changing

    def insert(self, new: NewEntry) -> Entry:
        """Store a generation; entries leave to make room.

        Raises: CacheFull if it is larger than all that may leave, CannotStore if the disk refuses, CacheError for
        latents that are not finite; then nothing has changed.
        """
        from .codec import encode

        self._database.refuse_if_read_only()
        embedder = self.embedder.fingerprint
        if any(len(entity.embedding) != self.embedder.dim for entity in new.entities):
            raise ValueError(f"the embedder {self.embedder.name} gives {self.embedder.dim} numbers for every phrase")
        try:
            content = encode(new.tensors, self._storage)
        except ValueError as error:
            raise CacheError(f"These latents were not stored, because {error}.") from error
        entry = self._store.new_row(new, content)
        with ExitStack() as stack:
            latents = stack.enter_context(self._files.staged(entry))
            latents.write(content)
            preview = None
            if new.preview is not None:
                preview = stack.enter_context(self._files.staged())
                preview.write(new.preview)
            self._store.commit([Arrival(entry, [(embedder, e) for e in new.entities], latents, preview)])
        self._settle()
        return self.entry(entry.id) or entry

    def set_preview(self, entry: Entry, preview: bytes) -> bool:
        """Put a WebP picture beside an entry, in place of an older one. False if the entry is no longer here.

        Raises: CannotStore if the disk refuses.
        """
        with self._files.staged() as staged:
            staged.write(preview)
            return self._store.put_preview(entry.id, staged)

    def touch(self, entry: Entry) -> bool:
        """Count a hit, which makes the entry the last used one. False if it is no longer here."""
        return self._store.touch(entry.id)

    def count_miss(self) -> None:
        """Count a generation that found nothing to reuse."""
        self._store.count_miss()

    def pin(self, entry: Entry) -> bool:
        """Keep an entry from being evicted. False if it is no longer here."""
        return self._store.set_pinned(entry.id, True)

    def unpin(self, entry: Entry) -> bool:
        """Let an entry be evicted again. False if it is no longer here."""
        return self._store.set_pinned(entry.id, False)

    def remove(self, entry: Entry) -> bool:
        """Take one entry away, pinned or not. False if it is no longer here."""
        return self._store.drop(entry)

    def purge(self, selection: Selection) -> list[Entry]:
        """Take away what is selected, pinned entries too, and with it what an index remembers. Returns: what went."""
        gone = self._store.remove(selection)
        if gone:
            self.rebuild()
        return gone

    def clear(self) -> list[Entry]:
        """Take everything away, pinned entries too. Returns: what went."""
        return self.purge(Selection())

    def set_budget(self, budget_bytes: int, policy: EvictionPolicy | None = None) -> list[Entry]:
        """Settle for every process how much latents may take and who leaves first. Returns: what left because of it."""
        if budget_bytes < 0:
            raise CacheError("The budget is a number of bytes, 0 or more.")
        return self._store.set_budget(budget_bytes, policy or self._store.budget()[1])

    # Upkeep

    def stats(self) -> events.Stats:
        """The cache in figures."""
        with self._database.reading() as connection:
            return events.stats(connection, *self._store.budget())

    def days(self) -> list[events.Day]:
        """Hits, misses and comings and goings by day, oldest first."""
        with self._database.reading() as connection:
            return events.days(connection)

    def events(self, limit: int = 100) -> list[events.Event]:
        """What happened last, newest first."""
        with self._database.reading() as connection:
            return events.recent_events(connection, limit)

    def verify(self, is_thorough: bool = True) -> list[str]:
        """What is not as promised, one sentence for each thing; thorough reads every latents file and saved index.

        Other processes may go on meanwhile: nothing that they are in the midst of is reported.
        """
        shelves = self.shelves if is_thorough else self._shelves
        return list(upkeep.problems(self._store, shelves, is_thorough, self._embedder))

    def repair(self) -> list[str]:
        """Put right what `verify` finds, at the price of entries that are damaged. Returns: what was done.

        What cannot be read just now is not damaged, and stays.
        """
        return upkeep.repair(self._store, self.shelves, self._embedder)

    def rebuild(self) -> None:
        """Make every index anew from the database."""
        self.shelves.rebuild()

    def reembed(self, old_fingerprint: str) -> int:
        """Move what another embedder filed (`stats().embedders` lists them) to this one. Returns: entries moved."""
        return upkeep.reembed(self._store, self.embedder, old_fingerprint)

    def export(self, path: Path, selection: Selection | None = None) -> ExportReport:
        """Write entries into an archive, whole or not at all.

        Raises: CannotWrite if the system refuses.
        """
        from .archive import export

        return export(self._store, path, selection or Selection())

    def import_archive(self, path: Path) -> ImportReport:
        """Take entries out of an archive after checking all of it.

        Raises: BadArchive, naming what is wrong, before anything is written; CacheFull if it exceeds the budget.
        """
        from .archive import import_archive

        self._database.refuse_if_read_only()
        report = import_archive(self._store, path, self._embedder)
        self._settle()
        return report

    def copy_from(self, other: LatentCache) -> CopyReport:
        """Take all entries of another cache that are not here, with all that belongs to them.

        Raises: CacheFull, before anything is copied, if something would have to leave for it.
        """
        from .copying import copy_entries

        self._database.refuse_if_read_only()
        report = copy_entries(other._store, self._store)
        self._settle()
        return report

    @property
    def embedder(self) -> Embedder:
        """Raises: CacheError if the cache was opened without one."""
        if self._embedder is None:
            raise CacheError("The cache was opened without an embedder, so it cannot hold entities.")
        return self._embedder

    @property
    def shelves(self) -> Shelves:
        """The indexes in memory; FAISS is loaded with the first."""
        if self._shelves is None:
            from .shelves import Shelves

            self._shelves = Shelves(self._database, LatentFiles(self._indexes_in))
        return self._shelves

    def _settle(self) -> None:
        if self._shelves is not None:
            with suppress(CacheError):  # the entry is safe, and an index that was not saved is made anew
                self._shelves.settle(aside=True)


def _opened(shared: SharedCache, home: Path, read_only: bool) -> tuple[Rows, Blobs, Path]:
    """Rows, blobs, and the folder for what this machine keeps of its own."""
    try:
        from .objects import ObjectBlobs
        from .postgres import Postgres
    except ImportError as error:
        raise CacheError(
            f"CHAI_CACHE is set, which needs the package {error.name}: pip install 'psycopg[binary]' obstore, or unset "
            "it."
        ) from error
    blobs, database = ObjectBlobs(shared.blobs), Postgres(shared.rows, read_only)
    try:
        with database.reading() as connection:
            cache = rows.read_setting(connection, "cache")
        if cache is not None:
            blobs.belong_to(cache, read_only)
    except BaseException:
        database.close()
        raise
    return database, blobs, home / "shared" / str(cache)
