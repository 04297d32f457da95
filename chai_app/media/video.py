"""Videos and pictures in files: mp4 (H.264), webm (VP9), gif and png, each carrying its metadata, and back again.

A file is written whole or not at all (`files.whole_file`): a crash, a full disk or Ctrl-C never harms an older one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import BadMedia, BadRequest, CannotWrite
from ..files import check_folder, whole_file
from .chroma import yuv420
from .pictures import check_is_file, picture_comment, read_image, write_gif, write_png
from .stream import VideoStream

if TYPE_CHECKING:
    import av
    import numpy as np

SUFFIXES = (".mp4", ".webm", ".gif", ".png")
_CODECS = {
    ".mp4": ("libx264", {"crf": "16", "preset": "medium"}),
    ".webm": ("libvpx-vp9", {"crf": "20", "b": "0", "row-mt": "1", "cpu-used": "2"}),
}
_BT709 = 1  # matrix, primaries and transfer alike, in the tables that H.264 and VP9 share
_CHROMA = {"chroma_sample_location": "left"}  # as `yuv420` has it; a webm that does not say is read as centred
_LIMITED_RANGE = 1  # 16 to 235, what yuv420p means everywhere
# FFmpeg knows a file by what is in it, whatever its name; these formats hold their pictures themselves. The others
# (playlists, lists of files, sessions, scripts) only name files and addresses, which nobody is to open for them.
_SELF_CONTAINED = (
    "mov,matroska,avi,gif,apng,mpegts,mpeg,ogg,flv,asf,m4v,h264,hevc,ivf,mjpeg,"
    "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe"
)
_MOST_FPS = 120  # more than anybody can ask for
_FRAME_NAME = re.compile(r"\d{4,}\.png")


@dataclass(frozen=True)
class WrittenVideo:
    """A finished file (or folder of png frames), its size in bytes, and sentences about what had to be changed."""

    path: Path
    size_bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clip:
    """Frames read from a file: uint8 (T, H, W, 3), frames per second, and how many seconds at its end are damaged."""

    frames: np.ndarray
    fps: float
    missing_s: float = 0.0


def check_writable(path: Path, num_frames: int) -> None:
    """Find out before any work begins whether `write_video` can write `path`, by writing a byte beside it.

    Raises: BadRequest for a kind of file that is not known, CannotWrite if the folder is not there, is not
    writable, or its disk is full.
    """
    _checked_suffix(path)
    check_folder(path)
    _check_replaceable(final_path(path, num_frames))


def write_video(
    path: Path,
    frames: np.ndarray,
    fps: float,
    metadata: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> WrittenVideo:
    """Write frames as what the name says: .mp4, .webm, .gif, or .png.

    Several frames as png become a folder without the suffix (clip.png: clip/0001.png and so on). What was there
    under that name is replaced.

    Args:
        frames: uint8 (T, H, W, 3), T at least 1.
        fps: frames per second.
        metadata: values for JSON, read back by `read_metadata`.
        tags: texts by name for other programs, in mp4 and webm beside our own; the others do not carry them.
    Raises: BadRequest for another kind of file; CannotWrite for a missing or closed folder or a full disk.
    """
    suffix = _checked_suffix(path)
    if frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames) or frames.dtype.name != "uint8":
        raise ValueError(f"frames must be uint8 (T, H, W, 3) with T >= 1, not {frames.dtype} {frames.shape}")
    comment = json.dumps(metadata, ensure_ascii=False) if metadata else ""
    check_folder(path)
    target = final_path(path, len(frames))
    _check_replaceable(target)
    notes: tuple[str, ...] = ()
    with whole_file(target) as temporary:
        if suffix == ".png":
            write_png(temporary, frames, comment)
        elif suffix == ".gif":
            write_gif(temporary, frames, fps, comment)
        else:
            even = _padded_to_even(frames)
            if even.shape != frames.shape:
                height, width = even.shape[1:3]
                notes = (f"{suffix[1:]} needs even sizes: the last row or column is doubled to {width}x{height}.",)
            _encode(temporary, even, fps, {**(tags or {}), "comment": comment}, suffix)
    return WrittenVideo(target, _size_bytes(target), notes)


def read_video(path: Path, fitted: Callable[[np.ndarray], np.ndarray] | None = None) -> Clip:
    """All frames of a video, a gif, a picture, or a folder of png frames.

    Args:
        fitted: makes another picture of each frame, uint8 (H, W, 3), as soon as it is decoded: one frame alone is
            held at the size that the file has.
    Raises: BadMedia if it is not there or cannot be read.
    """
    import numpy as np

    with _opened(path) as source:
        frames = np.stack([frame if fitted is None else fitted(frame) for frame in source.frames()])
        return Clip(frames, source.fps, source.missing_s)


@dataclass(frozen=True)
class Glimpse:
    """What is known of a video without reading it: its first frame, uint8 (H, W, 3), frames per second, about how
    many frames it has, and what of it is not read."""

    frame: np.ndarray
    fps: float
    num_frames: int
    has_sound: bool
    is_hdr: bool


def glimpse(path: Path) -> Glimpse:
    """Look at a video as `read_video` would read it, at the cost of one frame.

    Raises: BadMedia if it is not there or cannot be read.
    """
    with _opened(path) as source:
        return Glimpse(next(source.frames()), source.fps, source.num_frames, source.has_sound, source.is_hdr)


@dataclass(frozen=True)
class _Pictures:
    """A folder of png frames, as `VideoStream` is to a file."""

    paths: list[Path]
    fps: float
    has_sound = is_hdr = False
    missing_s = 0.0

    @property
    def num_frames(self) -> int:
        return len(self.paths)

    def frames(self) -> Iterator[np.ndarray]:
        return map(read_image, self.paths)


@contextmanager
def _opened(path: Path) -> Iterator[VideoStream | _Pictures]:
    """A video to read, as long as the block lasts."""
    if path.is_dir():
        pictures = sorted(path.glob("*.png"))
        if not pictures:
            raise BadMedia(f"The folder {path} holds no png frames.")
        yield _Pictures(pictures, _told_fps(path) or 24)
        return
    import av

    check_is_file(path, "video")

    try:
        with _container(path) as container:
            yield VideoStream(container, _told_fps(path))
    except (av.error.FFmpegError, OSError, IndexError, ValueError, StopIteration) as error:
        # no stream, no frames, many sizes, an index that asks for a place before the file
        raise BadMedia(f"{path} is not a video that can be read: choose an mp4, webm or gif file.") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """What `write_video` was given as metadata; empty for a file that carries none of ours.

    Raises: BadMedia if the file is not there or is no video or picture.
    """
    if path.is_dir():
        first = min(path.glob("*.png"), default=None)
        if first is None:
            raise BadMedia(f"The folder {path} holds no png frames.")
        path = first
    check_is_file(path, "video or picture")
    comment = picture_comment(path) if path.suffix.lower() in (".png", ".gif") else _container_comment(path)
    try:
        values = json.loads(comment)
    except (ValueError, RecursionError):  # no JSON, or so deep that nobody wrote it
        return {}
    return values if isinstance(values, dict) else {}


def final_path(path: Path, num_frames: int) -> Path:
    """Where `write_video` puts its result: `path`, but for several frames as png the folder without the suffix."""
    return path.with_suffix("") if path.suffix.lower() == ".png" and num_frames > 1 else path


def _encode(path: Path, frames: np.ndarray, fps: float, tags: Mapping[str, str], suffix: str) -> None:
    from fractions import Fraction

    import av

    rate = Fraction(fps).limit_denominator(1001)
    codec, options = _CODECS[suffix]
    try:
        av.codec.Codec(codec, "w")
    except ValueError as error:
        raise BadRequest(f"PyAV has no {codec} here: pip install --force-reinstall av, or ask for a gif.") from error
    # faststart moves the index to the front, so that a browser plays before the last byte has come.
    # An mp4 keeps names that are not in its own list only if it is told to.
    flags = "+faststart+use_metadata_tags" if set(tags) - {"comment"} else "+faststart"
    container_options = {"movflags": flags} if suffix == ".mp4" else {}
    with av.open(str(path), "w", format=suffix[1:], options=container_options) as container:
        container.metadata.update({name: text for name, text in tags.items() if text})
        stream = cast("av.VideoStream", container.add_stream(codec, rate=rate, options={**options, **_CHROMA}))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # Said in the stream as well: a player that must guess takes BT.601 for small videos, and reds turn orange.
        stream.codec_context.colorspace = _BT709
        stream.codec_context.color_primaries = _BT709
        stream.codec_context.color_trc = _BT709
        stream.codec_context.color_range = _LIMITED_RANGE
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(yuv420(pixels), format="yuv420p")
            frame.pts, frame.time_base = i, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@contextmanager
def _container(path: Path) -> Iterator[av.container.InputContainer]:
    """A media file to read, and nothing but that file: FFmpeg is given its bytes, no name beside which to look, and no
    way to open another."""
    import av

    options = {"format_whitelist": _SELF_CONTAINED, "protocol_whitelist": "none"}
    with path.open("rb") as file, av.open(file, "r", container_options=options) as container:
        yield container


def _container_comment(path: Path) -> str:
    import av

    try:
        with _container(path) as container:
            found = (container.metadata.get(key) for key in ("comment", "COMMENT"))  # Matroska shouts
            return next((text for text in found if text), "")
    except (av.error.FFmpegError, OSError, ValueError) as error:  # a damaged index asks for a place before the file
        raise BadMedia(f"{path} is not a video that can be read.") from error


def _padded_to_even(frames: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) with the last row and column doubled where H or W is odd: 4:2:0 halves both."""
    import numpy as np

    odd_rows, odd_columns = frames.shape[1] % 2, frames.shape[2] % 2
    return np.pad(frames, ((0, 0), (0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")


def _checked_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadRequest(f"Unknown kind of file {path.name!r}: end its name in {', '.join(SUFFIXES)}.")
    return suffix


def _check_replaceable(target: Path) -> None:
    """A folder of earlier png frames may be replaced by new ones; any other folder is not ours to remove."""
    if not target.is_dir():
        return
    if target.suffix.lower() in SUFFIXES or not all(_FRAME_NAME.fullmatch(p.name) for p in target.iterdir()):
        raise CannotWrite(f"{target} is a folder that holds other things: choose another name.")


def _told_fps(path: Path) -> float | None:
    """Frames per second by our metadata: frames in a folder have none of their own, a gif rounds them."""
    try:
        fps = float(read_metadata(path)["chai"]["report"]["fps"])
    except (KeyError, TypeError, ValueError, OverflowError, BadMedia):
        return None
    return fps if 0 < fps <= _MOST_FPS else None


def _size_bytes(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
