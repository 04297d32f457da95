"""Cache Attention: the first spatial self-attention attends to the latents of an earlier video."""

from .cache_attention import CacheAttentionProcessor, Reuse, cache_attention
from .capture import capture_points
from .donor import Donor
from .recipe import DEFAULT, PAPER, Recipe

__all__ = [
    "DEFAULT",
    "PAPER",
    "CacheAttentionProcessor",
    "Donor",
    "Recipe",
    "Reuse",
    "cache_attention",
    "capture_points",
]
