"""What the buttons of the cache panel do: pin, rename, delete and undo, verify, carry away and bring back, purge."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chai_app.cache import Phrase, Selection
from chai_app.cache.entries import Kind
from chai_app.cache.inspection import only, rename, what_archive_brings
from chai_app.errors import BadRequest
from chai_app.server.purge import Traces, find_traces, purge

from .bridge import Act, Answer
from .entry_view import entry_of, view_entry
from .markup import Markup, button, file_url, human_bytes, join, tag
from .studio import Studio

_NAMED = 12
_MOST_UNDONE = 20


@dataclass(frozen=True)
class Deleted:
    """What brings an entry back: an archive, and what an archive does not carry."""

    archive: Path
    preview: bytes | None
    is_pinned: bool


def _pin(studio: Studio, args: dict[str, Any]) -> Answer:
    with studio.cache() as cache:
        entry = entry_of(cache, args)
        if args.get("pinned"):
            cache.pin(entry)
        else:
            cache.unpin(entry)
    studio.cache_changes += 1
    return {"toast": "Pinned: it is not evicted." if args.get("pinned") else "Unpinned.", **_shown(studio, args)}


def _shown(studio: Studio, args: dict[str, Any]) -> Answer:
    """The entry anew, where it may be open."""
    return view_entry(studio, args)


def _rename(studio: Studio, args: dict[str, Any]) -> Answer:
    with studio.cache() as cache:
        entry = entry_of(cache, args)
        old = {(p.kind, p.text): p for p in cache.phrases(entry)}
        phrases: list[Phrase] = []
        wanted: tuple[tuple[Kind, Any], ...] = (("object", args.get("objects")), ("scene", args.get("scenes")))
        for kind, text in wanted:
            for name in str(text or "").split(","):
                words = " ".join(name.split())
                if words:
                    known = old.get((kind, words))
                    phrases.append(known or Phrase(kind, words, words.split()[-1], None))
        if not phrases:
            raise BadRequest("Name at least one object or scene: an entry that nothing finds is of no use.")
        phrases += [phrase for phrase in old.values() if phrase.kind == "prompt"]
        rename(cache, entry, phrases)
    studio.cache_changes += 1
    return {"toast": "Renamed.", **_shown(studio, args)}


def _delete(studio: Studio, args: dict[str, Any]) -> Answer:
    with studio.cache() as cache:
        entry = entry_of(cache, args)
        token = secrets.token_hex(6)
        archive = studio.exports / "undo" / f"{token}.zip"
        archive.parent.mkdir(parents=True, exist_ok=True)
        cache.export(archive, only(entry))
        path = cache.preview(entry)
        preview = path.read_bytes() if path is not None else None
        cache.remove(entry)
    studio.deleted[token] = Deleted(archive, preview, entry.is_pinned)
    for old in list(studio.deleted)[:-_MOST_UNDONE]:
        studio.deleted.pop(old).archive.unlink(missing_ok=True)
    studio.cache_changes += 1
    return {"toast": f"Deleted: {entry.prompt[:60]}", "undo": token, "close": True, "refresh": True}


def _undo(studio: Studio, args: dict[str, Any]) -> Answer:
    deleted = studio.deleted.pop(str(args.get("token")), None)
    if deleted is None:
        raise BadRequest("This cannot be undone any more.")
    with studio.cache() as cache:
        for entry in cache.import_archive(deleted.archive).added:
            if deleted.preview is not None:
                cache.set_preview(entry, deleted.preview)
            if deleted.is_pinned:
                cache.pin(entry)
    deleted.archive.unlink(missing_ok=True)
    studio.cache_changes += 1
    return {"toast": "It is back; its count of hits begins anew.", "refresh": True}


def _verify(studio: Studio, args: dict[str, Any]) -> Answer:
    with studio.cache() as cache:
        problems = cache.verify()
    return {"html": {"cache-upkeep": _sentences("Nothing is wrong.", "Found:", problems)}, "toast": "Verified."}


def _repair(studio: Studio, args: dict[str, Any]) -> Answer:
    with studio.cache() as cache:
        done = cache.repair()
    studio.cache_changes += 1
    return {"html": {"cache-upkeep": _sentences("There was nothing to do.", "Done:", done)}, "refresh": True}


def _sentences(none: str, title: str, sentences: list[str]) -> Markup:
    if not sentences:
        return tag("div", tag("p", none), cls="c-panel")
    return tag("div", tag("p", title), tag("ul", join(tag("li", each) for each in sentences[:200])), cls="c-panel")


def _export(studio: Studio, args: dict[str, Any]) -> Answer:
    name = time.strftime("chai-cache-%Y%m%d-%H%M%S.zip")
    target = studio.exports / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with studio.cache() as cache:
        selection = only(entry_of(cache, args)) if args.get("id") else None
        report = cache.export(target, selection)
    left_out = f" {len(report.notes)} damaged ones were left out." if report.notes else ""
    return {"download": file_url(target), "name": name, "toast": f"{report.entries} entries exported.{left_out}"}


def _import_check(studio: Studio, args: dict[str, Any]) -> Answer:
    path = _uploaded(studio, args)
    with studio.cache() as cache:
        report = what_archive_brings(cache, path)
    total = human_bytes(sum(entry.bytes for entry in report.added))
    words = tag(
        "div",
        tag("p", f"{len(report.added)} new entries, {total}; {len(report.already_here)} are here already."),
        _list([entry.prompt for entry in report.added]),
        tag("p", f"{len(report.evicted)} entries would leave to make room:") if report.evicted else None,
        _list([entry.prompt for entry in report.evicted]),
        button("Import", "import", "c-primary", path=str(path)) if report.added else None,
        cls="c-panel",
    )
    return {"html": {"cache-upkeep": words}, "toast": "Checked; nothing has changed yet."}


def _import(studio: Studio, args: dict[str, Any]) -> Answer:
    path = _uploaded(studio, args)
    with studio.cache() as cache:
        report = cache.import_archive(path)
    studio.cache_changes += 1
    words = f"{len(report.added)} entries imported."
    return {"html": {"cache-upkeep": tag("div", tag("p", words), cls="c-panel")}, "toast": words, "refresh": True}


def _uploaded(studio: Studio, args: dict[str, Any]) -> Path:
    path = Path(str(args.get("path")))
    if not studio.is_upload(path):
        raise BadRequest("This file did not arrive: choose it once more.")
    return path


def _purge_look(studio: Studio, args: dict[str, Any]) -> Answer:
    selection = _selection(args)
    with studio.cache() as cache:
        found = find_traces(selection, cache, studio.gallery, studio.jobs, studio.uploads, studio.exports, studio.sees)
    if not found.count:
        return {"html": {"purge": tag("p", "Nothing fits.", cls="c-dim")}}
    chosen = {name: args.get(name) for name in ("entity", "prompt", "since", "before")}
    go = button(
        f"Purge these {found.count}",
        "purge",
        "c-danger",
        confirm=f"Purge {found.count} things? This cannot be undone.",
        **chosen,
    )
    return {"html": {"purge": tag("div", _traces(found, "This would go:"), go)}}


def _purge(studio: Studio, args: dict[str, Any]) -> Answer:
    with studio.cache() as cache:
        gone = purge(_selection(args), cache, studio.gallery, studio.jobs, studio.uploads, studio.exports, studio.sees)
    for token in list(studio.deleted):  # what could be undone is a trace as well
        studio.deleted.pop(token).archive.unlink(missing_ok=True)
    studio.cache_changes += 1
    return {"html": {"purge": _traces(gone, "Gone:")}, "toast": f"{gone.count} things purged.", "refresh": True}


def _selection(args: dict[str, Any]) -> Selection:
    selection = Selection(
        entity=str(args.get("entity") or "").strip() or None,
        prompt=str(args.get("prompt") or "").strip() or None,
        since=_day(args.get("since")),
        before=_day(args.get("before")),
    )
    if selection == Selection():
        raise BadRequest("Say what is to go: an entity, words of the prompt, or a date.")
    return selection


def _day(value: Any) -> float | None:
    """The beginning of a day (2026-03-01, in local time) in seconds since 1970."""
    if not value:
        return None
    try:
        return time.mktime(time.strptime(str(value), "%Y-%m-%d"))
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"Unknown date {value!r}: write year-month-day, such as 2026-03-01.") from error


def _traces(found: Traces, title: str) -> Markup:
    parts = [
        ("entries of the cache", [entry.prompt for entry in found.entries]),
        ("files of the gallery", [item.name for item in found.items]),
        ("jobs of the queue", [job.request.prompt for job in found.jobs]),
        ("uploaded files", [path.name for path in found.uploads]),
    ]
    lists = [tag("div", tag("p", f"{len(names)} {what}:"), _list(names)) for what, names in parts if names]
    return tag("div", tag("p", tag("b", title)), join(lists))


def _list(names: list[str]) -> Markup | str:
    if not names:
        return ""
    more = [tag("li", f"and {len(names) - _NAMED} more")] if len(names) > _NAMED else []
    return tag("ul", join([*(tag("li", name) for name in names[:_NAMED]), *more]))


ACTS: dict[str, Act] = {
    "pin": _pin,
    "entry_rename": _rename,
    "entry_delete": _delete,
    "undo": _undo,
    "verify": _verify,
    "repair": _repair,
    "export": _export,
    "import_check": _import_check,
    "import": _import,
    "purge_look": _purge_look,
    "purge": _purge,
}
