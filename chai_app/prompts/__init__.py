"""From a prompt to the objects and scenes it names."""

from .entities import Entities, Entity
from .extraction import extract

__all__ = ["Entities", "Entity", "extract"]
