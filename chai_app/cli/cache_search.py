"""`cache search`: entries by what they mean, and by the words of their prompt."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..errors import BadRequest
from ..models import DEMO
from ..settings import Settings
from . import options
from .cache_choice import OfModel, embedder_of, opened, unknown_words
from .cache_show import EMPTY, short_id, told, wide_console
from .show import check_json_file, shortened, write_json

HELP = """Find entries by meaning: the most similar first, then those whose prompt has the words.

[bold]Example[/bold]

  python app.py cache search crimson ball
"""
_MOST = 1_000


def search(
    words: Annotated[list[str], typer.Argument(metavar="WORDS", help="A thing, a place, or a whole prompt.")],
    kind: Annotated[
        str | None, typer.Option("--kind", help="Compare only with one kind: object, scene, prompt.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=_MOST, help="How many of each.")] = 8,
    matches: Annotated[bool, typer.Option("--matches", help="Only what a lookup would accept.")] = False,
    model: OfModel = DEMO,
    json_file: options.JsonFile = None,
) -> None:
    from ..cache import Selection
    from ..cache.entries import KINDS

    check_json_file(json_file)
    text = " ".join(" ".join(words).split())
    if not text:
        raise BadRequest("There is nothing to look for: give a word, as in cache search ball.")
    only = next((each for each in KINDS if each == kind), None)
    if kind is not None and only is None:
        raise BadRequest(f"Unknown kind {kind!r}: choose one of {', '.join(KINDS)}.")
    console = wide_console(json_file)
    settings = Settings.from_environment()
    embedder, unknown = embedder_of(model, settings), unknown_words(model, text, settings)
    with opened(read_only=True, embedder=embedder) as cache:
        with console.status(f"reading the words with the embedder of {model}"):
            alike = [] if unknown else cache.search(text, only, limit, is_match=matches)
        worded = [] if matches or only is not None else cache.entries(Selection(prompt=text), limit + len(alike))
        scores = {found.entry.id: found for found in alike}
        more = [entry for entry in worded if entry.id not in scores][:limit]
        entries = [*(found.entry for found in alike), *more]
        values = []
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for title in ("id", "score"):
            table.add_column(title, no_wrap=True)
        for title in ("like", "prompt"):
            table.add_column(title, overflow="fold")
        table.add_column("has the words", no_wrap=True)
        for entry in entries:
            found = scores.get(entry.id)
            is_match = found is not None and found.is_match
            like = "" if found is None else found.text
            score = Text("" if found is None else f"{found.score:.3f}", "green" if is_match else "dim")
            is_worded = text.lower() in entry.prompt.lower()
            id, has_words = Text(short_id(entry, console), "cyan"), "yes" if is_worded else ""
            table.add_row(id, score, Text(shortened(like, 40)), Text(shortened(entry.prompt, 60)), has_words)
            values.append(
                {
                    **{"score": found and found.score, "kind": found and found.kind, "like": found and found.text},
                    **{"threshold": found and found.threshold, "matches": is_match, "has_the_words": is_worded},
                    "entry": told(entry, cache.phrases(entry)),
                }
            )
        is_empty = cache.count() == 0
        is_known = cache.stats().embedders.get(embedder.fingerprint, 0) > 0
        limits = ", ".join(f"{name} {cache.thresholds.of(name):.3f}" for name in ("object", "scene", "prompt"))
    if entries:
        console.print(table)
    else:
        console.print(
            EMPTY if is_empty else f"No entry has anything to do with {text!r}.", soft_wrap=True, markup=False
        )
    note = f"Compared by the embedder of {model} ({embedder.fingerprint}); a match from {limits} on."
    if unknown:
        note = f"The model {model} has never seen {', '.join(unknown)}: only the words of prompts were searched."
    elif not is_known and not is_empty:
        note = f"No entry was filed by the embedder of {model} ({embedder.fingerprint}): only prompts were searched."
    if not is_empty:
        console.print(Text(note, "dim"), soft_wrap=True)
    write_json(
        json_file, {"words": text, "embedder": embedder.name, "fingerprint": embedder.fingerprint, "found": values}
    )
