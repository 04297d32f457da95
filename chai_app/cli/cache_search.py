"""`cache search`: entries by what they mean, and by the words of their prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..errors import BadRequest
from ..models import DEMO
from ..settings import Settings
from . import options
from .cache_choice import OfModel, embedder_of, opened
from .cache_show import EMPTY, short_id, told, wide_console
from .show import check_json_file, shortened, write_json

if TYPE_CHECKING:
    from ..cache import Candidate, LatentCache

HELP = """Find entries by what they mean: those most alike first, then those whose prompt has the words.

[bold]Example[/bold]

  python app.py cache search crimson ball
"""
_MOST_ALIKE = 8  # as many as a lookup names


def search(
    words: Annotated[list[str], typer.Argument(metavar="WORDS", help="A thing, a place, or a whole prompt.")],
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=_MOST_ALIKE, help="How many of either.")
    ] = _MOST_ALIKE,
    model: OfModel = DEMO,
    json_file: options.JsonFile = None,
) -> None:
    from ..cache import Selection

    check_json_file(json_file)
    text = " ".join(" ".join(words).split())
    if not text:
        raise BadRequest("There is nothing to look for: give a word, as in cache search ball.")
    console = wide_console(json_file)
    embedder = embedder_of(model, Settings.from_environment())
    with opened(read_only=True, embedder=embedder) as cache:
        with console.status(f"reading the words with the embedder of {model}"):
            alike = list(_most_alike(cache, text))[:limit]
        scores = {candidate.entry_id: candidate for candidate in alike}
        worded = {entry.id: entry for entry in cache.entries(Selection(prompt=text))}
        more = [id for id in worded if id not in scores][:limit]
        found = [entry for id in (*scores, *more) if (entry := worded.get(id) or cache.entry(id)) is not None]
        values = []
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for title in ("id", "score"):
            table.add_column(title, no_wrap=True)
        for title in ("like", "prompt"):
            table.add_column(title, overflow="fold")
        table.add_column("has the words", no_wrap=True)
        for entry in found:
            candidate = scores.get(entry.id)
            matches = candidate is not None and candidate.similarity >= cache.thresholds.of(candidate.kind)
            like = "" if candidate is None else entry.prompt if candidate.kind == "prompt" else candidate.found
            score = Text("" if candidate is None else f"{candidate.similarity:.3f}", "green" if matches else "dim")
            is_worded = "yes" if entry.id in worded else ""
            id = Text(short_id(entry, console), "cyan")
            table.add_row(id, score, Text(shortened(like, 40)), Text(shortened(entry.prompt, 60)), is_worded)
            told_score = None if candidate is None else candidate.similarity
            kind = None if candidate is None else candidate.kind
            values.append(
                {
                    **{"score": told_score, "kind": kind, "like": like or None, "matches": matches},
                    **{"has_the_words": bool(is_worded), "entry": told(entry, cache.phrases(entry))},
                }
            )
        is_empty = cache.stats().entries == 0
        is_known = cache.stats().embedders.get(embedder.fingerprint, 0) > 0
        limits = ", ".join(f"{name} {cache.thresholds.of(name):.3f}" for name in ("object", "scene", "prompt"))
    if found:
        console.print(table)
    else:
        console.print(
            EMPTY if is_empty else f"No entry has anything to do with {text!r}.", soft_wrap=True, markup=False
        )
    note = f"Compared by the embedder of {model} ({embedder.fingerprint}); a match from {limits} on."
    if not is_known and not is_empty:
        note = f"No entry was filed by the embedder of {model} ({embedder.fingerprint}): only prompts were searched."
    if not is_empty:
        console.print(Text(note, "dim"), soft_wrap=True)
    write_json(
        json_file, {"words": text, "embedder": embedder.name, "fingerprint": embedder.fingerprint, "found": values}
    )


def _most_alike(cache: LatentCache, text: str) -> Iterator[Candidate]:
    """For each entry that the embedder has filed its most alike phrase, best first."""
    from ..cache import Phrase, Thresholds
    from ..cache.entries import KINDS

    if not cache.stats().embedders.get(cache.embedder.fingerprint):
        return
    # A lookup is for one model and one size, and here every one of them is meant.
    shelves = {(entry.fingerprint, entry.shape.latent_key): entry.shape for entry in cache.entries()}
    everything = Thresholds(object=-1, scene=-1, prompt=-1)
    best: dict[str, Candidate] = {}
    for wanted in cache.embed([Phrase(kind, text, text, None) for kind in KINDS]):
        for (fingerprint, _), shape in shelves.items():
            decision = cache.lookup([wanted], fingerprint, shape, lambda *_: 1.0, everything)
            for candidate in decision.candidates:
                known = best.get(candidate.entry_id)
                if known is None or candidate.similarity > known.similarity:
                    best[candidate.entry_id] = candidate
    yield from sorted(best.values(), key=lambda candidate: -candidate.similarity)
