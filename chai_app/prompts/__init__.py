"""From a prompt to the objects and scenes it names."""

from .extraction import extract
from .languages import foreign_language
from .mentions import Mention, Mentions
from .syntax import Written, read_syntax

__all__ = ["Mention", "Mentions", "Written", "extract", "foreign_language", "read_syntax"]
