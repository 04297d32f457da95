"""From which likeness on two phrases mean the same, for one embedder; and how that is found out.

A cosine means nothing by itself: of two embedders one puts unrelated phrases at 0.2 and the other at 0.7. So the
thresholds are kept under the embedder's fingerprint. `calibrate` finds them from pairs of phrases of which a person
says whether they should match.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import CannotRead
from ..files import remembered, whole_file
from .entries import KINDS, Kind
from .errors import CacheError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SHIPPED = Path(__file__).with_name("thresholds.json")
_PICTURE_SIZE = (640, 200)
_BINS = 50


class Embedder(Protocol):
    """Turns phrases into directions. Equal fingerprints promise equal embeddings; name is for people."""

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D), each row of length 1."""
        ...


@dataclass(frozen=True)
class Thresholds:
    """The least score that is a match. The defaults are strict, for an embedder that nobody calibrated: whatever is in
    doubt is a miss."""

    object: float = 0.92
    scene: float = 0.92
    prompt: float = 0.95

    def of(self, kind: Kind) -> float:
        """The threshold for one kind of entity."""
        return float(getattr(self, kind))


@dataclass(frozen=True)
class Pair:
    """Two phrases, and whether a video of the one may serve the other."""

    kind: Kind
    a: str
    b: str
    should_match: bool


@dataclass(frozen=True)
class Figures:
    """How one kind's pairs fall on the two sides of a threshold; cosines are kept for drawing."""

    threshold: float
    precision: float
    recall: float
    balanced_accuracy: float
    matching: tuple[float, ...]
    different: tuple[float, ...]


@dataclass(frozen=True)
class Calibration:
    """Thresholds with the figures that speak for them; kinds without pairs keep their default and have no figures."""

    thresholds: Thresholds
    figures: dict[Kind, Figures]

    def to_json(self) -> dict[str, Any]:
        """Plain values without the single cosines, ready for `json.dumps`."""
        short: dict[str, Any] = {}
        for kind, figures in self.figures.items():
            values = asdict(figures)
            short[kind] = {
                **{name: values[name] for name in ("threshold", "precision", "recall", "balanced_accuracy")},
                "pairs": len(figures.matching) + len(figures.different),
            }
        return short


def calibrate(embedder: Embedder, pairs: Sequence[Pair], precision_floor: float = 0.98) -> Calibration:
    """The thresholds that tell the pairs apart best.

    Of the thresholds at which at least `precision_floor` of what is called a match is one, the one with the highest
    balanced accuracy; if none is that precise, the most precise one.
    Raises: CacheError if a kind has pairs of one sort only, from which nothing can be learnt.
    """
    texts = sorted({text for pair in pairs for text in (pair.a, pair.b)})
    place = {text: i for i, text in enumerate(texts)}
    embeddings = embedder.embed(texts)
    figures: dict[Kind, Figures] = {}
    for kind in KINDS:
        cosines: dict[bool, list[float]] = {True: [], False: []}
        for pair in pairs:
            if pair.kind == kind:
                cosines[pair.should_match].append(float(embeddings[place[pair.a]] @ embeddings[place[pair.b]]))
        if not cosines[True] and not cosines[False]:
            continue
        if not cosines[True] or not cosines[False]:
            raise CacheError(f"The pairs for {kind} all match or all differ: give some of both.")
        figures[kind] = _best(sorted(cosines[True]), sorted(cosines[False]), precision_floor)
    return Calibration(replace(Thresholds(), **{kind: f.threshold for kind, f in figures.items()}), figures)


def _best(matching: list[float], different: list[float], precision_floor: float) -> Figures:
    values = sorted({*matching, *different})
    between = [(low + high) / 2 for low, high in pairwise(values)]
    tried = [_figures(threshold, matching, different) for threshold in (values[0], *between)]
    precise = [figures for figures in tried if figures.precision >= precision_floor]
    if precise:
        return max(precise, key=lambda figures: (figures.balanced_accuracy, figures.threshold))
    return max(tried, key=lambda figures: (figures.precision, figures.balanced_accuracy))


def _figures(threshold: float, matching: list[float], different: list[float]) -> Figures:
    right = sum(cosine >= threshold for cosine in matching)
    wrong = sum(cosine >= threshold for cosine in different)
    recall, specificity = right / len(matching), 1 - wrong / len(different)
    precision = right / (right + wrong) if right + wrong else 0.0
    return Figures(threshold, precision, recall, (recall + specificity) / 2, tuple(matching), tuple(different))


def thresholds_for(embedder: Embedder, home: Path) -> Thresholds:
    """Those of `home`, else those that are shipped, else the strict defaults."""
    for path in (home / "thresholds.json", _SHIPPED):
        values = remembered(path).get(embedder.fingerprint)
        if isinstance(values, dict):
            found = {kind: values[kind] for kind in KINDS if kind in values}
            if all(isinstance(value, float | int) and 0 <= value <= 1 for value in found.values()):
                return Thresholds(**{kind: float(value) for kind, value in found.items()})
            # Edited by hand and no number that a cosine could reach: the next best.
    return Thresholds()


def save_thresholds(embedder: Embedder, thresholds: Thresholds, home: Path) -> None:
    """Remember them in `home`, beside those of other embedders.

    Raises: CannotRead, CannotWrite if the system refuses.
    """
    path = home / "thresholds.json"
    if path.exists() and not os.access(path, os.R_OK):  # those of other embedders would be lost
        raise CannotRead(f"{path} cannot be read, so nothing was written into it: check its permissions.")
    values = {**remembered(path), embedder.fingerprint: {"embedder": embedder.name, **asdict(thresholds)}}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def draw(calibration: Calibration, path: Path) -> None:
    """A PNG with one band for each kind: cosines of pairs that match (green), that differ (red), and the threshold.

    Raises: CannotWrite if the system refuses.
    """
    from PIL import Image, ImageDraw

    width, height = _PICTURE_SIZE
    picture = Image.new("RGB", (width, height * max(len(calibration.figures), 1)), "white")
    pen = ImageDraw.Draw(picture)
    for band, (kind, figures) in enumerate(calibration.figures.items()):
        floor = (band + 1) * height - 20
        for cosines, colour, shift in ((figures.different, "firebrick", 0), (figures.matching, "seagreen", 5)):
            bins = [0] * _BINS
            for cosine in cosines:
                bins[min(int(max(cosine, 0.0) * _BINS), _BINS - 1)] += 1
            for i, times in enumerate(bins):
                left, top = i * width // _BINS + shift, floor - times * (height - 50) // max(bins)
                if times:
                    pen.rectangle((left, top, left + 5, floor), fill=colour)
        line = int(figures.threshold * width)
        pen.line((line, floor, line, floor - height + 40), fill="black")
        words = f"{kind}: threshold {figures.threshold:.3f}, precision {figures.precision:.3f}, "
        pen.text((5, floor - height + 25), words + f"recall {figures.recall:.3f}", fill="black")
        pen.text((5, floor + 4), "cosine 0", fill="black")
        pen.text((width - 10, floor + 4), "1", fill="black")
        pen.text((width // 3, floor + 4), "green: should match; red: should not", fill="dimgray")
    with whole_file(path) as temporary:
        picture.save(temporary, "PNG")
