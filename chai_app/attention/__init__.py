"""Cache Attention: spatial self-attention also attends to the latents of an earlier video."""

from .cache_attention import PAPER, TRAINED, Attending, CacheAttentionProcessor, Recipe, cache_attention
from .donor import Donor

RECIPES = {"paper": PAPER, "trained": TRAINED}
"""By the names that requests give (`presets.RECIPES`)."""

__all__ = ["PAPER", "RECIPES", "TRAINED", "Attending", "CacheAttentionProcessor", "Donor", "Recipe", "cache_attention"]
