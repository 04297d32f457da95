"""The options of the command line, each declared once, and how their words become fields of a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import BadRequest
from ..presets import ACCELERATIONS
from ..settings import Settings

_SIZE, _MODEL, _GUIDE, _MACHINE = "Size and length", "Model", "Guiding the video", "Machine"
_REUSE = "Reuse of earlier videos"

Seed = Annotated[
    int | None,
    typer.Option("--seed", "-s", help="Whole number that makes the video repeatable. Default: random, and shown."),
]
CaptionSeed = Annotated[
    int | None, typer.Option("--seed", "-s", help="Whole number: another one finds other words. Default: 0.")
]
Steps = Annotated[int | None, typer.Option("--steps", help="Denoising steps of a full run. Default: the model's, 30.")]
Guidance = Annotated[
    float | None, typer.Option("--guidance", help="How strictly to follow the prompt. Default: the model's.")
]
ReuseMode = Annotated[
    str | None,
    typer.Option(
        "--reuse",
        metavar="HOW",
        rich_help_panel=_REUSE,
        help="auto: attend to an earlier video that shares an object or a scene, in fewer steps. full: never. fast: "
        "the few steps alone. Or the id of an entry to attend to, or several with commas. Default: auto.",
    ),
]
FastSteps = Annotated[
    int | None,
    typer.Option("--fast-steps", rich_help_panel=_REUSE, help="Denoising steps of a hit. Default: the model's."),
]
StartLevel = Annotated[
    float | None,
    typer.Option(
        "--start-level",
        rich_help_panel=_REUSE,
        help="Noise that few steps begin with, 0.05 to 1; below 1, none goes to the noisiest part. "
        "Default: the model's.",
    ),
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        rich_help_panel=_REUSE,
        help="exact: no approximation. balanced: earlier videos help, and full runs leave out what does not matter. "
        "draft: half the steps, for a first look. Default: balanced.",
    ),
]
Acceleration = Annotated[
    str | None,
    typer.Option(
        "--acceleration",
        rich_help_panel=_REUSE,
        help=f"Reuse within the run: {', '.join(ACCELERATIONS)}. Default: the preset's.",
    ),
]
AdaptiveSteps = Annotated[
    bool,
    typer.Option(
        "--adaptive-steps", rich_help_panel=_REUSE, help="The less a hit's donor resembles, the more steps it takes."
    ),
]
Donors = Annotated[
    int | None,
    typer.Option(
        "--donors",
        metavar="N",
        rich_help_panel=_REUSE,
        help="Attend to as many as N earlier videos at once, each for what the others do not show. Default: 1.",
    ),
]
Private = Annotated[
    bool, typer.Option("--private", rich_help_panel=_REUSE, help="Read the cache, but write nothing into it.")
]
Negative = Annotated[
    str | None, typer.Option("--negative", rich_help_panel=_GUIDE, help="What the video should not show.")
]
Aesthetic = Annotated[
    float | None,
    typer.Option("--aesthetic", rich_help_panel=_GUIDE, help="Aesthetic score to ask for, 0 to 10 (6.5 is good)."),
]
MotionScore = Annotated[
    float | None,
    typer.Option("--motion-score", rich_help_panel=_GUIDE, help="How much should move (5 is usual; more is livelier)."),
]
Camera = Annotated[
    str | None,
    typer.Option("--camera", rich_help_panel=_GUIDE, help='Camera motion, such as "pan right" or "zoom in".'),
]
Size = Annotated[
    str | None,
    typer.Option("--size", metavar="WxH", rich_help_panel=_SIZE, help="Width x height in pixels, such as 426x240."),
]
Resolution = Annotated[
    str | None,
    typer.Option("--resolution", rich_help_panel=_SIZE, help="By name: 144p, 240p, 360p, 480p, 720p, 1080p, ..."),
]
Aspect = Annotated[
    str | None,
    typer.Option(
        "--aspect",
        rich_help_panel=_SIZE,
        help="With --resolution, height:width as Open-Sora writes it: 9:16 is wide, 16:9 tall, 1:1 square. "
        "Default: 9:16.",
    ),
]
Duration = Annotated[
    str | None,
    typer.Option(
        "--duration",
        rich_help_panel=_SIZE,
        help="By name: 2s, 4s, 8s, 16s, at 24 frames per second (51 frames each 2 s).",
    ),
]
Frames = Annotated[
    int | None, typer.Option("--frames", rich_help_panel=_SIZE, help="Number of frames; 1 makes a picture.")
]
Fps = Annotated[float | None, typer.Option("--fps", rich_help_panel=_SIZE, help="Frames per second.")]
Loops = Annotated[
    int | None,
    typer.Option(
        "--loops",
        rich_help_panel=_SIZE,
        help="Clips in a row, each going on from the end of the one before. "
        'A prompt like "|0| a sunny day |1| rain" gives each clip its own.',
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option("--model", "-m", rich_help_panel=_MODEL, help="demo, opensora-1.2, or a folder. Default: demo."),
]
Dtype = Annotated[
    str | None,
    typer.Option("--dtype", rich_help_panel=_MACHINE, help="fp32, bf16 or fp16. Default: bf16 on CUDA, else fp32."),
]
Device = Annotated[
    str | None, typer.Option("--device", rich_help_panel=_MACHINE, help="cpu, cuda, cuda:1, mps. Default: the best.")
]
Offload = Annotated[
    str | None,
    typer.Option(
        "--offload",
        rich_help_panel=_MACHINE,
        help="Keep weights in main memory: model (one part at a time on the GPU) or sequential (least, slowest).",
    ),
]
Here = Annotated[
    bool,
    typer.Option(
        "--here", rich_help_panel=_MACHINE, help="Work in this process, even where a browser UI runs on the same cache."
    ),
]
Format = Annotated[
    str | None,
    typer.Option("--format", "-f", help="mp4, webm, gif or png, for names that are made. Default: mp4, picture: png."),
]
Enhance = Annotated[
    bool, typer.Option("--enhance", help="First turn the prompts into full captions; your own stay in the reports.")
]
EnhancerName = Annotated[
    str,
    typer.Option(
        "--enhancer", metavar="NAME", help="Who writes them: demo, olmoe, qwen3-moe, mixtral, a folder, or owner/name."
    ),
]
JsonFile = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Also write the results as JSON; - is standard output.")
]


def request_fields(
    *,
    size: str | None = None,
    resolution: str | None = None,
    aspect: str | None = None,
    duration: str | int | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Fields of a `GenerationRequest` for what was given; what is None is left out.

    Args:
        size: "426x240", width first.
        resolution, aspect, duration: names from Open-Sora's tables.
        fields: fields of a request that need no translation.
    Raises: BadRequest for a size that is none, a name that is not in the tables, or two ways to say one thing.
    """
    from ..models import DEMO, RELEASED

    values = {name: value for name, value in fields.items() if value is not None}
    for name in ("image", "extend"):  # whole paths, so that --like finds them again from another folder
        if isinstance(values.get(name), str):
            values[name] = str(Path(values[name]).expanduser().absolute())
    model = values.get("model")
    if isinstance(model, str) and model not in (DEMO, RELEASED) and Path(model).expanduser().is_dir():
        values["model"] = str(Path(model).expanduser().absolute())
    if size is not None and (resolution is not None or aspect is not None):
        raise BadRequest("Give the size either as --size or as --resolution and --aspect, not both.")
    if duration is not None and "num_frames" in values:
        raise BadRequest("Give the length either as --duration or as --frames, not both.")
    if size is not None:
        match = re.fullmatch(r"\s*(\d+)\s*[xX\u00d7]\s*(\d+)\s*", str(size))
        if match is None:
            raise BadRequest(f"Unknown size {size!r}: write width x height in pixels, such as 426x240.")
        values |= {"width": int(match[1]), "height": int(match[2])}
    if aspect is not None and resolution is None:
        raise BadRequest(f"--aspect {aspect} needs a --resolution, such as 240p.")
    if resolution is not None:
        from ..opensora.sizes import video_size

        values["height"], values["width"] = video_size(resolution, aspect or "9:16")
    if duration is not None:
        from ..opensora.sizes import num_frames_for

        values["num_frames"] = num_frames_for(duration)
    return values


# Options that are called otherwise in a request; a batch file may use either name.
_FIELD_OF_OPTION = {
    "frames": "num_frames",
    "loops": "num_loops",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "negative": "negative_prompt",
    "aesthetic": "aesthetic_score",
    "camera": "camera_motion",
    "private": "is_private",
}


def field_of(option: str) -> str:
    """The field of a request that an option of the command line is ("--frames" is num_frames); others as they are."""
    name = option.strip().removeprefix("--").replace("-", "_")
    return _FIELD_OF_OPTION.get(name, name)


def fields_from_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """`request_fields` for one line of a batch file: a request's fields, or options by their names on the command line.

    Raises: BadRequest also for two names of one thing.
    """
    fields: dict[str, Any] = {}
    for name, value in values.items():
        field = field_of(name)
        if field in fields:
            raise BadRequest(f"{field} is there twice: give {name!r} or its other name, not both.")
        fields[field] = value
    return request_fields(**fields)


def written_fields(fields: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The fields of a request with the options that its prompt holds in them; a file that it names may be opened,
    for the prompt is the person's own."""
    from ..engine.written import with_written_options
    from ..models import DEMO, find_model
    from ..request import GenerationRequest

    request = GenerationRequest.from_json(fields)
    model = find_model(request.model or DEMO, settings)
    return with_written_options(request, model, may_open_files=True).to_json()
