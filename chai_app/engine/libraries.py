"""The libraries that a run stands on, imported without what no run uses."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import cast

from ..process.lean_import import lean_import, left_out
from ..settings import Settings

_NEVER_RUN = ("torch._dynamo", "torchao", "torchvision.ops", "xformers")
"""torch's compiler is marked against by many functions; torchao is for weights of 8 bits; xformers is asked for by name
where there is a GPU."""
_BARE = ("torchvision", "transformers.models")
Owners = Mapping[str, list[str]]


def import_libraries(settings: Settings) -> None:
    """Import what a run does, while it is this thread's turn."""
    if _takes_all(settings):
        _import()
    else:
        lean_import(_import, _NEVER_RUN, _BARE)


def loading_leanly(settings: Settings) -> AbstractContextManager[None]:
    """Within the block, models are made without what no run uses: torch's compiler comes with the first weight, or it
    does not come at all."""
    return nullcontext() if _takes_all(settings) else left_out(_NEVER_RUN, _BARE)


def _takes_all(settings: Settings) -> bool:
    return settings.compile != "off" or settings.text_encoder == "int8"


def _import() -> None:
    import torch  # noqa: F401 (the others look for it)
    from transformers import AutoTokenizer, T5EncoderModel  # noqa: F401

    with _owners_when_asked():
        from ..attention import cache_attention  # noqa: F401
        from ..opensora import OpenSoraPipeline, cache_hooks  # noqa: F401


@contextmanager
def _owners_when_asked() -> Iterator[None]:
    """Within the block nobody reads what each installed distribution consists of before he looks one up: diffusers asks
    for all of it on import, for the sake of three packages that are seldom installed."""
    read = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = lambda: cast("dict[str, list[str]]", _WhenAsked(read))
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = read


class _WhenAsked(Owners):
    """A mapping that is read when it is first looked into."""

    def __init__(self, read: Callable[[], Owners]) -> None:
        self._read = read

    @cached_property
    def _values(self) -> Owners:
        return self._read()

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, package: str) -> list[str]:
        return self._values[package]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
