"""`cache pin`, `unpin`, `rm`, `clear` and `budget`: what stays, and what goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ..errors import BadRequest
from ..files import bytes_of, human_bytes
from . import options
from .cache_choice import Before, Ids, OfEntity, OfPrompt, Since, Yes, agreed, entries_called, opened, selection_of
from .cache_show import (
    LEAVES_FIRST,
    entries_in_words,
    pairs_table,
    percent,
    policy_in_words,
    print_entries,
    told,
    wide_console,
)
from .show import check_json_file, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from ..cache import Entry, EvictionPolicy

RM_HELP = """Remove entries, pinned ones too, with their latents and previews. Asks first.

[bold]Examples[/bold]

  python app.py cache rm 3f2a 91c0

  python app.py cache rm --entity tiger --before 2026-03-01

  python app.py cache rm --prompt "my cat" --yes
"""
BUDGET_HELP = """Show or set how many bytes latents may take, for every program that shares the cache.

[bold]Examples[/bold]

  python app.py cache budget                  [dim]as it is[/dim]

  python app.py cache budget 20GB

  python app.py cache budget --policy lfu     [dim]another order in which entries leave[/dim]

Asks first if entries would leave.
"""


def pin(ids: Ids, json_file: options.JsonFile = None) -> None:
    """Keep entries from being evicted."""
    _set_pinned(ids, True, json_file)


def unpin(ids: Ids, json_file: options.JsonFile = None) -> None:
    """Let entries be evicted again."""
    _set_pinned(ids, False, json_file)


def _set_pinned(ids: list[str], is_pinned: bool, json_file: str | None) -> None:
    check_json_file(json_file)
    console = wide_console(json_file)
    with opened() as cache:
        entries = entries_called(cache, ids)
        done = [entry for entry in entries if (cache.pin(entry) if is_pinned else cache.unpin(entry))]
        now = [entry for entry in (cache.entry(entry.id) for entry in done) if entry is not None]
        print_entries(console, "Pinned" if is_pinned else "Unpinned", now)
        _say_gone(console, len(entries) - len(done))
        write_json(json_file, {"entries": [told(entry, cache.phrases(entry)) for entry in now]})


def rm(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="As printed by ls; the first digits are enough."),
    ] = None,
    entity: OfEntity = None,
    prompt: OfPrompt = None,
    since: Since = None,
    before: Before = None,
    yes: Yes = False,
    json_file: options.JsonFile = None,
) -> None:
    check_json_file(json_file)
    selection = selection_of(entity, prompt, since, before)
    if bool(ids) == (selection is not None):
        raise BadRequest("Say which entries to remove either by their ids or by --entity, --prompt, --since, --before.")
    console = wide_console(json_file)
    gone: list[Entry] = []
    with opened() as cache:
        entries = cache.entries(selection) if selection else entries_called(cache, ids or [])
        if not yes:
            print_entries(console, "This removes", entries)
        if not entries:
            console.print("No entry fits, so nothing was removed.")
        elif yes or agreed("Remove them?", console):
            gone = cache.purge(selection) if selection else [entry for entry in entries if cache.remove(entry)]
            print_entries(console, "Removed", gone)
            _say_gone(console, max(len(entries) - len(gone), 0))
        else:
            console.print("Nothing was removed.")
    write_json(json_file, {"removed": [entry.to_json() for entry in gone]})


def clear(yes: Yes = False, json_file: options.JsonFile = None) -> None:
    """Remove every entry, pinned ones too. Asks first; budget, thresholds and statistics stay."""
    check_json_file(json_file)
    console = wide_console(json_file)
    gone: list[Entry] = []
    with opened() as cache:
        stats = cache.stats()
        if not stats.entries:
            console.print("The cache is empty already.")
        elif yes or agreed(
            f"Remove {'all ' * (stats.entries > 1)}{entries_in_words(stats.entries)}, {stats.pinned} of them pinned, "
            f"{human_bytes(stats.bytes)}?",
            console,
        ):
            gone = cache.clear()
            total = human_bytes(sum(entry.bytes for entry in gone))
            console.print(f"Removed {entries_in_words(len(gone))}, {total}.")
        else:
            console.print("Nothing was removed.")
    write_json(json_file, {"removed": [entry.to_json() for entry in gone]})


def budget(
    size: Annotated[
        list[str] | None, typer.Argument(metavar="[SIZE]", help="Such as 2GB, 500 MB or 1.5GiB. Default: as it is.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            help=f"Who leaves first: {', '.join(f'{name} ({words})' for name, words in LEAVES_FIRST.items())}.",
        ),
    ] = None,
    yes: Yes = False,
    json_file: options.JsonFile = None,
) -> None:
    from ..cache.inspection import would_leave

    check_json_file(json_file)
    budget_bytes = bytes_of(" ".join(size)) if size else None
    console = wide_console(json_file)
    left: list[Entry] = []
    with opened(read_only=budget_bytes is None and policy is None) as cache:
        if not cache.read_only:
            kept_bytes = cache.stats().budget_bytes if budget_bytes is None else budget_bytes
            wanted = cast("EvictionPolicy | None", policy)
            leaving = would_leave(cache, budget_bytes=kept_bytes, policy=wanted)
            if leaving and not yes:
                print_entries(console, "This evicts", leaving)
            if yes or not leaving or agreed("Evict them?", console):
                left = cache.set_budget(kept_bytes, wanted)
            else:
                console.print("Nothing was changed.")
        now = cache.stats()
    share = f" ({percent(now.bytes / now.budget_bytes)})" if now.budget_bytes else ""
    used = f"{human_bytes(now.bytes)}{share} by {entries_in_words(now.entries)}"
    pairs = {"budget": human_bytes(now.budget_bytes), "used": used, "policy": policy_in_words(now.policy)}
    console.print(pairs_table(pairs))
    print_entries(console, "Evicted because of it:", left)
    if now.bytes > now.budget_bytes:
        console.print(
            "Pinned entries alone exceed the budget: unpin some, or nothing new will be kept.", soft_wrap=True
        )
    values: dict[str, Any] = {"budget_bytes": now.budget_bytes, "policy": now.policy, "bytes": now.bytes}
    write_json(json_file, {**values, "evicted": [entry.to_json() for entry in left]})


def _say_gone(console: Console, count: int) -> None:
    if count:
        console.print(f"{entries_in_words(count)} left the cache in the meantime.")
