"""A short name for a set of weights, made of their content: equal names, equal weights, wherever they lie."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from ..errors import CannotWrite
from ..files import remembered, whole_file

_SUFFIXES = (".safetensors", ".bin", ".json", ".model")
_REMEMBERED_BYTES = 2**26  # smaller files are read again within milliseconds
_HUB_BLOB = re.compile(r"[0-9a-f]{64}")

OnBytes = Callable[[int], None]
"""Told how many bytes were read since it was told last."""
Stamp = tuple[tuple[str, int, int, int], ...]


def stamp(folders: Iterable[Path]) -> Stamp:
    """What changes when a file in one of `folders` does, at the cost of looking: path, bytes, and two times in ns. Of
    these a copy can bring along the one when its content was written, but not the one when it came here."""
    files = sorted(file for folder in folders for file in folder.iterdir() if file.is_file())
    found = ((str(file), file.stat()) for file in files)
    return tuple((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns) for name, status in found)


def fingerprint(folders: Iterable[tuple[str, Path]], memory: Path, on_bytes: OnBytes | None = None) -> str:
    """16 hexadecimal digits for all weights and settings in `folders`.

    Args:
        folders: (name of the part, its folder); the name counts, the place does not.
        memory: a JSON file that remembers the checksums of large files by path, size, times of change and inode; it may
            not exist, and a place that cannot be written only means that nothing is remembered.
        on_bytes: told as files are read.
    """
    known = remembered(memory)
    whole = hashlib.sha256()
    for part, path in _files(folders):
        checksum, key = _known_checksum(path, known)
        if checksum is None:
            checksum = _sha256(path, on_bytes)
            if path.stat().st_size >= _REMEMBERED_BYTES and _known_checksum(path, known)[1] == key:
                known[key] = checksum
                _remember(memory, known)
        whole.update(f"{part}/{path.name} {checksum}\n".encode())
    return whole.hexdigest()[:16]


def unread_bytes(folders: Iterable[tuple[str, Path]], memory: Path) -> int:
    """How much of large files `fingerprint` would have to read: all of it once, nothing from then on."""
    known = remembered(memory)
    sizes = (path.stat().st_size for _, path in _files(folders) if _known_checksum(path, known)[0] is None)
    return sum(size for size in sizes if size >= _REMEMBERED_BYTES)


def _files(folders: Iterable[tuple[str, Path]]) -> Iterator[tuple[str, Path]]:
    for part, folder in sorted(folders):
        for path in sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES and p.is_file()):
            yield part, path


def _known_checksum(path: Path, known: Mapping[str, str]) -> tuple[str | None, str]:
    """The checksum of a file that need not be read, None if it must be; and what it is remembered by. The Hugging Face
    cache names its large blobs by their checksums."""
    blob = path.resolve()
    if blob.parent.name == "blobs" and _HUB_BLOB.fullmatch(blob.name):
        return blob.name, ""
    status = blob.stat()
    key = f"{blob}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"
    return known.get(key), key


def _sha256(path: Path, on_bytes: OnBytes | None) -> str:
    checksum, buffer = hashlib.sha256(), memoryview(bytearray(2**20))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            checksum.update(buffer[:count])
            if on_bytes is not None:
                on_bytes(count)
    return checksum.hexdigest()


def _remember(memory: Path, known: Mapping[str, str]) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(memory) as temporary:
            temporary.write_text(json.dumps(known, indent=1))
    except (OSError, CannotWrite):
        return  # remembered nowhere: the next run reads the weights again
