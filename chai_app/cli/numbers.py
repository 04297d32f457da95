"""`python app.py numbers`: the networks that learn to count, their study, and how alike two counts are."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import BadRequest, CannotWrite
from ..settings import Settings
from . import options
from .show import check_json_file, console_for, write_json

commands = typer.Typer(
    help="Number sense: networks that learn to count, and how alike two counts are to the cache.",
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_MOST_DIGITS = 1_000


@commands.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@commands.command()
def study(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where table, figures and plots go; made if missing."),
    ] = Path("numbers-study"),
    seeds: Annotated[int, typer.Option(min=2, max=500, help="Networks of each kind, from different starts.")] = 20,
    json_file: options.JsonFile = None,
) -> None:
    """Train the networks that learn N + 1, measure them and draw what they learned. A minute or two."""
    from ..numbers import plots
    from ..numbers.study import Size, run
    from ..numbers.table import table

    check_json_file(json_file)
    plots.check()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"The folder {output} cannot be made ({error.strerror}): name another with -o.") from error
    console = console_for(json_file)
    done = run(Size(seeds=seeds), lambda line: console.print(f"[dim]{line}[/dim]"))
    lines = table(done.figures)
    console.print(lines, markup=False, soft_wrap=True)
    (output / "table.md").write_text(lines + "\n", encoding="utf-8")
    write_json(str(output / "figures.json"), done.figures)
    for path in plots.draw(done, output):
        console.print(str(path), style="green", soft_wrap=True)
    write_json(json_file, done.figures)


@commands.command()
def alike(
    wanted: Annotated[str, typer.Argument(help='A count, in digits or words: 3, "two dozen", several.')],
    found: Annotated[str, typer.Argument(help="The count of an earlier video.")],
    json_file: options.JsonFile = None,
) -> None:
    """How far a video of FOUND things serves a prompt that asks for WANTED of them, 0 to 1."""
    from ..engine.donors import gate

    check_json_file(json_file)
    counts = [_count(text) for text in (wanted, found)]
    setting = Settings.from_environment().count_gate
    likeness = gate(setting)(*counts)
    console_for(json_file).print(f"{counts[1]} for {counts[0]}: {likeness:.2f}, with the gate {setting}")
    write_json(json_file, {"wanted": str(counts[0]), "found": str(counts[1]), "likeness": likeness, "gate": setting})


@commands.command("next")
def next_number(
    number: Annotated[str, typer.Argument(help="A whole number in digits, of any length.")],
    times: Annotated[int, typer.Option("--times", "-n", min=1, max=1000, help="How far to count.")] = 1,
    json_file: options.JsonFile = None,
) -> None:
    """Let the network count on that was trained on numbers of three digits; --json says whether it is right."""
    from ..numbers.counter import count_on
    from ..numbers.make_assets import shipped_counter

    check_json_file(json_file)
    digits = number.replace(",", "")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _MOST_DIGITS:
        raise BadRequest(
            f"{number!r} is not a whole number of at most {_MOST_DIGITS:,} digits: write it in digits, as in 999."
        )
    counted = count_on(shipped_counter(), int(digits), times)
    rows: list[dict[str, Any]] = []
    console = console_for(json_file)
    for before, after in pairwise(counted):
        is_right = after == before + 1
        rows.append({"number": after, "is_right": is_right})
        console.print(f"{after}" + ("" if is_right else "  wrong"), soft_wrap=True)
    if len(counted) <= times:
        console.print("What it wrote next is no number.")
    write_json(json_file, rows)


def _count(text: str) -> int:
    """Raises: BadRequest for what says no count."""
    from ..numbers import CountRange
    from ..prompts.numerals import RANGES, number_of

    words = " ".join(text.lower().split())
    for article in ("a ", "an "):
        words = words.removeprefix(article)
    number = number_of(words)
    if number is not None:
        return number
    if words in RANGES:
        return CountRange(*RANGES[words])
    raise BadRequest(f'{text!r} is not a count: write it in digits or words, such as 3, "two dozen" or several.')
