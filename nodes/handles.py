"""What travels between our nodes: a pipeline, a cache, a plan. Nothing is loaded before it is needed."""

from __future__ import annotations

import atexit
import hashlib
import weakref
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import host

if TYPE_CHECKING:
    from ..chai_app.engine import Engine
    from ..chai_app.request import GenerationRequest, Plan
    from ..chai_app.settings import Settings
    from .retrievals import Question

_KNOWN_HOMES: dict[str, Path] = {}


@dataclass(frozen=True)
class Cache:
    """A cache folder. is_private lets runs read it and write nothing."""

    home: Path
    is_private: bool = False

    @property
    def key(self) -> str:
        """A name for the folder that tells nothing about where it is; `home_of` knows it from now on."""
        key = hashlib.sha256(str(self.home).encode()).hexdigest()[:12]
        _KNOWN_HOMES[key] = self.home
        return key


@dataclass(eq=False)
class Pipeline:
    """A model and where it runs. Its engines, one for each cache folder, live as long as it does."""

    model: str
    device: str | None = None
    dtype: str | None = None
    offload: str | None = None
    _engines: dict[Path, Engine] = field(default_factory=dict, repr=False)

    def engine(self, cache: Cache) -> Engine:
        """The engine for this model and that cache; the others give their memory back, as two models may not fit."""
        from ..chai_app.engine import Engine

        if cache.home not in self._engines:
            engine = Engine(
                self.model,
                self.device,
                self.dtype,
                self.offload,
                settings=replace(settings(), home=cache.home),
                memory_host=host.memory_host(),
            )
            self._engines[cache.home] = engine
            _ENGINES.add(engine)
        for home, other in self._engines.items():
            if home != cache.home:
                other.unload()
        return self._engines[cache.home]


@dataclass(frozen=True, eq=False)
class Planned:
    """What the plan node settled: the request (seed and steps still open), what was found for it, and the question to
    which that was the answer."""

    pipeline: Pipeline
    cache: Cache
    request: GenerationRequest
    plan: Plan
    question: Question


_ENGINES: weakref.WeakSet[Any] = weakref.WeakSet()


@atexit.register
def _close_engines() -> None:
    for engine in list(_ENGINES):
        with suppress(Exception):  # the process ends; an index that was not saved is made anew
            engine.close()


def settings() -> Settings:
    """Folders of this machine, by environment variables."""
    from ..chai_app.settings import Settings

    return Settings.from_environment()


def default_cache() -> Cache:
    """The cache that the command line and the browser use, too."""
    return Cache(settings().home)


def home_of(key: str | None) -> Path | None:
    """The cache folder called `key`, the usual one for None; None for a name that nobody has given out."""
    usual = default_cache()
    if key is None or key == usual.key:
        return usual.home
    return _KNOWN_HOMES.get(key)


def known_caches() -> list[Cache]:
    """The default cache, then those that nodes have opened since the start."""
    first = default_cache()
    return [first, *(Cache(home) for home in _KNOWN_HOMES.values() if home != first.home)]
