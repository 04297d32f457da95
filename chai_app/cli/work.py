"""What `generate` and `batch` share: planned jobs are carried out one by one, shown, and told as JSON."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from .. import STARTED
from ..engine import Engine, Generation
from ..errors import ChaiError
from ..request import GenerationRequest, Plan, Report
from .handover import HandedOver
from .show import RunDisplay, print_result


@dataclass(frozen=True)
class PlannedVideo:
    """A planned video and the file it will be. `line` is where a batch file asks for it, counted from 1."""

    plan: Plan
    path: Path
    line: int | None = None


Remark = Callable[[GenerationRequest, Report], str | None]
"""One more sentence about a finished video, or None."""


def carry_out(
    engine: Engine | HandedOver,
    jobs: Sequence[PlannedVideo],
    console: Console,
    results: list[dict[str, Any]],
    go_on: bool = False,
    remark: Remark | None = None,
    told: Callable[[], None] | None = None,
) -> None:
    """Make and write the videos, with a moving line while at work and a block for each when done.

    Args:
        results: gets, for each job that is done, its file, request and report, or its error, as plain values; also
            those before one that raises.
        go_on: tell of a job that fails and go on with the next, instead of raising.
        told: called after each job, when `results` has it.
    """
    display = RunDisplay(console, len(jobs))
    engine.on_reading = display.reading

    def write(job: PlannedVideo, generation: Generation) -> None:
        try:
            results.append(_written(job, generation, console, remark))
        except Exception as error:
            if not go_on:
                raise
            results.append(_told_failure(job, error, console))
        if told is not None:
            told()

    with display.shown(), closing(engine), ThreadPoolExecutor(1) as writer:
        written: Future[None] | None = None
        for i, job in enumerate(jobs):
            display.video(i, job.plan.request.prompt)
            try:
                started_s = time.perf_counter() - STARTED
                generation = engine.generate(job.plan.request, progress=display.step, on_stage=display.stage)
                if i == 0:  # what the person waited for before it is part of the whole
                    seconds = {"start": started_s, **generation.report.seconds}
                    generation = replace(generation, report=replace(generation.report, seconds=seconds))
            except Exception as error:
                if not go_on:
                    raise
                results.append(_told_failure(job, error, console))
                continue
            if written is not None:
                written.result()
            # A video is written while the next one is made, unless a failure to write should stop the rest.
            written = writer.submit(write, job, generation)
            if not go_on or i == len(jobs) - 1:
                display.stage("write")
                written.result()


def _written(job: PlannedVideo, generation: Generation, console: Console, remark: Remark | None) -> dict[str, Any]:
    written, report = generation.save(job.path)
    note = remark(generation.request, report) if remark else None
    if note is not None:
        report = replace(report, notes=(*report.notes, note))
    print_result(console, written.path, written.size_bytes, generation.request, report)
    where = {} if job.line is None else {"line": job.line}
    return {
        **where,
        "file": str(written.path),
        "size_bytes": written.size_bytes,
        "request": generation.request.to_json(),
        "report": report.to_json(),
    }


def _told_failure(job: PlannedVideo, error: Exception, console: Console) -> dict[str, Any]:
    if not isinstance(error, ChaiError):  # a bug of ours: its traceback is worth more than a sentence
        console.print(Text(traceback.format_exc().rstrip(), "dim"), soft_wrap=True)
    sentence = str(error) if isinstance(error, ChaiError) else f"{type(error).__name__}: {error}"
    console.print(Text("failed ", "red").append(f"line {job.line}: {sentence}", "default"), soft_wrap=True)
    return {"line": job.line, "error": sentence, "request": job.plan.request.to_json()}
