"""Which models there are, whether their weights are here, and what is known of them."""

from .catalogue import (
    DEMO,
    RELEASED,
    RELEASED_EMBEDDER,
    RELEASED_PARTS,
    Model,
    ModelStatus,
    PublishedPart,
    find_model,
    list_models,
)

__all__ = [
    "DEMO",
    "RELEASED",
    "RELEASED_EMBEDDER",
    "RELEASED_PARTS",
    "Model",
    "ModelStatus",
    "PublishedPart",
    "find_model",
    "list_models",
]
