"""How well entities are found, on prompts whose entities are known.

    python -m chai_app.prompts.measure FILE.jsonl [--json OUT]

Each line of the file is {"prompt": ..., "objects": [head phrases], "scenes": [phrases], "kind": a name to group by};
VBench has "scene", a phrase or null. An entity stands for an expected phrase whose words it contains, in the singular
or plural: "red bicycle" is a "bicycle". An entity that stands for nothing expected is false. A prompt is whole if all
is found in its place and nothing is false.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BadRequest, ChaiError
from .extraction import extract
from .mentions import Mention
from .nouns import singular
from .taggers import Tagger, english_tagger


@dataclass
class Score:
    """Counts over prompts; a miss is (prompt, what went wrong)."""

    prompts: int = 0
    objects: int = 0
    objects_found: int = 0
    objects_called_scenes: int = 0
    scenes: int = 0
    scenes_found: int = 0
    false_entities: int = 0
    whole: int = 0
    durations_ms: list[float] = field(default_factory=list)
    misses: list[tuple[str, str]] = field(default_factory=list)

    def figures(self) -> dict[str, str]:
        """The figures as a table shows them."""
        return {
            "prompts": str(self.prompts),
            "objects found": _percent(self.objects_found, self.objects),
            "objects called scenes": _percent(self.objects_called_scenes, self.objects),
            "scenes found": _percent(self.scenes_found, self.scenes),
            "found": _percent(self.objects_found + self.scenes_found, self.objects + self.scenes),
            "false per prompt": f"{self.false_entities / self.prompts:.3f}" if self.prompts else "-",
            "whole": _percent(self.whole, self.prompts),
            "median ms": f"{statistics.median(self.durations_ms):.2f}" if self.durations_ms else "-",
        }


def measure(records: Iterable[dict[str, Any]], tagger: Tagger | None = None) -> dict[str, Score]:
    """The score of each kind of prompt, and of "all"."""
    scores = {"all": Score()}
    extract("a warm-up, so that no prompt pays for loading", tagger)
    for record in records:
        begin = time.perf_counter()
        entities = extract(record["prompt"], tagger)
        duration_ms = 1000 * (time.perf_counter() - begin)
        for score in (scores["all"], scores.setdefault(record.get("kind", "other"), Score())):
            score.prompts += 1
            score.durations_ms.append(duration_ms)
            _judge(score, record, entities.objects, entities.scenes)
    return scores


def _judge(score: Score, record: dict[str, Any], objects: tuple[Mention, ...], scenes: tuple[Mention, ...]) -> None:
    def miss(what: str) -> None:
        score.misses.append((record["prompt"], what))

    misses_before = len(score.misses)
    scene = record.get("scene")
    expected_objects, expected_scenes = record["objects"], record.get("scenes", [] if scene is None else [scene])
    for name in expected_objects:
        score.objects += 1
        if _stands_for(name, objects):
            score.objects_found += 1
        elif _stands_for(name, scenes):
            score.objects_called_scenes += 1
            miss(f"object {name!r} called a scene")
        else:
            miss(f"object {name!r} not found")
    for scene in expected_scenes:
        score.scenes += 1
        if _stands_for(scene, scenes):
            score.scenes_found += 1
        else:
            miss(f"scene {scene!r} {'called an object' if _stands_for(scene, objects) else 'not found'}")
    expected = [*expected_objects, *expected_scenes]
    for entity in (*objects, *scenes):
        if not any(_stands_for(name, (entity,)) for name in expected):
            score.false_entities += 1
            miss(f"false: {entity.phrase!r}")
    score.whole += len(score.misses) == misses_before


def _stands_for(name: str, entities: Iterable[Mention]) -> bool:
    wanted = _singulars(name)
    return any(f" {wanted} " in f" {_singulars(entity.phrase)} " for entity in entities)


def _singulars(phrase: str) -> str:
    return " ".join(singular(word) for word in re.findall(r"[^\s,-]+", phrase.lower()))


def _percent(part: int, whole: int) -> str:
    return f"{part}/{whole} = {100 * part / whole:.1f} %" if whole else "-"


def read_records(path: Path) -> list[dict[str, Any]]:
    """Raises: BadRequest if the file cannot be read or a line is not of the form told above."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadRequest(f"Cannot read {path} ({error.strerror}): name a file of prompts, one a line.") from error
    try:
        records = [json.loads(line) for line in text.splitlines() if line.strip()]
        is_sound = all(isinstance(record["prompt"], str) and isinstance(record["objects"], list) for record in records)
    except (ValueError, KeyError, TypeError):
        is_sound = False
    if not is_sound:
        raise BadRequest(f'{path} is not a file of prompts: each line must be JSON with a "prompt" and its "objects".')
    return records


def print_table(scores: dict[str, Score]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("kind", *Score().figures()):
        table.add_column(title, no_wrap=True, justify="left" if title == "kind" else "right")
    for kind, score in sorted(scores.items(), key=lambda item: item[0] == "all"):
        table.add_row(kind, *score.figures().values())
    console = Console() if sys.stdout.isatty() else Console(width=140)
    console.print(table)
    for prompt, what in scores["all"].misses:
        console.print(f"  {what}\n      in: {prompt}", style="dim", markup=False, highlight=False)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m chai_app.prompts.measure", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("file", type=Path, help="prompts with their entities, one JSON object a line")
    parser.add_argument("--json", type=Path, dest="json_file", help="write the figures and misses to this file, too")
    options = parser.parse_args(arguments)
    try:
        scores = measure(read_records(options.file))
    except ChaiError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"tagger: {type(english_tagger()).__name__}")
    print_table(scores)
    if options.json_file is not None:
        values = {kind: {**score.figures(), **asdict(score)} for kind, score in scores.items()}
        options.json_file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
