"""Entries as one file that can be carried to another cache: a zip of safetensors with a JSON manifest.

An archive may come from anywhere. All of it is read and checked before anything is written: names, sizes declared and
real, shapes, values and checksums.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import stat
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..files import whole_file
from . import rows
from .codec import decode
from .entries import Entity, Entry, Schedule, Selection, Shape
from .errors import BadArchive, CacheFull
from .eviction import leaving
from .latent_files import LATENTS_SUFFIX
from .store import Arrival, Store

_SCHEMA = 1
_MANIFEST = "manifest.json"
_MOST_MANIFEST_BYTES = 256_000_000
_MOST_LATENTS_BYTES = 2_000_000_000
_MOST_EXPANSION = 20  # latents shrink by a tenth, JSON to an eighth; what shrinks more was made to burst
_NAME = re.compile(r"latents/([0-9a-f]{16})\.safetensors")
_LONGEST_TEXT = 100_000
# Own to the cache that an entry is in, not to the entry.
_NOT_CARRIED = ("number", "file", "hits", "last_used", "is_pinned")


@dataclass(frozen=True)
class ExportReport:
    """How many entries were written; notes name those that were damaged and left out."""

    entries: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ImportReport:
    """added came in; already_here were in the cache before, and stayed as they were; evicted left to make room."""

    added: tuple[Entry, ...]
    already_here: tuple[str, ...]
    evicted: tuple[Entry, ...]


@dataclass(frozen=True)
class _Item:
    entry: Entry
    entities: list[tuple[str, Entity]]


def export(store: Store, path: Path, selection: Selection) -> ExportReport:
    """Write an archive, whole or not at all.

    Raises: CannotWrite if the system refuses.
    """
    with store.database.reading() as connection:
        entries = rows.selected(connection, selection)
        filed = {entry.id: list(rows.filed_entities(connection, entry.number)) for entry in entries}
    manifest, notes = [], []
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for entry in entries:
            try:
                content = store.files.latents_of(entry.id).read_bytes()
            except OSError:
                content = b""
            if hashlib.sha256(content).hexdigest() != entry.checksum:
                notes.append(f"Entry {entry.id} was left out: its latents are damaged or missing.")
                continue
            archive.writestr(f"latents/{entry.id}{LATENTS_SUFFIX}", content)
            values = {name: value for name, value in entry.to_json().items() if name not in _NOT_CARRIED}
            if entry.root is None:  # as every archive was written before there were roots
                del values["root"]
            values["entities"] = [
                {
                    "embedder": embedder,
                    "kind": phrase.kind,
                    "text": phrase.text,
                    "head": phrase.head,
                    "count": phrase.count,
                    "embedding": base64.b64encode(embedding).decode(),
                }
                for embedder, phrase, embedding in filed[entry.id]
            ]
            manifest.append(values)
        text = json.dumps({"schema": _SCHEMA, "entries": manifest}, ensure_ascii=False, indent=1)
        archive.writestr(_MANIFEST, text, zipfile.ZIP_DEFLATED)
    return ExportReport(len(manifest), tuple(notes))


def import_archive(store: Store, path: Path) -> ImportReport:
    """Check all of an archive, then store it, all or nothing.

    Raises: BadArchive for the first thing that is wrong, by its name; CacheFull if it exceeds the budget.
    """
    with _opened(path) as (archive, items):
        return _take(store, archive, items)


def check_archive(store: Store, path: Path) -> ImportReport:
    """Check all of an archive as `import_archive` does, and tell what it would do. Changes nothing.

    Raises: BadArchive, CacheFull as `import_archive`.
    """
    with _opened(path) as (_, items), store.database.reading() as connection:
        here = rows.all_ids(connection)
        new = tuple(item.entry for item in items if item.entry.id not in here)
        budget_bytes, policy = store.budget()
        evicted = leaving(connection, sum(entry.bytes for entry in new), budget_bytes, policy)
        already_here = tuple(item.entry.id for item in items if item.entry.id in here)
        return ImportReport(new, already_here, tuple(evicted))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, list[_Item]]]:
    """An archive all of which was checked, and its entries. Raises: BadArchive."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path.stat().st_size)
            items = _read_manifest(archive)
            for item in items:
                _check_latents(archive, item)
            yield archive, items
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, UnicodeError) as error:
        raise BadArchive(f"{path} cannot be read as an archive ({error}): nothing was imported.") from error


def _check_members(archive: zipfile.ZipFile, size_bytes: int) -> None:
    seen: set[str] = set()
    for member in archive.infolist():
        name = member.filename
        if name != _MANIFEST and not _NAME.fullmatch(name):
            raise _refused(name, "a name that no entry has")
        if name in seen:
            raise _refused(name, "the same name twice")
        seen.add(name)
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _refused(name, "a link or another special file")
        if member.flag_bits & 1:
            raise _refused(name, "encrypted")
        if member.file_size > (_MOST_MANIFEST_BYTES if name == _MANIFEST else _MOST_LATENTS_BYTES):
            raise _refused(name, f"too large, with {member.file_size:,} bytes")
        if member.file_size > _MOST_EXPANSION * member.compress_size + 1_000:
            raise _refused(name, f"packed {member.file_size:,} bytes into {member.compress_size:,}, as bombs are")
    # Members that overlap each other's bytes would each look modest.
    if sum(member.file_size for member in archive.infolist()) > _MOST_EXPANSION * size_bytes + 1_000:
        raise _refused(_MANIFEST, "beside files that unpack to far more than the archive holds, as bombs do")
    if _MANIFEST not in seen:
        raise _refused(_MANIFEST, "missing")


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """A whole member, and never more than it declared: zipfile stops there and then compares a checksum."""
    try:
        with archive.open(name) as file:
            return file.read(archive.getinfo(name).file_size + 1)
    except (zipfile.BadZipFile, EOFError, OSError, KeyError, NotImplementedError, ValueError) as error:
        raise _refused(name, f"not readable ({error})") from error
    except Exception as error:  # zlib.error and its like in other packings
        raise _refused(name, f"not readable ({type(error).__name__})") from error


def _read_manifest(archive: zipfile.ZipFile) -> list[_Item]:
    try:
        manifest = json.loads(_read(archive, _MANIFEST))
        schema, entries = manifest["schema"], manifest["entries"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refused(_MANIFEST, "no manifest") from error
    if schema != _SCHEMA:
        raise _refused(_MANIFEST, f"of schema {schema!r}, and this program knows {_SCHEMA}")
    if not isinstance(entries, list):
        raise _refused(_MANIFEST, "without a list of entries")
    items: dict[str, _Item] = {}
    for values in entries:
        id = str(values.get("id")) if isinstance(values, dict) else "?"
        try:
            item = _read_item(values)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise _refused(f"entry {id}", f"not readable ({error})") from error
        if id in items:
            raise _refused(f"entry {id}", "the same entry twice")
        items[id] = item
    members = {name for name in archive.namelist() if name != _MANIFEST}
    wanted = {f"latents/{id}{LATENTS_SUFFIX}" for id in items}
    for name in sorted(members ^ wanted):
        raise _refused(name, "missing" if name in wanted else "no entry of the manifest has it")
    return list(items.values())


def _read_item(values: dict[str, Any]) -> _Item:
    """Raises: ValueError, KeyError, TypeError for a value that makes no sense."""
    carried = {f.name for f in fields(Entry)} - set(_NOT_CARRIED)
    if unknown := set(values) - carried - {"entities"}:
        raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
    shape = dict(values["shape"])
    schedule = dict(values["schedule"])
    id = _text(values["id"])
    if not _NAME.fullmatch(f"latents/{id}{LATENTS_SUFFIX}"):
        raise ValueError("its id is not 16 hexadecimal digits")
    parent, drift, extra, root = values["parent"], values["drift"], values["extra"], values.get("root")
    if not isinstance(extra, dict):
        raise ValueError("extra is no object")
    timesteps = {_text(name): _number(at) for name, at in schedule["timesteps"].items()}
    entry = Entry(
        id=id,
        number=0,
        fingerprint=_text(values["fingerprint"]),
        shape=Shape(
            tuple(_integer(size) for size in shape["latent"]),
            _integer(shape["num_frames"]),
            _integer(shape["height"]),
            _integer(shape["width"]),
            _number(shape["fps"]),
        ),
        prompt=_text(values["prompt"]),
        seed=_integer(values["seed"]),
        schedule=Schedule(_integer(schedule["steps"]), _number(schedule["guidance_scale"]), timesteps),
        file=f"{id}{LATENTS_SUFFIX}",
        bytes=_integer(values["bytes"]),
        checksum=_text(values["checksum"]),
        hits=0,
        created=_number(values["created"]),
        last_used=_number(values["created"]),
        is_pinned=False,
        parent=None if parent is None else _text(parent),
        root=None if root is None else _text(root),
        reuse_depth=_integer(values["reuse_depth"]),
        drift=None if drift is None else _number(drift),
        compute_seconds=_number(values["compute_seconds"]),
        extra=extra,
    )
    return _Item(entry, [_read_entity(entity) for entity in values["entities"]])


def _read_entity(values: dict[str, Any]) -> tuple[str, Entity]:
    packed = base64.b64decode(_text(values["embedding"]), validate=True)
    embedding = np.frombuffer(packed, rows.EMBEDDING_DTYPE).astype(np.float32)
    count = None if values["count"] is None else _integer(values["count"])
    entity = Entity(values["kind"], _text(values["text"]), _text(values["head"]), count, embedding)
    return _text(values["embedder"]), entity


def _check_latents(archive: zipfile.ZipFile, item: _Item) -> bytes:
    name = f"latents/{item.entry.id}{LATENTS_SUFFIX}"
    declared = archive.getinfo(name).file_size
    if declared != item.entry.bytes:
        raise _refused(name, f"of {declared:,} bytes, where the manifest says {item.entry.bytes:,}")
    content = _read(archive, name)
    if len(content) != declared:
        raise _refused(name, f"of {len(content):,} bytes, where it says {declared:,}")
    if hashlib.sha256(content).hexdigest() != item.entry.checksum:
        raise _refused(name, "of another checksum than the manifest says")
    try:
        tensors = decode(content)
    except ValueError as error:
        raise _refused(name, str(error)) from error
    for tensor_name, tensor in tensors.items():
        if tensor.shape != item.entry.shape.latent:
            raise _refused(name, f"{tensor_name} is {tensor.shape}, where the entry says {item.entry.shape.latent}")
    return content


def _take(store: Store, archive: zipfile.ZipFile, items: list[_Item]) -> ImportReport:
    with store.database.reading() as connection:
        here = rows.all_ids(connection)
    new = [item for item in items if item.entry.id not in here]
    budget_bytes, _ = store.budget()
    total_bytes = sum(item.entry.bytes for item in new)
    if total_bytes > budget_bytes:
        raise CacheFull(
            f"The archive's {total_bytes:,} bytes exceed the cache's budget of {budget_bytes:,} bytes: "
            f"raise the budget; nothing was imported."
        )
    arrivals = []
    with ExitStack() as stack:
        for item in new:
            latents = stack.enter_context(store.files.staged())
            latents.write(_check_latents(archive, item))
            arrivals.append(Arrival(item.entry, item.entities, latents, None))
        evicted = store.commit(arrivals)
    with store.database.reading() as connection:
        added = [rows.entry_by_id(connection, item.entry.id) for item in new]
    already_here = tuple(item.entry.id for item in items if item.entry.id in here)
    return ImportReport(tuple(entry for entry in added if entry is not None), already_here, tuple(evicted))


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ValueError(f"{str(value)[:40]!r} is no text")
    return value


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError(f"{str(value)[:40]!r} is no whole number")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e18:
        raise ValueError(f"{str(value)[:40]!r} is no number")
    return float(value)


def _refused(name: str, why: str) -> BadArchive:
    return BadArchive(f"The archive was refused, and nothing of it was imported: {name} is {why}.")
