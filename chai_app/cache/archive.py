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
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import whole_file
from . import rows
from .codec import decode
from .entries import Entity, Entry, Schedule, Selection, Shape, plain
from .errors import BadArchive, CacheFull
from .eviction import leaving
from .latent_files import LATENTS_SUFFIX
from .store import Arrival, Store

if TYPE_CHECKING:
    from .thresholds import Embedder

_SCHEMA = 1
_MANIFEST = "manifest.json"
_MOST_MANIFEST_BYTES = 256_000_000
_MOST_LATENTS_BYTES = 2_000_000_000
_MOST_EXPANSION = 20  # latents shrink by a tenth, JSON to an eighth; what shrinks more was made to burst,
_HARMLESS_BYTES = 4_000_000  # unless it is too small for that: a prompt that says one thing over and over
_NAME = re.compile(r"latents/([0-9a-f]{16})\.safetensors")
_LONGEST_TEXT, _LONGEST_PHRASE = 100_000, 1_000
_MOST_ENTITIES = 1_000
_MOST_EXTRA_BYTES, _DEEPEST_EXTRA = 100_000, 20
_DEEPEST_LINE = 100  # generations of reuse
_LARGEST_SIDE = 100_000
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
                content = store.files.read_latents(entry)
            except (OSError, ValueError) as error:
                notes.append(f"Entry {entry.id} was left out: {error}.")
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
        # Not packed: a cache of repetitive prompts would shrink as a bomb does, and never come in again.
        archive.writestr(_MANIFEST, json.dumps({"schema": _SCHEMA, "entries": manifest}, ensure_ascii=False, indent=1))
    return ExportReport(len(manifest), tuple(notes))


def import_archive(store: Store, path: Path, embedder: Embedder | None = None) -> ImportReport:
    """Check all of an archive, then store it, all or nothing.

    Args:
        embedder: if there is one, what says it is of it must have its width.
    Raises: BadArchive for the first thing that is wrong, by its name; CacheFull if it exceeds the budget.
    """
    with _opened(path) as (archive, items):
        _check_widths(store, items, embedder)
        return _take(store, archive, items)


def check_archive(store: Store, path: Path, embedder: Embedder | None = None) -> ImportReport:
    """Check all of an archive as `import_archive` does, and tell what it would do. Changes nothing.

    Raises: BadArchive, CacheFull as `import_archive`.
    """
    with _opened(path) as (_, items), store.database.reading() as connection:
        _check_widths(store, items, embedder)
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
        if member.file_size > _MOST_EXPANSION * member.compress_size + _HARMLESS_BYTES:
            raise _refused(name, f"packed {member.file_size:,} bytes into {member.compress_size:,}, as bombs are")
    # Members that overlap each other's bytes would each look modest.
    if sum(member.file_size for member in archive.infolist()) > _MOST_EXPANSION * size_bytes + _HARMLESS_BYTES:
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
        id = plain(str(values.get("id"))[:40]) if isinstance(values, dict) else "?"
        try:
            item = _read_item(values)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
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
    parent, drift, root = values["parent"], values["drift"], values.get("root")
    timesteps = {_text(name, _LONGEST_PHRASE): _number(at) for name, at in schedule["timesteps"].items()}
    created = _number(values["created"])
    entry = Entry(
        id=id,
        number=0,
        fingerprint=_text(values["fingerprint"], _LONGEST_PHRASE),
        shape=Shape(
            tuple(_integer(size, 1, _LARGEST_SIDE) for size in shape["latent"]),
            _integer(shape["num_frames"], 1, _LARGEST_SIDE),
            _integer(shape["height"], 1, _LARGEST_SIDE),
            _integer(shape["width"], 1, _LARGEST_SIDE),
            _number(shape["fps"], _LARGEST_SIDE),
        ),
        prompt=_text(values["prompt"]),
        seed=_integer(values["seed"]),
        schedule=Schedule(_integer(schedule["steps"], 1, 100_000), _number(schedule["guidance_scale"]), timesteps),
        file=f"{id}{LATENTS_SUFFIX}",
        bytes=_integer(values["bytes"], 1, _MOST_LATENTS_BYTES),
        checksum=_text(values["checksum"], _LONGEST_PHRASE),
        hits=0,
        created=created,
        last_used=min(created, time.time()),  # from the future it would never leave
        is_pinned=False,
        parent=None if parent is None else _id(parent),
        root=None if root is None else _id(root),
        reuse_depth=_integer(values["reuse_depth"], 0, _DEEPEST_LINE),
        drift=None if drift is None else _number(drift),
        compute_seconds=_number(values["compute_seconds"], 1e9),
        extra=_extra(values["extra"]),
    )
    entities = values["entities"]
    if not isinstance(entities, list) or len(entities) > _MOST_ENTITIES:
        raise ValueError("its entities are no list, or too long a one")
    return _Item(entry, [_read_entity(entity) for entity in entities])


def _read_entity(values: dict[str, Any]) -> tuple[str, Entity]:
    packed = base64.b64decode(_text(values["embedding"]), validate=True)
    embedding = np.frombuffer(packed, rows.EMBEDDING_DTYPE).astype(np.float32)
    count = None if values["count"] is None else _integer(values["count"])
    longest = _LONGEST_TEXT if values["kind"] == "prompt" else _LONGEST_PHRASE
    text, head = _text(values["text"], longest), _text(values["head"], longest)
    return _text(values["embedder"], _LONGEST_PHRASE), Entity(values["kind"], text, head, count, embedding)


def _check_widths(store: Store, items: list[_Item], embedder: Embedder | None) -> None:
    """One embedder gives embeddings of one width. Raises: BadArchive for the first entity that has another one."""
    with store.database.reading() as connection:
        widths = rows.widths(connection)
    if embedder is not None:
        widths[embedder.fingerprint] = embedder.dim
    for item in items:
        for fingerprint, entity in item.entities:
            width = widths.setdefault(fingerprint, len(entity.embedding))
            if len(entity.embedding) != width:
                what = f"{entity.text!r} has {len(entity.embedding)} numbers, and its embedder gives {width}"
                raise _refused(f"entry {item.entry.id}", f"not readable ({what})")


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
    if tensors.keys() != item.entry.schedule.timesteps.keys():
        raise _refused(name, f"of {', '.join(sorted(tensors))}, where the entry says otherwise")
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
            latents = stack.enter_context(store.files.staged(item.entry))
            latents.write(_check_latents(archive, item))
            arrivals.append(Arrival(item.entry, item.entities, latents, None))
        evicted = store.commit(arrivals)
    with store.database.reading() as connection:
        added = [rows.entry_by_id(connection, item.entry.id) for item in new]
    already_here = tuple(item.entry.id for item in items if item.entry.id in here)
    return ImportReport(tuple(entry for entry in added if entry is not None), already_here, tuple(evicted))


def _text(value: Any, longest: int = _LONGEST_TEXT) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > longest or plain(value) != value:
        raise ValueError(f"{plain(str(value)[:40])!r} is no text")
    return value


def _id(value: Any) -> str:
    if not _NAME.fullmatch(f"latents/{_text(value)}{LATENTS_SUFFIX}"):
        raise ValueError(f"{str(value)[:40]!r} is no id")
    return str(value)


def _integer(value: Any, least: int = 0, most: int = 2**63 - 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{str(value)[:40]!r} is no whole number from {least} to {most}")
    return value


def _number(value: Any, most: float = 1e12) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError(f"{str(value)[:40]!r} is no number from 0 to {most:g}")
    return float(value)


def _extra(value: Any) -> dict[str, Any]:
    """What a caller keeps with an entry: an object, neither long nor deep."""

    def depth(part: Any) -> int:
        inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        return 1 + max(map(depth, inner), default=0)

    text = json.dumps(value)
    if not isinstance(value, dict) or len(text) > _MOST_EXTRA_BYTES or depth(value) > _DEEPEST_EXTRA:
        raise ValueError("extra is no object, or one that is too long or too deep")
    return value


def _refused(name: str, why: str) -> BadArchive:
    return BadArchive(f"The archive was refused, and nothing of it was imported: {name} is {why}.")
