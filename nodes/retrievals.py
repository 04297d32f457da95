"""When a plan is out of date: ComfyUI's cache of outputs and ours, kept in step.

ComfyUI gives out what a node gave before, as long as its fingerprint stays the same, and the fingerprint sees constants
only: a prompt or a pipeline that comes over a wire is None. So each node's last questions to our cache are remembered
here with what was found, and the fingerprint changes when one of them would find something else. What a run of that
very plan has left behind does not count: a graph would run again because it has run.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..chai_app.engine import Engine
    from ..chai_app.request import Decision, GenerationRequest, Reuse
    from .definition import Call

_NODES_REMEMBERED = 512
_QUESTIONS_REMEMBERED = 16  # of one node: a list of prompts over a wire asks once for each

Found = tuple[str, tuple[str, ...]]  # outcome, ids of donors


def found_by(reuse: Decision) -> Found:
    """What matters about an outcome: with the same donors the same video is made."""
    donors = tuple(str(donor["entry_id"]) for donor in reuse.donors)
    return reuse.outcome, donors or ((reuse.entry_id,) if reuse.entry_id else ())


@dataclass(eq=False)
class Question:
    """What a node asked of a cache and what it was told; `ask` asks again, None if nobody can be asked any more. `own`
    are entries that runs of this very answer have left since."""

    ask: Callable[[], Found | None]
    found: Found
    own: set[str] = field(default_factory=set)

    def settle(self, reuse: Reuse) -> None:
        """Take in what a run has really found (it looks again), and what it has left behind."""
        self.found = found_by(reuse)
        if reuse.stored_entry_id is not None:
            self.own.add(reuse.stored_entry_id)

    def has_another_answer(self) -> bool:
        """Whether the node would find something else now."""
        try:
            now = self.ask()
        except Exception:  # whatever it is, the node meets it when it runs, and says it there
            return True
        return now is None or (now != self.found and not (now[1] and set(now[1]) <= self.own))


def asking(engine: Engine, request: GenerationRequest) -> Callable[[], Found | None]:
    """Looks into the cache for a request. The engine is not kept: once the host drops it, its videos are gone too."""
    kept = weakref.ref(engine)

    def ask() -> Found | None:
        engine = kept()
        return None if engine is None else found_by(engine.plan(request).reuse)

    return ask


@dataclass
class _Asked:
    generation: int = 0
    questions: list[Question] = field(default_factory=list)


class Retrievals:
    """The questions of all nodes of this process, by node and by what its widgets say."""

    def __init__(self) -> None:
        self._asked: OrderedDict[tuple[Any, ...], _Asked] = OrderedDict()
        self._turn = threading.Lock()

    def fingerprint(self, node: str, node_id: str | None, constants: Mapping[str, Any]) -> str:
        """Stays the same while everything that the node has found would be found again."""
        asked = self._of(node, node_id, constants)
        if any(question.has_another_answer() for question in list(asked.questions)):
            asked.generation += 1
            asked.questions.clear()
        return f"{asked.generation}"

    def note(self, node: str, call: Call, ask: Callable[[], Found | None], found: Found) -> Question:
        """Remember what a node asked and was told."""
        asked = self._of(node, call.node_id, _constants(call))
        question = Question(ask, found)
        asked.questions.append(question)
        del asked.questions[:-_QUESTIONS_REMEMBERED]
        return question

    def _of(self, node: str, node_id: str | None, constants: Mapping[str, Any]) -> _Asked:
        plain = {name: repr(value) for name, value in constants.items() if isinstance(value, str | int | float)}
        key = (node, node_id, *sorted(plain.items()))
        with self._turn:
            asked = self._asked.setdefault(key, _Asked())
            self._asked.move_to_end(key)
            while len(self._asked) > _NODES_REMEMBERED:
                self._asked.popitem(last=False)
            return asked


def _constants(call: Call) -> Mapping[str, Any]:
    """What a node's widgets say, in the words in which the fingerprint is asked for: wires are lists in a prompt."""
    inputs = ((call.prompt or {}).get(call.node_id or "") or {}).get("inputs", {})
    return {name: value for name, value in inputs.items() if not isinstance(value, list)}


RETRIEVALS = Retrievals()
