"""The pictures of an open video file as a person sees them: upright, at the times that the file says, on white."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice, pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    import av
    import numpy as np

_USUAL_FPS = 24.0  # for a file that does not say
_FASTEST_FPS = 240.0  # more is what files say whose pictures come unevenly
_EVEN = 0.05  # two rates that differ by less tell of pictures that come evenly
_LOOKED_AT = 100  # packets, where they do not
_LONGEST_PAUSE_S = 60.0  # what one picture stands for at most: a file of a few bytes never becomes hours of frames
_TOLD_MISSING_FRAMES = 2.5  # fewer is what programs differ by when they count
_HDR_TRANSFERS = (16, 18)  # PQ and HLG

Picture = TypeVar("Picture")


class VideoStream:
    """The first video of a container; raises IndexError if it has none, ValueError if nothing can decode it.

    Args:
        told_fps: frames per second where something better than the file's own times is known.
    """

    def __init__(self, container: av.container.InputContainer, told_fps: float | None) -> None:
        self._container = container
        self._stream = stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ValueError("no decoder for what is left of this file")
        self.has_sound = bool(container.streams.audio)
        self.is_hdr = stream.codec_context.color_trc in _HDR_TRANSFERS
        self._damage: Exception | None = None
        self._packets = self._demuxed()
        self.fps = told_fps or self._steady_fps()
        # A gif counts in 1/100 s and shows nothing for less than two of them: what is faster was written at 50.
        self._sampled_fps = min(self.fps, 50.0) if container.format.name == "gif" else self.fps
        self._whole_s = self._told_seconds()
        self._read_s = 0.0

    @property
    def num_frames(self) -> int:
        """About how many pictures `frames` gives."""
        return round(self._whole_s * self._sampled_fps) or self._stream.frames

    @property
    def missing_s(self) -> float:
        """How much of the end could not be read, once `frames` is through; 0 if it is whole."""
        missing = self._whole_s - self._read_s
        return missing if missing * self._sampled_fps > _TOLD_MISSING_FRAMES else 0.0

    def frames(self) -> Iterator[np.ndarray]:
        """uint8 (H, W, 3) each, `fps` of them a second, decoded as they are asked for."""
        last, pixels = None, None
        for frame in at_even_times(self._timed(), self._sampled_fps):
            if frame is not last:
                last, pixels = frame, pixels_of(frame)
            assert pixels is not None
            yield pixels

    def _steady_fps(self) -> float:
        """The average, but where pictures come unevenly what most of them come at: pauses lower the average alone."""
        average, guess = float(self._stream.average_rate or 0), float(self._stream.guessed_rate or 0)
        if 0 < average <= _FASTEST_FPS and abs(guess / average - 1) < _EVEN:
            return average
        first = list(islice(self._packets, _LOOKED_AT))
        self._packets = chain(first, self._packets)
        times = sorted(p.pts * p.time_base for p in first if p.pts is not None and p.time_base is not None)
        steps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
        usual = float(1 / median(steps)) if steps else _USUAL_FPS
        if 0 < average <= _FASTEST_FPS and (not steps or abs(usual / average - 1) < _EVEN):
            return average
        return min(usual, _FASTEST_FPS)

    def _told_seconds(self) -> float:
        import av

        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        return 0.0 if self.has_sound else (self._container.duration or 0) / av.time_base  # the sound may be longer

    def _timed(self) -> Iterator[tuple[float, float, av.VideoFrame]]:
        """When each whole frame begins, how long it stays, and the frame. What is damaged is passed over."""
        start_s, first_s = 0.0, None
        for frame in self._whole_frames():
            length_s = 1 / self.fps
            if frame.time is None:  # a bare stream, whose pictures simply follow each other
                start_s += length_s
            else:
                start_s = frame.time
                if frame.duration and frame.time_base:
                    length_s = float(frame.duration * frame.time_base)
            first_s = start_s if first_s is None else first_s
            self._read_s = max(self._read_s, start_s + length_s - first_s)
            yield start_s, length_s, frame

    def _whole_frames(self) -> Iterator[av.VideoFrame]:
        import av

        seen = False
        for packet in self._packets:
            try:
                decoded = cast("list[av.VideoFrame]", packet.decode())
            except av.error.EOFError:
                break
            except av.error.FFmpegError as error:
                self._damage = error
                continue
            for frame in decoded:
                if not frame.is_corrupt:
                    seen = True
                    yield frame
        if not seen and self._damage is not None:
            raise self._damage

    def _demuxed(self) -> Iterator[av.Packet]:
        import av

        try:
            yield from self._container.demux(self._stream)
        except (av.error.FFmpegError, OSError, ValueError) as error:  # what follows cannot be found
            self._damage = error


def at_even_times(timed: Iterable[tuple[float, float, Picture]], fps: float) -> Iterator[Picture]:
    """The picture that is shown in the middle of each of `fps` frames a second: where they come evenly, each one once.

    Args:
        timed: when each picture begins, how long it stays if it is the last, both in seconds, and the picture.
    """
    held: Any = None
    begin_s, length_s, clock_s, shown = 0.0, 0.0, 0.0, 0

    def until_now() -> Iterator[Picture]:
        nonlocal shown
        while shown + 0.5 < clock_s * fps:
            yield held
            shown += 1

    for start_s, stays_s, picture in timed:
        if held is not None:
            clock_s += min(max(start_s - begin_s, 0), _LONGEST_PAUSE_S)
            yield from until_now()
        held, begin_s, length_s = picture, start_s, stays_s
    if held is not None:
        clock_s += min(max(length_s, 1 / fps), _LONGEST_PAUSE_S)
        yield from until_now()


def pixels_of(frame: av.VideoFrame) -> np.ndarray:
    """uint8 (H, W, 3): turned as the file says, and what is transparent laid on white."""
    import numpy as np
    from av.video.reformatter import Interpolation

    # The plain way (rgb24) truncates and darkens each reading by 1.3 of 255; this one is right to 0.3.
    exact = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    pixels = frame.to_ndarray(format="gbrp", interpolation=exact)
    if any(component.is_alpha for component in frame.format.components):
        opacity = frame.to_ndarray(format="rgba", interpolation=exact)[..., 3:]
        if opacity.min() < 255:
            share = opacity.astype(np.float32) / 255
            pixels = (pixels * share + 255 * (1 - share)).round().astype(np.uint8)
    try:
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know all that may stand beside it; the turn itself it tells in any case
        return np.rot90(pixels, round(frame.rotation / 90))
    return pixels if matrix is None else _turned(pixels, np.frombuffer(bytes(matrix), np.int32))


def _turned(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a display matrix, to the nearest quarter turn: column p of row q is shown at (a p + c q, b p + d q)."""
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
