"""What a video's file is called, when its name was not given or only its folder was."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from ..errors import BadRequest, CannotWrite
from .video import SUFFIXES, final_path

_LONGEST_SLUG = 60


def slug(prompt: str) -> str:
    """The prompt as part of a file name: "A red balloon, rising!" is a-red-balloon-rising."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", plain)
    name = ""
    for word in words:
        if len(name) + len(word) >= _LONGEST_SLUG:
            break
        name += f"-{word}" if name else word
    return name or (words[0][:_LONGEST_SLUG] if words else "video")


def suffix_for(format_name: str | None, num_frames: int) -> str:
    """The ending of a file name: .mp4 for a video and .png for a picture, unless the person chose another.

    Raises: BadRequest for a format that cannot be written.
    """
    if format_name is None:
        return ".png" if num_frames == 1 else ".mp4"
    suffix = "." + format_name.lower().removeprefix(".")
    if suffix not in SUFFIXES:
        raise BadRequest(f"Unknown format {format_name!r}: choose one of {', '.join(s[1:] for s in SUFFIXES)}.")
    return suffix


def free_name(path: Path, num_frames: int, taken: set[Path]) -> Path:
    """`path`, or with -2, -3, ... before its suffix the first name that no file has and that is not in `taken`."""
    candidate, i = path, 1
    while candidate in taken or candidate.exists() or final_path(candidate, num_frames).exists():
        i += 1
        candidate = path.with_name(f"{path.stem}-{i}{path.suffix}")
    return candidate


def output_folder(output: str | None, default: Path) -> Path | None:
    """The folder that `output` names, or None if it names a file. The default one, and one with a slash at its end, is
    made where it is missing.

    Raises: CannotWrite if it cannot be made.
    """
    path = default if output is None else Path(output).expanduser()
    if path.is_dir():
        return path
    if output is not None and not output.endswith(("/", "\\")):
        return None
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "name a place with -o, or set CHAI_OUTPUT" if output is None else "name another place with -o"
        raise CannotWrite(f"The folder {path} cannot be made ({error.strerror}): {remedy}.") from error
    return path
