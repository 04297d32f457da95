"""Number sense: networks that learn to count, and how alike two counts are to them."""

from .counts import CountRange
from .likeness import CountLikeness, count_likeness

__all__ = ["CountLikeness", "CountRange", "count_likeness"]
