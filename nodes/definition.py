"""What a node is, said once for both of ComfyUI's interfaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

CATEGORY = "CHAI"
PIPELINE, CACHE, PLAN = "CHAI_PIPELINE", "CHAI_CACHE", "CHAI_PLAN"

Hidden = Literal["unique_id", "prompt", "extra_pnginfo"]


@dataclass(frozen=True)
class Input:
    """One input of a node.

    type is ComfyUI's word: STRING, INT, FLOAT, BOOLEAN and COMBO have a widget, everything else is a socket.
    choices are a combo's, worked out when the host asks; wired makes a socket of what could be a widget; seed lets the
    host draw a new number after each run; needs_video leaves the input out where ComfyUI has no type VIDEO.
    """

    id: str
    type: str
    tooltip: str
    label: str | None = None
    default: Any = None
    optional: bool = False
    least: float | None = None
    most: float | None = None
    step: float | None = None
    choices: Callable[[], Sequence[str]] | None = None
    multiline: bool = False
    placeholder: str | None = None
    wired: bool = False
    seed: bool = False
    needs_video: bool = False


@dataclass(frozen=True)
class Output:
    """One output of a node; needs_video leaves it out where ComfyUI has no type VIDEO, so it comes last. is_list gives
    a list, for each of whose values the host runs the nodes that follow."""

    type: str
    name: str
    tooltip: str
    needs_video: bool = False
    is_list: bool = False


@dataclass(frozen=True)
class Call:
    """What the host says about one execution: which node, in which prompt, in which workflow. Each may be unknown."""

    node_id: str | None = None
    prompt: Mapping[str, Any] | None = None
    workflow: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Result:
    """values in the order of the outputs; text is shown on the node."""

    values: tuple[Any, ...]
    text: str | None = None
    extra_ui: Mapping[str, list[Any]] = field(default_factory=dict)

    @property
    def ui(self) -> dict[str, list[Any]]:
        """What the host sends to its page."""
        return {**({} if self.text is None else {"text": [self.text]}), **self.extra_ui}


class Node:
    """A node: what it takes, what it gives, what it does. It keeps no state: hosts make and throw away classes."""

    id: ClassVar[str]
    name: ClassVar[str]
    about: ClassVar[str]
    inputs: ClassVar[tuple[Input, ...]]
    outputs: ClassVar[tuple[Output, ...]]
    hidden: ClassVar[tuple[Hidden, ...]] = ()
    is_output: ClassVar[bool] = False
    """Whether a graph may end here."""
    has_fingerprint: ClassVar[bool] = False

    @classmethod
    def run(cls, call: Call, **values: Any) -> Result:
        """Do the work. Inputs that are not connected are left out."""
        raise NotImplementedError

    @classmethod
    def fingerprint(cls, node_id: str | None, **constants: Any) -> str:
        """As long as it stays the same, the host may give out what the node gave before. Wired inputs are None."""
        raise NotImplementedError

    @classmethod
    def default(cls, input_id: str) -> Any:
        """What an input holds before anybody has touched it."""
        return next(each.default for each in cls.inputs if each.id == input_id)
