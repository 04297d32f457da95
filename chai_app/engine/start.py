"""What a video starts from: a picture, or the end of an earlier video, made to fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadRequest
from ..media.pictures import read_image
from ..media.video import glimpse, read_video

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..opensora import FrameCondition, OpenSoraPipeline
    from ..request import GenerationRequest

_FEWEST_EXTENDING_FRAMES = 9  # 3 latent frames: one is taken over, two are new
_SEEN_DIFFERENCE = 0.02  # of two shapes; less is a matter of rounding


@dataclass(frozen=True)
class Start:
    """A picture (T = 1) or an earlier video, uint8 (T, H, W, 3), at the size of the video to be made."""

    frames: np.ndarray
    is_picture: bool
    notes: tuple[str, ...] = ()

    def condition(self, pipeline: OpenSoraPipeline, num_frames: int, height: int, width: int) -> FrameCondition:
        """The frames that the pipeline is given for a clip of `num_frames`, padded to `height` x `width`."""
        import torch

        from ..opensora import FrameCondition

        frames = _padded(self.frames, height, width)
        if self.is_picture:
            # As many as the first latent frame stands for: fewer, and the autoencoder fills up with black.
            return FrameCondition(_pixels(frames.repeat(pipeline.vae.leading_frames(1, num_frames), axis=0)))
        pixels = _pixels(frames)
        held = num_frames - pixels.shape[2]  # a video that is too short to go on from holds its first frame
        if held > 0:
            pixels = torch.cat([pixels[:, :, :1].expand(-1, -1, held, -1, -1), pixels], dim=2)
        return pipeline.continuation(pixels, num_frames)

    def finished(self, frames: np.ndarray, condition: FrameCondition) -> np.ndarray:
        """The whole video, uint8 (T, H, W, 3), for new `frames` that begin with those of the condition."""
        import numpy as np

        if self.is_picture:
            return frames
        return np.concatenate([self.frames, frames[condition.frames.shape[2] :]])


def like_its_start(request: GenerationRequest) -> GenerationRequest:
    """A request that extends a video goes on at its size and speed, where it does not say otherwise.

    Raises: BadMedia for a video that is not there or cannot be read.
    """
    if request.extend is None or None not in (request.height, request.width, request.fps):
        return request
    clip = glimpse(Path(request.extend).expanduser())
    height, width = clip.frame.shape[:2]
    if request.height is not None or request.width is not None:
        height, width = request.height, request.width
    return replace(request, height=height, width=width, fps=clip.fps if request.fps is None else request.fps)


def look_at_start(request: GenerationRequest) -> tuple[int, tuple[str, ...]]:
    """Look at what a resolved request starts from, without reading all of it.

    Returns: about how many frames the earlier video has that it goes on from, 0 if there is none; and what the person
        should know.
    Raises: BadMedia for a file that is not there or cannot be read, BadRequest for too few frames to go on.
    """
    height, width = _size_of(request)
    if request.image is not None:
        frame = read_image(Path(request.image).expanduser())
        return 0, _cut_off(frame, height, width, "picture")
    if request.extend is not None:
        if (request.num_frames or 0) < _FEWEST_EXTENDING_FRAMES:
            raise BadRequest(
                f"{request.num_frames} frames are too few to extend a video: ask for {_FEWEST_EXTENDING_FRAMES}."
            )
        seen = glimpse(Path(request.extend).expanduser())
        notes = _cut_off(seen.frame, height, width, "earlier video")
        if seen.has_sound:
            notes += ("The sound of the earlier video is left out: put it back with a video editor.",)
        if seen.is_hdr:
            notes += (
                "The earlier video is HDR but read as if it were not, and so looks pale: convert it to SDR first.",
            )
        return seen.num_frames, notes
    return 0, ()


def read_start(request: GenerationRequest) -> Start | None:
    """The picture or video that a resolved request starts from, at the request's size; None if it names none.

    Raises: BadMedia for a file that is not there or cannot be read.
    """
    height, width = _size_of(request)

    def fitted(frame: np.ndarray) -> np.ndarray:
        return _fitted(frame, height, width)

    if request.image is not None:
        return Start(fitted(read_image(Path(request.image).expanduser()))[None], True)  # (1, H, W, 3)
    if request.extend is not None:
        clip = read_video(Path(request.extend).expanduser(), fitted)
        damage = f"The earlier video is damaged, and {clip.missing_s:.1f} s at its end are lost: it goes on from there."
        return Start(clip.frames, False, (damage,) if clip.missing_s else ())
    return None


def _size_of(request: GenerationRequest) -> tuple[int, int]:
    assert request.height is not None and request.width is not None, "the request must be resolved"
    return request.height, request.width


def _cut_off(frame: np.ndarray, height: int, width: int, what: str) -> tuple[str, ...]:
    shape, wanted = frame.shape[1] / frame.shape[0], width / height
    if abs(shape / wanted - 1) < _SEEN_DIFFERENCE:
        return ()
    where = "left and right" if shape > wanted else "top and bottom"
    size = f"{frame.shape[1]}x{frame.shape[0]}"
    return (f"The {what} is {size} and the video {width}x{height}, so its {where} are cut off.",)


def _pixels(frames: np.ndarray) -> Tensor:
    """uint8 (T, H, W, 3) -> (1, 3, T, H, W) in -1..1."""
    import torch

    return torch.from_numpy(frames).permute(3, 0, 1, 2).unsqueeze(0).float() / 127.5 - 1


def _fitted(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (h, w, 3) -> (height, width, 3): scaled to cover that size, and what stands out cut off evenly."""
    import numpy as np
    from PIL import Image, ImageOps

    if frame.shape[:2] == (height, width):
        return frame
    return np.asarray(ImageOps.fit(Image.fromarray(frame), (width, height), Image.Resampling.LANCZOS))


def _padded(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (T, h, w, 3) -> (T, height, width, 3), not smaller: the border is doubled at the bottom and the right."""
    import numpy as np

    below, beside = height - frames.shape[1], width - frames.shape[2]
    return np.pad(frames, ((0, 0), (0, below), (0, beside), (0, 0)), mode="edge")
