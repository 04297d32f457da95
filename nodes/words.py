"""What the nodes tell: plans, reports, entries and the cache's figures in plain lines."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..chai_app.cache import Stats
    from ..chai_app.request import Decision, GenerationRequest, Plan, Report
    from .browse import Shown

_CANDIDATES_SHOWN = 4


def plan_text(plan: Plan) -> str:
    """What would happen, and why."""
    request, reuse = plan.request, plan.reuse
    clip = f"{request.num_frames} frames of {request.width} x {request.height} at {request.fps:g} fps"
    lines = [f"{_headline(reuse)}: {reuse.steps} steps", f"{clip}, model {request.model}, preset {request.preset}"]
    lines += [f"donor #{donor['entry_id'][:8]}: {donor['entry_prompt']}" for donor in reuse.donors]
    lines += [*reuse.why, *candidates(reuse), *plan.notes]
    return "\n".join(lines)


def report_text(request: GenerationRequest, report: Report) -> str:
    """The receipt of one video."""
    clip = f"{report.num_frames} frames of {report.width} x {report.height} at {report.fps:g} fps"
    lines = [request.prompt]
    reuse = report.reuse
    if reuse is not None:
        lines.append(f"{_headline(reuse)}: {report.steps} steps, {report.making_seconds:.1f} s{_gain(report)}")
        if reuse.reused_steps:
            steps = "step" if len(reuse.reused_steps) == 1 else "steps"
            lines.append(f"attended to the donor in {steps} {', '.join(map(str, reuse.reused_steps))}")
        if reuse.beginning:
            lines.append(f"began with {reuse.beginning}")
        if reuse.stored_entry_id:
            lines.append(f"kept as #{reuse.stored_entry_id}, {size_text(reuse.bytes_written)}")
        if reuse.bytes_read:
            lines.append(f"read {size_text(reuse.bytes_read)} from the cache, looked up in {reuse.lookup_ms:.1f} ms")
    lines.append(f"{clip}, seed {request.seed}, guidance {report.guidance_scale(request):g}")
    lines.append(f"model {report.model} on {report.device} in {report.dtype}{_traded(request, report)}")
    lines.append(", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report.seconds.items()))
    if reuse is not None:
        lines += reuse.why
    return "\n".join([*lines, *(f"note: {note}" for note in report.notes)])


def candidates(reuse: Decision) -> list[str]:
    """The entries that were considered, with what spoke against them."""
    lines = []
    for each in reuse.candidates[:_CANDIDATES_SHOWN]:
        lines.append(
            f"  #{each['entry_id'][:8]} {each['found']} {each['score']:.2f}: {each['lost_because'] or 'chosen'}"
        )
    return lines


def stats_text(stats: Stats) -> str:
    """The cache in three lines."""
    rate = "no lookups yet" if stats.hit_rate is None else f"hit rate {stats.hit_rate:.0%}"
    return (
        f"{counted(stats.entries, 'entry', 'entries')}, {stats.pinned} pinned, "
        f"{counted(stats.entities, 'entity', 'entities')}\n"
        f"{size_text(stats.bytes)} of {size_text(stats.budget_bytes)}, policy {stats.policy}\n"
        f"{counted(stats.hits, 'hit')}, {counted(stats.misses, 'miss', 'misses')}, {rate}; {stats.evicted} evicted"
    )


def entries_text(shown: Iterable[Shown]) -> str:
    """One line for each entry."""
    lines = []
    for each in shown:
        entry = each.entry
        score = "" if each.score is None else f"{each.score:.2f} {'match' if each.is_match else 'no match'}  "
        pinned = "pinned  " if entry.is_pinned else ""
        made = datetime.fromtimestamp(entry.created).strftime("%Y-%m-%d %H:%M")
        hits = counted(entry.hits, "hit")
        lines.append(f"#{entry.id[:8]}  {score}{pinned}{hits}  {size_text(entry.bytes)}  {made}  {entry.prompt}")
    return "\n".join(lines)


def counted(count: int, one: str, many: str = "") -> str:
    """1 hit, 2 hits."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def size_text(count: int) -> str:
    """38 kB, 1.2 MB: units of 1000, as disks are sold."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5 or unit == "GB":
            break
        size /= 1000
    return f"{size:.1f} {unit}" if size < 9.95 and unit != "B" else f"{size:.0f} {unit}"


def _headline(reuse: Decision) -> str:
    if reuse.outcome == "hit":
        if reuse.found and reuse.similarity is not None:
            keeps = f"keeps {reuse.kept}: " if reuse.kept else ""
            donor = f"{reuse.found} of #{(reuse.entry_id or '')[:8]} ({reuse.similarity:.2f})"
            return f"HIT, {keeps}{reuse.wanted} is {donor}"
        return f"HIT, donor #{(reuse.entry_id or '')[:8]}"
    return {"miss": "MISS", "full": "FULL RUN", "fast": "FEW STEPS, no donor"}[reuse.outcome]


def _traded(request: GenerationRequest, report: Report) -> str:
    """What was given for speed; nothing is said of a request of before there were presets."""
    preset = "" if request.preset is None else f", preset {request.preset}"
    return preset + ("" if report.acceleration == "none" else f", acceleration {report.acceleration}")


def _gain(report: Report) -> str:
    reuse = report.reuse
    if reuse is None or not reuse.full_seconds or not report.making_seconds:
        return ""
    times = reuse.full_seconds / report.making_seconds
    return f", {times:.1f} times as fast as a full run ({reuse.full_seconds:.1f} s)"
