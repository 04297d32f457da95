"""Cache Attention: the first spatial self-attention attends to the latents of an earlier video."""

from .cache_attention import DEFAULT, PAPER, CacheAttentionProcessor, Recipe, Reuse, cache_attention
from .donor import Donor

__all__ = ["DEFAULT", "PAPER", "CacheAttentionProcessor", "Donor", "Recipe", "Reuse", "cache_attention"]
