"""Pictures of what queries attend to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .plots import figure


def draw_maps(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Maps of one prompt in the middle of the clip: a row for each kind of donor; the video, the donor, then for each
    reuse step a mosaic in which every cell is a query's map over the donor's cells."""
    kinds = list(dict.fromkeys(each["shares"] for each in found))
    steps = list(dict.fromkeys(each["step"] for each in found))
    shape = (len(kinds), 2 + len(steps))
    most = max(float(each["weights"].max()) for each in found)
    with figure(path, *shape, figsize=(2.2 * shape[1], 2.3 * shape[0]), squeeze=False) as (drawing, axes):
        for line, kind in zip(axes, kinds, strict=True):
            some = [each for each in found if each["shares"] == kind]
            mine, theirs = some[0]["frames"]
            line[0].imshow(mine[len(mine) // 2])
            line[1].imshow(theirs[len(theirs) // 2])
            line[0].set_ylabel(f"shares {kind}")
            for axis, each in zip(line[2:], some, strict=True):
                middle = each["weights"][len(each["weights"]) // 2]
                image = axis.imshow(mosaic(middle, each["grid"]), cmap="cividis", vmin=0, vmax=most)
        titles = ["this video", "the donor"] + [f"step {each['step']}, level {each['level']:.2f}" for each in some]
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title, fontsize=9)
        for axis in axes.flat:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.grid(visible=False)
            axis.spines[:].set_visible(False)
        drawing.colorbar(image, ax=axes[:, -1], shrink=0.5, label="weight")
        drawing.supxlabel("each small square: one query's map over the donor's places", fontsize=9)


def mosaic(weights: NDArray[np.float64], grid: tuple[int, int]) -> NDArray[np.float64]:
    """(S, S) -> a picture in which the map of each query stands at the query's place, with lines between them.

    Args: grid: rows and columns of tokens, S in all.
    Returns: (rows * (rows + 1) - 1, columns * (columns + 1) - 1); NaN on the lines.
    """
    rows, columns = grid
    picture = np.full((rows * (rows + 1), columns * (columns + 1)), np.nan)
    for query, each in enumerate(weights):
        top, left = query // columns * (rows + 1), query % columns * (columns + 1)
        picture[top : top + rows, left : left + columns] = each.reshape(rows, columns)
    return picture[:-1, :-1]
