"""What a `cache` command means: which cache, which entries, which embedder; sizes and dates as people write them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BadRequest, CannotWrite
from ..files import check_folder
from ..settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from ..cache import Embedder, Entry, LatentCache, Selection

_FILTERS = "Which entries"

Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="As printed by ls; the first digits are enough.")]
OfEntity = Annotated[
    str | None,
    typer.Option(
        "--entity", metavar="TEXT", rich_help_panel=_FILTERS, help='Found by this entity, "red ball", or noun, "ball".'
    ),
]
OfPrompt = Annotated[
    str | None, typer.Option("--prompt", metavar="TEXT", rich_help_panel=_FILTERS, help="With this in their prompt.")
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="DATE", rich_help_panel=_FILTERS, help="Made then or later, such as 2026-03-01."),
]
Before = Annotated[
    str | None,
    typer.Option("--before", metavar="DATE", rich_help_panel=_FILTERS, help='Made before, such as "2026-03-01 14:30".'),
]
OfModel = Annotated[
    str, typer.Option("--model", "-m", help="Whose embedder compares: demo, opensora-1.2, or a model folder.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]


def opened(read_only: bool = False, embedder: Embedder | None = None) -> LatentCache:
    """The cache of this machine's settings; only what embeds needs an embedder."""
    from ..cache import LatentCache

    settings = Settings.from_environment()
    return LatentCache(settings.home, embedder, read_only, shared=settings.shared)


def embedder_of(model_name: str, settings: Settings) -> Embedder:
    """What the entities of a model are embedded by.

    Raises: BadRequest for a model that there is not or that has none, MissingWeights for one that is not here.
    """
    from ..engine.donors import embedder_for, published_embedder
    from ..models import RELEASED, find_model

    if model_name == RELEASED:  # its embedder may be here without the rest
        return published_embedder()
    return embedder_for(find_model(model_name, settings))


def unknown_words(model_name: str, words: str, settings: Settings) -> list[str]:
    """Those of the words that a small model never saw; its embedder puts them anywhere."""
    from ..models import RELEASED, find_model

    vocabulary = None if model_name == RELEASED else find_model(model_name, settings).vocabulary
    return [] if vocabulary is None else vocabulary.unknown_words(vocabulary.respelled(words))


def agreed(question: str, console: Console) -> bool:
    """Ask, where the person reads what is about to happen.

    Raises: BadRequest if nobody is there to answer.
    """
    try:
        return typer.confirm(question, err=console.stderr)
    except typer.Abort as error:
        if sys.stdin.isatty():
            raise KeyboardInterrupt from error
        raise BadRequest("Nobody can answer here, so nothing was changed: add --yes to skip the question.") from error


def entries_called(cache: LatentCache, ids: Sequence[str]) -> list[Entry]:
    """The entries that `ids` (or the first digits of ids) stand for, each once, in that order.

    Raises: UnknownEntry for the first that is nobody's, or could be several's.
    """
    return list({entry.id: entry for entry in map(cache.find, ids)}.values())


def selection_of(entity: str | None, prompt: str | None, since: str | None, before: str | None) -> Selection | None:
    """What the filters mean, None if none was given.

    Raises: BadRequest for a filter that is blank (it would mean every entry) or a date that is none.
    """
    from ..cache import Selection

    if all(value is None for value in (entity, prompt, since, before)):
        return None
    for name, value in (("--entity", entity), ("--prompt", prompt)):
        if value is not None and not value.strip():
            raise BadRequest(f"{name} is blank: say what the entries have in common.")
    return Selection(
        entity=None if entity is None else " ".join(entity.split()),
        prompt=prompt,
        since=None if since is None else moment(since),
        before=None if before is None else moment(before),
    )


def moment(text: str) -> float:
    """A date, with a time or without, in seconds since 1970; on this machine's clock unless it names a zone.

    Raises: BadRequest for what is no date.
    """
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise BadRequest(
            f'Unknown date {text!r}: write year-month-day, such as 2026-03-01 or "2026-03-01 14:30".'
        ) from error


def check_target(path: Path) -> None:
    """Raises: CannotWrite, before any work begins, if `path` is a folder or in one that cannot be written."""
    if path.is_dir():
        raise CannotWrite(f"{path} is a folder: give the name of a file in it.")
    check_folder(path)
