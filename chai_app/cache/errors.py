"""What can go wrong with a cache, in one sentence for the person. A damaged entry is none of these: it is a miss."""

from __future__ import annotations

from ..errors import BadRequest, ChaiError


class CacheError(ChaiError):
    """The cache cannot do what was asked; whatever was begun has been undone."""


class CacheFull(CacheError):
    """No room within the budget: the entry is larger than all that may leave."""


class CannotStore(CacheError):
    """The disk refused: full, not there, or not permitted."""


class DamagedCache(CacheError):
    """The database itself cannot be read."""


class OlderCache(CacheError):
    """The database is of an older version and was to be read only; opening it for writing upgrades it."""


class UnknownEntry(CacheError, BadRequest):
    """An id, or its first digits, that no entry has or that could be several entries'."""


class BadArchive(CacheError):
    """An archive that is not what it says it is; nothing of it was imported."""
