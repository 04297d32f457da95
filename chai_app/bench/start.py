"""How long is it from a command to its end, start-up included, and from `ui` to the first page and a model in memory?

Every sample is a process of its own. The arms take turns, round by round, after a round that counts for nothing; with
--against so do two checkouts. Videos and cache go to a folder that is removed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..models import DEMO
from .header import APP, ROOT, header, printed
from .ui import Site, served

_PROMPT, _OTHER = "a red balloon in the desert", "a blue fish in a coral reef"
COMMANDS = {
    "--help": ["--help"],
    "cache ls": ["cache", "ls"],
    "cache search, known": ["cache", "search", "red balloon"],
    "cache search, new": ["cache", "search", "crimson ball"],
    "generate, full run": ["generate", _OTHER, "--reuse", "full", "-s", "1", "-o", "full.mp4"],
    "generate, hit": ["generate", _PROMPT, "-s", "2", "-o", "hit.mp4"],
}
HANDED_OVER, PAGE, READY = "generate, handed over", "ui, first page", "ui, model ready"
_READY_WITHIN_S = 600.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="bench start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default=DEMO)
    parser.add_argument("--against", metavar="FOLDER", help="another checkout, whose median each is a ratio to")
    parser.add_argument("--no-ui", action="store_true", help="the commands alone")
    parser.add_argument("--json", metavar="FILE", help="the raw figures")
    options = parser.parse_args(arguments)
    checkouts = {"": ROOT} | ({"before": Path(options.against).absolute()} if options.against else {})
    samples: dict[str, dict[str, list[list[float]]]] = {name: {} for name in checkouts}
    with tempfile.TemporaryDirectory(prefix="chai-bench-start-") as folder:
        for i in range(options.rounds + 1):
            for name, root in checkouts.items():
                home = Path(folder, name or "now")
                for arm, figures in _round(root, home, options.model, not options.no_ui and root == ROOT):
                    if i:
                        samples[name].setdefault(arm, []).append(figures)
    about = header("start", sys.argv[1:] if arguments is None else arguments, 1, ("torch", "diffusers", "transformers"))
    print(printed(about) + "\n")
    print("\n".join(table(samples)))
    if options.json:
        Path(options.json).write_text(json.dumps({**about, "samples": samples}, indent=1) + "\n", encoding="utf-8")


def table(samples: dict[str, dict[str, list[list[float]]]]) -> list[str]:
    """Lines of the table: wall-clock and processor seconds by arm, the first checkout's, against the other's."""
    lines = ["| arm | n | median s | slowest s | processor s | ratio to before |", "|" + " --- |" * 6]
    for arm, figures in samples[""].items():
        walls, cpus = zip(*figures)
        median, before = statistics.median(walls), samples.get("before", {}).get(arm)
        ratio = f"{median / statistics.median(wall for wall, _ in before):.2f}" if before else ""
        cpu = f"{statistics.median(cpus):.2f}" if any(cpus) else ""
        lines.append(f"| {arm} | {len(walls)} | {median:.2f} | {max(walls):.2f} | {cpu} | {ratio} |")
    return lines


def _round(root: Path, home: Path, model: str, with_ui: bool) -> Iterator[tuple[str, list[float]]]:
    """Each arm once: its name, wall-clock and processor seconds (0 where they are not known)."""
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "CHAI_HOME": str(home / "home"), "CHAI_OUTPUT": str(home)}
    environment["PYTHONPATH"] = str(root)
    app = [sys.executable, str(root / APP[0])] if len(APP) == 1 else [sys.executable, *APP]
    if not (home / "home" / "cache.sqlite3").exists():
        _timed([*app, "generate", _PROMPT, "-s", "1", "-m", model, "-o", "first.mp4"], home, environment)
    for arm, words in COMMANDS.items():
        own_model = ["-m", model] if words[0] == "generate" or "search" in words else []
        yield arm, _timed([*app, *words, *own_model], home, environment)
    if not with_ui:
        return
    started = time.perf_counter()
    with served(home, model) as (url, _):
        with urllib.request.urlopen(url, timeout=_READY_WITHIN_S) as answer:
            answer.read()
        yield PAGE, [time.perf_counter() - started, 0.0]
        site = Site(url)
        while site.ask("poll", {"version": ""})["warmth"]["state"] in ("cold", "warming"):
            if time.perf_counter() - started > _READY_WITHIN_S:
                raise RuntimeError("the model was not loaded in ten minutes")
            time.sleep(0.05)
        yield READY, [time.perf_counter() - started, 0.0]
        yield HANDED_OVER, _timed([*app, *COMMANDS["generate, hit"], "-m", model], home, environment)


def _timed(command: list[str], folder: Path, environment: dict[str, Any]) -> list[float]:
    started = time.perf_counter()
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=words, stderr=words)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            words.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed: {words.read().decode(errors='replace')[-2000:]}")
    return [time.perf_counter() - started, usage.ru_utime + usage.ru_stime]
