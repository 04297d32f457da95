"""What can go wrong with a cache, in one sentence for the person. A damaged entry is none of these: it is a miss."""

from __future__ import annotations

from ..errors import ChaiError


class CacheError(ChaiError):
    """The cache cannot do what was asked; whatever was begun has been undone."""


class CacheFull(CacheError):
    """No room within the budget: the entry is larger than all that may leave."""


class CannotStore(CacheError):
    """The disk refused: full, not there, or not permitted."""


class DamagedCache(CacheError):
    """The database itself cannot be read."""


class BadArchive(CacheError):
    """An archive that is not what it says it is; nothing of it was imported."""
