"""`cache calibrate`: from which likeness on two phrases count as the same, for one embedder."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ..errors import BadRequest, ChaiError
from ..models import DEMO
from ..settings import Settings
from . import options
from .cache_choice import OfModel, check_target, embedder_of
from .cache_show import wide_console
from .show import check_json_file, write_json

if TYPE_CHECKING:
    from ..cache import Pair

HELP = """Find the likeness from which two phrases mean the same, for the embedder of a model.

It learns from pairs of phrases that say whether they match, one JSON object per line. The demo model needs none: its
pairs are made from the words of its world.

[bold]Examples[/bold]

  python app.py cache calibrate --plot thresholds.png

  python app.py cache calibrate -m opensora-1.2 --pairs pairs.jsonl --save

[bold]A line of pairs.jsonl[/bold]

  {"kind": "object", "a": "red ball", "b": "crimson ball", "match": true}
"""


def calibrate(
    pairs: Annotated[Path | None, typer.Option("--pairs", metavar="FILE.jsonl", help="Pairs to learn from.")] = None,
    model: OfModel = DEMO,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw how the pairs fall.")] = None,
    save: Annotated[bool, typer.Option("--save", help="Use these thresholds from now on.")] = False,
    json_file: options.JsonFile = None,
) -> None:
    from ..cache import calibrate as thresholds_from
    from ..cache import draw, save_thresholds, thresholds_for

    check_json_file(json_file)
    if plot is not None:
        plot = plot.expanduser()
        check_target(plot)
    if pairs is None and model != DEMO:
        raise BadRequest(f"There are pairs of phrases for the {DEMO} model only: give {model} its own with --pairs.")
    learnt_from = _pairs_of_the_demo() if pairs is None else read_pairs(pairs.expanduser())
    settings = Settings.from_environment()
    embedder = embedder_of(model, settings)
    console = wide_console(json_file)
    with console.status(f"comparing {len(learnt_from)} pairs"):
        calibration = thresholds_from(embedder, learnt_from)
    before = thresholds_for(embedder, settings.home)
    # A kind without pairs keeps the threshold that it has.
    found = replace(before, **{kind: figures.threshold for kind, figures in calibration.figures.items()})
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("kind", "threshold", "precision", "recall", "balanced accuracy", "match", "differ", "until now"):
        table.add_column(title, justify="left" if title == "kind" else "right")
    for kind, figures in calibration.figures.items():
        shares = (figures.precision, figures.recall, figures.balanced_accuracy)
        counts = (len(figures.matching), len(figures.different))
        numbers = [f"{figures.threshold:.3f}", *(f"{share:.3f}" for share in shares), *map(str, counts)]
        table.add_row(kind, *numbers, f"{before.of(kind):.3f}")
    console.print(table)
    if plot is not None:
        draw(calibration, plot)
        console.print(Text("Drawn in ").append(str(plot), "green"), soft_wrap=True)
    if save:
        save_thresholds(embedder, found, settings.home)
    then = "these thresholds hold from now on." if save else "with --save these thresholds will hold."
    console.print(Text(f"Embedder of {model} ({embedder.fingerprint}): {then}", "dim"), soft_wrap=True)
    values: dict[str, Any] = {"embedder": embedder.name, "fingerprint": embedder.fingerprint}
    values |= {"figures": calibration.to_json(), "thresholds": asdict(found), "saved": save}
    write_json(json_file, values)


def _pairs_of_the_demo() -> list[Pair]:
    from ..cache import Pair
    from ..demo.pairs import demo_pairs

    return [Pair(*pair) for pair in demo_pairs()]


def read_pairs(file: Path) -> list[Pair]:
    """The pairs of a file, one JSON object in a line.

    Raises: BadRequest for a file that cannot be read, or the first line that is no pair.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{file} cannot be read as a text file: name a file with a pair in each line.") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            pairs.append(_pair_in(line))
        except ChaiError as error:
            raise BadRequest(f"Line {number} of {file}: {error}") from error
    if not pairs:
        raise BadRequest(f"{file} holds no pair: write one in a line.")
    return pairs


def _pair_in(line: str) -> Pair:
    from ..cache import Pair
    from ..cache.entries import KINDS

    try:
        values = json.loads(line)
    except ValueError as error:
        raise BadRequest(f"This is not JSON ({error}).") from error
    if not isinstance(values, dict) or set(values) != {"kind", "a", "b", "match"}:
        raise BadRequest('This is not a pair: write {"kind": "object", "a": "...", "b": "...", "match": true}.')
    kind, a, b, match = (values[name] for name in ("kind", "a", "b", "match"))
    if kind not in KINDS:
        raise BadRequest(f"Unknown kind {kind!r}: choose one of {', '.join(KINDS)}.")
    if not all(isinstance(text, str) and text.strip() for text in (a, b)):
        raise BadRequest("a and b must be phrases that are not empty.")
    if not isinstance(match, bool):
        raise BadRequest(f"match is true or false, not {match!r}.")
    return Pair(kind, a, b, match)
