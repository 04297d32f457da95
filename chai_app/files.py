"""Files that are written whole or not at all, one sentence for each way in which writing fails, and sizes as people
write them."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import BadRequest, CannotWrite

_LEAST_FREE_BYTES = 1_000_000
_LARGEST_BYTES = 10**15
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:b|([kmgt])(i?)b?)", re.IGNORECASE)


def remembered(path: Path) -> dict[str, Any]:
    """The JSON object in a file that remembers what can be found out again; empty where none is whole."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Gives a temporary name beside `target`; what the block wrote there takes target's place when the block ends well.

    A file or a folder may be written; a file never replaces a folder. An older target is replaced only then; after an
    exception, Ctrl-C included, nothing new is left. (A killed process can leave its hidden `.part` file, never half a
    target.)
    Raises: CannotWrite if the system refuses.
    """
    temporary = target.with_name(f".{target.stem[:40]}.{os.getpid()}.{secrets.token_hex(4)}.part{target.suffix}")
    try:
        with _in_plain_words(target):
            yield temporary
            _flush(temporary)
            if target.is_dir():
                if not temporary.is_dir():  # a folder gives way to a folder alone
                    raise IsADirectoryError(errno.EISDIR, "there is a folder of that name")
                shutil.rmtree(target)
            elif temporary.is_dir():
                target.unlink(missing_ok=True)
            temporary.replace(target)
    finally:
        _remove(temporary)


def check_folder(target: Path) -> None:
    """Find out before any work begins whether `target` can be written, by writing a byte beside it.

    Raises: CannotWrite if the folder is not there or not writable, or its disk is full.
    """
    folder = target.parent
    if not folder.is_dir():
        raise CannotWrite(f"The folder {folder} is not there: make it first, or name another place for {target.name}.")
    probe = target.with_name(f".{os.getpid()}.{secrets.token_hex(4)}.part")
    with _in_plain_words(target):
        try:
            probe.write_bytes(b"0")
            free_bytes = shutil.disk_usage(folder).free
        finally:
            _remove(probe)
    if free_bytes < _LEAST_FREE_BYTES:
        raise CannotWrite(f"The disk that holds {folder} is full: free some space, or name another place.")


@contextmanager
def _in_plain_words(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            words = f"The disk is full, so {target} was not written: free some space, or name another place."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            words = f"{target} cannot be written, because {target.parent} is closed to you: name another place."
        else:
            words = f"{target} was not written ({error.strerror or error}): name another place."
        raise CannotWrite(words) from error


def _flush(path: Path) -> None:
    # Down to the disk before the name changes, or a power cut could leave a whole name on half a file.
    if path.is_file():
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def human_bytes(count: int) -> str:
    """38 kB, 1.2 MB, 19.1 GB: units of 1000, as disks are sold."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5 or unit == "GB":
            break
        size /= 1000
    return f"{size:.1f} {unit}" if size < 9.95 and unit != "B" else f"{size:.0f} {unit}"


def bytes_of(text: str) -> int:
    """2GB, 500 MB, 1.5 GiB: kB, MB, GB and TB count in thousands, KiB, MiB, GiB and TiB in 1024.

    Raises: BadRequest for what is no size. A bare number is none: too easily 5 is meant to be 5 GB.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BadRequest(f"Unknown size {text!r}: write a number and its unit, such as 2GB or 500MB.")
    number, prefix, binary = match.groups()
    power = " kmgt".index((prefix or " ").lower())
    count = round(float(number) * (1024 if binary else 1000) ** power)
    if count > _LARGEST_BYTES:
        raise BadRequest(f"The size {text} is beyond any disk: write 1000TB at most.")
    return count
