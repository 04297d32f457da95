"""Donors of choice: entries that a person adds to a comparison, each as an arm of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from chai_app.cache import Entry, Selection
from chai_app.engine.donors import shape_of
from chai_app.errors import BadRequest, ChaiError
from chai_app.models import find_model
from chai_app.request import GenerationRequest
from chai_app.server.jobs import Job

from .bridge import Act, Answer
from .generate_page import donor_label
from .markup import Markup, button, join, tag
from .receipt import entry_thumbnail
from .studio import Studio

MOST_CHOSEN = 4
_SHOWN = 8
_LOOKED_AT = 100


def the_request(jobs: Sequence[Job]) -> GenerationRequest:
    """What the arms of a comparison have in common. A hit has settled its steps for itself; the full run has not."""
    return next((job for job in jobs if job.label == "full run"), jobs[0]).request


def chosen_donors(jobs: Sequence[Job]) -> list[str]:
    """The entries that were added as arms, by their ids."""
    return [str(job.request.reuse) for job in jobs if job.label == donor_label(str(job.request.reuse))]


def donor_panel(studio: Studio, jobs: Sequence[Job], words: str) -> Markup:
    """What can be added: the entries most like the prompt, or those whose prompts have `words`."""
    chosen = chosen_donors(jobs)
    if len(chosen) >= MOST_CHOSEN:
        hint = f"{MOST_CHOSEN} donors of choice are the most for one comparison."
        return tag("section", tag("h2", "Donors of choice"), tag("p", hint, cls="c-dim"))
    search = tag(
        "label",
        "Words of the prompt",
        tag("input", type="search", data_param="compare.words", placeholder="such as balloon", data_keep="yes"),
        cls="c-field",
    )
    try:
        found = _fitting(studio, the_request(jobs), words)
        problem = ""
    except ChaiError as error:
        found, problem = [], str(error)
    rows = [_row(studio, jobs, entry, score, entry.id in chosen) for entry, score in found]
    nothing = "No other entry has these words." if words else "The cache has no entry of this model and size yet."
    hint = f"Add entries of the cache as further arms, {MOST_CHOSEN} at most; same prompt, same seed."
    if any(score is not None for _, score in found):
        hint += " The number is how like the prompt an entry is."
    return tag(
        "section",
        tag("h2", "Donors of choice"),
        tag("p", hint, cls="c-dim"),
        tag("div", search, cls="c-tools"),
        tag("div", join(rows), cls="c-donors") if rows else tag("p", problem or nothing, cls="c-dim"),
    )


def _fitting(studio: Studio, request: GenerationRequest, words: str) -> list[tuple[Entry, float | None]]:
    """Entries that can be donors of a request, with their likeness to its prompt where that was asked for."""
    model = find_model(request.model or studio.model, studio.settings)
    fingerprint, shape = (
        model.fingerprint(studio.settings),
        shape_of(request.resolved(model.defaults), model, may_start=True),
    )
    if shape is None:
        raise BadRequest("A video that goes on from another, or in several loops, attends to no donor.")
    ranked: list[tuple[Entry, float | None]] = []
    with studio.cache() as cache:
        if not words:
            with suppress(ChaiError):  # nothing to compare by: the newest do
                ranked = [(each.entry, each.score) for each in cache.search(request.prompt, limit=_LOOKED_AT)]
        if not ranked:
            selection = Selection(prompt=words or None, fingerprint=fingerprint)
            ranked = [(entry, None) for entry in cache.entries(selection, _LOOKED_AT)]
    fits = [(e, score) for e, score in ranked if e.fingerprint == fingerprint and e.shape.latent == shape.latent]
    return fits[:_SHOWN]


def _row(studio: Studio, jobs: Sequence[Job], entry: Entry, score: float | None, is_chosen: bool) -> Markup:
    own = any(job.report and job.report.reuse and job.report.reuse.stored_entry_id == entry.id for job in jobs)
    add = button("Add as donor", "compare_add", "c-small", title=f"Add as donor: {entry.prompt}", id=entry.id,
                 group=jobs[0].group)  # fmt: skip
    return tag(
        "div",
        entry_thumbnail(studio, entry.id),
        tag(
            "div",
            tag("b", f"entry {entry.id[:6]}"),
            tag("span", f" {score:.2f}", cls="c-score") if score is not None else None,
            tag("span", " this comparison’s own full run", cls="c-dim") if own else None,
            tag("p", entry.prompt, cls="c-dim c-clip"),
            tag("div", tag("span", "added", cls="c-dim") if is_chosen else add, cls="c-actions"),
        ),
        cls="c-candidate",
        data_key=entry.id,
    )


def _add(studio: Studio, args: dict[str, Any]) -> Answer:
    jobs = studio.group(args.get("group"))
    if not jobs:
        raise BadRequest("This comparison is no longer on the list.")
    id, chosen = str(args.get("id")), chosen_donors(jobs)
    if id in chosen:
        raise BadRequest("This donor has its arm already.")
    if len(chosen) >= MOST_CHOSEN:
        raise BadRequest(f"{MOST_CHOSEN} donors of choice are the most for one comparison.")
    studio.submit([replace(the_request(jobs), reuse=id)], jobs[0].group, [donor_label(id)])
    return {"group": jobs[0].group, "toast": "Queued as one more arm."}


ACTS: dict[str, Act] = {"compare_add": _add}
