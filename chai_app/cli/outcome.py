"""What became of reuse, in one line: for the block under a video, and for a run that warms the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..request import Decision, Report, Reuse

_SHORT_ID = 8  # as many digits as cache ls prints
_NO_FASTER = 1.05


def short(id: str) -> str:
    """#6940f718: enough for every command that takes an id."""
    return f"#{id[:_SHORT_ID]}"


def reuse_line(report: Report) -> str:
    """ "hit: red balloon from #6940f718, 0.94: 8 steps, 2.1 s, 3.4x faster than a full run"."""
    reuse = report.reuse
    if reuse is None:
        return "no reuse"
    took = f"{report.steps} steps, {report.making_seconds:.1f} s"
    kept = f"; kept as {short(reuse.stored_entry_id)}" if reuse.stored_entry_id else ""
    if reuse.entry_id is not None:
        return f"hit: {donors_line(reuse)}: {took}{_faster(reuse, report.making_seconds)}{kept}"
    if reuse.outcome == "miss":
        return f"miss: {_why_miss(reuse)}: {took}{kept}"
    why = reuse.why[0].rstrip(".") if reuse.why else ""
    return f"{reuse.outcome}: {why[:1].lower()}{why[1:]}: {took}{kept}" if why else f"{reuse.outcome}: {took}{kept}"


def donors_line(reuse: Decision) -> str:
    """ "red balloon from #6940f718, 0.94"; of several donors, each with what it gives. "this red balloon" is kept."""
    donors = reuse.donors or ({"entry_id": reuse.entry_id, "found": reuse.found, "similarity": reuse.similarity},)
    return " and ".join(_donor(donor, "this " if reuse.keeps else "") for donor in donors)


def _donor(donor: Mapping[str, Any], this: str) -> str:
    if not donor.get("found"):
        return f"{short(donor['entry_id'])}, chosen by name"
    return f"{this}{donor['found']} from {short(donor['entry_id'])}, {donor['similarity']:.2f}"


def _faster(reuse: Reuse, seconds: float) -> str:
    if not reuse.full_seconds or not seconds:
        return ""
    ratio = reuse.full_seconds / seconds
    return f", {ratio:.1f}x faster than a full run" if ratio >= _NO_FASTER else ", no faster than a full run"


def whole_time(report: Report) -> str:
    """ "in all 2.1 s, a full run 3.4 s": with start-up and all, each."""
    full = None if report.reuse is None else report.reuse.full_seconds
    whole = f"in all {report.total_seconds:.1f} s"
    return f"{whole}, a full run {report.total_seconds - report.making_seconds + full:.1f} s" if full else whole


def _why_miss(reuse: Reuse) -> str:
    """The reason, or what came nearest and why it lost."""
    if reuse.candidates:
        nearest = reuse.candidates[0]
        what = nearest["found"] if nearest["kind"] != "prompt" else nearest["prompt"]
        lost = str(nearest["lost_because"]).replace("below the threshold ", "below ")
        return f"nothing fits, nearest is {what} from {short(nearest['entry_id'])}, {nearest['score']:.2f}, {lost}"
    why = reuse.why[0].rstrip(".").removeprefix("Miss: ") if reuse.why else "nothing fits"
    return f"{why[:1].lower()}{why[1:]}"
