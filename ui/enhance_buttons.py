"""Enhance, Stop and Undo, beside the prompt: captions grow in view, then stand in the prompt to be read and edited."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr

from .enhancement import Enhancement, Writing, enhancement_of, enhancement_view, prompts_of
from .form import Form
from .markup import join, tag
from .plan_view import problem
from .studio import Studio


def build_enhance_buttons(studio: Studio) -> Callable[[Form, dict[str, Any]], None]:
    """Lay them out. Called within a `gr.Blocks`.

    Returns: what connects them with the form, once that is complete; it takes the form and what all handlers get.
    """
    with gr.Row(elem_id="enhance-buttons"):
        ask = gr.Button("Enhance", size="sm", elem_id="enhance")
        stop = gr.Button("Stop", size="sm", elem_id="enhance-stop", visible=False)
        undo = gr.Button("Undo", size="sm", elem_id="enhance-undo", visible=False)
    progress = gr.HTML("", elem_id="enhance-progress", js_on_load=None, apply_default_css=False)
    told = gr.HTML("", elem_id="enhance-told", js_on_load=None, apply_default_css=False)
    hidden_field: dict[str, Any] = {"elem_classes": "c-hidden", "container": False}
    ticket = gr.Textbox(label="ticket", **hidden_field)
    result = gr.Textbox(label="result", **hidden_field)
    writings: dict[str, Writing] = {}

    async def write_captions(text: str, per_line: bool, enhancer: str, kept: str) -> AsyncIterator[tuple[Any, ...]]:
        """Gives out: progress, the button that stops it, what it is stopped by, and in the end the result."""
        before = Enhancement.from_text(kept)
        original_of = {caption: original for original, caption in before.pairs}
        prompts = prompts_of(text or "", per_line) or [""]
        is_again = any(prompt in original_of for prompt in prompts)  # other words for the same prompt, then
        sources = [original_of.get(prompt, prompt) for prompt in prompts]
        writing = Writing(studio, sources, enhancer, before.seed + 1 if is_again else 0)
        id = secrets.token_hex(8)
        writings[id] = writing
        try:
            yield gr.skip(), gr.update(visible=True), id, ""
            async for view in writing.steps():
                yield view, gr.skip(), gr.skip(), gr.skip()
        finally:
            del writings[id]
        answer = ""
        if not writing.problem:
            enhancement = enhancement_of(sources if is_again else [text], writing.enhanced, writing.seed)
            texts = [each.text for each in writing.enhanced]
            prompt = "\n".join(texts) if enhancement.pairs or is_again else text
            answer = json.dumps({"asked": text, "prompt": prompt, "enhanced": enhancement.to_text()})
        last = problem(writing.problem) if writing.problem else ""
        yield last, gr.update(visible=False), "", answer

    def put(answer: str, now: str) -> tuple[Any, Any, Any]:
        """The captions take the place of the prompt, unless that has become another in the meantime."""
        if not answer:
            return gr.skip(), gr.skip(), gr.skip()
        values = json.loads(answer)
        if now == values["asked"]:
            return values["prompt"], values["enhanced"], gr.skip()
        words = "You have changed the prompt meanwhile, so it was left as it is. The caption would have been:"
        lines = tag("ul", join(tag("li", line) for line in values["prompt"].splitlines()), cls="c-captions")
        return gr.skip(), gr.skip(), tag("div", tag("p", words), lines, cls="c-enhance", role="status")

    def stop_writing(id: str) -> None:
        if id in writings:
            writings[id].cancel.set()

    def take_back(kept: str) -> tuple[str, str]:
        return Enhancement.from_text(kept).prompt, ""

    def tell(text: str, kept: str, per_line: bool) -> tuple[Any, Any]:
        enhancement = Enhancement.from_text(kept)
        prompts = prompts_of(text or "", per_line)
        is_left = any(enhancement.originals_of(prompts)) or (bool(enhancement.pairs) and not (text or "").strip())
        return enhancement_view(enhancement, text or "", prompts), gr.update(visible=is_left)

    def connect(form: Form, hidden: dict[str, Any]) -> None:
        prompt, kept, per_line = (form.fields[name] for name in ("prompt", "enhanced", "per_line"))
        inputs = [prompt, per_line, form.fields["enhancer"], kept]
        # Whoever waits for a turn is not working, and others want to wait too.
        asked = ask.click(write_captions, inputs, [progress, stop, ticket, result], concurrency_limit=32, **hidden)
        asked.then(put, [result, prompt], [prompt, kept, progress], **hidden)
        stop.click(stop_writing, ticket, None, concurrency_limit=8, **hidden)
        undo.click(take_back, kept, [prompt, kept], **hidden)
        # What was wrong with a prompt is no longer said of another.
        prompt.input(lambda shown: "" if "c-problem" in str(shown or "") else gr.skip(), progress, progress, **hidden)
        changes = [prompt.change, kept.change, per_line.change]
        gr.on(changes, tell, [prompt, kept, per_line], [told, undo], trigger_mode="always_last", **hidden)

    return connect
