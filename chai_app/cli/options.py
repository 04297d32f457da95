"""The options of the command line: those of a request from its table, and how their words become its fields."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Container, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import BadRequest
from ..fields import MACHINE, SIZE
from ..request import OPTIONS, by_field, field_of
from ..settings import Settings

_FIRST = ("output", "resume", "keep_order", "seed", "count", "steps", "guidance")
"""What stands first in the help, as it is used most."""

CaptionSeed = Annotated[
    int | None, typer.Option("--seed", "-s", help="Whole number: another one finds other words. Default: 0.")
]
Here = Annotated[
    bool,
    typer.Option(
        "--here", rich_help_panel=MACHINE, help="Work in this process, even where a browser UI runs on the same cache."
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


SHORTHANDS: Mapping[str, Any] = {
    "size": typer.Option(
        "--size", metavar="WxH", rich_help_panel=SIZE, help="Width x height in pixels, such as 426x240."
    ),
    "resolution": typer.Option(
        "--resolution", rich_help_panel=SIZE, help="By name: 144p, 240p, 360p, 480p, 720p, 1080p, ..."
    ),
    "aspect": typer.Option(
        "--aspect",
        rich_help_panel=SIZE,
        help="With --resolution, height:width as Open-Sora writes it: 9:16 is wide, 16:9 tall, 1:1 square. "
        "Default: 9:16.",
    ),
    "duration": typer.Option(
        "--duration",
        rich_help_panel=SIZE,
        help="By name: 2s, 4s, 8s, 16s, at 24 frames per second (51 frames each 2 s).",
    ),
}
"""Options that say the size and the length of a request in other words."""


def option_of(field: str) -> Any:
    """The option of the command line for a field of a request."""
    option = OPTIONS[field]
    return typer.Option(
        f"--{option.name.replace('_', '-')}",
        *([option.short] if option.short else []),
        metavar=option.metavar,
        rich_help_panel=option.panel,
        help=option.whole_help,
    )


def takes_request(without: Container[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command takes the options of a request beside its own, and gets what was given of them as `asked`, by field.

    Args:
        without: fields and panels of the help that the command has no use for.
    """
    options = [_parameter(name, str, option) for name, option in SHORTHANDS.items()] + [
        _parameter(field, option.kind, option_of(field))
        for field, option in OPTIONS.items()
        if option.panel is not None and option.panel not in without and field not in without
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            given = {each.name: values.pop(each.name) for each in options}
            asked = {name: value for name, value in given.items() if value is not False}  # a switch only turns on
            command(**values, asked=request_fields(**asked))

        own = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name != "asked"]
        both = sorted([*(each.replace(kind=each.KEYWORD_ONLY) for each in own), *options], key=_place)
        vars(run)["__signature__"] = inspect.Signature(both)  # which is where typer looks
        run.__annotations__ = {each.name: each.annotation for each in both}
        return run

    return decorate


def _parameter(name: str, kind: type, option: Any) -> inspect.Parameter:
    default, hint = (False, bool) if kind is bool else (None, kind | None)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, option])


def _place(parameter: inspect.Parameter) -> int:
    """Where a parameter stands in the help: first what is used most."""
    option = OPTIONS.get(parameter.name)
    name = parameter.name if option is None else option.name
    return _FIRST.index(name) if name in _FIRST else len(_FIRST)


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


def is_option(name: str) -> bool:
    """Whether a column of a table is an option, or a field of a request."""
    return name in SHORTHANDS or field_of(name) is not None


def fields_from_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """`request_fields` for one line of a batch file: a request's fields, or options by their names on the command line.

    Raises: BadRequest also for a name that there is not, or two names of one thing.
    """
    fields = by_field({name: value for name, value in values.items() if name not in SHORTHANDS})
    return request_fields(**fields, **{name: value for name, value in values.items() if name in SHORTHANDS})


def written_fields(fields: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The fields of a request with the options that its prompt holds in them; a file that it names may be opened,
    for the prompt is the person's own."""
    from ..engine.written import with_written_options
    from ..models import DEMO, find_model
    from ..request import GenerationRequest

    request = GenerationRequest.from_json(fields)
    model = find_model(request.model or DEMO, settings)
    return with_written_options(request, model, may_open_files=True).to_json()
