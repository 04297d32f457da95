"""Files beside the database: latents, previews, quarantine. A file is named for its entry's id.

A file is written under a temporary name, which its writer keeps locked. It gets its name inside the write transaction
that commits its row. So whoever holds the write lock knows of every file without a row, and of every temporary file
that nobody locks, that its writer is dead; sweeping needs no grace period and trusts no process id.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .entries import Entry
from .errors import CannotStore

try:
    import fcntl
except ImportError:  # Windows, which refuses to unlink what another process has open: a lock of its own kind
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger("chai")

LATENTS_SUFFIX = ".safetensors"
PREVIEW_SUFFIX = ".webp"
ENTRY_ID = re.compile(r"[0-9a-f]{16}")
_PART_SUFFIX = ".part"
_MOST_QUARANTINED = 32
KEPT_ASTRAY_DAYS = 30
"""How long files wait for a database that knows them."""


class LatentFiles:
    """The folders of a cache under `home`; none is made before something is written into it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.latents, self.previews = home / "latents", home / "previews"
        self.quarantine, self.index = home / "quarantine", home / "index"
        self.astray = home / "astray"

    def latents_of(self, entry: Entry) -> Path:
        """Where an entry's latents are, whether they are there or not."""
        return self.latents / f"{entry.id}{LATENTS_SUFFIX}"

    def preview_of(self, id: str) -> Path:
        """Where an entry's preview would be."""
        return self.previews / f"{id}{PREVIEW_SUFFIX}"

    def preview(self, id: str) -> Path | None:
        """An entry's preview, if it is there."""
        path = self.preview_of(id)
        return path if path.is_file() else None

    def exists(self, name: Path) -> bool:
        """Whether a file is there."""
        return name.exists()

    def without_row(self, ids: set[str]) -> list[Path]:
        """Files that are named for an entry, but for none of these."""
        found = []
        for folder, suffix in ((self.latents, LATENTS_SUFFIX), (self.previews, PREVIEW_SUFFIX)):
            strangers = set(_names(folder)).difference([id + suffix for id in ids])  # 100,000 names: no Path for each
            found += [folder / name for name in strangers if ENTRY_ID.fullmatch(name.removesuffix(suffix))]
        return found

    def parts(self) -> list[Path]:
        """Every temporary file, of writers alive or dead."""
        return [self.latents / name for name in _names(self.latents) if name.endswith(_PART_SUFFIX)]

    def abandoned_parts(self) -> list[Path]:
        """Temporary files whose writer is dead. Certain only while the write lock is held."""
        return [part for part in self.parts() if _is_abandoned(part)]

    def read_latents(self, entry: Entry) -> bytes:
        """The file of an entry's latents, which is the one that was stored.

        Raises: ValueError if it is damaged or missing; OSError if it cannot be read just now, which says nothing about
        the file (no descriptor is left, the disk is away or closed to us): so it is no damage.
        """
        try:
            content = self.latents_of(entry).read_bytes()
        except FileNotFoundError as error:
            if not self.latents.is_dir():  # a disk that is not mounted takes all files along
                raise OSError(error.errno, f"the folder {self.latents} is not there") from error
            raise ValueError("its latents file is missing") from error
        check_latents(entry, content)
        return content

    def has_latents(self, entry: Entry) -> bool:
        """Whether an entry's latents are there in full length; what they hold is found out when they are read."""
        try:
            return self.latents_of(entry).stat().st_size == entry.bytes
        except OSError:
            return False

    def unlink(self, entries: Iterable[Entry]) -> None:
        """Away with the files of entries whose rows are gone. What cannot be unlinked now is swept later."""
        for entry in entries:
            remove(self.latents_of(entry), self.preview_of(entry.id))

    def set_aside(self, entry: Entry) -> None:
        """Move damaged latents where they can be looked at; the oldest of many make room."""
        with contextlib.suppress(OSError):
            self.quarantine.mkdir(parents=True, exist_ok=True)
            self.latents_of(entry).replace(self.quarantine / f"{entry.id}{LATENTS_SUFFIX}")
            kept = sorted(self.quarantine.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
            remove(*kept[_MOST_QUARANTINED:])
        remove(self.preview_of(entry.id))

    def has_litter(self, ids: set[str]) -> bool:
        """Whether `sweep` would find something to do, with these entries; looked at without any lock."""
        return bool(self.without_row(ids) or self.parts() or self.astray_ids())

    def sweep(self, ids: set[str], removed: Callable[[Iterable[str]], set[str]]) -> list[str]:
        """Look after files that no row speaks of, while nobody else writes rows. Returns: what was done.

        Temporary files of dead writers go, and what was left of entries that were taken away. Latents that the database
        never heard of are set aside: a writer may have died before it committed their row, but an older database may
        also have been put in the place of the one that knows them. With that one they come back.
        """
        parts, strangers = self.abandoned_parts(), self.without_row(ids)
        left = removed({path.stem for path in strangers})
        dead = parts + [path for path in strangers if path.stem in left]
        astray = [path for path in strangers if path.stem not in left]
        remove(*dead)
        for path in astray:
            self.put_astray(path)
        back = self.bring_back(ids)
        self.forget_astray(KEPT_ASTRAY_DAYS)
        if astray:
            _log.warning(
                "%d files of entries that the database does not know were set aside in %s: they come back with a "
                "database that knows them, and are removed after %d days.",
                *(len(astray), self.astray, KEPT_ASTRAY_DAYS),
            )
        return [
            *(f"swept {path.name}" for path in dead),
            *(f"set {path.name} aside, which no entry has" for path in astray),
            *(f"brought {path.name} back" for path in back),
        ]

    def put_astray(self, path: Path) -> None:
        """Move a file that is named for no entry where it can wait for a database that knows it."""
        with contextlib.suppress(OSError):
            self.astray.mkdir(parents=True, exist_ok=True)
            path.replace(self.astray / path.name)
            os.utime(self.astray / path.name)  # its time of waiting begins

    def bring_back(self, ids: set[str]) -> list[Path]:
        """Give the files that went astray of these entries their places again, where these are free. Returns: them."""
        found = []
        for place in self._places_of_astray():
            if place.stem in ids and not place.exists():
                with contextlib.suppress(OSError):
                    (self.astray / place.name).replace(place)
                    found.append(place)
        return found

    def _places_of_astray(self) -> list[Path]:
        folders = {LATENTS_SUFFIX: self.latents, PREVIEW_SUFFIX: self.previews}
        paths = [path for path in map(Path, _names(self.astray)) if path.suffix in folders]
        return [folders[path.suffix] / path for path in paths if ENTRY_ID.fullmatch(path.stem)]

    def astray_ids(self) -> set[str]:
        """The ids for which files that went astray are named."""
        return {place.stem for place in self._places_of_astray()}

    def forget_astray(self, days: float) -> None:
        """Unlink what went astray so many days ago or earlier."""
        for place in self._places_of_astray():
            path = self.astray / place.name
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime >= 86_400 * days:
                    path.unlink()

    def forget_set_aside(self, ids: set[str]) -> None:
        """Unlink all that went astray, and all damaged latents that were set aside."""
        self.forget_astray(0)
        remove(*(self.quarantine / name for name in _names(self.quarantine)))

    @contextmanager
    def staged(self, entry: Entry | None = None) -> Iterator[Staged]:
        """A file under a temporary name. Unless `keep` was called, nothing of it is left after the block.

        Raises: CannotStore if the disk refuses.
        """
        try:
            self.latents.mkdir(parents=True, exist_ok=True)
            staged = Staged(self.latents)
        except OSError as error:
            raise _refusal(self.latents, error) from error
        try:
            yield staged
        finally:
            staged.close()


class Staged:
    """One file that is being written; others see its temporary name, and that it is locked."""

    def __init__(self, folder: Path) -> None:
        self.path, self._file = _locked_file(folder)
        self._is_kept = False

    def write(self, content: bytes) -> None:
        """Down to the disk, before any name or row speaks of it."""
        try:
            self._file.write(content)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _refusal(self.path.parent, error) from error

    def move_to(self, target: Path) -> None:
        """Give the file its name; only inside the write transaction that commits its row."""
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if fcntl is None:
                self._file.close()  # Windows renames no open file
            self.path.replace(target)
            self.path = target
            self._file.close()
            _flush_folder(target.parent)
        except OSError as error:
            raise _refusal(target.parent, error) from error

    def keep(self) -> None:
        """The row is committed: the file stays."""
        self._is_kept = True

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a full disk can refuse once more what was still buffered
            self._file.close()
        if not self._is_kept:
            remove(self.path)


def check_latents(entry: Entry, content: bytes) -> None:
    """Raises: ValueError unless an entry's latents are the ones that were stored."""
    if len(content) != entry.bytes:
        raise ValueError(f"its latents file has {len(content):,} bytes instead of {entry.bytes:,}")
    if hashlib.sha256(content).hexdigest() != entry.checksum:
        raise ValueError("its latents file is not the one that was stored")


def _is_abandoned(part: Path) -> bool:
    if fcntl is None:
        return True  # unlinking will tell: Windows refuses it while the writer lives
    try:
        with part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def remove(*paths: Path) -> None:
    """Unlink what is there and can be unlinked."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _locked_file(folder: Path) -> tuple[Path, BinaryIO]:
    while True:
        path = folder / f".{secrets.token_hex(8)}{_PART_SUFFIX}"
        file = path.open("xb")
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():
            return path, file
        file.close()  # swept in the instant between its making and its locking


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refusal(folder: Path, error: OSError) -> CannotStore:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return CannotStore(f"The disk that holds {folder} is full, so nothing was stored: free some space.")
    return CannotStore(f"Nothing was stored, because {folder} cannot be written ({error.strerror or error}).")
