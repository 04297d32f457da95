"""What holds on this machine: where things are kept, and what enters the cache. Environment variables have the last
word:

CHAI_HOME         folder for what the program remembers (default: the platform's folder for caches of programs)
CHAI_MODELS       folder in which model folders are looked for by name (default: models in CHAI_HOME)
CHAI_OUTPUT       folder for videos whose place was not given (default: videos in the folder you are in)
CHAI_CACHE        a database that many machines share as their cache, such as postgresql://user:password@host/chai
                  (default: a file in CHAI_HOME)
CHAI_BLOBS        with it, where its latents are, such as s3://bucket/prefix; see docs/fleet.md
CHAI_STORE        what enters the cache: full (full runs, the default), hits (what was made by reuse, too) or nothing
CHAI_REUSE_DEPTH  with CHAI_STORE=hits, how many generations of reuse may lie between an entry and a full run
                  (default: 2)
CHAI_COUNT_GATE   what a video of two dogs is to a prompt with three: on (its likeness counts for less, the more the
                  counts differ; the default), equal (nothing) or off (counts are not compared: phrases alone decide)
CHAI_COMPILE      on: torch.compile works on the transformer's blocks, which costs a process its first minutes; graphs:
                  the same, played back as CUDA graphs; for GPUs (default: off)
CHAI_TEXT_ENCODER int8: its weights in 8 bits, half the memory of bf16; needs the package torchao (default: full)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args

from .errors import BadRequest

_PACKAGE = Path(__file__).resolve().parent
_IS_INSTALLED = (_PACKAGE / "assets").is_dir()
SHIPPED = _PACKAGE if _IS_INSTALLED else _PACKAGE.parent
"""Folder of what is shipped beside the code: a clone, or the installed package, which holds all of it (setup.py)."""
BUNDLED_MODELS = SHIPPED / "assets"
"""Folder of the models that are shipped with the program; `demo` is one of them."""
PROGRAM = "chai" if _IS_INSTALLED else "python app.py"
"""What a person types to start the program."""

Store = Literal["full", "hits", "nothing"]
CountGate = Literal["on", "equal", "off"]
Compile = Literal["off", "on", "graphs"]
TextEncoder = Literal["full", "int8"]
DEEPEST = 100
_A_DATABASE, _A_BUCKET = "postgresql://user:password@host/name", "s3://bucket/prefix"


@dataclass(frozen=True)
class SharedCache:
    """Where a cache is that many machines share: two URLs, of a PostgreSQL database and of a place for its latents.

    Raises: BadRequest for what is none.
    """

    rows: str = field(repr=False)  # with a password
    blobs: str

    def __post_init__(self) -> None:
        if not self.rows.startswith(("postgresql://", "postgres://")):
            raise BadRequest(f"CHAI_CACHE is no address of a database: set it to {_A_DATABASE}.")
        if "://" not in self.blobs:
            raise BadRequest(f"CHAI_BLOBS is {self.blobs!r}, which is no place for latents: set it to {_A_BUCKET}.")


@dataclass(frozen=True)
class Settings:
    """Folders in use, none of which is made before something is written into it, and what enters the cache.

    reuse_depth is the most generations of reuse between an entry and a full run; it matters where hits enter.
    count_gate says how counts that differ weigh when phrases are compared. compile is for the transformer's blocks,
    text_encoder how many bits its weights have. full_steps is from how many steps on a run counts as a full one, which
    others may attend to; None: the model's own number. It is for measurements, and no variable sets it. shared is where
    the cache is, unless it is in `home`.
    Raises: BadRequest for a value that there is not.
    """

    home: Path
    models_folder: Path
    output_folder: Path
    store: Store = "full"
    reuse_depth: int = 2
    count_gate: CountGate = "on"
    compile: Compile = "off"
    text_encoder: TextEncoder = "full"
    full_steps: int | None = None
    shared: SharedCache | None = None

    def __post_init__(self) -> None:
        _check_choice("CHAI_STORE", self.store, Store)
        _check_choice("CHAI_COUNT_GATE", self.count_gate, CountGate)
        _check_choice("CHAI_COMPILE", self.compile, Compile)
        _check_choice("CHAI_TEXT_ENCODER", self.text_encoder, TextEncoder)
        if not 1 <= self.reuse_depth <= DEEPEST:
            raise BadRequest(f"CHAI_REUSE_DEPTH is {self.reuse_depth}: set it to a whole number from 1 to {DEEPEST}.")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """The settings of `environment` (default: this process's variables); blank variables count as not set.

        Raises: BadRequest, one sentence, for a variable that makes no sense.
        """
        values = os.environ if environment is None else environment
        for variable in ("CHAI_HOME", "CHAI_MODELS", "CHAI_OUTPUT"):
            folder = _folder(values.get(variable))
            if folder is not None and folder.is_file():
                raise BadRequest(f"{variable} is {folder}, which is a file: set it to a folder.")
        home = _folder(values.get("CHAI_HOME"))
        if home is None:
            import platformdirs

            home = platformdirs.user_cache_path("chai", appauthor=False)
        return cls(
            home=home,
            models_folder=_folder(values.get("CHAI_MODELS")) or home / "models",
            output_folder=_folder(values.get("CHAI_OUTPUT")) or Path("videos"),
            store=cast(Store, _word(values.get("CHAI_STORE")) or cls.store),
            reuse_depth=_depth(values.get("CHAI_REUSE_DEPTH")) or cls.reuse_depth,
            count_gate=cast(CountGate, _word(values.get("CHAI_COUNT_GATE")) or cls.count_gate),
            compile=cast(Compile, _word(values.get("CHAI_COMPILE")) or cls.compile),
            text_encoder=cast(TextEncoder, _word(values.get("CHAI_TEXT_ENCODER")) or cls.text_encoder),
            shared=_shared((values.get("CHAI_CACHE") or "").strip(), (values.get("CHAI_BLOBS") or "").strip()),
        )


def _check_choice(variable: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise BadRequest(f"{variable} is {value!r}: set it to one of {', '.join(get_args(choices))}.")


def _shared(rows: str, blobs: str) -> SharedCache | None:
    if not rows and not blobs:
        return None
    if not blobs:
        raise BadRequest(f"CHAI_CACHE is set and CHAI_BLOBS is not: set it to {_A_BUCKET}, where the latents are.")
    if not rows:
        raise BadRequest(f"CHAI_BLOBS is set and CHAI_CACHE is not: set it to {_A_DATABASE}, where the rows are.")
    return SharedCache(rows, blobs)


def _word(text: str | None) -> str:
    return (text or "").strip().lower()


def _folder(text: str | None) -> Path | None:
    return Path(text).expanduser() if text and text.strip() else None


def _depth(text: str | None) -> int | None:
    if not text or not text.strip():
        return None
    if not text.strip().isascii() or not text.strip().isdigit() or len(text.strip()) > 9 or not int(text):
        raise BadRequest(f"CHAI_REUSE_DEPTH is {text!r}: set it to a whole number from 1 to {DEEPEST}.")
    return int(text)
