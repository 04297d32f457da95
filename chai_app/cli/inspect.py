"""`models` and `doctor`: what is on this machine, and whether it works."""

from __future__ import annotations

import typer
from rich.table import Table
from rich.text import Text

from ..files import human_bytes
from ..settings import Settings
from . import options
from .show import check_json_file, console_for, write_json

_COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}


def models(json_file: options.JsonFile = None) -> None:
    """List the models: what is ready, what is missing, and the command that fetches it."""
    from ..models import list_models

    check_json_file(json_file)
    settings = Settings.from_environment()
    statuses = list_models(settings)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("model", "ready", "size"):
        table.add_column(title, no_wrap=True)
    table.add_column("what it is", overflow="fold")
    for status in statuses:
        if status.model is not None:
            ready = Text("yes", "green") if status.problem is None else Text("without reuse", "yellow")
            table.add_row(status.name, ready, human_bytes(status.model.size_bytes), status.about)
        else:
            table.add_row(status.name, Text("no", "yellow"), "", status.about)
    console = console_for(json_file)
    console.print(table)
    for status in statuses:
        if status.problem is not None:  # below the table and in one line: there are commands in it, to be copied
            console.print(Text(f"\n{status.problem}"), soft_wrap=True)
    console.print(Text(f"\nOther model folders are found by name in {settings.models_folder}", "dim"), soft_wrap=True)
    write_json(json_file, {"models": [status.to_json() for status in statuses]})


def doctor(json_file: options.JsonFile = None) -> None:
    """Check this machine: versions, device, codecs, models, folders. Exit code 1 means not healthy."""
    from ..doctor import examine, is_healthy

    check_json_file(json_file)
    console = console_for(json_file)
    with console.status("looking at this machine"):
        checks = examine(Settings.from_environment())
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        table.add_row(check.name, Text(check.status, _COLOURS[check.status]), Text(check.detail))
    console.print(table)
    healthy = is_healthy(checks)
    verdict = Text("\nHealthy.", "green") if healthy else Text("\nNot healthy: see what is red above.", "red")
    console.print(verdict)
    write_json(json_file, {"healthy": healthy, "checks": [check.to_json() for check in checks]})
    if not healthy:
        raise typer.Exit(1)
