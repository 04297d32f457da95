"""What people read of a field of a request, and which values it takes.

`GenerationRequest` says it once for each of its fields; the command line, files of prompts, the form, the nodes,
options written into a prompt, receipts and errors take names, words and bounds from there (`request.OPTIONS`).
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

from .checks import check_text
from .errors import BadRequest

MAIN, SIZE, GUIDING = "Options", "Size and length", "Guiding the video"
REUSE, MODEL, MACHINE = "Reuse of earlier videos", "Model", "Machine"
"""Panels of the command line's help."""


@dataclass(frozen=True)
class Option:
    """A field of a request, as people meet it; of the kinds below, each of which knows what values it takes.

    label: what it is called on the form, on nodes, in receipts and in errors; the form adds hint in brackets, and info
    below it. help: what it does; usual: what it is where it is left open.
    name: on the command line and in JSON, if that is not the field's own; other_names are read as well.
    panel: where it stands in the command line's help, with the letter short and metavar for its value; without a panel
    it is no option there. step: how far a click on a node's arrows goes.
    """

    label: str
    help: str = ""
    _: KW_ONLY
    usual: str = ""
    name: str = ""
    other_names: tuple[str, ...] = ()
    panel: str | None = None
    short: str | None = None
    metavar: str | None = None
    hint: str | None = None
    info: str | None = None
    step: float | None = None
    kind: ClassVar[type]

    @property
    def title(self) -> str:
        """The label as the beginning of a sentence."""
        return self.label[:1].upper() + self.label[1:]

    @property
    def caption(self) -> str:
        """The title, with what stands behind it in brackets."""
        return f"{self.title} ({self.hint})" if self.hint else self.title

    @property
    def whole_help(self) -> str:
        """What it does, and what it is where nothing is said."""
        return f"{self.help} Default: {self.usual}." if self.usual else self.help

    def read(self, text: str) -> Any:
        """The value that somebody has typed. Raises: ValueError if it is of another kind."""
        return text

    def check(self, value: object) -> None:
        """Raises: BadRequest, one sentence, for a value that makes no sense."""
        raise NotImplementedError


@dataclass(frozen=True)
class Number(Option):
    """Bounds are wide on purpose: they catch slips, not taste."""

    least: float = field(kw_only=True)
    most: float = field(kw_only=True)
    kind: ClassVar[type] = float

    def read(self, text: str) -> float:
        try:
            return int(text)
        except ValueError:
            return float(text)

    def check(self, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.least <= value <= self.most:
            raise BadRequest(f"{self.caption} must be a number from {self.least:g} to {self.most:g}, not {value!r}.")


@dataclass(frozen=True)
class Whole(Number):
    """A whole number."""

    kind = int

    def read(self, text: str) -> int:
        value = super().read(text)
        if isinstance(value, float) and not value.is_integer():
            raise ValueError(text)
        return int(value)

    def check(self, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            raise BadRequest(f"{self.caption} must be a whole number from {self.least} to {self.most}, not {value!r}.")


@dataclass(frozen=True)
class Text(Option):
    """Words, or the name of a file; blank only where that says something."""

    may_be_blank: bool = field(default=False, kw_only=True)
    kind = str

    def check(self, value: object) -> None:
        if not isinstance(value, str) or (not value.strip() and not self.may_be_blank):
            raise BadRequest(f"{self.caption} must be a text that is not blank, not {value!r}.")
        check_text(self.title, value)


@dataclass(frozen=True)
class Choice(Option):
    """One of some names; any that fits pattern, where there are too many to list."""

    choices: tuple[str, ...] = field(kw_only=True)
    pattern: str | None = field(default=None, kw_only=True)
    kind = str

    def check(self, value: object) -> None:
        if value in self.choices or (self.pattern and isinstance(value, str) and re.fullmatch(self.pattern, value)):
            return
        raise BadRequest(f"Unknown {self.label} {value!r}: choose one of {', '.join(self.choices)}.")


@dataclass(frozen=True)
class Switch(Option):
    """On or off."""

    kind = bool

    def check(self, value: object) -> None:
        if not isinstance(value, bool):
            raise BadRequest(f"{self.caption} must be true or false, not {value!r}.")


def asked(option: Option, default: Any = None) -> Any:
    """A field of a dataclass of which people read what `option` says."""
    return field(default=default, metadata={"option": option})
