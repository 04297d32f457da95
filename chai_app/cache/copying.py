"""A whole cache carried over into another one, as from a folder into a database that many machines share.

Entry by entry, each a transaction: what was stopped goes on where it was, for what is there already is passed over.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from . import rows
from .entries import Entity, Entry, Selection
from .errors import CacheFull
from .eviction import used
from .store import Arrival, Store


@dataclass(frozen=True)
class CopyReport:
    """How many entries were copied, with how many bytes of latents, and how many were there already; notes name those
    that are damaged and stayed behind."""

    copied: int
    bytes: int
    already_there: int
    notes: tuple[str, ...]


def copy_entries(source: Store, target: Store) -> CopyReport:
    """Copy every entry with its entities, its hits and its pin, oldest first; into an empty cache budget and policy,
    too. Latents are compared with their checksum where they are read and where they came to lie.

    Raises: CacheFull, before anything is copied, if something would have to leave for it.
    """
    with source.database.reading() as connection:
        entries = rows.selected(connection, Selection())[::-1]
    with target.database.reading() as connection:
        here, (used_bytes, _) = rows.all_ids(connection), used(connection)
    if not here:
        target.set_budget(*source.budget())
    missing = [entry for entry in entries if entry.id not in here]
    needed_bytes, (budget_bytes, _) = sum(entry.bytes for entry in missing), target.budget()
    if used_bytes + needed_bytes > budget_bytes:
        raise CacheFull(
            f"{needed_bytes:,} bytes of latents do not fit beside the {used_bytes:,} that are there, within a budget "
            f"of {budget_bytes:,}: raise it with cache budget; nothing was copied."
        )
    copied, notes = [], []
    for entry in missing:
        try:
            _copy(source, target, entry)
        except (OSError, ValueError) as error:
            notes.append(f"Entry {entry.id} was left out: {error}.")
        else:
            copied.append(entry)
    return CopyReport(len(copied), sum(entry.bytes for entry in copied), len(entries) - len(missing), tuple(notes))


def _copy(source: Store, target: Store, entry: Entry) -> None:
    """Raises: ValueError, OSError if it cannot be read."""
    content, picture = source.files.read_latents(entry), source.files.preview(entry.id)
    with source.database.reading() as connection:
        filed = list(rows.filed_entities(connection, entry.number))
    entities = []
    for embedder, phrase, embedding in filed:
        direction = np.frombuffer(embedding, rows.EMBEDDING_DTYPE).astype(np.float32)
        entities.append((embedder, Entity(phrase.kind, phrase.text, phrase.head, phrase.count, direction)))
    with ExitStack() as stack:
        latents, preview = stack.enter_context(target.files.staged(entry)), None
        latents.write(content)
        if picture is not None:
            preview = stack.enter_context(target.files.staged())
            preview.write(picture.read_bytes())
        target.commit([Arrival(entry, entities, latents, preview)])
    target.files.read_latents(entry)
