"""Other video models of diffusers: what Cache Attention has to know of each, and how it is put on them.

`families.reuse` does the latter; it is no part of this page, so that a folder can be told apart without torch.
"""

from .base import Family
from .find import family_of, find_family
from .known import FAMILIES

__all__ = ["FAMILIES", "Family", "family_of", "find_family"]
