"""`cache verify`, `repair`, `rebuild`, `upgrade`, `export`, `import`: is everything sound, and how entries travel."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ..errors import BadRequest, ChaiError
from ..files import human_bytes
from ..settings import Settings
from . import options
from .cache_choice import Before, OfEntity, OfModel, OfPrompt, Since, check_target, embedder_of, opened, selection_of
from .cache_show import EMPTY, entries_in_words, print_entries, wide_console
from .show import check_json_file, write_json

EXPORT_HELP = """Write entries into one file, for import into another cache.

[bold]Examples[/bold]

  python app.py cache export all.zip

  python app.py cache export tigers.zip --entity tiger
"""


def verify(
    quick: Annotated[bool, typer.Option("--quick", help="Do not read the latents, only look at their files.")] = False,
    json_file: options.JsonFile = None,
) -> None:
    """Check the cache. Exit code 1 means that something is wrong."""
    check_json_file(json_file)
    console = wide_console(json_file)
    with opened(read_only=True) as cache, console.status("looking at every entry"):
        problems, count = cache.verify(is_thorough=not quick), cache.stats().entries
    for problem in problems:
        console.print(Text("problem ", "red").append(problem, "default"), soft_wrap=True)
    if problems:
        console.print(f"{entries_in_words(count)}, {len(problems)} wrong: cache repair puts it right.")
    else:
        console.print(f"{entries_in_words(count)}, nothing wrong.")
    write_json(json_file, {"entries": count, "is_thorough": not quick, "problems": problems})
    if problems:
        raise typer.Exit(1)


def upgrade(json_file: options.JsonFile = None) -> None:
    """Upgrade a cache from an older version of this program. Making a video does it, too."""
    check_json_file(json_file)
    console = wide_console(json_file)
    with opened() as cache:
        count = cache.count()
    console.print(f"The cache is up to date; {entries_in_words(count)} in it.")
    write_json(json_file, {"entries": count})


def repair(model: OfModel = "demo", json_file: options.JsonFile = None) -> None:
    """Fix what verify finds. Entries with damaged latents are removed; the damaged file is set aside."""
    check_json_file(json_file)
    console = wide_console(json_file)
    embedder = None
    with suppress(ChaiError):  # without one, what has no whole embeddings goes
        embedder = embedder_of(model, Settings.from_environment())
    with opened(embedder=embedder) as cache, console.status("reading every entry"):
        done, count = cache.repair(), cache.stats().entries
    for line in done:
        console.print(Text(f"{line[:1].upper()}{line[1:]}."), soft_wrap=True)
    console.print(f"{entries_in_words(count)} in the cache.")
    write_json(json_file, {"entries": count, "done": done})


def rebuild(json_file: options.JsonFile = None) -> None:
    """Rebuild the indexes that find entries."""
    check_json_file(json_file)
    console = wide_console(json_file)
    with opened() as cache, console.status("building the indexes"):
        cache.rebuild()
        figures = cache.stats()
    console.print(f"Made the indexes of {figures.entities:,} entities of {entries_in_words(figures.entries)} anew.")
    write_json(json_file, {"entries": figures.entries, "entities": figures.entities})


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Replaced if it is there.")],
    entity: OfEntity = None,
    prompt: OfPrompt = None,
    since: Since = None,
    before: Before = None,
    json_file: options.JsonFile = None,
) -> None:
    check_json_file(json_file)
    file = file.expanduser()
    check_target(file)
    selection = selection_of(entity, prompt, since, before)
    console = wide_console(json_file)
    with opened(read_only=True) as cache:
        if not cache.stats().entries:
            raise BadRequest(EMPTY)
        if selection is not None and not cache.entries(selection, limit=1):
            raise BadRequest("No entry fits, so nothing was written: cache ls lists what there is.")
        with console.status("writing"):
            report = cache.export(file, selection)
    size = human_bytes(file.stat().st_size)
    console.print(Text(f"{entries_in_words(report.entries)} in ").append(str(file), "green").append(f", {size}"))
    for note in report.notes:
        console.print(Text("note ", "yellow").append(note, "default"), soft_wrap=True)
    write_json(json_file, {"file": str(file), "entries": report.entries, "notes": list(report.notes)})


def import_archive(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What export has written.")],
    json_file: options.JsonFile = None,
) -> None:
    """Add the entries of a file, after checking all of it. Older entries leave if room is needed."""
    check_json_file(json_file)
    console = wide_console(json_file)
    with opened() as cache, console.status("checking"):
        report = cache.import_archive(file.expanduser())
    print_entries(console, "Imported", report.added)
    if not report.added:
        console.print("Nothing new was in it.")
    if report.already_here:
        console.print(f"{entries_in_words(len(report.already_here))} of it stayed as they were here before.")
    print_entries(console, "Evicted to make room:", report.evicted)
    values = {"added": [entry.to_json() for entry in report.added], "already_here": list(report.already_here)}
    write_json(json_file, {**values, "evicted": [entry.to_json() for entry in report.evicted]})
