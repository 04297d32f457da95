"""Time and memory as videos grow, and the start-up of each face: `python app.py bench growth`.

One step of a small transformer (random weights) is timed as frames and sizes grow, as far as --most-tokens allows.
Beyond, times are those of a model, said in the table: a * tokens + b * tokens * patches per frame, fitted to what was
measured: the linear layers grow with the tokens, attention within frames with both. What a lookup costs as the cache
grows is measured by `bench cache --parts lookup`.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from .header import APP, ROOT, header, printed
from .journal import write_json
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


def grown(most_tokens: int, width: int, depth: int, heads: int, repeats: int) -> list[dict[str, Any]]:
    """A line for each length and size, the smallest first: memory is the most that was held so far."""
    lines: list[dict[str, Any]] = []
    for name, (height, video_width) in SIZES.items():
        for frames in FRAMES:
            patches, tokens = tokens_of(frames, height, video_width)
            lines.append({"size": name, "frames": frames, "patches": patches, "tokens": tokens, "is_measured": False})
    for line in sorted(lines, key=lambda line: line["tokens"]):
        if line["tokens"] <= most_tokens:
            height, video_width = SIZES[line["size"]]
            size = Size(width, depth, heads, line["frames"], height, video_width)
            line |= {**measure(size, repeats), "is_measured": True}
    if any(line["is_measured"] for line in lines):
        linear, square = fitted(lines)
        for line in lines:
            line["model_s"] = linear * line["tokens"] + square * line["tokens"] * line["patches"]
    return lines


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


def as_text(lines: Sequence[dict[str, Any]], faces: dict[str, float]) -> str:
    text = ["| size | frames | tokens | s a step | by the model | peak MB |", "| --- |" + " --- |" * 5]
    for line in lines:
        seconds = f"{line['seconds']:.2f}" if line["is_measured"] else "not measured"
        peak = f"{line['peak_mb']:.0f}" if line["is_measured"] else ""
        model = f"{line['model_s']:.2f}" if "model_s" in line else ""
        text.append(f"| {line['size']} | {line['frames']} | {line['tokens']} | {seconds} | {model} | {peak} |")
    text += ["", "| face | start-up s |", "| --- | --- |"]
    return "\n".join(text + [f"| {face} | {seconds:.2f} |" for face, seconds in faces.items()])


def draw(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Seconds of a step against frames, a line for each size; measured points filled, the model's hollow."""
    from .plots import COLOURS, MARKERS, figure

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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="bench growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--most-tokens", type=int, default=25_000, help="larger videos are left to the model")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plot", type=Path, help="draw them here")
    chosen = parser.parse_args(arguments)
    told = header("growth", sys.argv[1:] if arguments is None else arguments, SEED, ("torch", "diffusers"))
    lines = grown(chosen.most_tokens, chosen.width, chosen.depth, chosen.heads, chosen.repeats)
    faces = start_up(chosen.repeats)
    print(printed(told))
    print(as_text(lines, faces))
    write_json(chosen.json, {"header": told, "lines": lines, "start_up_s": faces})
    if chosen.plot and any(line["is_measured"] for line in lines):
        draw(lines, chosen.plot)


if __name__ == "__main__":
    main()
