"""The gallery: every video and picture in the output folder, whoever made it, with search."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from chai_app.errors import BadRequest
from chai_app.server.gallery import Item, restore

from .bridge import Act, Answer
from .job_views import player
from .markup import Markup, ago, button, chip, file_url, human_bytes, join, seconds, tag
from .receipt import OUTCOMES, receipt
from .studio import Studio

_PAGE = 48


def build_gallery_page(part: Any) -> None:
    """Lay the page out. Called within a tab."""
    import gradio as gr

    tools = tag(
        "div",
        tag(
            "label",
            "Search prompts, seeds and names",
            tag("input", type="search", data_param="gallery.words"),
            cls="c-field",
        ),
        tag("p", "Drop a video anywhere on this page to get its settings back.", cls="c-dim"),
        cls="c-tools",
    )
    gr.HTML(tools, js_on_load=None, apply_default_css=False)
    part("gallery-item", "")
    part("gallery-list")


def _view(studio: Studio, args: dict[str, Any]) -> Answer:
    items = studio.gallery.items(str(args.get("words") or ""))
    page = max(0, min(int(args.get("page") or 0), (len(items) - 1) // _PAGE))
    shown = items[page * _PAGE : (page + 1) * _PAGE]
    _make_thumbnails(studio, shown)
    if not items:
        words = "No file fits." if args.get("words") else f"Nothing in {studio.gallery.folder} yet."
        return {"html": {"gallery-list": tag("p", words, cls="c-dim"), "gallery-item": Markup()}}
    cards = tag("div", join(_card(studio, item) for item in shown), cls="c-grid")
    head = tag("p", f"{len(items)} file{'s' * (len(items) != 1)} in {studio.gallery.folder}", cls="c-dim")
    opened = studio.gallery.item(str(args["open"])) if args.get("open") else None
    html = {"gallery-list": join([head, cards, _pager(page, len(items))])}
    html["gallery-item"] = _opened(studio, opened) if opened is not None else Markup()
    return {"html": html}


def _make_thumbnails(studio: Studio, items: list[Item]) -> None:
    """Behind the page: the first look at a file reads all of it."""
    missing = [item for item in items if not studio.gallery.thumbnail_of(item.path).is_file()]
    if not missing or studio.thumbnailing.locked():
        return

    def work() -> None:
        with studio.thumbnailing:
            for item in missing:
                studio.gallery.thumbnail(item)
            studio.cache_changes += 1

    threading.Thread(target=work, name="thumbnails", daemon=True).start()


def _thumbnail(studio: Studio, item: Item) -> Path | None:
    try:
        path = studio.gallery.thumbnail_of(item.path)
    except OSError:
        return None
    return path if path.is_file() else None


def _card(studio: Studio, item: Item) -> Markup:
    path = _thumbnail(studio, item)
    picture = tag("img", alt="", data_moving=file_url(path)) if path else tag("span", item.path.suffix[1:])
    prompt = item.name if item.request is None else item.request.prompt
    reuse = None if item.report is None else item.report.reuse
    outcome = chip(OUTCOMES[reuse.outcome], reuse.outcome) if reuse is not None else None
    took = f", {seconds(item.report.making_seconds)}" if item.report is not None else ""
    return tag(
        "article",
        tag(
            "button",
            picture,
            cls="c-picture",
            type="button",
            data_set=json.dumps(["gallery", "open", item.name]),
            title=f"Open {item.name}",
        ),
        tag(
            "div",
            tag("span", prompt, cls="c-clip"),
            tag("div", outcome, cls="c-chips") if outcome else None,
            tag("span", f"{ago(item.modified)}{took}, {human_bytes(item.size_bytes)}", cls="c-dim"),
            cls="c-body",
        ),
        cls="c-card",
        data_key=item.name,
    )


def _opened(studio: Studio, item: Item) -> Markup:
    name = item.name
    is_video = item.path.suffix.lower() in (".mp4", ".webm")
    parts: list[Markup | None] = []
    if item.request is not None:
        parts.append(tag("button", "Use its settings", cls="c-button c-primary", type="button", data_restore_item=name))
        if is_video:
            parts.append(tag("button", "Extend", cls="c-button", type="button", data_continue=name, data_how="extend"))
        use = tag("button", "Use last frame", cls="c-button", type="button", data_continue=name, data_how="last_frame")
        parts.append(use)
        if is_video:
            parts.append(button("Download gif", "gif", item=name))
    parts += [
        tag("a", f"Download {item.path.suffix[1:]}", cls="c-button", href=file_url(item.path), download=name),
        button("Delete", "gallery_delete", "c-bad", confirm=f"Delete {name}? This cannot be undone.", item=name),
        tag("button", "Close", cls="c-button c-quiet", type="button", data_set='["gallery", "open", ""]'),
    ]
    facts = (
        receipt(studio, item.report)
        if item.report is not None
        else tag("p", "This file carries no settings: it was not made here, or was changed since.", cls="c-dim")
    )
    return tag(
        "div",
        tag("div", player(item.path), cls="c-stagebox"),
        tag(
            "div",
            tag("h2", item.request.prompt if item.request else name, cls="c-title"),
            tag("div", join(part for part in parts if part is not None), cls="c-actions c-result-actions"),
            facts,
        ),
        cls="c-columns",
        data_key=name,
    )


def _pager(page: int, total: int) -> Markup:
    last = (total - 1) // _PAGE
    if not last:
        return Markup()

    def to(label: str, wanted: int) -> Markup:
        args = json.dumps(["gallery", "page", wanted])
        return tag("button", label, cls="c-button c-small", type="button", data_set=args)

    parts = [to("Newer", page - 1)] if page else []
    parts.append(tag("span", f"{page + 1} of {last + 1}", cls="c-dim"))
    parts += [to("Older", page + 1)] if page < last else []
    return tag("div", join(parts), cls="c-actions", style="margin-top:14px")


def _delete(studio: Studio, args: dict[str, Any]) -> Answer:
    item = studio.gallery.item(str(args.get("item")))
    if item is None or not studio.gallery.remove(item):
        raise BadRequest("This file is not there any more.")
    return {"toast": f"Deleted {item.name}.", "refresh": True}


def _check_upload(studio: Studio, args: dict[str, Any]) -> Answer:
    """Whether a dropped file carries settings, before the form asks for them."""
    path = Path(str(args.get("path")))
    if not studio.is_upload(path):
        raise BadRequest("This file did not arrive: drop it once more.")
    restored = restore(path, studio.settings)
    return {"toast": " ".join(restored.notes)}


ACTS: dict[str, Act] = {"view_gallery": _view, "gallery_delete": _delete, "check_upload": _check_upload}
