"""Files of prompts as people keep them: one in a line, requests as JSON, tables with a header."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import BadRequest, ChaiError
from . import options

_PROMPT_COLUMNS = ("prompt", "text", "caption")


def read_lines(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """The requests of a batch file as (line number from 1, fields of a request); of standard input for "-".

    Raises: BadRequest for a file that cannot be read, or the first line that is no request.
    """
    if str(file) == "-":
        text = sys.stdin.read()
    else:
        try:
            text = file.read_text(encoding="utf-8-sig")
        except FileNotFoundError as error:
            raise BadRequest(f"There is no file {file}: name one with a prompt per line.") from error
        except (OSError, UnicodeDecodeError) as error:
            raise BadRequest(f"{file} cannot be read as a text file: name a file with one prompt per line.") from error
    if file.suffix.lower() in (".csv", ".tsv"):
        return list(_rows(file, text))
    is_json = file.suffix.lower() in (".jsonl", ".ndjson")
    requests = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if words and not words.startswith("#"):
            is_object = is_json or words.startswith('{"')
            requests.append((number, of_line(number, file, _json_fields, words) if is_object else {"prompt": words}))
    return requests


def _rows(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a table whose header names what its columns are; columns that are no option are passed over."""
    reader = csv.DictReader(io.StringIO(text), delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
    names = {name: name.strip().lower() for name in reader.fieldnames or ()}
    column = next((name for wanted in _PROMPT_COLUMNS for name, plain in names.items() if plain == wanted), None)
    if column is None:
        raise BadRequest(
            f"{file} has no column called {', '.join(_PROMPT_COLUMNS[:-1])} or {_PROMPT_COLUMNS[-1]}: name it in the "
            "first line, or write one prompt per line into a .txt."
        )
    for row in reader:
        prompt = (row[column] or "").strip()
        if not prompt:
            continue
        others = {plain: row[name] for name, plain in names.items() if name != column and row[name]}
        values = {name: value for name, value in others.items() if options.is_option(name)}
        number = reader.line_num
        yield number, of_line(number, file, _json_fields, json.dumps({"prompt": prompt}), _typed(values))


def _typed(values: Mapping[str, str]) -> dict[str, Any]:
    """Cells as JSON reads them: numbers, true and false; everything else is text."""
    typed: dict[str, Any] = {}
    for name, value in values.items():
        try:
            typed[name] = json.loads(value)
        except ValueError:
            typed[name] = value
    return typed


def of_line(number: int, file: Path, make: Callable[..., dict[str, Any]], *values: Any) -> dict[str, Any]:
    """What `make` makes of a line; what is wrong with it is told with its number."""
    try:
        return make(*values)
    except ChaiError as error:
        raise BadRequest(f"Line {number} of {file}: {error}") from error


def _json_fields(text: str, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"This is not JSON ({error}).") from error
    if not isinstance(values, Mapping):
        raise BadRequest('This is not a JSON object: write {"prompt": "...", ...}.')
    return options.fields_from_json({**values, **(more or {})})
