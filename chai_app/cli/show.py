"""How results look on a terminal: the progress bar, the block under each video, and the JSON file."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from ..errors import CannotWrite
from ..files import check_folder, human_bytes, whole_file
from ..request import GenerationRequest, Report
from .outcome import reuse_line, whole_time

if TYPE_CHECKING:
    from torch import Tensor

STAGES = {
    "wait": "waiting for its turn",
    "load": "loading the model",
    "text": "reading the prompt",
    "denoise": "denoising",
    "decode": "decoding",
    "write": "writing",
}
_SILENT_S = 1.5  # without a terminal, weights that take longer to read are told of as often


def console_for(json_file: str | None) -> Console:
    """Where people read: standard output, or standard error when JSON goes to standard output."""
    return Console(stderr=json_file == "-", highlight=False)


def check_json_file(json_file: str | None) -> None:
    """Raises: CannotWrite, before any work begins, if the JSON file's folder is not there or closed."""
    if json_file not in (None, "-"):
        check_folder(Path(json_file).expanduser())


def write_json(json_file: str | None, values: Any) -> None:
    """Write `values` to a file, to standard output for "-", nowhere for None."""
    if json_file is None:
        return
    text = json.dumps(values, indent=2, ensure_ascii=False)
    if json_file == "-":
        sys.stdout.write(text + "\n")
        return
    path = Path(json_file).expanduser()
    if path.is_dir():
        raise CannotWrite(f"{path} is a folder, so the results were not written: give --json the name of a file.")
    with whole_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


class RunDisplay:
    """One line that moves while a video is made: its stage, steps done, and the time that is left."""

    def __init__(self, console: Console, total_videos: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._total_videos = total_videos
        self._label = ""
        self._steps = (0, 0)
        self._read: dict[str, tuple[int, int]] = {}
        self._told = 0.0
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[steps]}"))
        self._progress = Progress(
            *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self._progress.add_task("", total=None, steps="")

    @contextmanager
    def shown(self) -> Iterator[RunDisplay]:
        """The line is there within the block, and gone after it."""
        with self._progress:
            yield self

    def video(self, i: int, prompt: str) -> None:
        """Video `i` (from 0) of all begins."""
        count = f"[dim]{i + 1}/{self._total_videos}[/dim] " if self._total_videos > 1 else ""
        self._label = f"{count}{escape(shortened(prompt, 30))}"

    def stage(self, name: str) -> None:
        """The video enters one of the `STAGES`: only denoising knows how far it has come, the others just move."""
        done, total = self._steps if name == "denoise" else (0, 0)
        self._progress.remove_task(self._task)
        description = f"{self._label}  [cyan]{STAGES[name]}[/cyan]"
        self._task = self._progress.add_task(description, completed=done, total=total or None, steps="")

    def reading(self, what: str, done: int, total: int) -> None:
        """Engine's `on_reading`: a share of the weights is loaded, or checked, which happens side by side."""
        if not self._read:
            self._told = time.monotonic()
        self._read[what] = (done, total)
        told = ", ".join(f"{each} {human_bytes(i)} of {human_bytes(n)}" for each, (i, n) in self._read.items())
        if not self._progress.disable:
            done, total = (sum(numbers) for numbers in zip(*self._read.values(), strict=True))
            self._progress.update(self._task, completed=done, total=total, steps=told)
        elif time.monotonic() - self._told > _SILENT_S:
            self._told = time.monotonic()
            print(f"weights: {told}", file=sys.stderr, flush=True)

    def step(self, step: int, total: int, latents: Tensor | None) -> None:
        """Engine's progress callback: `step` of `total` denoising steps are done."""
        self._steps = (step, total)
        if step:
            steps = f"{step}/{total} steps"
            self._progress.update(self._task, completed=step, total=total, steps=steps, refresh=True)


def print_result(console: Console, path: Path, size_bytes: int, request: GenerationRequest, report: Report) -> None:
    """The block under a finished video: what, where, how, how long, and what the person should know."""
    frames = f"{report.num_frames} frames at {report.fps:g} fps" if report.num_frames > 1 else "1 frame"
    console.print(f"[bold]{escape(shortened(request.prompt, 90))}[/bold]")
    line = Text("  ").append(str(path), "green").append(f"  {report.width}x{report.height}, {frames}, ")
    console.print(line.append(human_bytes(size_bytes)), soft_wrap=True)
    console.print(
        f"  [dim]seed[/dim] {request.seed}  [dim]steps[/dim] {report.steps}  [dim]guidance[/dim] "
        f"{report.guidance_scale(request):g}  [dim]model[/dim] {escape(report.model)}  [dim]on[/dim] {report.device} "
        f"{report.dtype}",
        soft_wrap=True,
    )
    console.print(
        Text("  ").append(reuse_line(report), "cyan" if report.reuse and report.reuse.entry_id else "dim"),
        soft_wrap=True,
    )
    stages = "  ".join(f"[dim]{name}[/dim] {seconds:.1f} s" for name, seconds in report.seconds.items())
    console.print(f"  {stages}  {whole_time(report)}", soft_wrap=True)
    for note in report.notes:
        console.print(Text("  note ", "yellow").append(note, "default"), soft_wrap=True)


def shortened(text: str, longest: int) -> str:
    """One line of at most `longest` characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
