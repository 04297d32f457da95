"""From a prompt to the objects and scenes it names."""

from .entities import Entities, Entity
from .extraction import extract
from .languages import foreign_language
from .syntax import Written, read_syntax

__all__ = ["Entities", "Entity", "Written", "extract", "foreign_language", "read_syntax"]
