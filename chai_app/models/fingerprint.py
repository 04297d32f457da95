"""A short name for a set of weights, made of their content: equal names, equal weights, wherever they lie."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import CannotWrite
from ..files import remembered, whole_file

_SUFFIXES = (".safetensors", ".bin", ".json", ".model")
_REMEMBERED_BYTES = 2**26  # smaller files are read again within milliseconds
_HUB_BLOB = re.compile(r"[0-9a-f]{64}")


Stamp = tuple[tuple[str, int, int, int], ...]


def stamp(folders: Iterable[Path]) -> Stamp:
    """What changes when a file in one of `folders` does, at the cost of looking: path, bytes, and two times in ns. Of
    these a copy can bring along the one when its content was written, but not the one when it came here."""
    files = sorted(file for folder in folders for file in folder.iterdir() if file.is_file())
    found = ((str(file), file.stat()) for file in files)
    return tuple((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns) for name, status in found)


def fingerprint(folders: Iterable[tuple[str, Path]], memory: Path) -> str:
    """16 hexadecimal digits for all weights and settings in `folders`.

    Args:
        folders: (name of the part, its folder); the name counts, the place does not.
        memory: a JSON file that remembers the checksums of large files by path, size and times of change; it may not
            exist, and a place that cannot be written only means that nothing is remembered.
    """
    before = remembered(memory)
    known = dict(before)
    whole = hashlib.sha256()
    for part, folder in sorted(folders):
        for path in sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES and p.is_file()):
            whole.update(f"{part}/{path.name} {_checksum(path, known)}\n".encode())
    if known != before:
        _remember(memory, known)
    return whole.hexdigest()[:16]


def _checksum(path: Path, known: dict[str, str]) -> str:
    """SHA-256 of a file. The Hugging Face cache names its large blobs by just that, so they need not be read."""
    blob = path.resolve()
    if blob.parent.name == "blobs" and _HUB_BLOB.fullmatch(blob.name):
        return blob.name
    status = blob.stat()
    key = f"{blob}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}"
    if key in known:
        return known[key]
    with blob.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    if status.st_size >= _REMEMBERED_BYTES:
        known[key] = checksum
    return checksum


def _remember(memory: Path, known: dict[str, str]) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(memory) as temporary:
            temporary.write_text(json.dumps(known, indent=1))
    except (OSError, CannotWrite):
        return  # remembered nowhere: the next run reads the weights again
