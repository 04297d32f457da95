"""Measures that can tell a sharp clip of the drawn world from mush: `measure` takes them all, `table` prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..drawn.spec import ClipSpec
from .features import Features, density_coverage, kid
from .fit import fit_clips
from .judge import QUESTIONS, Judge
from .motion import motion_errors
from .sharpness import sharpness
from .traits import background_variety, kept, kept_all

Better = Literal["higher", "lower", "near 1"]


@dataclass(frozen=True, eq=False)
class Measured:
    """One measure of a set of clips. values: (N,), clip by clip (NaN where it says nothing of a clip), or None for what
    only a set has. error: standard error of `mean`."""

    mean: float
    error: float
    better: Better
    values: NDArray[np.float64] | None = None


def per_clip(values: NDArray[np.floating], better: Better) -> Measured:
    numbers = np.asarray(values, dtype=np.float64)
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return Measured(float("nan"), float("nan"), better, numbers)
    error = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else float("nan")
    return Measured(float(known.mean()), error, better, numbers)


def measure(
    judge: Judge,
    features: Features,
    clips: NDArray[np.uint8],
    specs: Sequence[ClipSpec],
    reference: NDArray[np.uint8],
) -> dict[str, Measured]:
    """Take every measure of clips (N, T, H, W, 3) that were asked to show `specs`.

    Args: reference: (M, T, H, W, 3), other clips of the same kind at their best, the autoencoder's round trip of real
        ones for instance; sharpness, kernel distance, density and coverage are told against it.
    """
    seen = judge.look(clips)
    verdicts = seen.verdicts([len(spec.things) for spec in specs])
    answers = [verdict.agrees(spec) for verdict, spec in zip(verdicts, specs, strict=True)]
    odds = seen.log_odds(specs)
    found: dict[str, Measured] = {}
    for name in QUESTIONS:
        found[name] = per_clip(np.array([answer[name] for answer in answers], dtype=np.float64), "higher")
    for name in QUESTIONS:
        found[f"{name}, log-odds"] = per_clip(odds[name], "higher")
    found["consistency"] = per_clip(np.array([verdict.consistency for verdict in verdicts]), "higher")

    one_kind = np.array([len(spec.things) == 1 for spec in specs])
    found["traits kept"] = per_clip(np.where(one_kind, kept(seen.traits), np.nan), "higher")
    found["all traits kept"] = per_clip(np.where(one_kind, kept_all(seen.traits), np.nan), "higher")
    variety = background_variety(seen.traits, specs)
    found["variety of backgrounds"] = Measured(variety, float("nan"), "near 1")

    length = clips.shape[1]
    fit = fit_clips(judge, clips, specs, (0, length // 2, length - 1))
    found["fit, IoU"] = per_clip(fit.iou.mean(1), "higher")
    found["fit, margin"] = per_clip(fit.margin.mean(1), "higher")
    found["fit, artefacts"] = per_clip(fit.artefacts.mean(1), "lower")

    motion = motion_errors(seen.poses, specs)
    found["off the motion's path (px)"] = per_clip(motion.residual_px, "lower")
    found["off the motion's speed (px)"] = per_clip(motion.velocity_px, "lower")
    found["jerk (px)"] = per_clip(motion.jerk_px, "lower")
    found["drift of radius"] = per_clip(motion.radius_drift, "lower")

    found["sharpness"] = per_clip(sharpness(clips, reference), "near 1")
    made, real = features.clip_features(clips), features.clip_features(reference)
    found["KID"] = Measured(*kid(real, made), "lower")
    density, coverage = density_coverage(real, made)
    found["density"] = per_clip(density, "higher")
    covered = per_clip(coverage, "higher")
    found["coverage"] = Measured(covered.mean, covered.error, "higher")  # its rows are real clips, not made ones
    return found


def table(arms: Mapping[str, Mapping[str, Measured]]) -> str:
    """Every measure a row, every arm a column, in Markdown: mean and standard error."""
    names = list(next(iter(arms.values())))
    rows = [["measure", "better", *arms], ["---"] * (2 + len(arms))]
    for name in names:
        cells = [arm[name] for arm in arms.values()]
        rows.append([name, cells[0].better, *(_cell(cell) for cell in cells)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(measured: Measured) -> str:
    plain = "-" if np.isnan(measured.mean) else f"{measured.mean:.3f}"
    return plain if np.isnan(measured.error) else f"{plain} ± {measured.error:.3f}"
