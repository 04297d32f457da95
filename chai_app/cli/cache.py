"""`python app.py cache COMMAND`: its commands, in the order in which the help lists them."""

from __future__ import annotations

import typer

from .cache_calibrate import HELP as CALIBRATE_HELP
from .cache_calibrate import calibrate
from .cache_change import BUDGET_HELP, RM_HELP, budget, clear, pin, rm, unpin
from .cache_copy import HELP as COPY_HELP
from .cache_copy import copy
from .cache_look import ls, show, stats
from .cache_search import HELP as SEARCH_HELP
from .cache_search import search
from .cache_upkeep import EXPORT_HELP, export, import_archive, rebuild, repair, upgrade, verify
from .cache_warm import HELP as WARM_HELP
from .cache_warm import warm

commands = typer.Typer(
    help="Look at the cache and manage it: earlier videos that make later ones faster.",
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_LOOK, _CHANGE, _CARE, _CARRY = "Look", "Change", "Take care", "Carry"


@commands.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


commands.command(rich_help_panel=_LOOK)(ls)
commands.command(rich_help_panel=_LOOK)(show)
commands.command(rich_help_panel=_LOOK, help=SEARCH_HELP)(search)
commands.command(rich_help_panel=_LOOK)(stats)
commands.command(rich_help_panel=_CHANGE, help=WARM_HELP)(warm)
commands.command(rich_help_panel=_CHANGE)(pin)
commands.command(rich_help_panel=_CHANGE)(unpin)
commands.command(rich_help_panel=_CHANGE, help=RM_HELP)(rm)
commands.command(rich_help_panel=_CHANGE)(clear)
commands.command(rich_help_panel=_CHANGE, help=BUDGET_HELP)(budget)
commands.command(rich_help_panel=_CARE)(verify)
commands.command(rich_help_panel=_CARE)(repair)
commands.command(rich_help_panel=_CARE)(rebuild)
commands.command(rich_help_panel=_CARE)(upgrade)
commands.command(rich_help_panel=_CARE, help=CALIBRATE_HELP)(calibrate)
commands.command(rich_help_panel=_CARRY, help=EXPORT_HELP)(export)
commands.command("import", rich_help_panel=_CARRY)(import_archive)
commands.command(rich_help_panel=_CARRY, help=COPY_HELP)(copy)
