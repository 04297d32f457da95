"""Small charts as SVG: bars over days, and the map of entities."""

from __future__ import annotations

import json
from collections.abc import Sequence

from chai_app.cache.inspection import EntityMap

from .markup import Markup, join, tag

_WIDTH, _HEIGHT = 360, 120
_MOST_DAYS = 30
_MAP_SIZE = 380
_NAMED_POINTS = 40


def day_bars(days: Sequence[tuple[str, float, float]], names: tuple[str, str], label: str) -> Markup:
    """Two figures per day, one upon the other; days are (date, lower, upper), oldest first."""
    shown = list(days)[-_MOST_DAYS:]
    if not shown:
        return tag("p", "Nothing has happened yet.", cls="c-dim")
    most = max(lower + upper for _, lower, upper in shown) or 1
    step = (_WIDTH - 40) / max(len(shown), 7)
    bars = []
    for i, (day, lower, upper) in enumerate(shown):
        title = tag("title", f"{day}: {names[0]} {lower:g}, {names[1]} {upper:g}")
        x, base = 34 + i * step, _HEIGHT - 24
        low, high = (_HEIGHT - 40) * lower / most, (_HEIGHT - 40) * upper / most
        bars.append(
            tag(
                "g",
                title,
                tag("rect", x=f"{x:.1f}", y=f"{base - low:.1f}", width=f"{step * 0.7:.1f}", height=f"{low:.1f}", rx=2,
                    style="fill:var(--c-hit)"),
                tag("rect", x=f"{x:.1f}", y=f"{base - low - high:.1f}", width=f"{step * 0.7:.1f}", height=f"{high:.1f}",
                    rx=2, style="fill:var(--c-miss);opacity:.55"),
            )
        )  # fmt: skip
    axis = [
        tag("text", f"{most:g}", x=0, y=20),
        tag("text", shown[0][0], x=34, y=_HEIGHT - 6),
        tag("text", shown[-1][0], x=_WIDTH - 4, y=_HEIGHT - 6, text_anchor="end") if len(shown) > 3 else None,
    ]
    words = "; ".join(f"{day}: {names[0]} {lower:g}, {names[1]} {upper:g}" for day, lower, upper in shown)
    return tag(
        "svg",
        join(bars),
        join(part for part in axis if part is not None),
        cls="c-chart",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"{label}: {words}",
    )


def map_picture(shown: EntityMap) -> Markup:
    """The entities as dots; a click opens the newest entry that has it."""
    if not shown.points:
        return tag("p", "No entities yet.", cls="c-dim")
    margin = 34
    span = _MAP_SIZE - 2 * margin
    dots: list[Markup] = []
    names: list[Markup] = []
    taken: list[tuple[float, float]] = []
    for point in sorted(shown.points, key=lambda p: -p.entries):
        x, y = margin + point.x * span, margin + (1 - point.y) * span
        radius = min(5 + 1.5 * (point.entries - 1), 14)
        dots.append(
            tag(
                "circle",
                cx=f"{x:.1f}",
                cy=f"{y:.1f}",
                r=f"{radius:.1f}",
                cls=f"c-dot-{point.kind}",
                data_open_entry=point.entry_id,
                data_title=f"{point.text}: {point.entries}",
            )
        )
        free = all(abs(x - other[0]) > 70 or abs(y - other[1]) > 13 for other in taken)
        if free and len(names) < _NAMED_POINTS:
            taken.append((x, y))
            anchor = "end" if x > _MAP_SIZE * 0.7 else "start"
            dx = -radius - 3 if anchor == "end" else radius + 3
            names.append(tag("text", point.text[:28], x=f"{x + dx:.1f}", y=f"{y + 4:.1f}", text_anchor=anchor))
    objects = sum(point.kind == "object" for point in shown.points)
    label = f"Map of {objects} objects and {len(shown.points) - objects} scenes: {json.dumps(len(shown.points))} dots"
    return tag(
        "figure",
        tag(
            "svg",
            join(dots),
            join(names),
            cls="c-chart c-map",
            viewBox=f"0 0 {_MAP_SIZE} {_MAP_SIZE}",
            role="img",
            aria_label=label,
        ),
        tag(
            "figcaption",
            tag("span", "● objects", style="color:var(--c-accent)"),
            "  ",
            tag("span", "● scenes", style="color:var(--c-scene)"),
            f"  The two axes show {shown.explained:.0%} of how the phrases differ.",
            cls="c-dim",
        ),
        style="margin:0",
    )
