"""The cache of latents: generations with what they show, found again by entity. It reads as if no model existed.

The way in is `LatentCache`. Names are imported on first use; numpy, FAISS and open_clip load when they are needed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .archive import ExportReport as ExportReport
    from .archive import ImportReport as ImportReport
    from .cache import LatentCache as LatentCache
    from .embedder import OpenClipEmbedder as OpenClipEmbedder
    from .entries import Entity as Entity
    from .entries import Entry as Entry
    from .entries import LoadedLatents as LoadedLatents
    from .entries import NewEntry as NewEntry
    from .entries import Phrase as Phrase
    from .entries import Schedule as Schedule
    from .entries import Selection as Selection
    from .entries import Shape as Shape
    from .errors import BadArchive as BadArchive
    from .errors import CacheError as CacheError
    from .errors import CacheFull as CacheFull
    from .errors import CannotStore as CannotStore
    from .errors import DamagedCache as DamagedCache
    from .errors import OlderCache as OlderCache
    from .errors import UnknownEntry as UnknownEntry
    from .events import Day as Day
    from .events import Event as Event
    from .events import Stats as Stats
    from .eviction import EvictionPolicy as EvictionPolicy
    from .lookup import Candidate as Candidate
    from .lookup import CountLikeness as CountLikeness
    from .lookup import LookupResult as LookupResult
    from .search import Found as Found
    from .thresholds import Calibration as Calibration
    from .thresholds import Embedder as Embedder
    from .thresholds import Pair as Pair
    from .thresholds import Thresholds as Thresholds
    from .thresholds import calibrate as calibrate
    from .thresholds import draw as draw
    from .thresholds import save_thresholds as save_thresholds
    from .thresholds import thresholds_for as thresholds_for

_HOMES = {
    "archive": ("ExportReport", "ImportReport"),
    "cache": ("LatentCache",),
    "embedder": ("OpenClipEmbedder",),
    "entries": ("Entity", "Entry", "LoadedLatents", "NewEntry", "Phrase", "Schedule", "Selection", "Shape"),
    "errors": ("BadArchive", "CacheError", "CacheFull", "CannotStore", "DamagedCache", "OlderCache", "UnknownEntry"),
    "events": ("Day", "Event", "Stats"),
    "eviction": ("EvictionPolicy",),
    "lookup": ("Candidate", "CountLikeness", "LookupResult"),
    "search": ("Found",),
    "thresholds": (
        "Calibration",
        "Embedder",
        "Pair",
        "Thresholds",
        "calibrate",
        "draw",
        "save_thresholds",
        "thresholds_for",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
