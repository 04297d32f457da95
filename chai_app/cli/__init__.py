"""The command line: `python app.py ui | generate | batch | cache | models | doctor`. A thin face on the engine and the
cache.

Exit codes: 0 fine, 1 not healthy or some videos of a batch failed, 2 something to be mended by the person (one
sentence on standard error), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from .. import __version__
from ..errors import Cancelled, ChaiError
from ..settings import PROGRAM
from .batch import HELP as BATCH_HELP
from .batch import batch
from .bench import HELP as BENCH_HELP
from .bench import OPTIONS as BENCH_OPTIONS
from .bench import bench
from .cache import commands as cache_commands
from .enhance import HELP as ENHANCE_HELP
from .enhance import enhance
from .generate import HELP as GENERATE_HELP
from .generate import generate
from .inspect import doctor, models
from .numbers import commands as numbers_commands


class _Commands(TyperGroup):
    """Turns what a person can mend into one sentence and an exit code; a bug of ours keeps its traceback."""

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False  # to make a bool of its None, typer would load pydantic: 0.15 s for any --help
        return option

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None and command.help:  # the examples as they are typed here
            command.help = command.help.replace("python app.py", PROGRAM)
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ChaiError as error:
            Console(stderr=True, highlight=False).print(
                Text("error ", "red").append(str(error), "default"), soft_wrap=True
            )
            raise typer.Exit(2) from error
        except (KeyboardInterrupt, Cancelled) as error:
            Console(stderr=True).print("Stopped; nothing half-written is left.")
            raise typer.Exit(130) from error


app = typer.Typer(
    name="app.py",
    cls=_Commands,
    help="Make videos from prompts with Open-Sora 1.2.",
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_without_command: Callable[..., None] | None = None

app.command(help=GENERATE_HELP)(generate)
app.command(help=BATCH_HELP)(batch)
app.command(help=ENHANCE_HELP)(enhance)
app.add_typer(cache_commands, name="cache", cls=_Commands)
app.command(help=BENCH_HELP, context_settings=BENCH_OPTIONS)(bench)
app.add_typer(numbers_commands, name="numbers", cls=_Commands)
app.command()(models)
app.command()(doctor)


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    _quieten_libraries()
    if context.invoked_subcommand is not None:
        return
    if _without_command is None:
        typer.echo(context.get_help())
    else:
        _without_command()


def offer_ui(command: Callable[..., None], help: str) -> None:
    """Make the browser UI a command, the first of all, and what happens without one.

    The UI stands beside this package, which does not know it: app.py brings the two together.
    """
    global _without_command
    app.command("ui", help=help)(command)
    app.registered_commands.insert(0, app.registered_commands.pop())
    _without_command = command


def main() -> None:
    """Run the command that the process was called with, and leave with its exit code."""
    try:
        app()
    finally:
        gc.freeze()  # all goes with the process: to look for garbage in a whole torch first takes half a second


def _quieten_libraries() -> None:
    """Libraries talk on import and while loading; here the person is told what matters by us. What they say matters
    to programs that import the engine, so only the command line does this."""
    import logging
    import os
    import warnings

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.simplefilter("ignore")
    for name in ("xformers", "torch", "torch.utils._pytree", "torchao", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
