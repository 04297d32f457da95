"""Options that a person wrote into the prompt itself become fields of the request, and the rest is told.

`original_prompt` keeps what was written, and the notes are made from it, so that they are there in every later plan of
the same request, too.
"""

from __future__ import annotations

import mimetypes
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadRequest
from ..opensora.prompt_format import split_loops
from ..opensora.sizes import ASPECT_RATIOS, RESOLUTIONS, num_frames_for, video_size
from ..prompts import foreign_language, read_syntax
from ..request import OPTIONS, GenerationRequest, RequestDefaults, field_of

if TYPE_CHECKING:
    from ..models import Model

_SIZE = re.compile(r"(\d+)\s*[xX×]\s*(\d+)")
_RATIO = re.compile(r"(\d+):(\d+)")


def with_written_options(request: GenerationRequest, model: Model, may_open_files: bool = False) -> GenerationRequest:
    """The request with what its prompt says beside words taken off it and into the fields that are still open.

    Args:
        may_open_files: whether a file that the prompt names may be read, as on the person's own command line. On a
            server it may not: whoever can write a prompt could see any picture there.
    Raises: BadRequest for a value that makes no sense, or if no words are left.
    """
    written = read_syntax(request.prompt)
    text = written.text if model.vocabulary is None else model.vocabulary.respelled(written.text)
    if text == request.prompt:
        return _with_its_loops(request)
    values: dict[str, Any] = {}
    for name, value in written.options:
        values |= _fields(name, value, model.defaults, may_open_files)
    is_sized = request.height is not None or request.width is not None
    is_started = request.image is not None or request.extend is not None
    for name in list(values):
        is_given = getattr(request, name) not in (None, *((1,) if name == "num_loops" else ()))
        if is_given or (is_sized and name in ("height", "width")) or (is_started and name in ("image", "extend")):
            del values[name]
    original = request.prompt if request.original_prompt is None else request.original_prompt
    return _with_its_loops(replace(request, prompt=text, original_prompt=original, **values))


def with_following_seeds(request: GenerationRequest, count: int) -> list[GenerationRequest]:
    """The request so many times: seeds follow on from the one that was given, if need be in the prompt, or are
    drawn."""
    seed = request.seed
    if seed is None:
        written = [value for name, value in read_syntax(request.prompt).options if field_of(name) == "seed"]
        seed = int(written[0]) if written and written[0].isdecimal() else None
    return [request if i == 0 or seed is None else replace(request, seed=seed + i) for i in range(count)]


def written_notes(request: GenerationRequest, model: Model) -> list[str]:
    """What became of the syntax in the prompt of a settled request, and what of it nobody can read."""
    notes = []
    original = request.original_prompt
    if original is not None:
        written = read_syntax(original)
        taken = [(name, value) for name, value in written.options if _is_taken(request, name, value, model.defaults)]
        if taken:
            notes.append(f"Taken from the prompt as options: {', '.join(f'{name} {value}' for name, value in taken)}.")
        left = [f"{name} {value}" for name, value in written.options if (name, value) not in taken] + list(
            written.unused
        )
        if left:
            notes.append(f"Taken off the prompt and not used: {', '.join(left)}.")
        if written.has_weights:
            notes.append("Weights and brackets were taken off the prompt: every word weighs the same here.")
        text = written.text if model.vocabulary is None else model.vocabulary.respelled(written.text)
        if text != request.prompt:
            notes.append(f"The prompt was enhanced; it was {original!r}.")
    loops = split_loops(request.prompt)
    if loops[-1][0] >= request.num_loops:
        notes.append(f"The text of loop {loops[-1][0]} is never shown: the video has {request.num_loops} loops.")
    elif len(loops) > 1:
        notes.append(
            f"The prompt has texts for {len(loops)} clips in a row, so the video has {request.num_loops} loops."
        )
    language = foreign_language(request.prompt)
    if language is not None:
        notes.append(
            f"The prompt is not English ({language}, as it seems), which is all that the model reads: it names no "
            "object and no scene here. Write it in English."
        )
    return notes


def _with_its_loops(request: GenerationRequest) -> GenerationRequest:
    """As many loops as the prompt has texts for, where nobody asked for another number."""
    last = split_loops(request.prompt)[-1][0]
    return replace(request, num_loops=last + 1) if last and request.num_loops == 1 else request


def _fields(name: str, value: str, defaults: RequestDefaults, may_open_files: bool = True) -> dict[str, Any]:
    """The fields of a request that an option stands for; none if the value means nothing."""
    try:
        if name == "duration":
            return {"num_frames": num_frames_for(value)}
        if (field := field_of(name)) is not None:
            return {field: OPTIONS[field].read(value)}
        if name == "size" and (size := _SIZE.fullmatch(value)):
            return {"width": int(size[1]), "height": int(size[2])}
        if name == "resolution":
            height, width = video_size(value, "9:16")
            return {"height": height, "width": width}
        if name == "aspect" and (ratio := _RATIO.fullmatch(value)):
            return _of_aspect(int(ratio[1]), int(ratio[2]), defaults)
        if name == "reference_path" and may_open_files and ";" not in value:
            kind = mimetypes.guess_type(value)[0] or ""
            path = str(Path(value).expanduser().absolute())
            return {"extend" if kind.startswith("video/") else "image": path}
    except (ValueError, BadRequest):
        pass
    return {}


def _of_aspect(width: int, height: int, defaults: RequestDefaults) -> dict[str, Any]:
    """The size of that shape, width to height as everybody but Open-Sora writes it, with the model's own resolution."""
    own = (defaults.height, defaults.width)
    name = next((each for each in RESOLUTIONS if own in _sizes(each)), None)
    aspect = f"{height}:{width}"
    if name is None or aspect not in ASPECT_RATIOS:
        return {}
    size = video_size(name, aspect)
    return {"height": size[0], "width": size[1]}


def _sizes(resolution: str) -> list[tuple[int, int]]:
    sizes = []
    for aspect in ASPECT_RATIOS:
        try:
            sizes.append(video_size(resolution, aspect))
        except BadRequest:  # other models' resolutions have few shapes
            continue
    return sizes


def _is_taken(request: GenerationRequest, name: str, value: str, defaults: RequestDefaults) -> bool:
    fields = _fields(name, value, defaults)
    if name == "mask_strategy":
        return request.image is not None or request.extend is not None
    return bool(fields) and all(getattr(request, field) == wanted for field, wanted in fields.items())
