"""How far a line of reuse has wandered."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def drift(latents: NDArray[np.floating[Any]], root: NDArray[np.floating[Any]]) -> float:
    """Distance of finished latents from those of the full run that their line of reuse began with.

    The length of their difference as a share of the length of `root`: 0 for equal ones, about 1.4 (the root of 2) for
    two that have nothing in common and are equally long.
    Args: (C, T, h, w) both.
    Raises: ValueError if the shapes differ.
    """
    if latents.shape != root.shape:
        raise ValueError(f"latents {latents.shape} and root {root.shape} must have one shape")
    length = float(np.linalg.norm(root.astype(np.float64)))
    distance = float(np.linalg.norm(latents.astype(np.float64) - root))
    return distance / length if length else 0.0 if distance == 0 else float("inf")
