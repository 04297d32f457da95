"""`batch`: a file of prompts or requests, one per line, each made into a video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BadRequest, Cancelled, ChaiError
from ..media.names import free_name, output_folder, slug, suffix_for
from ..media.video import check_writable, final_path, read_metadata
from ..request import GenerationRequest, Report
from ..settings import Settings
from . import options
from .prompt_files import of_line, read_lines
from .show import check_json_file, console_for, write_json

if TYPE_CHECKING:
    from ..engine import RunOrder

_SETTLED_BY_A_RUN = frozenset(
    (
        "reuse",
        "fast_steps",
        "fast_guidance_scale",
        "adaptive_steps",
        "donors",
        "recipe",
        "is_private",
        "original_prompt",
        "device",
    )
    + ("dtype", "offload")
)

HELP = "\n\n".join(
    [
        "Make a video of each line of a file.",
        "FILE holds one prompt per line, or - reads them from standard input; empty lines and lines that begin with # "
        "are passed over. A line may be a JSON object with a prompt and options by their names here, or fields of a "
        "request. A .csv or .tsv has a header that names a column prompt, text or caption, and any options beside it.",
        "All lines are checked before the first video is made. A video that fails does not stop the others. Files are "
        "named by line and prompt: 0001-a-fish-in-a-reef.mp4.",
        "Videos whose objects and scenes many others share are made first, so that the others attend to them in fewer "
        "steps; --keep-order makes them as the file has them.",
        "[bold]Examples[/bold]",
        "  python app.py batch prompts.txt -o folder/ --seed 7",
        "  python app.py batch prompts.txt --resume         [dim]what is not there yet[/dim]",
        "[bold]A line of JSON[/bold]",
        '  {"prompt": "a fish in a coral reef", "seed": 3, "size": "64x64"}',
    ]
)


@options.takes_request()
def batch(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Prompts: text, .jsonl, .csv; - is standard input.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where the videos go. Default: videos.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Pass over lines whose video is there already, made as it is asked for.")
    ] = False,
    keep_order: Annotated[bool, typer.Option("--keep-order", help="Make the videos in the order of the file.")] = False,
    format_name: options.Format = None,
    json_file: options.JsonFile = None,
    enhance: options.Enhance = False,
    enhancer: options.EnhancerName = "demo",
    *,
    asked: dict[str, Any],
) -> None:
    from ..engine import Engine
    from .enhance import enhanced_fields
    from .work import PlannedVideo, carry_out

    settings = Settings.from_environment()
    console = console_for(json_file)
    check_json_file(json_file)
    folder = output_folder(output, settings.output_folder)
    if folder is None:
        raise BadRequest(f"There is no folder {output}: make it first, or name another with -o.")

    engine = Engine(settings=settings)
    jobs: list[PlannedVideo] = []
    taken: set[Path] = set()
    num_lines = num_there = 0
    lines = [
        (number, of_line(number, file, options.written_fields, {**asked, **values}, settings))
        for number, values in read_lines(file)
    ]
    if enhance and lines:
        requests = enhanced_fields(engine, [values for _, values in lines], console, enhancer, asked.get("seed") or 0)
        lines = [(number, values) for (number, _), values in zip(lines, requests, strict=True)]
    for number, values in lines:
        num_lines += 1
        try:
            request = GenerationRequest.from_json(values)
            plan = engine.plan(request)
            num_frames = plan.request.num_frames or 1
            path = folder / f"{number:04d}-{slug(plan.request.prompt)}{suffix_for(format_name, num_frames)}"
            if resume and _is_there(final_path(path, num_frames), request, plan.request):
                num_there += 1
                continue
            path = free_name(path, num_frames, taken)
            check_writable(path, num_frames)
        except ChaiError as error:
            raise type(error)(f"Line {number} of {file}: {error}") from error
        taken.add(path)
        jobs.append(PlannedVideo(plan, path, number))
    if not num_lines:
        raise BadRequest(f"{file} holds no prompt: write one per line.")

    results: list[dict[str, Any]] = []
    order = None if keep_order else engine.order_for_reuse([job.plan for job in jobs])
    if order is not None and order.gained_hits:
        console.print(
            f"Made in an order in which they feed each other: {order.expected_hits} of {len(jobs)} should be hits; in "
            f"the file's order {order.hits_as_given} would be.",
            soft_wrap=True,
        )
    told_order = None if order is None else {**asdict(order), "gained_hits": order.gained_hits}

    def tell() -> None:
        results.sort(key=lambda result: int(result["line"]))
        write_json(json_file, {"videos": results, "passed_over": num_there, "order": told_order})

    try:
        if jobs:
            in_order = [jobs[i] for i in order.places] if order else jobs
            carry_out(engine, in_order, console, results, go_on=True, told=tell if json_file != "-" else None)
    except (KeyboardInterrupt, Cancelled):
        tell()
        made = sum("error" not in result for result in results)
        console.print(
            f"Stopped: {made} of {num_lines} videos made{_there(num_there)}. "
            "The same command with --resume makes the others.",
            soft_wrap=True,
        )
        raise
    failed = [result for result in results if "error" in result]
    there = _there(num_there)
    console.print(f"{len(results) - len(failed)} of {num_lines} videos made{there}, {len(failed)} failed.")
    for line in _what_reuse_gave(results, order):
        console.print(line, soft_wrap=True)
    tell()
    if failed:
        raise typer.Exit(1)


def _there(count: int) -> str:
    return f", {count} {'was' if count == 1 else 'were'} there already" if count else ""


def _what_reuse_gave(results: Sequence[Mapping[str, Any]], order: RunOrder | None) -> Iterator[str]:
    """How many were hits and what that saved; and of it, what the order gave. Nothing if there was no hit."""
    reports = [Report.from_json(result["report"]) for result in results if "report" in result]
    hits = [each for each in reports if each.reuse is not None and each.reuse.entry_id is not None]
    if not hits:
        return
    full_s = [each.making_seconds for each in reports if each.reuse is not None and each.reuse.outcome == "miss"]
    full_s += [each.reuse.full_seconds for each in hits if each.reuse is not None and each.reuse.full_seconds]
    hit_s = fsum(each.making_seconds for each in hits) / len(hits)
    saved_s = fsum(full_s) / len(full_s) - hit_s if full_s else 0.0
    line = f"{len(hits)} of {len(reports)} {'was a hit' if len(hits) == 1 else 'were hits'}"
    if saved_s > 0:
        line += f", {saved_s:.1f} s faster than a full run each"
    yield line + "."
    gained = min(order.gained_hits, len(hits) - order.hits_as_given) if order is not None else 0
    if gained > 0:
        saved = f", about {gained * saved_s:.0f} s" if gained * saved_s >= 1 else ""
        yield f"The order gave {gained} of them{saved}."


def _is_there(path: Path, asked: GenerationRequest, planned: GenerationRequest) -> bool:
    """Whether a whole video is at `path` that was made as this one would be.

    A seed counts where one was asked for. How earlier videos helped does not: a run settles that by itself.
    """
    try:
        made = GenerationRequest.from_json(read_metadata(path)["chai"]["request"])
    except (ChaiError, KeyError, TypeError):
        return False
    unasked = {"seed"} if asked.seed is None else set()
    passed_over = _SETTLED_BY_A_RUN | unasked
    return all(getattr(made, f.name) == getattr(planned, f.name) for f in fields(planned) if f.name not in passed_over)
