"""One entry in full: its latents as pictures, what it is found by, its neighbours, who used it and what that saved."""

from __future__ import annotations

import base64
import io
import logging
import math
import time
from typing import Any

from chai_app.cache import Entry, LatentCache, Phrase
from chai_app.errors import BadRequest, ChaiError

from .bridge import Answer
from .markup import Markup, ago, button, chip, file_url, human_bytes, join, seconds, tag
from .receipt import definitions, entry_thumbnail, pin_button, use_entry_button
from .studio import Studio

_NEIGHBOURS = 6
_log = logging.getLogger("chai")


def view_entry(studio: Studio, args: dict[str, Any]) -> Answer:
    """The entry called args["id"]."""
    with studio.cache() as cache:
        entry = entry_of(cache, args)
        return {"html": {"entry": _whole(studio, cache, entry)}}


def entry_of(cache: LatentCache, args: dict[str, Any]) -> Entry:
    """Raises: BadRequest if it has gone."""
    entry = cache.entry(str(args.get("id")))
    if entry is None:
        raise BadRequest("This entry has left the cache.")
    return entry


def _whole(studio: Studio, cache: LatentCache, entry: Entry) -> Markup:
    phrases = cache.phrases(entry)
    users = [
        item
        for item in studio.gallery.items()
        if item.report is not None and item.report.reuse is not None and item.report.reuse.entry_id == entry.id
    ]
    saved = math.fsum(
        (item.report.reuse.full_seconds or 0) - item.report.making_seconds
        for item in users
        if item.report is not None and item.report.reuse is not None and item.report.reuse.full_seconds
    )
    shape, schedule = entry.shape, entry.schedule
    pairs: list[tuple[str, object]] = [
        ("Id", entry.id),
        (
            "Made",
            f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(entry.created))}, in {seconds(entry.compute_seconds)}",
        ),
        ("Hits", f"{entry.hits}, last used {ago(entry.last_used)}"),
        ("Saved", f"{seconds(abs(saved))} {'saved' if saved >= 0 else 'lost'} by {len(users)} videos of the gallery"),
        ("Video", f"{shape.width} × {shape.height}, {shape.num_frames} frames at {shape.fps:g} per second"),
        ("Latents", f"{shape.latent_key}, {human_bytes(entry.bytes)}, {', '.join(schedule.timesteps)}"),
        ("Run", f"seed {entry.seed}, {schedule.steps} steps, guidance {schedule.guidance_scale:g}"),
        ("Model", f"weights {entry.fingerprint}"),
    ]
    if entry.parent:
        pairs.append(("Made with", f"entry {entry.parent[:8]} as donor, {entry.reuse_depth} reuses from a full run"))
    return join(
        [
            tag("h2", entry.prompt, cls="c-title"),
            _pictures(studio, cache, entry),
            definitions(pairs),
            _found_by(entry, phrases),
            _actions(entry),
            _neighbours(studio, cache, entry),
            _users(users),
        ]
    )


def _pictures(studio: Studio, cache: LatentCache, entry: Entry) -> Markup:
    figures = []
    preview = studio.settings.home / "previews" / f"{entry.id}.webp"
    if preview.is_file():
        figures.append(_figure(file_url(preview), "the video"))
    loaded = cache.load(entry)
    if loaded.tensors is None:
        return tag("p", loaded.note or "Its latents cannot be read.", cls="c-problem")
    note = "The latents are decoded once the model that made them is in memory."
    in_memory = studio.engine.loaded
    if in_memory is not None and in_memory.fingerprint == entry.fingerprint:
        note = ""
        try:
            import torch
            from PIL import Image

            for name, tensor in loaded.tensors.items():
                picture = studio.engine.preview(torch.from_numpy(tensor)[None])
                if picture is None:
                    continue
                buffer = io.BytesIO()
                Image.fromarray(picture).save(buffer, "PNG")
                at = entry.schedule.timesteps.get(name)
                words = name if at is None else f"{name}, noise {at:g}"
                source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
                figures.append(_figure(source, f"latents: {words}"))
        except Exception:
            _log.exception("the latents of %s could not be decoded", entry.id)
            note = "The latents could not be decoded: the program's log tells why."
    return tag("div", tag("div", join(figures), cls="c-frames"), tag("p", note, cls="c-dim") if note else None)


def _figure(source: str, words: str) -> Markup:
    return tag("figure", tag("img", src=source, alt=words), tag("figcaption", words))


def _found_by(entry: Entry, phrases: list[Phrase]) -> Markup:
    named = [phrase for phrase in phrases if phrase.kind != "prompt"]
    chips = tag("div", join(chip(p.text, p.kind, p.kind) for p in named), cls="c-chips")
    objects = ", ".join(p.text for p in named if p.kind == "object")
    scenes = ", ".join(p.text for p in named if p.kind == "scene")
    form = tag(
        "details",
        tag("summary", "Rename what it is found by"),
        tag(
            "div",
            tag("label", "Objects", tag("input", name="objects", value=objects), cls="c-field"),
            tag("label", "Scenes", tag("input", name="scenes", value=scenes), cls="c-field"),
            button("Save", "entry_rename", id=entry.id),
            cls="c-tools",
            data_form="rename",
        ),
    )
    return tag("div", tag("h3", "Found by"), chips, form, style="margin:14px 0")


def _actions(entry: Entry) -> Markup:
    return tag(
        "div",
        use_entry_button(entry.id),
        pin_button(entry.id, entry.is_pinned),
        button("Export", "export", "c-small", id=entry.id),
        button("Delete", "entry_delete", "c-small c-bad", id=entry.id),
        cls="c-actions",
    )


def _neighbours(studio: Studio, cache: LatentCache, entry: Entry) -> Markup | str:
    try:
        found = cache.search(entry.prompt, limit=_NEIGHBOURS + 1)
    except ChaiError:
        return ""
    others = [each for each in found if each.entry.id != entry.id][:_NEIGHBOURS]
    if not others:
        return tag("p", "It has no neighbours yet.", cls="c-dim")
    figures = [
        tag(
            "figure",
            entry_thumbnail(studio, each.entry.id),
            tag("figcaption", f"{each.score:.2f} {each.text[:24]}"),
        )
        for each in others
    ]
    return tag("div", tag("h3", "Neighbours"), tag("div", join(figures), cls="c-frames"), style="margin-top:16px")


def _users(users: list[Any]) -> Markup | str:
    if not users:
        return ""
    lines = []
    for item in users[:20]:
        saved = (item.report.reuse.full_seconds or 0) - item.report.making_seconds
        won = f"{seconds(abs(saved))} {'saved' if saved >= 0 else 'lost'}" if item.report.reuse.full_seconds else ""
        lines.append(tag("li", f"{item.request.prompt if item.request else item.name}, {ago(item.modified)} ", won))
    return tag("div", tag("h3", "Used by"), tag("ul", join(lines)), style="margin-top:16px")
