"""The tensors of a weights file, one after the other, each turned into what a model keeps before the next is read.

A file is mapped into memory, and what was read of it counts as this program's until it is let go. So it is, tensor by
tensor: T5-XXL in fp32 (19 GB) then costs what its weights take in bf16, and one tensor more.
"""

import ctypes
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

OnBytes = Callable[[int], None]
"""Told how many bytes of a file were read since it was told last."""

_DONT_NEED: int | None = getattr(mmap, "MADV_DONTNEED", None)  # Windows has none


def tensors_in(
    path: Path, dtype_of: Callable[[str], torch.dtype | None], on_bytes: OnBytes | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a .safetensors file, or of a pickle of tensors (.bin), in memory of their own.

    Args:
        dtype_of: the number format in which a tensor of that name is kept; None leaves it out. Whole numbers stay what
            they are.
    """
    for name, mapped in _mapped(path):
        dtype = dtype_of(name)
        if dtype is not None:
            yield name, mapped.to(dtype if mapped.is_floating_point() else mapped.dtype, copy=True)
            _let_go(mapped)
        if on_bytes is not None:
            on_bytes(mapped.nbytes)


def _mapped(path: Path) -> Iterator[tuple[str, Tensor]]:
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            for name in file.offset_keys():
                yield name, file.get_tensor(name)
    else:
        tensors = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        for name in list(tensors):
            yield name, tensors.pop(name)


def _let_go(mapped: Tensor) -> None:
    """Take the pages that hold a tensor out of this process. Whoever looks again has them read from the file again."""
    if _DONT_NEED is None or not mapped.is_contiguous():
        return
    first = -(-mapped.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE  # whole pages of its own alone
    end = (mapped.data_ptr() + mapped.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if first < end:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), _DONT_NEED)
