"""The receipt under a video: what was reused and why, how often, what it cost, what it won or lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chai_app.request import Report, Reuse

from .markup import Markup, button, chip, file_url, human_bytes, join, seconds, tag
from .studio import Studio

OUTCOMES = {
    "hit": "Hit",
    "miss": "Miss",
    "full": "Full run",
    "fast": "Few steps",
}
_STAGES = {
    "start": "starting the program",
    "plan": "planning",
    "load": "loading the model",
    "text": "reading the prompt",
    "denoise": "denoising",
    "decode": "decoding",
    "keep": "keeping it for reuse",
    "write": "writing",
}


def receipt(studio: Studio, report: Report) -> Markup:
    """Everything that a report says about reuse, time and approximations."""
    reuse = report.reuse
    return tag(
        "section",
        tag("h3", "Receipt"),
        tag(
            "p",
            chip(OUTCOMES[reuse.outcome], reuse.outcome) if reuse else None,
            " ",
            headline(report),
            cls="c-headline",
        ),
        _balance(report),
        stage_bars(report),
        _matches(studio, reuse) if reuse else None,
        _figures(report),
        _sentences(reuse) if reuse else None,
        _notes(report),
        cls="c-receipt",
        aria_label="Receipt",
    )


def headline(report: Report) -> str:
    """What became of reuse, in one sentence."""
    reuse = report.reuse
    if reuse is None:
        return f"{report.steps} steps; nothing is known about reuse."
    if reuse.outcome == "hit":
        times = len(reuse.reused_steps)
        if not times:
            return f"A donor was found, but Cache Attention did not run: {report.steps} steps."
        what = f" for {reuse.wanted!r}" if reuse.wanted else ""
        if reuse.kept:
            return f"Kept {reuse.kept}: attended to an earlier video in {times} of {report.steps} steps."
        return f"Attended to an earlier video{what} in {times} of {report.steps} steps."
    why = reuse.why[0] if reuse.why else "Nothing was looked for."
    why = why.removeprefix("Miss: ")
    return f"{why[:1].upper()}{why[1:].rstrip('.')}. {report.steps} steps."


def _balance(report: Report) -> Markup | None:
    reuse = report.reuse
    if reuse is None or reuse.outcome != "hit" or not reuse.full_seconds:
        return None
    saved = reuse.full_seconds - report.making_seconds
    words = "saved" if saved >= 0 else "lost"
    return tag(
        "p",
        tag("strong", f"{seconds(abs(saved))} {words}", cls="c-won" if saved >= 0 else "c-lost"),
        f": {seconds(report.making_seconds)} here, {seconds(reuse.full_seconds)} for a full run.",
    )


def stage_bars(report: Report, longest: float | None = None) -> Markup:
    """Seconds per stage as one bar, with its legend; beside others, to their scale if `longest` is the most seconds."""
    total = report.total_seconds or 1.0
    width = f"width:{100 * total / longest:.1f}%" if longest else None
    stages = [(name, took) for name, took in report.seconds.items() if took > 0]
    parts = [
        tag("span", cls=f"c-stage c-stage-{name}", style=f"flex-grow:{max(took / total, 0.004):.4f}")
        for name, took in stages
    ]
    legend = [
        tag("li", tag("i", cls=f"c-stage-{name}"), f"{_STAGES.get(name, name)} ", tag("b", seconds(took)))
        for name, took in stages
    ]
    words = ", ".join(f"{_STAGES.get(name, name)} {seconds(took)}" for name, took in stages)
    return tag(
        "div",
        tag("div", join(parts), cls="c-bar", style=width, role="img", aria_label=f"Time by stage: {words}"),
        tag("ul", join(legend), tag("li", "in all ", tag("b", seconds(report.total_seconds))), cls="c-legend"),
    )


def _matches(studio: Studio, reuse: Reuse) -> Markup | None:
    taken = [c for c in reuse.candidates if c.get("lost_because") is None]
    if not taken and reuse.entry_id is not None:
        taken = [{"entry_id": reuse.entry_id, "prompt": reuse.entry_prompt or "", "wanted": reuse.wanted}]
    others = [c for c in reuse.candidates if c.get("lost_because") is not None]
    if not taken and not others:
        return None
    lists = []
    if taken:
        lists.append(tag("div", join(candidate_row(studio, c) for c in taken), cls="c-candidates"))
    if others:
        lists.append(
            tag(
                "details",
                tag(
                    "summary", f"{len(others)} {'other ' * bool(taken)}candidate{'s' * (len(others) > 1)}, and why not"
                ),
                tag("div", join(candidate_row(studio, c) for c in others), cls="c-candidates"),
            )
        )
    return join(lists)


def candidate_row(studio: Studio, candidate: Mapping[str, Any], actions: Markup | None = None) -> Markup:
    """One entry that was considered: thumbnail, what is like what, score, why it lost."""
    wanted, score, lost = candidate.get("wanted"), candidate.get("score"), candidate.get("lost_because")
    found = f"“{candidate['found']}” " if candidate.get("found") else ""
    like = f"{found}for “{wanted}”" if wanted else "chosen by name"
    return tag(
        "div",
        entry_thumbnail(studio, str(candidate["entry_id"])),
        tag(
            "div",
            tag("b", like),
            tag("span", f" {score:.3f}", cls="c-score") if score is not None else None,
            tag("span", f" {lost}", cls="c-lost-because") if lost else None,
            tag("p", candidate.get("prompt", ""), cls="c-dim c-clip"),
            actions,
        ),
        cls="c-candidate",
    )


def entry_thumbnail(studio: Studio, id: str, size: str = "") -> Markup:
    """The moving preview of an entry, which opens it; a placeholder if it has none."""
    path = studio.settings.home / "previews" / f"{id}.webp"
    if not path.is_file():
        return tag("span", "no picture", cls=f"c-thumb c-empty {size}".strip())
    picture = tag("img", src=file_url(path), alt=f"entry {id[:6]}", loading="lazy")
    return tag(
        "button",
        picture,
        cls=f"c-thumb {size}".strip(),
        type="button",
        data_open_entry=id,
        title="Show this entry",
    )


def _figures(report: Report) -> Markup:
    reuse = report.reuse
    pairs: list[tuple[str, object]] = []
    if report.acceleration != "none":
        pairs.append(("Acceleration", f"{report.acceleration}: an approximation within the run"))
    if reuse is not None:
        if reuse.outcome == "hit":
            numbers = reuse.reused_steps
            steps = f"step{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}" if numbers else "no step"
            pairs.append(("Cache Attention ran", f"in {steps}, on the first spatial block"))
        if reuse.beginning:
            pairs.append(("Began with", f"{reuse.beginning}, so that no step goes to the noisiest part"))
        if reuse.outcome in ("hit", "miss"):
            pairs.append(("Lookup", f"{reuse.lookup_ms:.1f} ms"))
        if reuse.bytes_read:
            pairs.append(("Read", human_bytes(reuse.bytes_read)))
        if reuse.bytes_written:
            pairs.append(("Written", human_bytes(reuse.bytes_written)))
        if reuse.stored_entry_id:
            open_it = tag(
                "button",
                reuse.stored_entry_id[:8],
                cls="c-link",
                type="button",
                data_open_entry=reuse.stored_entry_id,
            )
            pairs.append(("Kept as entry", open_it))
    return definitions(pairs) if pairs else Markup()


def definitions(pairs: list[tuple[str, object]]) -> Markup:
    """A list of names and values."""
    return tag("dl", join(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs), cls="c-figures")


def _sentences(reuse: Reuse) -> Markup | None:
    if not reuse.why:
        return None
    return tag(
        "details",
        tag("summary", "Why, in the cache's own words"),
        tag("ul", join(tag("li", sentence) for sentence in reuse.why)),
    )


def _notes(report: Report) -> Markup | None:
    if not report.notes:
        return None
    return tag("ul", join(tag("li", note) for note in report.notes), cls="c-notes")


def use_entry_button(id: str, label: str = "Use as donor") -> Markup:
    """Puts an entry's id into the form."""
    return tag("button", label, cls="c-button c-small", type="button", data_fill=f'{{"reuse": "{id}"}}')


def pin_button(id: str, is_pinned: bool) -> Markup:
    """Keeps an entry from being evicted, or lets it be."""
    return button("Unpin" if is_pinned else "Pin", "pin", "c-small", id=id, pinned=not is_pinned)
