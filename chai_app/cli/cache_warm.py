"""`cache warm`: make what a file of prompts will need before anybody asks for it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ..errors import BadRequest, ChaiError
from ..fields import REUSE
from ..files import human_bytes
from ..request import GenerationRequest
from ..settings import Settings
from . import options
from .cache_choice import opened
from .cache_show import entries_in_words, wide_console
from .outcome import donors_line, short
from .prompt_files import read_lines
from .show import RunDisplay, check_json_file, shortened, write_json

if TYPE_CHECKING:
    from ..engine import Engine
    from ..request import Plan

HELP = "\n\n".join(
    [
        "Run the prompts of a file in full, so that later videos find them.",
        "FILE is one as batch reads: a prompt in each line, or .jsonl. A prompt for which the cache has something "
        "already is passed over, so those that serve most of the others run first. No video is written.",
        "[bold]Examples[/bold]",
        "  python app.py cache warm prompts.txt",
        "  python app.py cache warm prompts.txt -m opensora-1.2 --resolution 240p --duration 2s",
    ]
)
_PROMPT_SHOWN = 60


@options.takes_request(without=(REUSE, "image", "extend", "num_loops"))
def warm(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Text file of prompts, or .jsonl.")],
    json_file: options.JsonFile = None,
    *,
    asked: dict[str, Any],
) -> None:
    from ..engine import Engine

    settings = Settings.from_environment()
    check_json_file(json_file)
    if settings.store == "nothing":
        raise BadRequest("CHAI_STORE is nothing, so nothing would enter the cache: set it to full first.")
    console = wide_console(json_file)
    engine = Engine(settings=settings)
    plans = []
    for number, fields in read_lines(file):
        try:
            plan = engine.plan(GenerationRequest.from_json({**asked, **fields, "reuse": "auto", "is_private": False}))
            if plan.reuse.outcome == "full":  # the reason why it can neither reuse nor be reused
                raise BadRequest(plan.reuse.why[0])
        except ChaiError as error:
            raise type(error)(f"Line {number} of {file}: {error}") from error
        plans.append((number, plan))
    if not plans:
        raise BadRequest(f"{file} holds no prompt: write one per line.")
    order = engine.order_for_reuse([plan for _, plan in plans])
    results: list[dict[str, Any]] = []
    display = RunDisplay(console, len(plans))
    with display.shown(), closing(engine):
        for i, place in enumerate(order.places):
            number, plan = plans[place]
            display.video(i, plan.request.prompt)
            results.append({"line": number, "prompt": plan.request.prompt, **_warmed(engine, plan, console, display)})
    results.sort(key=lambda result: int(result["line"]))
    _sum_up(results, console)
    write_json(json_file, {"prompts": results})
    if any(result["outcome"] == "failed" for result in results):
        raise typer.Exit(1)


def _warmed(engine: Engine, planned: Plan, console: Console, display: RunDisplay) -> dict[str, Any]:
    """Run one prompt in full, unless there is something for it by now. Says so in one line."""
    prompt = shortened(planned.request.prompt, _PROMPT_SHOWN)
    try:
        plan = engine.plan(planned.request)
        if plan.reuse.entry_id is not None:
            console.print(Text("covered ", "dim").append(f"{prompt}: {donors_line(plan.reuse)}"), soft_wrap=True)
            return {"outcome": "covered", "entry_id": plan.reuse.entry_id}
        request = replace(plan.request, reuse="full")
        report = engine.generate(request, progress=display.step, on_stage=display.stage).report
    except ChaiError as error:
        console.print(Text("failed  ", "red").append(f"{prompt}: {error}", "default"), soft_wrap=True)
        return {"outcome": "failed", "error": str(error)}
    stored = report.reuse.stored_entry_id if report.reuse is not None else None
    if stored is None:
        why = report.notes[-1] if report.notes else "it did not enter the cache."
        console.print(Text("failed  ", "red").append(f"{prompt}: {why}", "default"), soft_wrap=True)
        return {"outcome": "failed", "error": why}
    took = f"{report.steps} steps, {report.making_seconds:.1f} s"
    console.print(Text("made    ", "green").append(f"{prompt}: {short(stored)}, {took}", "default"), soft_wrap=True)
    return {"outcome": "made", "entry_id": stored, "seconds": report.making_seconds}


def _sum_up(results: list[dict[str, Any]], console: Console) -> None:
    counts = {name: sum(each["outcome"] == name for each in results) for name in ("made", "covered", "failed")}
    with opened(read_only=True) as cache:
        figures = cache.stats()
        gone = [each for each in results if each["outcome"] == "made" and cache.entry(each["entry_id"]) is None]
    console.print(
        f"{counts['made']} made, {counts['covered']} were covered already, {counts['failed']} failed; the cache holds "
        f"{entries_in_words(figures.entries)}, {human_bytes(figures.bytes)} of {human_bytes(figures.budget_bytes)}.",
        soft_wrap=True,
    )
    if gone:
        console.print(
            f"{entries_in_words(len(gone))} of them made room for the others: raise the budget with cache budget.",
            soft_wrap=True,
        )
