"""The file that remembers a queue, and the lock that gives it to one program."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import CannotRead, CannotWrite, ChaiError
from ..files import whole_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "jobs.lock"
_SCHEMA = 1
_log = logging.getLogger("chai")


class JobsFile:
    """Jobs as plain values in `path`, which one program has to itself until it closes it.

    Raises: ChaiError if another program has it; CannotWrite if its folder cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: BinaryIO | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = path.with_name(LOCK).open("ab")
        except OSError as error:
            raise CannotWrite(
                f"{path.parent} cannot be written ({error.strerror}): set CHAI_HOME to another folder."
            ) from error
        if fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._lock.close()
                raise ChaiError(
                    f"Another browser UI already works in {path.parent}: use that one, or set CHAI_HOME to another "
                    f"folder."
                ) from error

    def read(self) -> list[dict[str, Any]]:
        """The jobs, none if there is no file; one that is damaged is set aside under another name.

        Raises: CannotRead if it cannot be read just now, which says nothing about the jobs in it.
        """
        try:
            values = json.loads(self.path.read_text(encoding="utf-8"))
            if values["schema"] != _SCHEMA or not isinstance(values["jobs"], list):
                raise ValueError(f"schema {values['schema']}")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CannotRead(
                f"The queue in {self.path} cannot be read just now ({error.strerror}): close the program that "
                f"holds it, or check its permissions, and start again."
            ) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            aside = self.path.with_suffix(".unreadable.json")
            _log.warning("%s cannot be read (%s): it is %s now, and the queue starts empty", self.path, error, aside)
            self.path.replace(aside)
            return []
        return [job for job in values["jobs"] if isinstance(job, dict)]

    def write(self, jobs: list[dict[str, Any]]) -> None:
        """Remember `jobs`. A disk that refuses costs the memory of them, not the jobs."""
        try:
            with whole_file(self.path) as temporary:
                text = json.dumps({"schema": _SCHEMA, "jobs": jobs}, ensure_ascii=False)
                temporary.write_text(text, encoding="utf-8")
        except CannotWrite as error:
            _log.warning("the queue would not survive a crash now: %s", error)

    def close(self) -> None:
        """Leave the file to other programs."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def is_locked(lock: Path) -> bool:
    """Whether a program that runs holds the lock of a queue. Where there are no such locks, a file is taken for one."""
    try:
        with lock.open("rb") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return fcntl is None
