"""Whether a video can fit into memory at all, found out before anything is loaded.

The figures are floors: what a run holds at the very least at once. What is refused could not have been made; what is
not refused may still be too much, which the run then says (`loading.memory_in_plain_words`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadRequest
from ..opensora.sizes import latent_size
from .loading import choose_machine

if TYPE_CHECKING:
    from ..models import Model
    from ..request import ResolvedRequest

_TRIFLE_BYTES = 1_000_000_000  # not worth a look at the machine, for which torch has to be loaded
_TENSORS_OF_A_BLOCK = 8  # the residual, its norm, and the four-fold width of the MLP before and after its gate
_CHUNK = 17  # frames that the autoencoder takes at once
_STEP_PX = 16
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class _Size:
    width: int
    height: int
    num_frames: int
    num_loops: int

    def __str__(self) -> str:
        loops = f" in {self.num_loops} loops" if self.num_loops > 1 else ""
        return f"{self.num_frames} frames of {self.width}x{self.height}{loops}"

    @property
    def pixels(self) -> int:
        """Of all frames together."""
        return self.width * self.height * self.num_frames * self.num_loops

    def computing_bytes(self, hidden_size: int, bytes_per_number: int) -> int:
        """What the transformer, or the autoencoder, holds on the device."""
        frames, height, width = latent_size(self.num_frames, self.height, self.width)
        tokens = frames * -(-height // 2) * -(-width // 2)
        halves = 2  # of guidance
        denoising = halves * tokens * hidden_size * bytes_per_number * _TENSORS_OF_A_BLOCK
        decoding = 2 * 3 * min(_CHUNK, self.num_frames) * self.width * self.height * 4  # pixels, fp32, and a copy
        return max(denoising, decoding)

    def kept_bytes(self, earlier_frames: int) -> int:
        """All frames in main memory, one byte a colour, and the copy that joins them."""
        frames = self.num_frames * self.num_loops + earlier_frames
        return 2 * 3 * frames * self.width * self.height


def check_room(request: ResolvedRequest, model: Model, earlier_frames: int = 0) -> None:
    """Look whether a resolved request can fit into this machine's memory.

    Args:
        earlier_frames: of the video that it goes on from.
    Raises: BadRequest, with the nearest size that fits.
    """
    size = _Size(request.width, request.height, request.num_frames, request.num_loops)
    hidden_size = model.transformer_setting("hidden_size", 1152)
    if size.computing_bytes(hidden_size, 4) + size.kept_bytes(earlier_frames) < _TRIFLE_BYTES:
        return
    machine = choose_machine(request.device, request.dtype, request.offload, request.preset == "exact")
    bytes_per_number = 4 if machine.dtype == "fp32" else 2
    main_bytes = _main_memory_bytes()
    device_bytes = main_bytes if machine.device == "cpu" else _device_memory_bytes(machine.device)

    def fits(size: _Size) -> bool:
        computing, kept = size.computing_bytes(hidden_size, bytes_per_number), size.kept_bytes(earlier_frames)
        if machine.device == "cpu":
            return computing + kept <= main_bytes
        return computing <= device_bytes and kept <= main_bytes

    if fits(size):
        return
    computing, kept = size.computing_bytes(hidden_size, bytes_per_number), size.kept_bytes(earlier_frames)
    needed = computing + kept if machine.device == "cpu" else max(computing, kept)
    has = main_bytes if machine.device == "cpu" or kept > main_bytes else device_bytes
    nearest = max((each for each in _smaller(size, fits)), key=lambda each: each.pixels, default=None)
    advice = f"the nearest that fits is {nearest}" if nearest else "extend a shorter video"
    figures = f"{needed / 1e9:,.0f} GB of memory at least, and {machine.device} has {has / 1e9:,.0f} GB"
    raise BadRequest(f"{size} need {figures}: {advice}.")


def _smaller(size: _Size, fits: Callable[[_Size], bool]) -> Iterator[_Size]:
    """The largest that fits with fewer loops, with fewer frames, and with shorter sides."""
    whole = (size.width, size.height)
    ways = (
        [_Size(*whole, size.num_frames, loops) for loops in range(1, size.num_loops)],
        [_Size(*whole, frames, size.num_loops) for frames in range(1, size.num_frames)],
        [_Size(*_scaled(whole, i), size.num_frames, size.num_loops) for i in range(1, 256)],
        [_Size(*_scaled(whole, i), min(size.num_frames, _CHUNK), 1) for i in range(1, 256)],
    )
    for way in ways:
        fitting = [each for each in way if fits(each)]
        if fitting:
            yield fitting[-1]


def _scaled(sides: tuple[int, int], share: int) -> tuple[int, int]:
    """Of 256, rounded down to what the model likes."""
    width, height = (max(_STEP_PX, side * share // 256 // _STEP_PX * _STEP_PX) for side in sides)
    return width, height


def _main_memory_bytes() -> int:
    """Of this machine, or of the part of it that this process was given."""
    found = []
    with suppress(AttributeError, ValueError, OSError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in _CGROUPS:
        with suppress(ValueError, OSError):
            found.append(int(Path(path).read_text()))
    return min((each for each in found if each > 0), default=2**63)


def _device_memory_bytes(device: str) -> int:
    import torch

    if not device.startswith("cuda"):
        return _main_memory_bytes()
    return int(torch.cuda.get_device_properties(device).total_memory)
