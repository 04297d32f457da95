"""Heavy libraries are imported by one thread at a time.

Two threads that import torch, transformers, diffusers or open_clip at once can be shown modules of each other's that
are half there ("cannot import name 'PreTrainedModel'"): where two imports would wait for each other for ever, Python
goes on without waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_turn = threading.RLock()


@contextmanager
def importing() -> Iterator[None]:
    """Within the block, no other thread is within one: the place to import these libraries, and first load by them."""
    with _turn:
        yield
