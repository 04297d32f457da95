"""Blobs in an object store, for a cache that many machines share.

The latents of an entry are called latents/SHA256/ID.safetensors: a name never has two contents, so that it is written
once ("create") and by whoever comes first. They are uploaded before anybody waits for the write lock, and looked for
once more under it, for only who holds it takes blobs away. A crash leaves latents without a row in their place; they
wait there, as latents in a folder wait in `astray/`, for a database that knows them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url

from .entries import Entry
from .errors import CacheError, CannotStore
from .latent_files import ENTRY_ID, KEPT_ASTRAY_DAYS, LATENTS_SUFFIX, PREVIEW_SUFFIX, check_latents

_LATENTS, _PREVIEWS, _QUARANTINE = PurePosixPath("latents"), PurePosixPath("previews"), PurePosixPath("quarantine")
_MARKER = PurePosixPath("cache")  # says whose blobs these are
_RETRIES = 3
_MOST_QUARANTINED = 32


class ObjectBlobs:
    """The blobs under a URL that obstore opens: s3://bucket/prefix, gs://, az://, file:// or memory://.

    Raises: CacheError if obstore knows no such URL.
    """

    def __init__(self, url: str) -> None:
        self._shown = urlsplit(url)._replace(query="").geturl()
        self._store = _opened(url)
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def belong_to(self, cache: str, read_only: bool) -> None:
        """See to it that the blobs are those of one cache.

        Raises: CacheError if they are another's, CannotStore if the store refuses.
        """
        with self._in_plain_words():
            if not read_only:
                with suppress(AlreadyExistsError):
                    self._store.put(str(_MARKER), cache.encode(), mode="create")
            with suppress(FileNotFoundError):
                if bytes(self._store.get(str(_MARKER)).bytes()) != cache.encode():
                    raise CacheError(
                        f"{self._shown} holds the latents of another cache than CHAI_CACHE: set CHAI_BLOBS to a prefix "
                        "of its own."
                    )

    def latents_of(self, entry: Entry) -> PurePosixPath:
        """What an entry's latents are called, whether they are there or not."""
        return _LATENTS / entry.checksum / f"{entry.id}{LATENTS_SUFFIX}"

    def preview_of(self, id: str) -> PurePosixPath:
        """What an entry's preview would be called."""
        return _PREVIEWS / f"{id}{PREVIEW_SUFFIX}"

    @contextmanager
    def staged(self, entry: Entry | None = None) -> Iterator[Upload]:
        """A blob that is being written; latents are uploaded at once, a preview with its row."""
        yield Upload(self, None if entry is None else self.latents_of(entry))

    def read_latents(self, entry: Entry) -> bytes:
        """Raises: ValueError if they are damaged or missing; OSError if they cannot be read just now."""
        try:
            content = self._read(self.latents_of(entry))
        except FileNotFoundError as error:
            if not self.exists(_MARKER):  # a bucket that is not there takes all blobs along
                raise OSError(f"{self._shown} is not there") from error
            raise ValueError("its latents file is missing") from error
        check_latents(entry, content)
        return content

    def has_latents(self, entry: Entry) -> bool:
        """Whether an entry's latents are there in full length."""
        return self._size(self.latents_of(entry)) == entry.bytes

    def exists(self, name: PurePosixPath) -> bool:
        """Whether there is a blob of this name."""
        return self._size(name) is not None

    def preview(self, id: str) -> Path | None:
        """A copy of an entry's preview, for as long as the cache is open; None if there is none to be had."""
        try:
            content = self._read(self.preview_of(id))
        except OSError:
            return None
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="chai-previews-")
        path = Path(self._folder.name, f"{id}{PREVIEW_SUFFIX}")
        path.write_bytes(content)
        return path

    def unlink(self, entries: Iterable[Entry]) -> None:
        """Away with the blobs of entries whose rows are gone. What cannot be taken away now is swept later."""
        self._remove(name for entry in entries for name in (self.latents_of(entry), self.preview_of(entry.id)))

    def set_aside(self, entry: Entry) -> None:
        """Move damaged latents where they can be looked at; the oldest of many make room."""
        with suppress(OSError), _as_os_error():
            target = _QUARANTINE / f"{entry.id}{LATENTS_SUFFIX}"
            self._store.rename(str(self.latents_of(entry)), str(target))
            by_age = sorted(self._listed(_QUARANTINE), key=lambda blob: blob[1])
            self._remove(name for name, _ in by_age[:-_MOST_QUARANTINED])
        self._remove([self.preview_of(entry.id)])

    def forget_set_aside(self, ids: set[str]) -> None:
        """Away with all blobs that are no entry's."""
        with suppress(OSError):
            self._remove(name for name, _ in self._strangers(ids) + self._listed(_QUARANTINE))

    def without_row(self, ids: set[str]) -> list[PurePosixPath]:
        """Names of other entries than these, that have waited for a database that knows them for long enough."""
        until = datetime.now(UTC) - timedelta(days=KEPT_ASTRAY_DAYS)
        with suppress(OSError):
            return [name for name, at in self._strangers(ids) if at <= until]
        return []

    def parts(self) -> list[PurePosixPath]:
        """None: an object is there whole or not at all."""
        return []

    abandoned_parts = parts

    def has_litter(self, ids: set[str]) -> bool:
        """Whether `sweep` might find something to do."""
        with suppress(OSError):
            return bool(self._strangers(ids))
        return False

    def sweep(self, ids: set[str], removed: Callable[[Iterable[str]], set[str]]) -> list[str]:
        """Take away what was left of entries that are gone, and what waited for a row for too long."""
        with suppress(OSError):
            strangers = [name for name, _ in self._strangers(ids)]
            gone = removed({name.stem for name in strangers})
            dead = {*(name for name in strangers if name.stem in gone), *self.without_row(ids)}
            self._remove(dead)
            return [f"swept {name.name}" for name in sorted(dead)]
        return []

    def create(self, name: PurePosixPath, content: bytes) -> None:
        """Write a blob unless it is there: what has its name has its content."""
        with self._in_plain_words(), suppress(AlreadyExistsError):
            self._store.put(str(name), content, mode="create")

    def replace(self, name: PurePosixPath, content: bytes) -> None:
        """Write a blob in place of an older one."""
        with self._in_plain_words():
            self._store.put(str(name), content)

    def _read(self, name: PurePosixPath) -> bytes:
        with _as_os_error():
            return bytes(self._store.get(str(name)).bytes())

    def _size(self, name: PurePosixPath) -> int | None:
        with suppress(OSError), _as_os_error():
            return int(self._store.head(str(name))["size"])
        return None

    def _strangers(self, ids: set[str]) -> list[tuple[PurePosixPath, datetime]]:
        blobs = self._listed(_LATENTS) + self._listed(_PREVIEWS)
        return [(name, at) for name, at in blobs if ENTRY_ID.fullmatch(name.stem) and name.stem not in ids]

    def _listed(self, under: PurePosixPath) -> list[tuple[PurePosixPath, datetime]]:
        """(name, when it was written)"""
        with _as_os_error():
            chunks = self._store.list(f"{under}/")
            return [(PurePosixPath(blob["path"]), blob["last_modified"]) for chunk in chunks for blob in chunk]

    def _remove(self, names: Iterable[PurePosixPath]) -> None:
        all_names = list(map(str, names))
        with suppress(OSError), _as_os_error():
            try:
                self._store.delete(all_names)
            except FileNotFoundError:  # a folder stops at the first that is not there, a bucket does not care
                for name in all_names:
                    with suppress(FileNotFoundError):
                        self._store.delete(name)

    @contextmanager
    def _in_plain_words(self) -> Iterator[None]:
        try:
            with _as_os_error():
                yield
        except OSError as error:
            raise CannotStore(f"Nothing was stored, because {self._shown} refused it ({error}).") from error


class Upload:
    """One blob on its way. Latents that no row will speak of are swept by their age."""

    def __init__(self, blobs: ObjectBlobs, name: PurePosixPath | None) -> None:
        self._blobs, self._name = blobs, name
        self._content = b""

    def write(self, content: bytes) -> None:
        """Keep it, and upload what has a name already."""
        self._content = content
        if self._name is not None:
            self._blobs.create(self._name, content)

    def move_to(self, target: PurePosixPath) -> None:
        """Make sure, under the write lock, that the blob is there."""
        if self._name is None:
            self._blobs.replace(target, self._content)
        elif not self._blobs.exists(target):  # somebody took it away, as of an entry that was gone
            self._blobs.create(target, self._content)

    def keep(self) -> None:
        """Nothing to do: what is there stays."""


def _opened(url: str) -> Any:
    try:
        if url.startswith("memory:"):
            return _in_memory(url)
        if url.startswith("file:"):
            return from_url(url, mkdir=True, automatic_cleanup=True)
        return from_url(url, retry_config={"max_retries": _RETRIES})
    except (BaseError, ValueError, TypeError, OSError) as error:
        raise CacheError(f"CHAI_BLOBS is {url!r}, which obstore cannot open ({_first_line(error)}).") from error


@cache
def _in_memory(url: str) -> Any:
    """One for all caches of this process."""
    return from_url(url)


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except BaseError as error:
        raise OSError(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]
