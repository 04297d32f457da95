"""The cache panel: what is kept, as cards and as a table, searched by likeness; the whole in figures; upkeep."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chai_app.cache import Entry, Phrase, Selection
from chai_app.cache.entries import KINDS
from chai_app.cache.inspection import entity_map, would_leave
from chai_app.errors import BadRequest, ChaiError
from chai_app.files import bytes_of

from .bridge import Act, Answer
from .cache_acts import ACTS as CHANGES
from .charts import day_bars, map_picture
from .entry_view import view_entry
from .markup import Markup, ago, button, chip, file_url, human_bytes, join, seconds, tag
from .receipt import entry_thumbnail, pin_button, use_entry_button
from .studio import Studio

_SORTS = {"made": "newest", "used": "last used", "hits": "most hits", "bytes": "largest"}
_POLICIES = {
    "lru": "least recently used leaves first",
    "lfu": "least frequently used leaves first",
    "lcbfu": "least computation saved leaves first",
}
_PAGE = 60


def build_cache_page(part: Any) -> None:
    """Lay the page out. Called within a tab."""
    import gradio as gr

    part("cache-summary")
    gr.HTML(_tools(), js_on_load=None, apply_default_css=False)
    part("cache-list")
    gr.HTML(_upkeep(), js_on_load=None, apply_default_css=False)
    part("cache-upkeep", "")


def _tools() -> Markup:
    sorts = [tag("option", words, value=value) for value, words in _SORTS.items()]
    kinds = [tag("option", kind, value=kind) for kind in ("any", *KINDS)]
    return tag(
        "div",
        tag("h2", "Entries", cls="c-h2"),
        tag(
            "div",
            _field(
                "What would match?", tag("input", type="search", data_param="cache.like", placeholder="such as jungle")
            ),
            _field("Compared as", tag("select", join(kinds), data_param="cache.kind")),
            _field("Words of the prompt", tag("input", type="search", data_param="cache.words")),
            _field("Found by", tag("input", type="search", data_param="cache.entity", placeholder="such as red ball")),
            _field("Sorted by", tag("select", join(sorts), data_param="cache.sort")),
            _field(
                "Shown as",
                tag("select", tag("option", "cards"), tag("option", "table"), data_param="cache.shape"),
            ),
            tag("label", tag("input", type="checkbox", data_param="cache.pinned"), " pinned only"),
            cls="c-tools",
        ),
    )


def _field(label: str, control: Markup) -> Markup:
    return tag("label", label, control, cls="c-field")


def _view(studio: Studio, args: dict[str, Any]) -> Answer:
    return {"html": {"cache-summary": _summary(studio), "cache-list": _entries(studio, args)}}


# The whole


def _summary(studio: Studio) -> Markup:
    with studio.cache() as cache:
        stats, days = cache.stats(), cache.days()
        problem = ""
        try:
            shown = map_picture(entity_map(cache))
        except ChaiError as error:
            shown, problem = Markup(), str(error)
    saved = _saved_by_day(studio)
    total_saved = math.fsum(saved.values())
    rate = "none yet" if stats.hit_rate is None else f"{stats.hit_rate:.0%}"
    used = stats.bytes / stats.budget_bytes if stats.budget_bytes else 0
    pinned = stats.pinned_bytes / stats.budget_bytes if stats.budget_bytes else 0
    gauge = tag(
        "div",
        tag("span", cls="c-pinned", style=f"width:{100 * pinned:.2f}%"),
        tag("span", style=f"width:{100 * max(used - pinned, 0):.2f}%;min-width:{2 if stats.bytes else 0}px"),
        cls="c-gauge",
        role="meter",
        aria_label="Budget in use",
        aria_valuenow=round(100 * used),
        aria_valuemin=0,
        aria_valuemax=100,
    )
    policies = [tag("option", words, value=value, selected=value == stats.policy) for value, words in _POLICIES.items()]
    budget = tag(
        "section",
        tag("h2", "Budget"),
        tag("span", human_bytes(stats.bytes), cls="c-big"),
        tag(
            "span",
            f" of {human_bytes(stats.budget_bytes)}, {_counted(stats.entries, 'entry', 'entries')}, "
            f"{stats.pinned} pinned",
        ),
        gauge,
        tag("p", _forecast(studio), cls="c-dim"),
        tag(
            "div",
            _field("New budget", tag("input", name="size", placeholder="such as 20 GB", id="cache-budget")),
            _field("Who leaves", tag("select", join(policies), name="policy")),
            button("What would leave?", "budget_forecast"),
            button("Set", "budget_set", confirm="Set this budget? Entries that do not fit into it leave at once."),
            cls="c-tools",
            data_form="budget",
        ),
        tag("div", id="part-budget", data_part="budget", data_keep="yes"),
        cls="c-panel",
    )
    hits = [(day.day, day.hits, day.misses) for day in days if day.hits or day.misses]
    rates = tag(
        "section",
        tag("h2", "Hits and misses"),
        tag("span", rate, cls="c-big"),
        tag(
            "span",
            f" of {_counted(stats.hits + stats.misses, 'lookup', 'lookups')} hit; evicted in all: {stats.evicted}",
        ),
        day_bars(hits, ("hits", "misses"), "Hits and misses by day"),
        tag("h3", "Time saved"),
        tag("span", f"{seconds(abs(total_saved))} {'saved' if total_saved >= 0 else 'lost'}", cls="c-big"),
        tag("span", " by the hits in the gallery, against their donors' full runs"),
        day_bars(
            [(day, round(max(value, 0), 1), round(max(-value, 0), 1)) for day, value in sorted(saved.items())],
            ("seconds saved", "seconds lost"),
            "Seconds saved by day",
        ),
        cls="c-panel",
    )
    entities = tag("section", tag("h2", "Entities"), shown, tag("p", problem) if problem else None, cls="c-panel")
    return tag("div", budget, rates, entities, cls="c-columns")


def _forecast(studio: Studio) -> str:
    """What the next full run of the usual size would add, and whom it would displace."""
    with studio.cache() as cache:
        newest = cache.entries(limit=1)
        if not newest:
            return "The next full run leaves its latents here."
        size = newest[0].bytes
        try:
            leaving = would_leave(cache, size)
        except ChaiError as error:
            return str(error)
    what = f"The next full run like the last one adds {human_bytes(size)}"
    if not leaving:
        return f"{what} and evicts nothing."
    return f"{what} and evicts {len(leaving)}: {', '.join(entry.prompt[:40] for entry in leaving[:3])}."


def _saved_by_day(studio: Studio) -> dict[str, float]:
    import time

    days: dict[str, float] = {}
    for item in studio.gallery.items():
        reuse = None if item.report is None else item.report.reuse
        if item.report is not None and reuse is not None and reuse.outcome == "hit" and reuse.full_seconds:
            day = time.strftime("%Y-%m-%d", time.gmtime(item.modified))
            days[day] = days.get(day, 0.0) + reuse.full_seconds - item.report.making_seconds
    return days


def _budget_bytes(args: dict[str, Any]) -> int | None:
    text = str(args.get("size") or "").strip()
    return bytes_of(text) if text else None


def _budget_forecast(studio: Studio, args: dict[str, Any]) -> Answer:
    wanted = _budget_bytes(args)
    with studio.cache() as cache:
        leaving = would_leave(cache, 0, wanted)
    if not leaving:
        words = tag("p", "Nothing would leave.", cls="c-dim")
    else:
        total = human_bytes(sum(entry.bytes for entry in leaving))
        words = tag(
            "div",
            tag("p", f"{len(leaving)} entries, {total}, would leave:"),
            tag("ul", join(tag("li", entry.prompt) for entry in leaving[:20])),
        )
    return {"html": {"budget": words}}


def _budget_set(studio: Studio, args: dict[str, Any]) -> Answer:
    wanted, policy = _budget_bytes(args), args.get("policy")
    if policy is not None and policy not in _POLICIES:
        raise BadRequest(f"Unknown policy {policy!r}.")
    with studio.cache() as cache:
        size = cache.stats().budget_bytes if wanted is None else wanted
        left = cache.set_budget(size, policy)
    studio.cache_changes += 1
    return {"toast": f"The budget is {human_bytes(size)}; {len(left)} entries left.", "refresh": True}


# The entries


def _entries(studio: Studio, args: dict[str, Any]) -> Markup:
    like = str(args.get("like") or "").strip()
    if like:
        return _alike(studio, like, str(args.get("kind") or "any"))
    selection = Selection(
        prompt=str(args.get("words") or "").strip() or None,
        entity=str(args.get("entity") or "").strip() or None,
        is_pinned=True if args.get("pinned") else None,
    )
    sort = str(args.get("sort") or "made")
    page = max(0, int(args.get("page") or 0))
    with studio.cache() as cache:
        total = cache.count(selection)
        page = min(page, max(0, (total - 1) // _PAGE))
        entries = cache.entries(selection, _PAGE, page * _PAGE, sort if sort in _SORTS else "made")  # type: ignore[arg-type]
        lines = [(entry, cache.phrases(entry)) for entry in entries]
        is_empty = cache.stats().entries == 0
    if not lines:
        words = "The cache is empty: every video that finds nothing to reuse leaves its latents here."
        return tag("p", words if is_empty else "No entry fits.", cls="c-dim")
    shown = _table(studio, lines) if args.get("shape") == "table" else _cards(studio, lines)
    return join([tag("p", _counted(total, "entry", "entries"), cls="c-dim"), shown, _pager(page, total)])


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _pager(page: int, total: int) -> Markup | str:
    last = (total - 1) // _PAGE
    if not last:
        return ""

    def to(label: str, wanted: int) -> Markup:
        return tag(
            "button", label, cls="c-button c-small", type="button", data_set=json.dumps(["cache", "page", wanted])
        )

    parts = [to("Newer", page - 1) if page else None, tag("span", f"{page + 1} of {last + 1}", cls="c-dim")]
    parts.append(to("Older", page + 1) if page < last else None)
    return tag("div", join(part for part in parts if part is not None), cls="c-actions")


def _chips(phrases: Sequence[Phrase]) -> Markup:
    return tag("div", join(chip(p.text, p.kind) for p in phrases if p.kind != "prompt"), cls="c-chips")


def _cards(studio: Studio, lines: Sequence[tuple[Entry, Sequence[Phrase]]]) -> Markup:
    cards = []
    for entry, phrases in lines:
        preview = studio.settings.home / "previews" / f"{entry.id}.webp"
        cards.append(
            tag(
                "article",
                tag(
                    "button",
                    still_then_moving(preview, f"entry {entry.id[:6]}"),
                    cls="c-picture",
                    type="button",
                    data_open_entry=entry.id,
                    title="Show this entry",
                ),
                tag(
                    "div",
                    tag("span", entry.prompt, cls="c-clip"),
                    _chips(phrases),
                    tag("span", _line(entry), cls="c-dim"),
                    tag(
                        "div",
                        use_entry_button(entry.id),
                        pin_button(entry.id, entry.is_pinned),
                        button("Delete", "entry_delete", "c-small c-bad", id=entry.id),
                        cls="c-actions",
                    ),
                    cls="c-body",
                ),
                cls="c-card" + (" c-card-pinned" if entry.is_pinned else ""),
                data_key=entry.id,
            )
        )
    return tag("div", join(cards), cls="c-grid")


def still_then_moving(preview: Path, name: str) -> Markup:
    """A picture that plays while the pointer is on it."""
    if not preview.is_file():
        return tag("span", "no picture")
    return tag("img", alt=name, data_moving=file_url(preview))


def _line(entry: Entry) -> str:
    shape = entry.shape
    hits = f"{entry.hits} hit{'s' * (entry.hits != 1)}"
    pinned = ", pinned" if entry.is_pinned else ""
    size = f"{shape.width} × {shape.height}, {shape.num_frames} frames"
    return f"{hits}, used {ago(entry.last_used)}, {size}, {human_bytes(entry.bytes)}{pinned}"


def _table(studio: Studio, lines: Sequence[tuple[Entry, Sequence[Phrase]]]) -> Markup:
    titles = ("", "Prompt", "Found by", "Size", "Hits", "Last used", "Bytes", "")
    rows = []
    for entry, phrases in lines:
        shape = entry.shape
        cells: list[object] = [
            entry_thumbnail(studio, entry.id),
            entry.prompt,
            _chips(phrases),
            f"{shape.width} × {shape.height}, {shape.num_frames}",
            entry.hits,
            ago(entry.last_used),
            human_bytes(entry.bytes),
            tag(
                "div",
                pin_button(entry.id, entry.is_pinned),
                button("Delete", "entry_delete", "c-small c-bad", id=entry.id),
                cls="c-actions",
            ),
        ]
        rows.append(tag("tr", join(tag("td", cell) for cell in cells), data_key=entry.id))
    head = tag("thead", tag("tr", join(tag("th", title, scope="col") for title in titles)))
    return tag("div", tag("table", head, tag("tbody", join(rows)), cls="c-table"), cls="c-scroll", tabindex=0)


def _alike(studio: Studio, text: str, kind: str) -> Markup:
    with studio.cache() as cache:
        found = cache.search(text, next((each for each in KINDS if each == kind), None))
        thresholds = ", ".join(f"{k} {cache.thresholds.of(k):.3f}" for k in KINDS)
    if not found:
        return tag("p", "Nothing in the cache was filed by this model's embedder.", cls="c-dim")
    rows, above = [], sum(each.is_match for each in found)
    # Matches first: kinds have thresholds of their own, so the score alone does not tell.
    for i, each in enumerate(sorted(found, key=lambda each: (not each.is_match, -each.score))):
        if i == above:
            words = f"Threshold: a lookup takes nothing below this line ({thresholds})"
            rows.append(tag("tr", tag("td", words, colspan=6), cls="c-threshold"))
        cells: list[object] = [
            entry_thumbnail(studio, each.entry.id),
            tag("span", f"{each.score:.3f}", cls="c-score"),
            chip(each.text[:60], each.kind if each.kind != "prompt" else "miss", each.kind),
            each.entry.prompt,
            f"threshold {each.threshold:.3f}",
            use_entry_button(each.entry.id),
        ]
        rows.append(tag("tr", join(tag("td", cell) for cell in cells), data_key=each.entry.id))
    if above == len(found):
        rows.append(tag("tr", tag("td", f"All of them are matches ({thresholds})", colspan=6), cls="c-threshold"))
    head = tag(
        "thead",
        tag("tr", join(tag("th", title, scope="col") for title in ("", "Score", "Like", "Prompt", "Needed", ""))),
    )
    return tag("div", tag("table", head, tag("tbody", join(rows)), cls="c-table"), cls="c-scroll", tabindex=0)


# Upkeep


def _upkeep() -> Markup:
    verify = tag(
        "section",
        tag("h2", "Verify and repair"),
        tag("p", "Verify reads every latents file and changes nothing. Repair puts right what it finds.", cls="c-dim"),
        tag(
            "div",
            button("Verify", "verify"),
            button("Repair", "repair", confirm="Repair the cache? Entries that are damaged are removed."),
            cls="c-actions",
        ),
        cls="c-panel c-part",
    )
    carry = tag(
        "section",
        tag("h2", "Export and import"),
        tag("p", "An archive of entries for another machine; an import is checked and shown before it is done.",
            cls="c-dim"),
        tag(
            "div",
            button("Export all", "export"),
            tag("button", "Import", cls="c-button", type="button", data_act="import_check", data_args="{}",
                data_file=".zip,.chaipack"),
            cls="c-actions",
        ),
        cls="c-panel c-part",
    )  # fmt: skip
    purge = tag(
        "section",
        tag("h2", "Purge"),
        tag("p", "From the cache, the gallery, the queue and the uploads. Left open, a field excludes nothing; what "
            "would go is shown first.", cls="c-dim"),
        tag(
            "div",
            _field("Entity", tag("input", name="entity", placeholder="such as red ball")),
            _field("In the prompt", tag("input", name="prompt")),
            _field("Made since", tag("input", name="since", type="date")),
            _field("Made before", tag("input", name="before", type="date")),
            button("Show what would go", "purge_look"),
            cls="c-tools",
            data_form="purge",
        ),
        tag("div", id="part-purge", data_part="purge"),
        cls="c-panel c-part",
    )  # fmt: skip
    return tag("div", verify, carry, purge, cls="c-columns c-upkeep")


ACTS: dict[str, Act] = {
    "view_cache": _view,
    "view_entry": view_entry,
    "budget_forecast": _budget_forecast,
    "budget_set": _budget_set,
    **CHANGES,
}
