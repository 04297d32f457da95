"""Time and memory as videos grow, and the start-up of each face: `python app.py bench growth`.

One step of a small transformer (random weights) is timed as frames and sizes grow, as far as --most-tokens allows.
Beyond, times are those of a model, said in the table: a * tokens + b * tokens * patches per frame, fitted to what was
measured: the linear layers grow with the tokens, attention within frames with both. What a lookup costs as the cache
grows is measured by `bench cache --parts lookup`.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from .header import APP, ROOT
from .journal import Journal, Sample
from .plots import COLOURS, MARKERS, figure
from .runner import Bench, Columns, Row
from .step import SEED, Pair, Size
from .ui import served

FRAMES = (17, 51, 102, 204, 408)
SIZES = {"144p": (144, 256), "240p": (240, 426), "360p": (360, 640), "480p": (480, 854), "720p": (720, 1280)}
FACES = {"command line, --help": [*APP, "--help"], "ComfyUI's import": ["-c", "import chai_app"]}


def tokens_of(frames: int, height: int, width: int) -> tuple[int, int]:
    """Patches per frame, and tokens of the halves of a guidance batch."""
    patches = -(-(height // 8) // 2) * -(-(width // 8) // 2)
    return patches, 2 * 5 * (frames // 17) * patches


def measure(size: Size, repeats: int) -> dict[str, float]:
    """Seconds of a step (median), and the most memory that the process has held so far, in MB."""
    import torch

    with torch.no_grad():
        pair = Pair(None, size)
        pair.run_ours()
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            pair.run_ours()
            seconds.append(time.perf_counter() - start)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return {"seconds": median(seconds), "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}


def fitted(lines: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """a and b of the model, by least squares on relative errors, neither below 0."""
    known = [line for line in lines if line["is_measured"]]
    seconds = np.array([line["seconds"] for line in known])
    terms = np.array([[line["tokens"], line["tokens"] * line["patches"]] for line in known]) / seconds[:, None]
    linear, square = np.linalg.lstsq(terms, np.ones(len(known)), rcond=None)[0]
    if square < 0 or linear < 0:  # too little was measured to tell the two apart
        return float(1 / terms[:, 0].mean()), 0.0
    return float(linear), float(square)


def videos() -> list[Sample]:
    """All lengths and sizes, the smallest first."""
    found = []
    for name, (height, width) in SIZES.items():
        for frames in FRAMES:
            patches, tokens = tokens_of(frames, height, width)
            found.append({"part": "step", "size": name, "frames": frames, "patches": patches, "tokens": tokens})
    return sorted(found, key=lambda video: video["tokens"])


def start_up(repeats: int) -> dict[str, float]:
    """Seconds of each face until it answers, in a process of its own (median)."""
    found = {}
    for face, command in FACES.items():
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, check=True)
            seconds.append(time.perf_counter() - start)
        found[face] = median(seconds)
    seconds = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            with served(Path(folder)) as (url, _), urllib.request.urlopen(url, timeout=60) as page:
                page.read()
                seconds.append(time.perf_counter() - start)
    return found | {"browser UI, first page": median(seconds)}


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--most-tokens", type=int, default=25_000, help="larger videos are left to the model")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)


def run(options: Namespace, journal: Journal) -> None:
    """Memory is the most that was held so far, so the smallest video comes first."""
    for video in videos():
        if video["tokens"] <= options.most_tokens:
            size = Size(options.width, options.depth, options.heads, video["frames"], *SIZES[video["size"]])
            journal.add({**video, **measure(size, options.repeats)})
    for face, seconds in start_up(options.repeats).items():
        journal.add({"part": "start-up", "size": face, "frames": 0, "seconds": seconds})


def rows(samples: Sequence[Sample], _settings: Mapping[str, Any]) -> list[Row]:
    """Every length and size, measured or not, with the time by the model; then the faces."""
    measured = {(sample["size"], sample["frames"]): sample for sample in samples}
    table = [measured.get((video["size"], video["frames"]), video) for video in videos()]
    table = [{**row, "is_measured": "seconds" in row} for row in table]
    if any(row["is_measured"] for row in table):
        linear, square = fitted(table)
        for row in table:
            row["model_s"] = linear * row["tokens"] + square * row["tokens"] * row["patches"]
    return table + [sample for sample in samples if sample["part"] == "start-up"]


def draw(rows: list[Row], _samples: Sequence[Sample], path: Path) -> None:
    """Seconds of a step against frames, a line for each size; measured points filled, the model's hollow."""
    lines = [row for row in rows if "model_s" in row]
    with figure(path, figsize=(7, 4)) as (_, axes):
        for name, colour, marker in zip(SIZES, COLOURS, MARKERS, strict=False):
            mine = [line for line in lines if line["size"] == name]
            axes.plot([m["frames"] for m in mine], [m["model_s"] for m in mine], "-", color=colour, label=name, lw=1)
            for line in mine:
                fill = colour if line["is_measured"] else "white"
                seconds = line["seconds"] if line["is_measured"] else line["model_s"]
                axes.plot(line["frames"], seconds, marker, color=colour, markerfacecolor=fill)
        axes.set(xscale="log", yscale="log", xlabel="frames", ylabel="seconds a step")
        axes.set(title="A step as videos grow (hollow: by the model)")
        axes.set_xticks(FRAMES, [str(frames) for frames in FRAMES])
        axes.minorticks_off()
        axes.legend(loc="upper left")


TABLES: dict[str, Columns] = {
    "step": {
        "size": "{size}",
        "frames": "{frames}",
        "tokens": "{tokens}",
        "s a step": lambda row: f"{row['seconds']:.2f}" if row["is_measured"] else "not measured",
        "by the model": "{model_s:.2f}",
        "peak MB": "{peak_mb:.0f}",
    },
    "start-up": {"face": "{size}", "start-up s": "{seconds:.2f}"},
}
BENCH = Bench(
    __doc__, TABLES, run, rows, options,
    settings=lambda options: {"size": [options.width, options.depth, options.heads]},
    key=lambda sample: (sample["size"], sample["frames"]), draw=draw, seed=SEED,
)  # fmt: skip
