"""Samples of a benchmark on disk as they come, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import BadRequest
from ..files import whole_file

Sample = dict[str, Any]
"""What was measured once, as plain values."""


class Journal:
    """Samples, one JSON object a line, in a file beside the results; in memory alone if `path` is None.

    Its first line says what the samples depend on; samples of anything else are set aside, and the file begins anew.

    Args:
        path: the results file; the samples are beside it, under the same name with the ending .samples.jsonl.
        depends_on: plain values.
        key: what tells two samples apart.
    """

    def __init__(self, path: Path | None, depends_on: dict[str, Any], key: Callable[[Sample], tuple[Any, ...]]) -> None:
        depends_on = json.loads(json.dumps(depends_on))  # as it will be read again: lists for tuples
        self.settings: dict[str, Any] = depends_on
        self._path = None if path is None else path.with_suffix(".samples.jsonl")
        self._key = key
        self._samples: dict[tuple[Any, ...], Sample] = {}
        self._start = time.monotonic()
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []
        if lines and _read(lines[0]) == depends_on:
            for line in lines[1:]:
                sample = _read(line)
                if sample is not None:  # the last line may be torn
                    self._samples[key(sample)] = sample
        elif lines:
            self._path.replace(self._path.with_suffix(".old.jsonl"))
            print(f"{self._path.name} was about something else: it is kept as .old.jsonl", file=sys.stderr)
        self._write()

    def _write(self) -> None:
        if self._path is not None:
            with whole_file(self._path) as temporary:
                kept = [json.dumps(each) for each in (self.settings, *self._samples.values())]
                temporary.write_text("\n".join(kept) + "\n", encoding="utf-8")

    def clear(self, **where: Any) -> None:
        """Drop the samples that have these values, all of them if there are none: where a run cannot go on midway."""
        self._samples = {
            key: sample
            for key, sample in self._samples.items()
            if any(sample.get(name) != value for name, value in where.items())
        }
        self._write()

    def has(self, **values: Any) -> bool:
        """Whether the sample is there whose key these values make."""
        return self._key(values) in self._samples

    def add(self, sample: Sample) -> None:
        """Write a sample down."""
        self._samples[self._key(sample)] = sample
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(sample) + "\n")

    def samples(self) -> list[Sample]:
        """All of them, those of earlier runs too."""
        return list(self._samples.values())

    def tell(self, done: int, total: int, what: str = "prompts") -> None:
        """A line of progress on standard error, with the time that is left at this pace."""
        seconds = time.monotonic() - self._start
        left = seconds / done * (total - done) / 60 if done else 0.0
        print(
            f"{done} of {total} {what}, {seconds / 60:.1f} min, about {left:.0f} min left", file=sys.stderr, flush=True
        )


def _read(line: str) -> Sample | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def read_json(path: Path) -> dict[str, Any]:
    """The results that `write_json` left. Raises: BadRequest if they are not there, or nothing that can be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRequest(f"There are no results in {path} ({error.strerror}): run it with --json first.") from error
    except ValueError as error:
        raise BadRequest(f"{path} is not the JSON that a benchmark writes: run it with --json first.") from error
    if not isinstance(values, dict) or not {"header", "settings", "samples"} <= values.keys():
        raise BadRequest(f"{path} holds no results of a benchmark: give the file that its --json named.")
    return values


def write_json(path: Path | None, values: dict[str, Any]) -> None:
    """Write results, whole or not at all; nothing if there is no path."""
    if path is not None:
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
