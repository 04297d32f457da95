"""Captions in place of short prompts: how they are written while somebody looks on, and whose words they were."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from difflib import SequenceMatcher

from chai_app.enhance import Enhanced
from chai_app.errors import Cancelled, ChaiError

from .markup import Markup, join, tag
from .studio import Studio

_AT_ONCE = 16  # between so many prompts the queue has its turn
_LOOK_S = 0.2
_STILL_THE_SAME = 0.6  # of a caption's words have to be left; "a ... on the ..." alone make up half of many
_log = logging.getLogger("chai")


def prompts_of(text: str, per_line: bool) -> list[str]:
    """The prompts that a form holds: its lines, or all of it as one."""
    return [line.strip() for line in text.splitlines() if line.strip()] if per_line else [text]


@dataclass(frozen=True)
class Enhancement:
    """What the form keeps of an enhanced prompt.

    prompt is the whole text as it was before, pairs are (original, caption) of all that changed, notes are sentences on
    what did not; seed is the one that the captions were written with.
    """

    prompt: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    seed: int = 0

    def to_text(self) -> str:
        """For a field of the form; "" if there is nothing to keep."""
        return json.dumps(asdict(self)) if self.pairs or self.notes else ""

    @classmethod
    def from_text(cls, text: str) -> Enhancement:
        """What a field of the form holds."""
        try:
            values = json.loads(text or "{}")
            pairs = tuple((str(original), str(caption)) for original, caption in values.pop("pairs", ()))
            return cls(**{**values, "pairs": pairs, "notes": tuple(values.get("notes", ()))})
        except (AttributeError, TypeError, ValueError):  # nothing of ours
            return cls()

    def originals_of(self, prompts: Sequence[str]) -> list[str | None]:
        """What each prompt was before it was enhanced, None for one that was not. A caption may have been edited since:
        it is the same one as long as most of it is left."""
        left = list(self.pairs)
        found: list[str | None] = [None] * len(prompts)
        for least in (1.0, _STILL_THE_SAME):  # what is untouched claims its original first
            for i, prompt in enumerate(prompts):
                if not left or found[i] is not None:
                    continue
                share, pair = max(((_share_left(caption, prompt), (original, caption)) for original, caption in left))
                if share >= least:
                    left.remove(pair)
                    found[i] = pair[0]
        return found


def _share_left(caption: str, edited: str) -> float:
    """The share of a caption's words that are left after editing, in their order; 1 for the very same."""
    if caption == edited:
        return 1.0
    words = caption.split()
    same = SequenceMatcher(None, words, edited.split(), autojunk=False).get_matching_blocks()
    return 0.99 * sum(block.size for block in same) / max(1, len(words))


@dataclass
class Writing:
    """One request to the enhancer, carried out in a thread: what it has so far, and what came of it."""

    studio: Studio
    prompts: list[str]
    enhancer: str
    seed: int
    texts: dict[int, str] = field(default_factory=dict)
    enhanced: list[Enhanced] = field(default_factory=list)
    problem: str = ""
    cancel: threading.Event = field(default_factory=threading.Event)

    async def steps(self) -> AsyncIterator[Markup]:
        """Do it. Gives out how far it is whenever that has changed; whoever stops asking stops it."""
        thread = threading.Thread(target=self._work, name="enhance", daemon=True)
        thread.start()
        shown = None
        try:
            while thread.is_alive():
                if (now := self._view()) != shown:
                    yield now
                    shown = now
                await asyncio.sleep(_LOOK_S)
        finally:
            self.cancel.set()

    def _work(self) -> None:
        try:
            for start in range(0, len(self.prompts), _AT_ONCE):
                if start:
                    self.cancel.wait(_LOOK_S)
                self._write(start)
        except Cancelled:
            self.problem = "Stopped: the prompt is as it was."
        except ChaiError as error:
            self.problem = str(error)
        except Exception as error:
            _log.exception("the enhancer failed")
            self.problem = f"The program failed here ({type(error).__name__}): its log tells more."

    def _write(self, start: int) -> None:
        def on_text(number: int, text: str) -> None:
            self.texts[start + number] = text

        some = self.prompts[start : start + _AT_ONCE]
        self.enhanced += self.studio.engine.enhance(some, self.enhancer, self.seed, on_text=on_text, cancel=self.cancel)

    def _view(self) -> Markup:
        lines = [tag("li", text) for _, text in sorted(self.texts.items()) if text]
        return tag(
            "div",
            tag("p", tag("span", self._words(), role="status"), cls="c-dim"),
            tag("ul", join(lines), cls="c-captions") if lines else None,
            cls="c-enhance",
        )

    def _words(self) -> str:
        if self.cancel.is_set():
            return "Stopping."
        if self.texts:
            total = len(self.prompts)
            return "Writing the caption." if total == 1 else f"Writing {total} captions: {len(self.enhanced)} are done."
        if self.studio.warmth.state == "warming":
            return "Waiting: the video model is being loaded first."
        jobs = self.studio.jobs.jobs()
        live = self.studio.jobs.live(jobs[0].id) if jobs else None
        if live is not None and live.stage:  # without a stage it is the video that waits
            return "Waiting: a video is being made, and the two take turns."
        return "Asking the enhancer."


def enhancement_of(prompts: Sequence[str], enhanced: Sequence[Enhanced], seed: int) -> Enhancement:
    """What the form is to keep of enhanced prompts."""
    pairs = tuple((each.original, each.text) for each in enhanced if each.is_changed)
    several = len(enhanced) > 1
    notes = tuple(f"“{e.original}”: {e.note}" if several else e.note for e in enhanced if not e.is_changed)
    return Enhancement("\n".join(prompts), pairs, notes, seed)


def enhancement_view(enhancement: Enhancement, text: str, prompts: Sequence[str]) -> Markup | str:
    """What a person should know of the prompts that `text` holds: what they are now, and which were left alone."""
    is_mine = any(enhancement.originals_of(prompts))
    notes = enhancement.notes if is_mine or text == enhancement.prompt else ()
    if not is_mine and not notes:
        return ""
    words = "Enhanced: read it, and change what you like. Undo brings your own words back."
    return tag(
        "div",
        tag("p", words, cls="c-dim") if is_mine else None,
        tag("ul", join(tag("li", note) for note in notes), cls="c-notes") if notes else None,
        cls="c-enhance",
        role="status",
    )
