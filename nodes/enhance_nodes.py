"""The node that turns short prompts into full captions."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from . import handles, host
from .definition import Call, Input, Node, Output, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..chai_app.enhance import Enhanced

DEMO = "demo"
ENHANCERS = (DEMO, "olmoe", "qwen3-moe", "mixtral")
OWN_DIAL = -1.0


class EnhancePrompt(Node):
    id = "CHAI_EnhancePrompt"
    name = "CHAI Enhance Prompt"
    about = (
        "Turn short prompts into full captions with a language model on this machine. Whatever a prompt names stays in "
        "its caption; where something would have been lost, the prompt is left as it is, and the notes say so."
    )
    inputs = (
        Input(
            "prompt",
            "STRING",
            "Short prompts, one on each line; all of them are written in one go.",
            default="a red balloon rising in the desert",
            multiline=True,
        ),
        Input(
            "seed",
            "INT",
            "The same seed and prompt give the same caption again; another seed gives another one.",
            default=0,
            least=0,
            most=2**53 - 1,
            seed=True,
        ),
        Input(
            "enhancer",
            "COMBO",
            "Who writes the captions. demo comes with this pack and knows the demo model's world; the others are large "
            "language models, and the node says how to fetch one that is not here.",
            choices=lambda: ENHANCERS,
            default=DEMO,
            optional=True,
        ),
        Input(
            "folder",
            "STRING",
            "A folder with another mixture-of-experts model, or its owner/name on the Hugging Face hub, in place of "
            "the name above; empty uses the name.",
            default="",
            optional=True,
            placeholder="folder or owner/name (optional)",
        ),
        Input(
            "lynx",
            "FLOAT",
            "How far the prompts of a batch share experts: 0 is exact, 1 most and fastest. -1: the enhancer's own.",
            default=OWN_DIAL,
            least=OWN_DIAL,
            most=1.0,
            step=0.05,
            optional=True,
        ),
    )
    outputs = (
        Output(
            "STRING",
            "captions",
            "One for each prompt, as a list: what comes next runs once for each of them.",
            is_list=True,
        ),
        Output("STRING", "notes", "Which prompts were left as they are, and why; empty if none was."),
        Output(
            "STRING",
            "originals",
            "The prompts as they were, as a list in the same order, for the input original_prompt.",
            is_list=True,
        ),
    )

    @classmethod
    def run(cls, call: Call, **values: Any) -> Result:
        from ..chai_app.errors import BadRequest

        prompts = [line.strip() for line in str(values["prompt"]).splitlines() if line.strip()]
        if not prompts:
            raise BadRequest("The prompt is empty: say in a few words what the video should show.")
        dial = values.get("lynx", OWN_DIAL)
        name = str(values.get("folder") or "").strip() or values.get("enhancer", DEMO)
        enhanced = enhance(prompts, name, values["seed"], None if dial == OWN_DIAL else dial)
        captions = [each.text for each in enhanced]
        notes = "\n".join(f"{each.original}: {each.note}" for each in enhanced if not each.is_changed)
        text = "\n\n".join([*captions, *([notes] if notes else [])])
        return Result((captions, notes, prompts), text)


def enhance(prompts: Sequence[str], name: str, seed: int, dial: float | None) -> list[Enhanced]:
    """Ask the engine, under ComfyUI's progress bar and cancel button. The enhancer leaves the memory afterwards.

    Raises: ChaiError with its sentence; ComfyUI's own exception after cancel.
    """
    from ..chai_app.engine import Engine
    from ..chai_app.enhance.models import find

    settings = handles.settings()
    _, manner = find(name, settings)  # what is missing is told here, before other models make room
    if name != DEMO:
        host.make_room_for_all()
    words, most = 0, len(prompts) * manner.max_new_tokens
    bar = host.Progress(most)

    def on_text(_number: int, _text: str) -> None:
        nonlocal words
        words = min(words + 1, most)
        bar.update(words, most)

    bar.update(0, most)
    with closing(Engine(device=host.device(), settings=settings)) as engine:
        enhanced = engine.enhance(prompts, name, seed, dial, on_text)
    bar.update(most, most)  # captions end long before the most that they may have
    return enhanced
