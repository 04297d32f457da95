"""`generate`: one or several prompts, each as one or several videos, or a video once more."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from ..errors import BadRequest
from ..media.names import free_name, output_folder, slug, suffix_for
from ..media.video import check_writable, read_metadata
from ..request import GenerationRequest, Report, by_field
from ..settings import Settings
from . import options
from .show import check_json_file, console_for, write_json

_SEVERAL_FRAMES = 17  # where the number is not known yet: a video, not a picture

HELP = """Make videos from prompts.

Without -o, videos go to the folder videos (or CHAI_OUTPUT), named by prompt and seed; no file there is replaced.

[bold]Examples[/bold]

  python app.py generate "a red balloon rising in the desert" -o out.mp4

  python app.py generate "a blue fish in a coral reef" "a star on the moon" -s 7 -n 3

  python app.py generate --like out.mp4                   [dim]the same video again[/dim]

  python app.py generate --like out.mp4 -s 8 -f gif       [dim]with another seed[/dim]

  python app.py generate "waves" -m opensora-1.2 --resolution 480p --duration 4s
"""


@options.takes_request()
def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT", help="What the videos show; - reads it from standard input.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="A file (.mp4, .webm, .gif; .png for a picture, or a folder of frames), replaced if it is there; or a "
            "folder, where names are made.",
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=1000, help="Videos per prompt, with seeds that follow on.")
    ] = 1,
    format_name: options.Format = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="FILE", help="Take all settings from a video made here earlier.")
    ] = None,
    json_file: options.JsonFile = None,
    enhance: options.Enhance = False,
    enhancer: options.EnhancerName = "demo",
    here: options.Here = False,
    *,
    asked: dict[str, Any],
) -> None:
    from ..engine import Engine
    from ..engine.written import with_following_seeds
    from .enhance import enhanced_fields
    from .handover import engine_for
    from .work import PlannedVideo, carry_out

    settings = Settings.from_environment()
    console = console_for(json_file)
    check_json_file(json_file)
    pattern = _read_pattern(like)
    if prompts == ["-"] or (not prompts and pattern is None and not sys.stdin.isatty()):
        prompts = [text] if (text := " ".join(sys.stdin.read().split())) else None
    fields = asked if pattern is None else {**by_field(pattern[0].to_json()), **asked}
    if not prompts and pattern is None:
        raise BadRequest('No prompt: say what the video should show, as in generate "a red balloon in the desert".')
    folder = output_folder(output, settings.output_folder)
    videos = max(1, len(prompts or ())) * count
    if folder is None:  # what is wrong with the file is told before seconds go into the plan
        if videos > 1:
            raise BadRequest(f"{videos} videos cannot all be {output}: name a folder, as in -o folder/.")
        check_writable(Path(str(output)).expanduser(), fields.get("num_frames") or _SEVERAL_FRAMES)
    else:
        suffix_for(format_name, fields.get("num_frames") or _SEVERAL_FRAMES)
    texts = [{"prompt": prompt, "original_prompt": None} for prompt in prompts] if prompts else [{}]
    wanted = [options.written_fields({**fields, **text}, settings) for text in texts]
    engine = engine_for(wanted, settings, here or enhance, lambda say: console.print(Text(say, "dim"), soft_wrap=True))
    if enhance:
        assert isinstance(engine, Engine), "captions are written here"
        wanted = enhanced_fields(engine, wanted, console, enhancer, asked.get("seed") or 0)
    requests = [GenerationRequest.from_json(each) for each in wanted]
    plans = [engine.plan(request) for each in requests for request in with_following_seeds(each, count)]

    jobs, taken = [], set[Path]()
    for plan in plans:
        num_frames = plan.request.num_frames or 1
        if folder is None:
            path = Path(str(output)).expanduser()
        else:
            name = f"{slug(plan.request.prompt)}-{plan.request.seed}{suffix_for(format_name, num_frames)}"
            path = free_name(folder / name, num_frames, taken)
        taken.add(path)
        check_writable(path, num_frames)
        jobs.append(PlannedVideo(plan, path))

    def remark(request: GenerationRequest, report: Report) -> str | None:
        return None if pattern is None or request != pattern[0] else _compared(pattern[1], report, str(like))

    results: list[dict[str, Any]] = []
    try:
        carry_out(engine, jobs, console, results, remark=remark)
    finally:  # what was made before a failure, or before Ctrl-C, is told as well
        if results:
            write_json(json_file, {"videos": results})


def _read_pattern(like: str | None) -> tuple[GenerationRequest, Report] | None:
    """The request and report that the file `like` carries."""
    if like is None:
        return None
    path = Path(like).expanduser()
    ours = read_metadata(path).get("chai")
    if not isinstance(ours, dict) or "request" not in ours or "report" not in ours:
        raise BadRequest(f"{path} carries no settings: --like needs a file that was made here and not changed since.")
    return GenerationRequest.from_json(ours["request"]), Report.from_json(ours["report"])


def _compared(before: Report, now: Report, like: str) -> str:
    """Whether a repeated video came out the same, and if not, why."""
    if before.latents_sha256 == now.latents_sha256:
        return f"This repeats {like} exactly: its latents are equal bit by bit."
    reasons = [
        name
        for name, old, new in (
            ("other weights", before.model_fingerprint, now.model_fingerprint),
            ("another device", before.device, now.device),
            ("other versions of the libraries", before.versions, now.versions),
            ("another number of threads", before.threads or now.threads, now.threads),
        )
        if old != new
    ]
    return f"This is not quite {like}: {' and '.join(reasons) or 'another machine, or another picture to start from'}."
