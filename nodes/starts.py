"""What a video starts from, kept as a file that its metadata can point at, so that it can be made again tomorrow.

Each file is named by its content. It stays in the cache's folder as long as it is among the last 2 GB that were used;
a private run leaves it in ComfyUI's temporary one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import handles, host

if TYPE_CHECKING:
    from torch import Tensor

_MOST_BYTES = 2 * 10**9


def picture_file(image: Tensor | None, cache: handles.Cache) -> str | None:
    """The first picture of an IMAGE, as a png."""
    if image is None:
        return None
    from PIL import Image

    from ..chai_app.files import whole_file

    pixels = host.frames_from_image(image[:1])[0]
    path = _folder(cache) / f"{_short(hashlib.sha256(pixels.tobytes() + str(pixels.shape).encode()))}.png"
    if not path.is_file():
        with whole_file(path) as temporary:
            Image.fromarray(pixels).save(temporary, "PNG")
    _used(path, cache)
    return str(path)


def video_file(video: Any, cache: handles.Cache) -> str | None:
    """A VIDEO of ComfyUI's. One that is encoded already keeps its streams as they are.

    Raises: BadMedia, one sentence, for one that cannot be read.
    """
    if video is None:
        return None
    from av.error import FFmpegError

    from ..chai_app.errors import BadMedia
    from ..chai_app.files import whole_file

    draft = host.temporary_folder() / f"chai_{secrets.token_hex(8)}{host.suffix_of(video)}"
    try:
        try:
            video.save_to(str(draft))
        except (FFmpegError, OSError, ValueError, IndexError) as error:
            raise BadMedia(f"The video to go on from cannot be read ({error}): load another one.") from error
        with draft.open("rb") as file:
            path = _folder(cache) / f"{_short(hashlib.file_digest(file, 'sha256'))}{draft.suffix}"
        if not path.is_file():
            with whole_file(path) as temporary:
                shutil.copyfile(draft, temporary)
    finally:
        draft.unlink(missing_ok=True)
    _used(path, cache)
    return str(path)


def _folder(cache: handles.Cache) -> Path:
    folder = host.temporary_folder() if cache.is_private else cache.home / "starts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _used(path: Path, cache: handles.Cache) -> None:
    """Let those go that were not used for longest, where all of them together are too large."""
    if cache.is_private:
        return
    os.utime(path)
    found = []
    for each in path.parent.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process lets files go too
            status = each.stat()
            found.append((status.st_mtime_ns, status.st_size, each))
    size_bytes = sum(size for _, size, _ in found)
    for _, size, each in sorted(found):
        if size_bytes <= _MOST_BYTES or each == path:
            return
        each.unlink(missing_ok=True)
        size_bytes -= size


def _short(digest: Any) -> str:
    return str(digest.hexdigest())[:16]
