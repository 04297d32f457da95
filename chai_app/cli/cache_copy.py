"""`cache copy`: a whole cache into another place, such as the one that many machines share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ..errors import BadRequest
from ..files import human_bytes
from ..settings import Settings, SharedCache
from . import options
from .cache_show import entries_in_words, wide_console
from .show import check_json_file, write_json

if TYPE_CHECKING:
    from ..cache import LatentCache

HELP = """Copy a whole cache into another place. What is there already stays, so that a copy that was stopped goes on.

A place is a folder (a CHAI_HOME), or CHAI_CACHE and CHAI_BLOBS of a shared cache with a comma between them.

[bold]Example[/bold]

  python app.py cache copy ~/.cache/chai postgresql://chai@db/chai,s3://videos/chai
"""


def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="Where the cache is. It stays as it is.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="Where it is to be, too.")],
    json_file: options.JsonFile = None,
) -> None:
    check_json_file(json_file)
    console = wide_console(json_file)
    if source == target:
        raise BadRequest("FROM and TO are one place: name another one.")
    with _opened(source, True) as ours, _opened(target, False) as theirs, console.status("copying"):
        report = theirs.copy_from(ours)
    console.print(Text(f"Copied {entries_in_words(report.copied)}, {human_bytes(report.bytes)}."))
    if report.already_there:
        console.print(f"{entries_in_words(report.already_there)} were there before.")
    for note in report.notes:
        console.print(Text("note ", "yellow").append(note, "default"), soft_wrap=True)
    values = {"copied": report.copied, "bytes": report.bytes, "already_there": report.already_there}
    write_json(json_file, {**values, "notes": list(report.notes)})


def _opened(place: str, read_only: bool) -> LatentCache:
    """Raises: BadRequest for what is no place, or a folder to read from that is not there."""
    from ..cache import LatentCache

    if "://" not in place:
        home = Path(place).expanduser()
        if read_only and not home.is_dir():
            raise BadRequest(f"There is no cache in {place}: name the folder that CHAI_HOME was.")
        return LatentCache(home, read_only=read_only)
    rows, comma, blobs = place.partition(",")
    if not comma:
        raise BadRequest("A shared cache is two addresses with a comma between them: postgresql://...,s3://...")
    return LatentCache(Settings.from_environment().home, read_only=read_only, shared=SharedCache(rows, blobs))
