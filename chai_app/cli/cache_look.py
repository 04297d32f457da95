"""`cache ls`, `show` and `stats`: what there is, and how often it helped."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.text import Text

from ..errors import BadRequest
from . import options
from .cache_choice import entries_called, opened
from .cache_show import (
    EMPTY,
    days_table,
    entries_in_words,
    entries_table,
    entry_table,
    file_of,
    latest_days,
    stats_table,
    told,
    wide_console,
)
from .show import check_json_file, write_json


def ls(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show no more entries than this.")] = 50,
    pinned: Annotated[bool, typer.Option("--pinned", help="Only entries that are pinned.")] = False,
    sort: Annotated[
        str, typer.Option("--sort", help="made, used (latest first), hits or bytes (most first).")
    ] = "made",
    json_file: options.JsonFile = None,
) -> None:
    """List the entries, newest first."""
    from ..cache import Selection
    from ..cache.entries import ORDERS

    check_json_file(json_file)
    order = next((order for order in ORDERS if order == sort), None)
    if order is None:
        raise BadRequest(f"Unknown order {sort!r}: choose one of {', '.join(ORDERS)}.")
    console = wide_console(json_file)
    with opened(read_only=True) as cache:
        selection = Selection(is_pinned=True if pinned else None)
        total = cache.count(selection)
        shown = [(entry, cache.phrases(entry)) for entry in cache.entries(selection, limit, order=order)]
        if shown:
            console.print(entries_table(console, shown))
        elif pinned and cache.count():
            console.print("No entry is pinned: cache pin ID keeps one from being evicted.", soft_wrap=True)
        else:
            console.print(EMPTY, soft_wrap=True)
    if total > len(shown):
        console.print(Text(f"{len(shown)} of {entries_in_words(total)}; --limit shows more.", "dim"))
    write_json(json_file, {"entries": [told(*line) for line in shown], "total": total})


def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="As printed by ls; the first digits are enough.")],
    json_file: options.JsonFile = None,
) -> None:
    """Show everything about one entry."""
    check_json_file(json_file)
    with opened(read_only=True) as cache:
        (entry,) = entries_called(cache, [id])
        lineage = {
            "parent": entry.parent,
            "parent_is_here": entry.parent is not None and cache.entry(entry.parent) is not None,
            "children": [child.id for child in cache.children(entry)],
        }
        wide_console(json_file).print(entry_table(cache, entry, lineage))
        preview = cache.preview(entry)
        values = {**told(entry, cache.phrases(entry)), "lineage": lineage}
        values |= {"path": str(file_of(cache, entry)), "preview": None if preview is None else str(preview)}
    write_json(json_file, {"entry": values})


def stats(
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="How far back the bars go.")] = 14,
    json_file: options.JsonFile = None,
) -> None:
    """Show the cache in figures: how full it is, how often it helped, day by day."""
    check_json_file(json_file)
    console = wide_console(json_file)
    with opened(read_only=True) as cache:
        figures, every_day = cache.stats(), cache.days()
    latest = latest_days(every_day, days, time.time())
    if figures.entries or every_day:
        console.print(stats_table(figures))
    else:
        console.print(EMPTY, soft_wrap=True)
    if latest:
        console.print()
        console.print(days_table(latest))
    by_day = [
        {
            "day": day.day,
            "hits": day.hits,
            "misses": day.misses,
            "hit_rate": day.hit_rate,
            "inserted": day.inserted,
            "evicted": day.evicted,
        }
        for day in latest
    ]
    write_json(json_file, {**figures.to_json(), "days": by_day})
