"""Heavy libraries import, and load by them, in one thread at a time.

Two threads that import torch, transformers, diffusers or open_clip at once can be shown modules of each other's that
are half there ("cannot import name 'PreTrainedModel'"): where two imports would wait for each other for ever, Python
goes on without waiting. And while a model is loaded these libraries change torch for the whole process (new weights get
no memory, numbers another format), which two loads at once can leave behind for good.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_turn = threading.RLock()


@contextmanager
def loading_turn() -> Iterator[None]:
    """Within the block, no other thread is within one: the place to import these libraries, and to load models."""
    with _turn:
        yield
