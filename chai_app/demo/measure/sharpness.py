"""How sharp clips are, against others: energy of the gradients. Mush has less than the reference, noise has more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255


def gradient_energy(clips: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean square of the differences between neighbouring pixels' brightness (0 to 1), (N,)."""
    energy = []
    for clip in clips:
        grey = clip @ LUMA  # (T, H, W)
        energy.append(np.square(np.diff(grey, axis=1)).mean() + np.square(np.diff(grey, axis=2)).mean())
    return np.array(energy, dtype=np.float64)


def sharpness(clips: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Gradient energy as a multiple of the reference set's mean, (N,). The autoencoder's round trip of real clips is
    what a model at its best can reach."""
    return gradient_energy(clips) / gradient_energy(reference).mean()
