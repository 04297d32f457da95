"""How every benchmark runs: arms take turns, samples are kept as they come, and from them come one table and one plot.

A module of this package asks a question and answers it by a `Bench`, under the name BENCH. What a run leaves are
samples, plain values: the same command goes on where it was interrupted, and --draw makes table and plot again.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import BadRequest
from .header import header, printed
from .journal import Journal, Sample, read_json, write_json

Row = dict[str, Any]
Column = str | Callable[[Row], str]
"""A format that is filled with a row's values, empty where one of them is missing; or what makes text of a row."""
Columns = Mapping[str, Column]


@dataclass(frozen=True)
class Arm:
    """One way to do the same thing.

    group: of arms that differ in one respect. how: what the benchmark needs to know to go this way.
    """

    name: str
    group: str = ""
    how: Any = None


@dataclass(frozen=True)
class Bench:
    """A question and the way to its answer.

    Args:
        question: the module's docstring, shown by --help.
        tables: the columns of each table, by the name that rows give as their "part"; of one table under "".
        run: fills the journal with the samples that it lacks.
        rows: from samples, and the settings that they depend on, the rows of all tables.
        options: adds the benchmark's own.
        settings: what all samples depend on, as plain values; samples of other settings are set aside.
        key: tells two samples apart.
        said: sentences below the tables. draw: makes the plot of rows and samples.
        finish: what is to follow a run.
    """

    question: str | None
    tables: Mapping[str, Columns]
    run: Callable[[Namespace, Journal], None]
    rows: Callable[[Sequence[Sample], Mapping[str, Any]], list[Row]]
    options: Callable[[ArgumentParser], None] = lambda parser: None
    settings: Callable[[Namespace], dict[str, Any]] = lambda options: {}
    key: Callable[[Sample], tuple[Any, ...]] = lambda sample: (sample["prompt"], sample["arm"])
    said: Callable[[list[Row]], Iterable[str]] = lambda rows: ()
    draw: Callable[[list[Row], Sequence[Sample], Path], None] | None = None
    finish: Callable[[Namespace, list[Row]], None] = lambda options, rows: None
    seed: int = 0
    libraries: Sequence[str] = ("torch", "diffusers")


def run(name: str, arguments: Sequence[str]) -> None:
    """Run the benchmark in the module of that name, as the command line asks for it.

    Raises: ChaiError, in the words for the person.
    """
    bench: Bench = import_module(f".{name}", __package__).BENCH
    parser = ArgumentParser(
        prog=f"bench {name}", description=bench.question, formatter_class=RawDescriptionHelpFormatter
    )
    bench.options(parser)
    parser.add_argument("--json", type=Path, help="write table and samples here; most runs go on where they stopped")
    parser.add_argument(
        "--draw", type=Path, nargs="+", metavar="JSON", help="print and draw what runs have written, run nothing"
    )
    if bench.draw is not None:
        parser.add_argument("--plot", "--picture", dest="plot", type=Path, help="draw the figures here")
    options = parser.parse_args(arguments)
    if options.draw:
        runs = [read_json(path) for path in options.draw]
        told, settings = runs[0]["header"], runs[0]["settings"]
        samples = [sample for each in runs for sample in each["samples"]]
    else:
        settings = bench.settings(options)
        told = header(name, arguments, bench.seed, bench.libraries)
    print(printed(told), flush=True)
    if not options.draw:
        journal = Journal(options.json, {"bench": name, **settings}, bench.key)
        bench.run(options, journal)
        samples = journal.samples()
    rows = bench.rows(samples, settings)
    for part, columns in bench.tables.items():
        mine = [row for row in rows if row.get("part", "") == part]
        if mine:
            print(f"\n{markdown(columns, mine)}")
    for sentence in bench.said(rows):
        print(sentence)
    if not options.draw:
        write_json(options.json, {"header": told, "settings": settings, "table": rows, "samples": samples})
        bench.finish(options, rows)
    if bench.draw is not None and options.plot:
        bench.draw(rows, samples, options.plot)


def in_turns(
    journal: Journal,
    arms: Sequence[Any],
    rounds: Iterable[int],
    make: Callable[[int, list[Any]], Iterable[Sample]],
    **where: Any,
) -> None:
    """Make what the journal lacks, round by round: all arms of a round or none, another one first each time.

    Args:
        arms: `Arm`s, or names.
        rounds: numbers of prompts, say; each stands in its samples as "prompt".
        make: gets a round and the arms in its order, and gives a sample of each.
        where: values that all these samples have.
    """
    names = [arm.name if isinstance(arm, Arm) else arm for arm in arms]
    missing = [i for i in rounds if not all(journal.has(prompt=i, arm=name, **where) for name in names)]
    for done, i in enumerate(missing, 1):
        first = i % len(arms)
        for sample in make(i, [*arms[first:], *arms[:first]]):
            journal.add({"prompt": i, **where, **sample})
        journal.tell(done, len(missing))


def named(known: Mapping[str, Any], wanted: Iterable[str], what: str) -> list[Any]:
    """Those of `known` that are wanted, in the order of `known`.

    Raises: BadRequest for a name that is not among them.
    """
    wanted = list(wanted)
    for name in wanted:
        if name not in known:
            raise BadRequest(f"There is no {what} {name!r}: --help names them.")
    return [value for name, value in known.items() if name in wanted]


def by_arm(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """The samples of each arm, in the order of the prompts."""
    found: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda sample: sample["prompt"]):
        found.setdefault(sample["arm"], []).append(sample)
    return found


def markdown(columns: Columns, rows: Iterable[Row]) -> str:
    """A table as text."""
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[_cell(column, row) for column in columns.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(column: Column, row: Row) -> str:
    if not isinstance(column, str):
        return column(row)
    try:
        return column.format(**row)
    except (KeyError, TypeError):  # it is not there, or it is None
        return ""


def points(name: str, form: str = ".1f") -> Column:
    """A column of shares, in hundredths."""
    return lambda row: format(100 * row[name], form) if row.get(name) is not None else ""


def interval(name: str) -> Column:
    """A column of differences in hundredths, each (mean, lower end, upper end)."""

    def text(row: Row) -> str:
        if row.get(name) is None:
            return ""
        mean, low, high = (100 * value for value in row[name])
        return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"

    return text


def note(text: str) -> None:
    """A line for who waits."""
    print(text, file=sys.stderr, flush=True)
