"""Which latents of a full run are kept, so that a fast run can attend to them."""

from __future__ import annotations

from collections.abc import Sequence


def capture_points(full_levels: Sequence[float], fast_levels: Sequence[float], steps: Sequence[int]) -> dict[int, int]:
    """For each step of the fast run that reuses, the step of the full run whose input is nearest in noise.

    Args:
        full_levels, fast_levels: noise level (0 clean to 1 noise) of the input of each step, falling.
        steps: of the fast run, counted from 1; those past its end are left out.
    Returns: full step by fast step, both counted from 1.
    """
    return {
        step: min(range(len(full_levels)), key=lambda i: abs(full_levels[i] - fast_levels[step - 1])) + 1
        for step in steps
        if step <= len(fast_levels)
    }
