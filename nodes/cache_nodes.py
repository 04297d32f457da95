"""Nodes that look into the cache: browse it, choose a donor, turn an entry into frames."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import browse, handles, host, words
from .definition import CACHE, PIPELINE, Call, Input, Node, Output, Result
from .plan_nodes import AFTER
from .retrievals import RETRIEVALS, Found

if TYPE_CHECKING:
    import numpy as np

    from ..chai_app.cache import Entry, LatentCache

_ACTIONS = ("look", "pin", "unpin", "delete")
_SEARCH = Input(
    "search",
    "STRING",
    "A thing, a place or a part of a prompt. Empty: everything, newest first.",
    default="",
    placeholder="search (empty: all, newest first)",
    optional=True,
)
_CACHE = Input("cache", CACHE, "From Open Cache. Not connected: the usual cache.", optional=True)
_PIPELINE = Input(
    "pipeline", PIPELINE, "Whose text-image model compares words. Not connected: that of the demo model.", optional=True
)


class CacheBrowser(Node):
    id = "CHAI_CacheBrowser"
    name = "CHAI Cache Browser"
    about = "Search the cache, pin or delete entries, and see how full it is and how often it helped."
    inputs = (
        _SEARCH,
        Input("limit", "INT", "How many entries at most.", default=12, least=1, most=browse.MOST_SHOWN, optional=True),
        Input(
            "action",
            "COMBO",
            "look changes nothing. pin keeps the entries named below from leaving, unpin lets them "
            "leave again, delete takes them away.",
            choices=lambda: _ACTIONS,
            default="look",
            optional=True,
        ),
        Input(
            "entries",
            "STRING",
            "Ids (or their first digits) for the action, with spaces or commas between them.",
            default="",
            placeholder="ids for the action",
            optional=True,
        ),
        _CACHE,
        _PIPELINE,
        AFTER,
    )
    outputs = (
        Output("STRING", "text", "The figures, then one line for each entry."),
        Output("IMAGE", "picture", "Budget, hits by day, thumbnails."),
        Output("STRING", "json", "Entries and figures as JSON."),
    )
    is_output = True
    has_fingerprint = True

    @classmethod
    def run(cls, call: Call, **values: Any) -> Result:
        from .pictures import cache_picture

        cache = values.get("cache") or handles.default_cache()
        done = _act(cache.home, values.get("action", "look"), _ids(values.get("entries")))
        if done:
            host.send("chai.cache", {"cache": cache.key})
        pipeline = values.get("pipeline")
        shown, total = browse.found(
            cache.home, values.get("search") or "", values.get("limit", 12), model=pipeline.model if pipeline else None
        )
        with browse.opened(cache.home) as opened:
            stats, days = opened.stats(), opened.days()
            previews = [_preview_bytes(opened, each.entry) for each in shown]
        picture = host.image_from_frames(cache_picture(stats, days, shown, previews)[None])
        lines = [*done, words.stats_text(stats), words.entries_text(shown)]
        if len(shown) < total:
            lines.append(f"{len(shown)} of {total}")
        text = "\n".join(line for line in lines if line)
        told = {"entries": [each.to_json() for each in shown], "total": total, "stats": stats.to_json()}
        return Result((text, picture, json.dumps(told, ensure_ascii=False)), text)

    @classmethod
    def fingerprint(cls, node_id: str | None, **constants: Any) -> str:
        return f"{time.time_ns()}"  # it shows the cache as it is now


class CacheEntry(Node):
    id = "CHAI_CacheEntry"
    name = "CHAI Cache Entry to Images"
    about = "Decode what an entry of the cache keeps: the frames that its latents stand for."
    inputs = (
        Input("pipeline", PIPELINE, "From Load Pipeline: the model that made the entry."),
        Input(
            "entry",
            "STRING",
            "Its id, or the first digits of it, as the Cache Browser and the Donor Picker tell it.",
            default="",
            placeholder="id of an entry",
        ),
        _CACHE,
    )
    outputs = (
        Output("IMAGE", "frames", "All frames, (T, H, W, 3) in 0..1."),
        Output("FLOAT", "fps", "Frames per second."),
        Output("LATENT", "latent", "The latents themselves, (1, C, t, h, w)."),
        Output("STRING", "prompt", "The prompt that the entry was made from."),
    )

    @classmethod
    def run(cls, call: Call, **values: Any) -> Result:
        import torch

        from ..chai_app.errors import BadRequest
        from ..chai_app.models import find_model

        cache, pipeline = values.get("cache") or handles.default_cache(), values["pipeline"]
        with browse.opened(cache.home) as opened:
            entry = opened.find(values["entry"])
            model = find_model(pipeline.model, handles.settings())
            if entry.fingerprint != model.fingerprint(handles.settings()):
                raise BadRequest(
                    f"Entry {entry.id} was made by another model than {model.name}: connect the pipeline that made it."
                )
            loaded = opened.load(entry)
        if loaded.tensors is None:
            raise BadRequest(loaded.note or f"Entry {entry.id} cannot be read: delete it.")
        name = "clean" if "clean" in loaded.tensors else next(iter(loaded.tensors))
        latents = torch.from_numpy(loaded.tensors[name])[None].float()
        shape = entry.shape
        frames = pipeline.engine(cache).decode(latents, shape.num_frames, shape.height, shape.width)
        values_out = (host.image_from_frames(frames), float(shape.fps), {"samples": latents}, entry.prompt)
        return Result(values_out, f"#{entry.id}\n{entry.prompt}")


class PickDonor(Node):
    id = "CHAI_PickDonor"
    name = "CHAI Donor Picker"
    about = "Choose the entry that a video attends to: by id, or the one most like some words. For Plan's input donor."
    inputs = (
        _SEARCH,
        Input(
            "rank",
            "INT",
            "1 takes the entry that fits the words best, 2 the next one, and so on.",
            default=1,
            least=1,
            most=browse.MOST_SHOWN,
            optional=True,
        ),
        Input(
            "entry",
            "STRING",
            "Id of an entry (or its first digits), in place of the search. The button on an entry in "
            "the side panel writes it here.",
            default="",
            placeholder="id (empty: by search)",
            optional=True,
        ),
        _CACHE,
        _PIPELINE,
        AFTER,
    )
    outputs = (
        Output("STRING", "donor", "The entry's id."),
        Output("IMAGE", "preview", "A few small frames of it."),
        Output("STRING", "text", "What the entry is."),
    )
    has_fingerprint = True
    hidden = ("unique_id", "prompt")

    @classmethod
    def run(cls, call: Call, **values: Any) -> Result:
        from .pictures import preview_frames

        cache, pipeline = values.get("cache") or handles.default_cache(), values.get("pipeline")
        model = None if pipeline is None else pipeline.model
        entry = pick(cache.home, values, model)
        with browse.opened(cache.home) as opened:
            path = opened.preview(entry)
            frames = _black() if path is None else preview_frames(path)
            phrases = ", ".join(p.text for p in opened.phrases(entry) if p.kind != "prompt")
        widgets = {name: values.get(name) for name in ("search", "rank", "entry")}
        RETRIEVALS.note(cls.id, call, lambda: _picked(pick(cache.home, widgets, model)), _picked(entry))
        text = f"#{entry.id}\n{entry.prompt}\nfound by: {phrases or 'its prompt'}\n{words.counted(entry.hits, 'hit')}"
        return Result((entry.id, host.image_from_frames(frames), text), text)

    @classmethod
    def fingerprint(cls, node_id: str | None, **constants: Any) -> str:
        return RETRIEVALS.fingerprint(cls.id, node_id, constants)


def _picked(entry: Entry) -> Found:
    return "picked", (entry.id,)


def pick(home: Path, values: dict[str, Any], model: str | None) -> Entry:
    """The entry that the picker's widgets mean.

    Raises: BadRequest, one sentence, if there is none.
    """
    from ..chai_app.errors import BadRequest
    from ..chai_app.models import find_model

    id, text, rank = str(values.get("entry") or "").strip(), values.get("search") or "", values.get("rank") or 1
    if id:
        with browse.opened(home) as cache:
            return cache.find(id)
    shown, _ = browse.found(home, text, browse.MOST_SHOWN, model=model)
    if model is not None:  # only what that model made can help it
        fingerprint = find_model(model, handles.settings()).fingerprint(handles.settings())
        shown = [each for each in shown if each.entry.fingerprint == fingerprint]
    if len(shown) < rank:
        here = words.counted(len(shown), "entry", "entries") + (f" like {text.strip()!r}" if text.strip() else "")
        raise BadRequest(
            f"The cache has {here}, so there is no number {rank}: make a video first, or search for something else."
        )
    return shown[rank - 1].entry


def _ids(text: str | None) -> list[str]:
    return (text or "").replace(",", " ").split()


def _act(home: Path, action: str, ids: list[str]) -> list[str]:
    """Pin, unpin or delete. Returns: a sentence for each entry. A graph runs twice, so what is gone is no error."""
    from ..chai_app.cache import UnknownEntry
    from ..chai_app.errors import BadRequest

    if action == "look":
        return []
    if not ids:
        raise BadRequest(f"Nothing to {action}: write the ids of entries, as the browser lists them.")
    done = []
    with browse.opened(home, writes=True) as cache:
        change = {"pin": cache.pin, "unpin": cache.unpin, "delete": cache.remove}[action]
        past = {"pin": "pinned", "unpin": "unpinned", "delete": "deleted"}[action]
        for id in ids:
            try:
                entry = cache.find(id)
            except UnknownEntry as error:
                done.append(str(error))
                continue
            done.append(f"#{entry.id[:8]} {past}" if change(entry) else f"#{entry.id[:8]} is not here any more")
    return done


def _preview_bytes(cache: LatentCache, entry: Entry) -> bytes | None:
    path = cache.preview(entry)
    return None if path is None else path.read_bytes()


def _black() -> np.ndarray:
    import numpy as np

    return np.zeros((1, 64, 64, 3), np.uint8)
