"""The note by which a browser UI is found by commands of the same person: where it is, and a secret that both know.

It lies in CHAI_HOME, readable by its owner alone, while the server runs. One that a killed server left says nothing:
the server holds the lock of its queue's file, which the system takes from it however it ends, and it proves that it
knows the secret before it is told anything.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import platform
import secrets
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from .. import __version__
from ..checks import check_fields
from ..errors import CannotWrite
from ..files import whole_file
from ..settings import Settings
from .jobs_file import LOCK, is_locked

_FILE = "server.json"
_OWNER_ALONE = 0o600


@dataclass(frozen=True)
class Note:
    """A server: its address, its secret, and what decides whether it works as a command would.

    machine is the computer, which a folder on a network does not tell; settings are those of `told_settings`.
    """

    host: str
    port: int
    secret: str
    version: str
    machine: str
    model: str
    settings: dict[str, str]

    @classmethod
    def of(cls, host: str, port: int, model: str, settings: Settings) -> Self:
        """The note of a server that begins here and now."""
        secret, told = secrets.token_urlsafe(32), told_settings(settings)
        return cls(host, port, secret, __version__, platform.node(), whole_name(model), told)

    @classmethod
    def found_in(cls, home: Path) -> Self | None:
        """The note of the server that works in `home` on this machine; None if there is none, or the note is not to be
        trusted."""
        if not is_locked(home / LOCK):
            return None
        try:
            descriptor = os.open(home / _FILE, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            with open(descriptor, encoding="utf-8") as file:
                status = os.fstat(descriptor)
                if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077):
                    return None
                values = json.load(file)
            check_fields(cls, values)
            note = cls(**values)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return note if note.machine == platform.node() else None

    def leave_in(self, home: Path) -> None:
        """Write it. Raises: CannotWrite."""
        with whole_file(home / _FILE) as temporary:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ALONE)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(self), file)

    def take_away(self, home: Path) -> None:
        """Remove it, unless another server's is there by now."""
        with suppress(OSError, ValueError, CannotWrite):
            if json.loads((home / _FILE).read_text(encoding="utf-8")).get("secret") == self.secret:
                (home / _FILE).unlink()

    @property
    def url(self) -> str:
        """Where it is, for people."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def proof(self, challenge: str) -> str:
        """What only who knows the secret can answer to `challenge`."""
        return hmac.new(self.secret.encode(), challenge.encode(), hashlib.sha256).hexdigest()

    def works_like(self, settings: Settings) -> bool:
        """Whether the server does what this program would do under `settings`."""
        here = replace(self, version=__version__, settings=told_settings(settings))
        return self == here


def told_settings(settings: Settings) -> dict[str, str]:
    """What decides how a video is made and kept: all but where files go, which is the command's own affair."""
    told = {name: str(value) for name, value in vars(settings).items() if name not in ("home", "output_folder")}
    return told | {"models_folder": str(settings.models_folder.expanduser().absolute())}


def whole_name(model: str) -> str:
    """The name of a model, or the whole path of its folder."""
    folder = Path(model).expanduser()
    return str(folder.absolute()) if folder.is_dir() else model


def as_json(**values: Any) -> bytes:
    """A line of what a server and a command tell each other."""
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"
