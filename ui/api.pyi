"""Endpoints for programs (`gradio_client`), by name: generate, enhance, plan, submit, queue, cancel, entries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from chai_app.cache import Selection
from chai_app.enhance import DEMO, PUBLISHED
from chai_app.errors import BadRequest, ChaiError
from chai_app.request import GenerationRequest

from .studio import Studio

_MOST_CAPTIONS = 64

def add_api(studio: Studio) -> None:
    """Add them. Called within a `gr.Blocks`."""

    def generate(prompt: str, settings: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Make a video and wait for it.

        Args: prompt: what it shows; settings: further fields of a request, such as {"seed": 7, "reuse": "full"}.
        Returns: the file, and its request and report.
        """
        with _in_plain_words():
            (job,) = studio.jobs.submit([_request(prompt, settings)])
            done = studio.jobs.wait(job.id)
            if done is None or done.state != "done" or done.report is None:
                raise BadRequest((done and done.error) or "The video was cancelled.")
            return str(done.file), {"request": done.request.to_json(), "report": done.report.to_json()}

    def plan(prompt: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
        """What `generate` would do, without doing it: steps, hit or miss, donor, notes."""
        with _in_plain_words():
            return studio.plan(_request(prompt, settings)).to_json()

    def enhance(prompts: list[str], seed: int = 0, enhancer: str = DEMO) -> list[dict[str, Any]]:
        """Captions for short prompts, all in one go; nothing is made of them yet.

        Returns: original, text and note for each; where text equals original, note says why.
        """
        with _in_plain_words():
            if not all(isinstance(each, str) and each.strip() for each in prompts):
                raise BadRequest("Give the prompts as a list of texts, none of them empty.")
            if enhancer not in (DEMO, *PUBLISHED):
                raise BadRequest(f"There is no enhancer {enhancer!r}: choose {', '.join((DEMO, *PUBLISHED))}.")
            if len(prompts) > _MOST_CAPTIONS:
                raise BadRequest(f"Here are {len(prompts)} prompts: give at most {_MOST_CAPTIONS} at once.")
            return [each.to_json() for each in studio.engine.enhance(prompts, enhancer, int(seed))]

    def submit(prompt: str, settings: dict[str, Any] | None = None) -> str:
        """Queue a video. Returns: the id of its job."""
        with _in_plain_words():
            return studio.jobs.submit([_request(prompt, settings)])[0].id

    def queue() -> list[dict[str, Any]]:
        """All jobs: running, waiting, finished."""
        return [job.to_json() for job in studio.jobs.jobs() if not job.request.is_private]

    def cancel(job: str) -> bool:
        """Stop a job; false if it was over already."""
        return studio.jobs.cancel(job)

    def entries(words: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """Entries of the cache whose prompt has these words, newest first."""
        with _in_plain_words(), studio.cache() as cache:
            selection = Selection(prompt=words.strip() or None)
            return [entry.to_json() for entry in cache.entries(selection, limit=max(1, min(int(limit), 1000)))]

    prompt = gr.Textbox(visible=False, label="prompt")
    settings = gr.JSON(visible=False, label="settings")
    file, report = _OwnFile(visible=False, label="file"), gr.JSON(visible=False, label="report")
    asked = gr.Button(visible=False)
    # A video may take long, and others want theirs: waiting is not working.
    asked.click(generate, [prompt, settings], [file, report], api_name="generate", concurrency_limit=32)
    named = {"plan": plan, "enhance": enhance, "submit": submit, "queue": queue, "cancel": cancel, "entries": entries}
    for name, fn in named.items():
        gr.api(fn, api_name=name, concurrency_limit=8)

class _OwnFile(gr.File):
    """A file of ours, given out where it lies; Gradio would make a copy of each, which nobody removes."""

    def get_block_name(self) -> str:
        return "file"

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        return None if url_or_file_path is None else str(url_or_file_path)
    from collections.abc import Callable, Sequence
    from typing import TYPE_CHECKING, Any, Literal

    from gradio.blocks import Block

    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component

class _in_plain_words:
    """A `ChaiError` reaches the caller as its sentence."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, ChaiError):
            raise gr.Error(str(error), print_exception=False) from error

def _request(prompt: str, settings: dict[str, Any] | None) -> GenerationRequest:
    return GenerationRequest.from_json({**(settings or {}), "prompt": prompt})
