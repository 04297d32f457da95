"""The pictures of an open video file as a person sees them: upright, at the times that the file says, on white."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    import av
    import numpy as np

_USUAL_FPS = 24.0  # for a file that does not say
_FASTEST_FPS = 60.0  # of what is merely guessed: uneven times make for guesses like 1000 a second
_LONGEST_PAUSE_S = 60.0  # what one picture stands for at most: a file of a few bytes never becomes hours of frames
_TOLD_MISSING_FRAMES = 2.5  # fewer is what programs differ by when they count
_HDR_TRANSFERS = (16, 18)  # PQ and HLG

Picture = TypeVar("Picture")


class VideoStream:
    """The first video of a container; raises IndexError if it has none.

    Args:
        told_fps: frames per second where something better than the file's own times is known.
    """

    def __init__(self, container: av.container.InputContainer, told_fps: float | None) -> None:
        self._container = container
        self._stream = stream = container.streams.video[0]
        self.has_sound = bool(container.streams.audio)
        self.is_hdr = stream.codec_context.color_trc in _HDR_TRANSFERS
        average, guess = float(stream.average_rate or 0), float(stream.guessed_rate or 0)
        steady = guess if average < guess <= _FASTEST_FPS else average  # a pause lowers the average alone
        plausible = steady if 0 < steady <= 4 * _FASTEST_FPS else _USUAL_FPS
        self.fps = told_fps or plausible
        # A gif counts in 1/100 s and shows nothing for less than two of them: what is faster was written at 50.
        self._sampled_fps = min(self.fps, 50.0) if container.format.name == "gif" else self.fps
        self._whole_s = self._told_seconds()
        self._read_s = 0.0
        self._is_damaged = False

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

    def _told_seconds(self) -> float:
        import av

        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        return 0.0 if self.has_sound else (self._container.duration or 0) / av.time_base  # the sound may be longer

    def _timed(self) -> Iterator[tuple[float, float, av.VideoFrame]]:
        """When each whole frame begins, how long it stays, and the frame. What is damaged is passed over."""
        length_s, start_s, first_s = 1 / self.fps, 0.0, None
        for frame in self._whole_frames():
            start_s = start_s + length_s if frame.time is None else frame.time
            length_s = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 1 / self.fps
            first_s = start_s if first_s is None else first_s
            self._read_s = max(self._read_s, start_s + length_s - first_s)
            yield start_s, length_s, frame

    def _whole_frames(self) -> Iterator[av.VideoFrame]:
        import av

        seen, damage = False, None
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError, ValueError) as error:  # what follows cannot be found
                packet, damage = None, error
            if packet is None:
                break
            try:
                decoded = packet.decode()
            except av.error.EOFError:
                break
            except av.error.FFmpegError as error:
                damage = error
                continue
            for frame in cast("list[av.VideoFrame]", decoded):
                if not frame.is_corrupt:
                    seen = True
                    yield frame
        if not seen and damage is not None:
            raise damage


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
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return pixels if matrix is None else _turned(pixels, np.frombuffer(bytes(matrix), np.int32))


def _turned(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a display matrix, to the nearest quarter turn: column p of row q is shown at (a p + c q, b p + d q)."""
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
