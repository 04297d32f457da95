"""The prompt enhancer: a mixture-of-experts language model that turns short prompts into full captions, and Lynx."""

from .enhancer import Enhanced, Enhancer, OnText, enhance
from .lynx import DEFAULT_DIAL, apply_lynx, lynx, remove_lynx
from .models import DEMO, PUBLISHED

__all__ = [
    "DEFAULT_DIAL",
    "DEMO",
    "PUBLISHED",
    "Enhanced",
    "Enhancer",
    "OnText",
    "apply_lynx",
    "enhance",
    "lynx",
    "remove_lynx",
]
