"""The queue, and one job in full: its progress while it runs, its video and receipt when it is done."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

from chai_app.fields import GUIDING
from chai_app.presets import DEFAULT_PRESET
from chai_app.request import OPTIONS
from chai_app.server.jobs import Job

from .markup import Markup, ago, button, chip, file_url, join, seconds, tag
from .receipt import definitions, receipt
from .studio import Studio

_STATES = {"queued": "waiting", "running": "running", "done": "done", "failed": "failed", "cancelled": "cancelled"}
_STAGES = {
    "": "starting",
    "load": "loading the model",
    "text": "reading the prompt",
    "denoise": "denoising",
    "decode": "decoding",
    "write": "writing",
}
_SHOWN_FINISHED = 12
_SHOWN_WAITING = 40
_VIDEO_SUFFIXES = (".mp4", ".webm")


def queue_view(studio: Studio, selected: str | None) -> Markup:
    """Running, waiting and lately finished jobs."""
    jobs = studio.jobs.jobs()
    waiting = [job for job in jobs if not job.is_finished]
    finished = [job for job in jobs if job.is_finished and studio.sees(job)][:_SHOWN_FINISHED]
    if not jobs:
        words = "Nothing here yet. Jobs belong to the server: closing this page stops none."
        return join([tag("h2", "Queue"), tag("p", words, cls="c-dim")])
    queued = [job for job in waiting if job.state == "queued"]
    shown = [*waiting[:_SHOWN_WAITING], *finished]
    rows = [_row(studio, job, selected, queued) for job in shown]
    if len(waiting) > _SHOWN_WAITING:
        rows.insert(_SHOWN_WAITING, tag("li", f"and {len(waiting) - _SHOWN_WAITING} more", cls="c-dim"))
    over = any(job.is_finished and studio.sees(job) for job in jobs)
    clear = button("Clear finished", "clear_finished", "c-small c-quiet", title="The videos stay") if over else None
    running = len(waiting) - len(queued)
    parts = [f"{running} running"] * bool(running) + [f"{len(queued)} waiting"] * bool(queued)
    words = ", ".join(parts) or "nothing to come"
    return join(
        [
            tag("div", tag("h2", "Queue"), tag("span", words, cls="c-dim"), clear, cls="c-row"),
            tag("ol", join(rows), cls="c-queue"),
        ]
    )


def _row(studio: Studio, job: Job, selected: str | None, queued: list[Job]) -> Markup:
    live = studio.jobs.live(job.id)
    if not studio.sees(job):
        state = "running" if job.state == "running" else f"waiting, number {queued.index(job) + 1}"
        words = tag("span", tag("b", "a private video of another visitor", cls="c-clip"), tag("small", state))
        return tag(
            "li", tag("span", tag("span", cls="c-thumb c-empty"), words, cls="c-pick"), cls=f"c-job c-job-{job.state}"
        )
    if job.state == "running" and live is not None:
        state = _STAGES.get(live.stage, live.stage)
        state += f", step {live.step} of {live.total}" if live.total else ""
        picture = _data_picture(live.preview)
    elif job.state == "queued":
        state, picture = f"waiting, number {queued.index(job) + 1}", None
    else:
        state, picture = f"{_STATES[job.state]}, {ago(job.ended or job.created)}", _thumbnail(studio, job)
    last = len(queued) - 1
    actions: list[Markup] = []
    if job.state == "queued":
        place = queued.index(job)
        if place:
            actions.append(button("↑", "move", "c-icon", title="Earlier", id=job.id, places=-1))
        if place < last:
            actions.append(button("↓", "move", "c-icon", title="Later", id=job.id, places=1))
    if not job.is_finished:
        actions.append(button("✕", "cancel", "c-icon", title="Cancel this video", id=job.id))
    else:
        actions.append(button("✕", "forget", "c-icon", title="Take off this list; the video stays", id=job.id))
    label = f"{job.label}: " if job.label else ""
    private = chip("private", "private") if job.request.is_private else None
    return tag(
        "li",
        tag(
            "button",
            picture or tag("span", cls="c-thumb c-empty"),
            tag("span", tag("b", label, job.request.prompt, cls="c-clip"), tag("small", state, " ", private)),
            cls="c-pick",
            type="button",
            data_pick=job.id,
            aria_pressed="true" if job.id == selected else "false",
        ),
        tag("span", join(actions), cls="c-actions"),
        cls=f"c-job c-job-{job.state}",
        data_key=job.id,
    )


def job_view(studio: Studio, job: Job | None) -> Markup:
    """One job in full."""
    if job is None:
        return tag(
            "div",
            tag("p", "Your video will play here.", cls="c-dim"),
            cls="c-stagebox c-blank",
        )
    if job.state == "done":
        return _done(studio, job)
    if job.state == "running":
        return _running(studio, job)
    if job.state == "failed":
        body = tag("p", job.error or "", cls="c-problem", role="alert")
    elif job.state == "cancelled":
        body = tag("p", "Cancelled; nothing half-written is left.")
    else:
        body = tag("p", "Waiting for its turn.")
    again = button("Try again", "again", id=job.id) if job.is_finished else None
    cancel = button("Cancel", "cancel", id=job.id) if not job.is_finished else None
    use = tag("button", "Use its settings", cls="c-button", type="button", data_restore_job=job.id)
    return tag(
        "div",
        tag("div", body, cls="c-stagebox c-blank"),
        tag("h2", job.request.prompt, cls="c-title"),
        tag("div", again, cancel, use, cls="c-actions"),
        data_key=job.id,
    )


def _running(studio: Studio, job: Job) -> Markup:
    live = studio.jobs.live(job.id)
    if live is None:
        return tag("p", "Starting.", cls="c-dim")
    done = live.step / live.total if live.total else 0.0
    left = f", about {seconds(live.seconds_left)} of denoising left" if live.seconds_left is not None else ""
    took = f"{seconds(time.time() - job.started)} so far" if job.started else ""
    words = f"step {live.step} of {live.total}{left}" if live.stage == "denoise" else _STAGES.get(live.stage, "")
    picture = _data_picture(live.preview, cls="c-video")
    percent = round(100 * done)
    return tag(
        "div",
        tag(
            "div",
            picture or tag("p", _STAGES.get(live.stage, live.stage), cls="c-dim"),
            tag("span", f"preview of step {live.preview_step}", cls="c-badge") if picture else None,
            cls="c-stagebox" + ("" if picture else " c-blank"),
        ),
        tag(
            "div",
            tag("div", cls="c-fill", style=f"width:{percent}%"),
            cls="c-progress",
            role="progressbar",
            aria_valuenow=percent,
            aria_valuemin=0,
            aria_valuemax=100,
            aria_label="Denoising",
        ),
        tag("p", tag("b", words[:1].upper() + words[1:]), tag("span", f"  {took}", cls="c-dim"), cls="c-row"),
        tag("h2", job.request.prompt, cls="c-title"),
        tag("div", button("Cancel", "cancel", title="Cancel (Esc)", id=job.id), cls="c-actions"),
        data_key=job.id,
    )


def _done(studio: Studio, job: Job) -> Markup:
    assert job.report is not None
    if job.file is None or not job.file.is_file():
        media = tag("div", tag("p", "This video was deleted."), cls="c-stagebox c-blank")
    else:
        media = tag("div", player(job.file), cls="c-stagebox")
    request = job.request
    private = chip("private: nothing was kept", "private") if request.is_private else None
    return tag(
        "div",
        media,
        tag("h2", request.prompt, cls="c-title"),
        tag("p", f"seed {request.seed}, preset {request.preset or DEFAULT_PRESET}", cls="c-dim"),
        private,
        result_actions(job) if job.file is not None and job.file.is_file() else None,
        receipt(studio, job.report),
        settings_list(job),
        data_key=job.id,
    )


def player(path: Path, group: str | None = None) -> Markup:
    """A looping video, or a picture."""
    if path.suffix.lower() in _VIDEO_SUFFIXES:
        return tag(
            "video",
            src=file_url(path),
            cls="c-video",
            controls=True,
            loop=True,
            muted=True,
            autoplay=True,
            playsinline=True,
            data_sync=group,
            data_key=str(path),
        )
    return tag("img", src=file_url(path), cls="c-video", alt="the picture that was made", data_key=str(path))


def result_actions(job: Job) -> Markup:
    """What can be done with a finished video."""
    assert job.file is not None
    is_video = job.file.suffix.lower() in _VIDEO_SUFFIXES
    name = job.file.name
    kind = job.file.suffix[1:]
    whole = json.dumps(job.request.to_json(), ensure_ascii=False, indent=1)
    parts = [
        button("Again with a new seed", "again", "c-primary", id=job.id, new_seed=True),
        button("Compare with the cache off", "compare_job", title="Same seed, cache off (C)", id=job.id)
        if is_video and job.request.can_attend
        else None,
        tag("button", "Use its settings", cls="c-button", type="button", data_restore_job=job.id),
        tag("a", f"Download {kind}", cls="c-button", href=file_url(job.file), download=name),
        button("Download gif", "gif", id=job.id) if is_video else None,
        tag("button", "Extend", cls="c-button", type="button", data_continue=job.id, data_how="extend")
        if is_video
        else None,
        tag("button", "Use last frame", cls="c-button", type="button", data_continue=job.id, data_how="last_frame"),
        tag("button", "Copy settings", cls="c-button", type="button", data_copy=whole),
    ]
    return tag("div", join(part for part in parts if part is not None), cls="c-actions c-result-actions")


def settings_list(job: Job) -> Markup:
    """What the video was made with."""
    request, report = job.request, job.report
    assert report is not None
    pairs: list[tuple[str, object]] = [
        ("Preset", request.preset or DEFAULT_PRESET),
        ("Seed", request.seed),
        ("Size", f"{report.width} × {report.height}, {report.num_frames} frames at {report.fps:g} per second"),
        ("Steps", f"{report.steps} (full run: {request.num_inference_steps}, hit: {request.fast_steps})"),
        ("Acceleration", report.acceleration),
        ("Guidance", f"{report.guidance_scale(request):g}"),
        ("Model", f"{report.model}, weights {report.model_fingerprint}"),
        ("Ran on", f"{report.device}, {report.dtype}"),
    ]
    guiding = {name: getattr(request, name) for name, option in OPTIONS.items() if option.panel == GUIDING}
    pairs += [(OPTIONS[name].title, value) for name, value in guiding.items() if value]
    if job.file is not None:
        pairs.append(("File", str(job.file)))
    return tag("details", tag("summary", "Settings"), definitions(pairs))


def _thumbnail(studio: Studio, job: Job) -> Markup | None:
    if job.file is None or not job.file.is_file():
        return None
    path = studio.gallery.thumbnail_of(job.file)
    if not path.is_file():
        return None
    return tag("img", src=file_url(path), cls="c-thumb", alt="", loading="lazy")


def _data_picture(jpeg: bytes | None, cls: str = "c-thumb") -> Markup | None:
    if jpeg is None:
        return None
    source = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    return tag("img", src=source, cls=cls, alt="preview of the unfinished video")
