"""Where things are kept on this machine. Environment variables have the last word:

CHAI_HOME    folder for what the program remembers (default: the platform's folder for caches of programs)
CHAI_MODELS  folder in which model folders are looked for by name (default: models in CHAI_HOME)
CHAI_OUTPUT  folder for videos whose place was not given (default: videos in the folder you are in)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

BUNDLED_MODELS = Path(__file__).resolve().parent.parent / "assets"
"""Folder of the models that are shipped with the program; `demo` is one of them."""


@dataclass(frozen=True)
class Settings:
    """Folders in use. None of them is made before something is written into it."""

    home: Path
    models_folder: Path
    output_folder: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """The settings of `environment` (default: this process's variables); blank variables count as not set."""
        values = os.environ if environment is None else environment
        home = _folder(values.get("CHAI_HOME"))
        if home is None:
            import platformdirs

            home = platformdirs.user_cache_path("chai", appauthor=False)
        return cls(
            home=home,
            models_folder=_folder(values.get("CHAI_MODELS")) or home / "models",
            output_folder=_folder(values.get("CHAI_OUTPUT")) or Path("videos"),
        )


def _folder(text: str | None) -> Path | None:
    return Path(text).expanduser() if text and text.strip() else None
