"""`batch`: a file of prompts or requests, one per line, each made into a video."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import BadRequest, ChaiError
from ..request import GenerationRequest
from ..settings import Settings
from ..video import check_writable, final_path, read_metadata
from . import options
from .names import free_name, output_folder, slug, suffix_for
from .show import check_json_file, console_for, write_json

HELP = "\n\n".join(
    [
        "Make a video of each line of a file.",
        "FILE holds one prompt per line; empty lines and lines that begin with # are passed over. If its name ends in "
        ".jsonl, each line is a JSON object with the fields of a request, or size, resolution, aspect and duration as "
        "on the command line.",
        "All lines are checked before the first video is made. A video that fails does not stop the others. Files are "
        "named by line and prompt: 0001-a-fish-in-a-reef.mp4.",
        "[bold]Examples[/bold]",
        "  python app.py batch prompts.txt -o folder/ --seed 7",
        "  python app.py batch prompts.txt --resume         [dim]what is not there yet[/dim]",
        "[bold]A line of JSON[/bold]",
        '  {"prompt": "a fish in a reef", "seed": 3, "size": "64x64"}',
    ]
)


def batch(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Text file of prompts, or .jsonl.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where the videos go. Default: videos.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Pass over lines whose video is there already, with the same prompt.")
    ] = False,
    seed: options.Seed = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    format_name: options.Format = None,
    json_file: options.JsonFile = None,
    size: options.Size = None,
    resolution: options.Resolution = None,
    aspect: options.Aspect = None,
    duration: options.Duration = None,
    frames: options.Frames = None,
    fps: options.Fps = None,
    loops: options.Loops = None,
    reuse: options.ReuseMode = None,
    fast_steps: options.FastSteps = None,
    private: options.Private = False,
    negative: options.Negative = None,
    aesthetic: options.Aesthetic = None,
    motion_score: options.MotionScore = None,
    camera: options.Camera = None,
    model: options.ModelName = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    offload: options.Offload = None,
) -> None:
    from ..engine import Engine
    from .work import Job, carry_out

    settings = Settings.from_environment()
    console = console_for(json_file)
    check_json_file(json_file)
    for_all = options.request_fields(
        size=size,
        resolution=resolution,
        aspect=aspect,
        duration=duration,
        num_frames=frames,
        fps=fps,
        num_loops=loops,
        seed=seed,
        num_inference_steps=steps,
        guidance_scale=guidance,
        reuse=reuse,
        fast_steps=fast_steps,
        is_private=private or None,
        negative_prompt=negative,
        aesthetic_score=aesthetic,
        motion_score=motion_score,
        camera_motion=camera,
        model=model,
        dtype=dtype,
        device=device,
        offload=offload,
    )
    folder = output_folder(output, settings.output_folder)
    if folder is None:
        raise BadRequest(f"There is no folder {output}: make it first, or name another with -o.")

    engine = Engine(settings=settings)
    jobs: list[Job] = []
    taken: set[Path] = set()
    num_lines = num_there = 0
    for number, fields in read_lines(file):
        num_lines += 1
        try:
            plan = engine.plan(GenerationRequest.from_json({**for_all, **fields}))
            num_frames = plan.request.num_frames or 1
            path = folder / f"{number:04d}-{slug(plan.request.prompt)}{suffix_for(format_name, num_frames)}"
            if resume and _is_there(final_path(path, num_frames), plan.request.prompt):
                num_there += 1
                continue
            path = free_name(path, num_frames, taken)
            check_writable(path, num_frames)
        except ChaiError as error:
            raise type(error)(f"Line {number} of {file}: {error}") from error
        taken.add(path)
        jobs.append(Job(plan, path, number))
    if not num_lines:
        raise BadRequest(f"{file} holds no prompt: write one per line.")

    results: list[dict[str, Any]] = []
    if jobs:
        carry_out(engine, jobs, console, results, go_on=True)
    failed = [result for result in results if "error" in result]
    there = f", {num_there} were there already" if num_there else ""
    console.print(f"{len(results) - len(failed)} of {num_lines} videos made{there}, {len(failed)} failed.")
    write_json(json_file, {"videos": results, "passed_over": num_there})
    if failed:
        raise typer.Exit(1)


def read_lines(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """The requests of a batch file as (line number from 1, fields of a request).

    Raises: BadRequest for a file that cannot be read, or the first line that is no request.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{file} cannot be read as a text file: name a file with one prompt per line.") from error
    is_json = file.suffix.lower() in (".jsonl", ".ndjson")
    requests = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            requests.append((number, _json_fields(text) if is_json else {"prompt": text}))
        except ChaiError as error:
            raise BadRequest(f"Line {number} of {file}: {error}") from error
    return requests


def _json_fields(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise BadRequest(f"This is no JSON ({error}).") from error
    if not isinstance(values, Mapping):
        raise BadRequest('This is no JSON object: write {"prompt": "...", ...}.')
    return options.request_fields(**values)


def _is_there(path: Path, prompt: str) -> bool:
    """Whether a whole video of that prompt is at `path`."""
    try:
        return bool(read_metadata(path)["chai"]["request"]["prompt"] == prompt)
    except (ChaiError, KeyError, TypeError):
        return False
