"""Files that came through a server, and those it made for downloading: no more than a total, and not for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

MOST_BYTES = 2_000_000_000
KEPT_S = 24 * 3600.0


class Uploads:
    """What lies in `folders`. A file that is in use stays; any other goes when it is a day old, when room is needed,
    oldest first, or when the server starts or ends.

    Args:
        in_use: the files that jobs on the list start from.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        in_use: Callable[[], set[Path]],
        most_bytes: int = MOST_BYTES,
        kept_s: float = KEPT_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folders, self._in_use = tuple(folders), in_use
        self._most_bytes, self._kept_s, self._clock = most_bytes, kept_s, clock
        self._lock = threading.Lock()
        self._arriving_bytes = 0

    def files(self) -> list[Path]:
        """All of them."""
        return [path for folder in self._folders if folder.is_dir() for path in folder.rglob("*") if path.is_file()]

    def sweep(self, everything: bool = False) -> None:
        """Remove what is too old, or everything; never what is in use."""
        oldest = float("inf") if everything else self._clock() - self._kept_s
        self._remove(lambda _size, modified: modified < oldest)
        if everything:
            for folder in self._folders:
                for inner in sorted(folder.rglob("*"), reverse=True):
                    if inner.is_dir() and not any(inner.iterdir()):
                        inner.rmdir()

    def may_come(self, size_bytes: int) -> bool:
        """Whether so many bytes are within the total, beside what is in use and what is on its way. If so, they are on
        their way until `arrived`."""
        with self._lock:
            used_bytes = sum(_bytes(path) for path in self._in_use())
            if used_bytes + self._arriving_bytes + size_bytes > self._most_bytes:
                return False
            self._arriving_bytes += size_bytes
            return True

    def arrived(self, size_bytes: int) -> None:
        """What `may_come` allowed is here, or was refused: the oldest make room for it, once it is."""
        with self._lock:
            self._arriving_bytes -= size_bytes
        self.sweep()
        excess = sum(_bytes(path) for path in self.files()) - self._most_bytes

        def is_in_the_way(size: int, _modified: float) -> bool:
            nonlocal excess
            goes = excess > 0
            excess -= size if goes else 0
            return goes

        if excess > 0:
            self._remove(is_in_the_way)

    def _remove(self, goes: Callable[[int, float], bool]) -> None:
        with self._lock:
            used = self._in_use()
            found = []
            for path in self.files():
                try:
                    found.append((path.stat().st_mtime, path.stat().st_size, path))
                except OSError:  # gone meanwhile
                    continue
            for modified, size, path in sorted(found):
                if path.resolve() not in used and goes(size, modified):
                    path.unlink(missing_ok=True)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
