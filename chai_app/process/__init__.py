"""What all threads of one process share: freed memory, and the turn to load models.

Memory. The GNU C library gives every large piece of memory back as soon as it is free, and the system clears it anew,
page by page, when the next layer asks for as much. On a CPU that was a tenth of the time of a hit, and more than half
of that of videos made eight at a time.

Loading. Two threads that import torch, transformers, diffusers or open_clip at once can be shown modules of each
other's that are half there ("cannot import name 'PreTrainedModel'"): where two imports would wait for each other for
ever, Python goes on without waiting. And while a model is loaded these libraries change torch for the whole process
(new weights get no memory, numbers another format), which two loads at once can leave behind for good. Nothing of what
comes in this way is garbage: to look for some after every few hundred objects would take a fifth of the time.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of mallopt, from malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEPT_BYTES = 2**30
_AT_ONCE_BYTES = 64 * 2**20

_turn = threading.RLock()


def keep_freed_memory() -> bool:
    """Let this process keep up to a gigabyte of freed memory for what comes next. It holds for the whole process, so a
    guest in another program leaves it alone.

    Returns: whether the C library can do so; others than GNU's are left as they are.
    """
    libc = _gnu_libc()
    if libc is None:
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEPT_BYTES), (_TOP_PAD, _AT_ONCE_BYTES))
    done = [libc.mallopt(name, value) == 1 for name, value in settings]
    return all(done)


def give_back_freed_memory() -> None:
    """Hand what is kept, and free, back to the system."""
    libc = _gnu_libc()
    if libc is not None:
        libc.malloc_trim(0)


def _gnu_libc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None


@contextmanager
def loading_turn() -> Iterator[None]:
    """Within the block, no other thread is within one: the place to import heavy libraries, and to load models."""
    with _turn:
        is_collecting = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if is_collecting:
                gc.enable()
