"""What a video starts from, kept as a file that its metadata can point at, so that it can be made again tomorrow.

Each file is named by its content. It stays in the cache's folder; a private run leaves it in ComfyUI's temporary one.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import handles, host

if TYPE_CHECKING:
    from torch import Tensor


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
    return str(path)


def _folder(cache: handles.Cache) -> Path:
    folder = host.temporary_folder() if cache.is_private else cache.home / "starts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _short(digest: Any) -> str:
    return str(digest.hexdigest())[:16]
