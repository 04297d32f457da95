"""The first page: a prompt, what it will lead to, the queue, the video and its receipt."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import escape

from chai_app.errors import BadRequest, ChaiError
from chai_app.media.video import read_video, write_video
from chai_app.request import GenerationRequest
from chai_app.server.gallery import restore
from chai_app.server.jobs import Job

from .bridge import Act, Answer
from .enhance_buttons import build_enhance_buttons
from .form import (
    Form,
    build_prompt,
    build_settings,
    fields_of,
    length_fields,
    preset_words,
    request_from,
    requests_from,
    size_for,
    without_preset,
)
from .markup import file_url
from .plan_view import EMPTY, plan_view, problem
from .studio import Studio
from .visitors import asked_by


def build_generate_page(studio: Studio, part: Any) -> tuple[Form, gr.Textbox]:
    """Lay the page out. Called within a tab.

    Args:
        part: `part(name)` makes a place that the page's script fills.
    Returns: the form, and the field through which the page's script asks for it to be filled.
    """
    with gr.Row(elem_id="generate-page", equal_height=False):
        with gr.Column(scale=5, min_width=320, elem_id="form-column"):
            with gr.Group(elem_id="form-group"):
                fields = build_prompt()
                connect_enhancing = build_enhance_buttons(studio)
                build_settings(studio, fields)
            with gr.Row(elem_id="form-buttons"):
                go = gr.Button("Generate", variant="primary", elem_id="generate")
                compare = gr.Button("Compare", variant="secondary", elem_id="compare")
            plan = gr.HTML(EMPTY, elem_id="plan", js_on_load=None, apply_default_css=False)
        with gr.Column(scale=6, min_width=320, elem_id="result-column"):
            part("job")
        with gr.Column(scale=4, min_width=300, elem_id="queue-column"):
            part("queue")

    source = gr.Textbox(elem_id="fill-source", elem_classes="c-hidden", label="fill", container=False)
    replan = gr.Textbox(elem_id="replan", elem_classes="c-hidden", label="replan", container=False)
    submitted = gr.Textbox(elem_id="submitted", elem_classes="c-hidden", label="submitted", container=False)
    filled = gr.Textbox(elem_id="filled", elem_classes="c-hidden", label="filled", container=False)

    def show_plan(request: gr.Request, *values: Any) -> Any:
        named = fields.named(values)
        if not str(named["prompt"] or "").strip():
            return EMPTY
        try:
            with asked_by(request):
                requests = requests_from(named, last_seed(studio))
            return plan_view(studio, requests[0], how_many(named, len(requests)))
        except ChaiError as error:
            return problem(str(error))

    def ask_for_videos(request: gr.Request, *values: Any) -> tuple[Any, str]:
        try:
            with asked_by(request):
                jobs = studio.submit(requests_from(fields.named(values), last_seed(studio)))
        except ChaiError as error:
            return problem(str(error)), json.dumps({"problem": str(error)})
        return gr.skip(), json.dumps({"job": jobs[0].id, "count": len(jobs)})

    def submit_comparison(request: gr.Request, *values: Any) -> tuple[Any, str]:
        try:
            with asked_by(request):
                group = compare_arms(studio, request_from(fields.named(values), last_seed(studio)))
        except ChaiError as error:
            return problem(str(error)), json.dumps({"problem": str(error)})
        return gr.skip(), json.dumps({"group": group})

    def show_preset(*values: Any) -> list[Any]:
        about, steps, fast_steps = preset_words(fields.named(values), studio)
        return [gr.update(info=about), gr.update(placeholder=steps), gr.update(placeholder=fast_steps)]

    def fill(message: str, request: gr.Request) -> list[Any]:
        asked = _message(message)
        values, answer = {}, {"n": asked.get("n")}
        try:
            with asked_by(request):
                values = filling(studio, asked)
        except ChaiError as error:
            answer["problem"] = str(error)
        return [*fields.updates(values), json.dumps(answer)]

    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    changes = [*(component.change for component in fields.components), replan.change]
    gr.on(
        changes,
        show_plan,
        fields.components,
        plan,
        trigger_mode="always_last",
        concurrency_limit=4,
        concurrency_id="plan",
        **hidden,
    )
    go.click(ask_for_videos, fields.components, [plan, submitted], concurrency_limit=8, **hidden)
    compare.click(submit_comparison, fields.components, [plan, submitted], **hidden)
    source.change(fill, source, [*fields.components, filled], trigger_mode="multiple", **hidden)
    connect_enhancing(fields, hidden)
    length: Any = fields.fields["length"]
    length.input(lambda name: fields.updates(length_fields(name, studio)), length, fields.components, **hidden)
    # Whoever writes a seed or a size means it.
    seed, mode = fields.fields["seed"], fields.fields["seed_mode"]
    seed.input(lambda text: "fixed" if str(text or "").strip() else "random", seed, mode, **hidden)
    sides = [fields.fields[name] for name in ("width", "height")]
    size = fields.fields["resolution"]
    gr.on([side.input for side in sides], size_for, [*sides, size], size, **hidden)
    preset = fields.fields["preset"]
    of_preset = [fields.fields[name] for name in ("preset", "reuse", "num_inference_steps", "fast_steps")]
    own = [*of_preset, fields.fields["acceleration"], fields.fields["model"]]
    shown = [preset, *of_preset[2:]]
    gr.on([each.change for each in own], show_preset, fields.components, shown, trigger_mode="always_last", **hidden)
    # Answers to a click arrive in a field that nobody sees; the page's script takes it from there.
    submitted.change(None, submitted, None, js="(text) => window.chai?.submitted(text)", **hidden)
    filled.change(None, filled, None, js="(text) => window.chai?.filled(text)", **hidden)
    return fields, source


def how_many(named: Mapping[str, Any], videos: int) -> str:
    """What several lines or several videos come to, in a sentence; empty for one of one."""
    lines = len(str(named["prompt"]).strip().splitlines())
    if videos > 1:
        return f"{videos} videos will be made; this is the plan of the first."
    if lines > 1 and not named.get("per_line"):
        return f"These {lines} lines are one prompt; “Every line” under Seed, length and size makes a video of each."
    return ""


def last_seed(studio: Studio) -> int | None:
    """The seed of the last job that was asked for, as far as who is asking may know."""
    jobs = sorted(studio.seen_jobs(), key=lambda job: -job.created)
    return jobs[0].request.seed if jobs else None


def _message(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def filling(studio: Studio, values: dict[str, Any]) -> dict[str, Any]:
    """What a message of the page's script puts into the form: fields, or all settings of a job or a file.

    Raises: ChaiError for a job or a file that is not there.
    """
    if "fields" in values and isinstance(values["fields"], dict):
        known = {"prompt", "reuse", "seed", "seed_mode"}
        return {name: value for name, value in values["fields"].items() if name in known}
    if "job" in values:
        return _restored(studio, _job(studio, values).request)
    if "item" in values or "upload" in values:
        restored = restore(_file(studio, values), studio.settings)
        for note in restored.notes:
            gr.Warning(escape(note))
        return _restored(studio, restored.request)
    if "continue" in values:
        return _continued(studio, values)
    return {}


def _restored(studio: Studio, request: GenerationRequest) -> dict[str, Any]:
    """The form for a request. A file that a page may not name has to be chosen anew."""
    fields = without_preset(fields_of(request), studio)
    for name, words in (("image", "The picture"), ("extend", "The video")):
        if fields[name] is not None and not studio.may_name(Path(fields[name])):
            gr.Warning(
                escape(f"{words} it started from is not among the files of this page: choose {fields[name]} again.")
            )
            fields[name] = None
    return fields


def _continued(studio: Studio, values: dict[str, Any]) -> dict[str, Any]:
    """The form for going on with a finished video: from its last frame, or with all of it."""
    job = studio.job(values["continue"])
    item = studio.gallery.item(str(values["continue"]))
    path = job.file if job is not None else item.path if item is not None else None
    request = job.request if job is not None else item.request if item is not None else None
    if path is None or not path.is_file():
        raise BadRequest("This video is not there any more.")
    fields = without_preset(fields_of(request), studio) if request is not None else {}
    fields |= {"seed_mode": "random", "seed": "", "reuse": "", "image": None, "extend": None}
    if values.get("how") == "extend":
        return fields | {"extend": str(path)}
    is_private = request is not None and request.is_private
    target = (studio.jobs.private_folder() if is_private else studio.uploads / "frames") / f"{path.stem}-last.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    clip = read_video(path)
    write_video(target, clip.frames[-1:], clip.fps)
    return fields | {"image": str(target)}


def compare_arms(studio: Studio, request: GenerationRequest, donors: Sequence[str] = ()) -> str:
    """Queue the arms of a comparison, all with one seed; each of `donors` (ids of entries) gets one of its own.

    Returns: the name of their group.
    """
    seed = secrets.randbelow(2**32) if request.seed is None else request.seed
    request = replace(request, seed=seed)
    arms = [("full run", "full"), ("few steps, no donor", "fast"), ("with Cache Attention", "auto")]
    if request.reuse not in (None, "auto", "full", "fast"):
        arms[2] = (donor_label(str(request.reuse)), str(request.reuse))
    arms += [(donor_label(id), id) for id in donors if id != arms[2][1]]
    group = secrets.token_hex(4)
    requests = [replace(request, reuse=reuse) for _, reuse in arms]
    # The arm that looks for a donor goes first, for a full run would leave one behind.
    order = sorted(range(len(arms)), key=lambda i: arms[i][1] in ("full", "fast"))
    studio.submit([requests[i] for i in order], group, [arms[i][0] for i in order])
    return group


def donor_label(id: str) -> str:
    """What the arm of a donor of choice is called, and known by."""
    return f"donor {id[:6]}"


def _job(studio: Studio, values: dict[str, Any], name: str = "job") -> Job:
    job = studio.job(values.get(name))
    if job is None:
        raise BadRequest("This job is no longer on the list: its video is in the gallery.")
    return job


def _file(studio: Studio, values: dict[str, Any]) -> Path:
    if "item" in values:
        item = studio.gallery.item(str(values["item"]))
        if item is None:
            raise BadRequest("This file is not in the gallery any more.")
        return item.path
    path = Path(str(values["upload"]))
    if not studio.is_upload(path):
        raise BadRequest("This file did not arrive: drop it once more.")
    return path


# What buttons ask for


def _cancel(studio: Studio, args: dict[str, Any]) -> Answer:
    job = studio.job(args.get("id"))
    is_waiting = job is not None and job.state == "queued"
    if job is None or not studio.jobs.cancel(job.id):
        return {"toast": "It was over already."}
    return {"toast": "Taken off the queue." if is_waiting else "Stopping at the next step."}


def _move(studio: Studio, args: dict[str, Any]) -> Answer:
    studio.jobs.move(_job(studio, args, "id").id, int(args.get("places", 0)))
    return {}


def _forget(studio: Studio, args: dict[str, Any]) -> Answer:
    studio.jobs.forget([_job(studio, args, "id").id])
    return {}


def _clear_finished(studio: Studio, args: dict[str, Any]) -> Answer:
    studio.jobs.forget(job.id for job in studio.seen_jobs() if job.is_finished)
    return {"toast": "Cleared; the videos stay in the gallery."}


def _again(studio: Studio, args: dict[str, Any]) -> Answer:
    job = _job(studio, args, "id")
    request = job.request
    if args.get("new_seed"):
        request = replace(request, seed=None, reuse=_asked_reuse(job))
    (again,) = studio.submit([request])
    return {"job": again.id, "toast": "Queued."}


def _asked_reuse(job: Job) -> str | None:
    """What was asked for before a run settled it: a hit that was found and a miss are looked for anew; a full run, few
    steps and donors chosen by name stay."""
    reuse = None if job.report is None else job.report.reuse
    if reuse is None:
        return job.request.reuse
    is_found = reuse.outcome == "miss" or (reuse.outcome == "hit" and reuse.similarity is not None)
    return "auto" if is_found else job.request.reuse


def _compare_job(studio: Studio, args: dict[str, Any]) -> Answer:
    """The same request with the cache off, beside what is there already."""
    job = _job(studio, args, "id")
    if not job.request.can_attend:
        raise BadRequest(
            "A video that starts from a picture or goes on from another video looks for no donor, so the cache changes "
            "nothing in it: choose a donor by name to compare."
        )
    group = secrets.token_hex(4)
    if job.request.reuse == "full":
        arms = [("with Cache Attention", "auto"), ("full run", "full")]
    else:
        arms = [("as it was made", str(job.request.reuse or "auto")), ("full run", "full")]
    studio.submit([replace(job.request, reuse=reuse) for _, reuse in arms], group, [label for label, _ in arms])
    return {"group": group}


def _gif(studio: Studio, args: dict[str, Any]) -> Answer:
    """A gif of a job's or the gallery's video, for downloading."""
    folder = studio.exports
    if "item" in args:
        path = _file(studio, args)
    else:
        job = _job(studio, args, "id")
        if job.file is None or not job.file.is_file():
            raise BadRequest("This video is not there any more.")
        path = job.file
        if job.request.is_private:
            folder = studio.jobs.private_folder()
    clip = read_video(path)
    target = folder / f"{path.stem}.gif"
    target.parent.mkdir(parents=True, exist_ok=True)
    ours = restore(path, studio.settings)
    metadata = {"chai": {"request": ours.request.to_json(), "report": ours.report.to_json() if ours.report else {}}}
    write_video(target, clip.frames, clip.fps, metadata)
    return {"download": file_url(target), "name": target.name}


ACTS: dict[str, Act] = {
    "cancel": _cancel,
    "move": _move,
    "forget": _forget,
    "clear_finished": _clear_finished,
    "again": _again,
    "compare_job": _compare_job,
    "gif": _gif,
}
