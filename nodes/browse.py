"""Looking into a cache for the browser node, the donor picker and the side panel: entries by words and by likeness."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import handles

if TYPE_CHECKING:
    from ..chai_app.cache import Embedder, Entry, LatentCache, Phrase

_EMBEDDERS: dict[str, Any] = {}
MOST_SHOWN = 200


@dataclass(frozen=True)
class Shown:
    """An entry as a person sees it. score and is_match tell how like the words it is; None if that is not known."""

    entry: Entry
    phrases: list[Phrase]
    score: float | None = None
    is_match: bool = False

    def to_json(self) -> dict[str, Any]:
        """What a page needs; nothing of where files are."""
        entry = self.entry
        return {
            "id": entry.id,
            "prompt": entry.prompt,
            "phrases": [{"kind": p.kind, "text": p.text, "count": p.count} for p in self.phrases if p.kind != "prompt"],
            "seed": entry.seed,
            "model": entry.fingerprint,
            "width": entry.shape.width,
            "height": entry.shape.height,
            "num_frames": entry.shape.num_frames,
            "fps": entry.shape.fps,
            "bytes": entry.bytes,
            "hits": entry.hits,
            "created": entry.created,
            "last_used": entry.last_used,
            "is_pinned": entry.is_pinned,
            "seconds": entry.compute_seconds,
            "score": self.score,
            "is_match": self.is_match,
        }


@contextmanager
def opened(home: Path, writes: bool = False, embedder: Embedder | None = None) -> Iterator[LatentCache]:
    """The cache in `home` for as long as the block lasts; a folder that is not there is an empty one."""
    from ..chai_app.cache import LatentCache
    from ..chai_app.settings import Settings

    settings = Settings.from_environment()
    shared = settings.shared if home == settings.home else None
    with LatentCache(home, embedder, read_only=not writes, shared=shared) as cache:
        yield cache


def found(home: Path, words: str, limit: int, offset: int = 0, model: str | None = None) -> tuple[list[Shown], int]:
    """Entries for `words`: first those that a lookup would take for the same, then those whose prompt has the words,
    then what else is like them. Without words all entries, newest first.

    Returns: at most `limit` entries after the first `offset`, and how many there are in all.
    """
    from ..chai_app.cache import Selection

    words = " ".join(words.split())
    with opened(home, embedder=_embedder(home, model) if words else None) as cache:
        if not words:
            entries = cache.entries(limit=limit, offset=offset)
            return [Shown(entry, cache.phrases(entry)) for entry in entries], cache.stats().entries
        shown: dict[str, Shown] = {}
        alike = list(cache.search(words, limit=MOST_SHOWN)) if cache.stats().embedders else []
        worded = cache.entries(Selection(prompt=words), limit=MOST_SHOWN)
        scores = {each.entry.id: each for each in alike}
        order = [each.entry for each in alike if each.is_match] + worded + [each.entry for each in alike]
        for entry in order:
            like = scores.get(entry.id)
            if entry.id not in shown:
                score = None if like is None else like.score
                shown[entry.id] = Shown(entry, cache.phrases(entry), score, like is not None and like.is_match)
        every = list(shown.values())
        return every[offset : offset + limit], len(every)


def _embedder(home: Path, model: str | None) -> Embedder | None:
    """What compares words with entries: that of `model`, kept for the next time."""
    from ..chai_app.engine.donors import embedder_for
    from ..chai_app.models import DEMO, find_model

    name = model or DEMO
    if name not in _EMBEDDERS:
        _EMBEDDERS[name] = embedder_for(find_model(name, handles.settings()))
    embedder: Embedder = _EMBEDDERS[name]
    return embedder
