"""Compare: one prompt and one seed, the arms side by side in step, with their times and what the judge sees."""

from __future__ import annotations

import logging
from typing import Any

from chai_app.models import DEMO
from chai_app.process import loading_turn
from chai_app.request import Report
from chai_app.server.jobs import Job

from .bridge import Act, Answer
from .compare_donors import ACTS as DONOR_ACTS
from .compare_donors import chosen_donors, donor_panel, the_request
from .generate_page import compare_arms
from .job_views import player
from .markup import Markup, ago, button, chip, join, seconds, tag
from .receipt import OUTCOMES, entry_thumbnail, headline, stage_bars
from .studio import Studio

_SHOWN_GROUPS = 20
_log = logging.getLogger("chai")


def build_compare_page(part: Any) -> None:
    """Lay the page out. Called within a tab."""
    part("compare-result")
    part("compare-donors", "")
    part("compare-others", "")


def _view(studio: Studio, args: dict[str, Any]) -> Answer:
    groups = _groups(studio)
    name = str(args.get("group") or "")
    if name not in groups:
        name = next(iter(groups), "")
    if not name:
        words = "Nothing was compared yet. Write a prompt on the first page and press Compare, or C on any result."
        empty = {"compare-donors": "", "compare-others": ""}
        return {"html": {"compare-result": tag("p", words, cls="c-dim"), **empty}}
    html: dict[str, Any] = {"compare-result": _arms(studio, groups[name]), "compare-others": _others(groups, name)}
    if not args.get("is_light"):  # while the arms run the page looks often, and ranking entries is not for nothing
        html["compare-donors"] = donor_panel(studio, groups[name], str(args.get("words") or "").strip())
    return {"html": html, "group": name}


def _groups(studio: Studio) -> dict[str, list[Job]]:
    """Comparisons, the latest first."""
    groups: dict[str, list[Job]] = {}
    for job in sorted(studio.seen_jobs(), key=lambda job: -job.created):
        if job.group is not None and job.group not in groups:
            groups[job.group] = studio.group(job.group)
    return groups


def _arms(studio: Studio, jobs: list[Job]) -> Markup:
    first = jobs[0]
    verdicts = _verdicts(studio, jobs)
    unfinished = any(not job.is_finished for job in jobs)
    full = next((job for job in jobs if job.report and job.request.reuse == "full"), None)
    base = full.report.making_seconds if full is not None and full.report is not None else None
    order = sorted(jobs, key=lambda job: job.label != "full run")
    longest = max((job.report.total_seconds for job in jobs if job.report is not None), default=None)
    arms = [_arm(studio, job, base, verdicts.get(job.id), longest) for job in order]
    scrub = tag(
        "div",
        tag("button", "Play", cls="c-button", type="button", data_play=True),
        tag("input", type="range", min=0, max=1000, value=0, data_scrub=True, aria_label="Place in the videos"),
        cls="c-scrub",
        data_keep="yes",
        data_key="scrub",
    )
    again = button("Compare again with a new seed", "compare_again", group=first.group)
    return tag(
        "div",
        tag("h2", first.request.prompt, cls="c-title"),
        tag("p", f"One seed, {first.request.seed}, for all of them.", cls="c-dim"),
        tag("div", join(arms), cls="c-arms"),
        scrub if any(job.state == "done" for job in jobs) else None,
        tag("div", again, cls="c-actions"),
        tag("p", _judge_note(verdicts, jobs), cls="c-dim"),
        data_scope=first.group,
        data_unfinished=unfinished,
        data_key=first.group,
    )


def _arm(studio: Studio, job: Job, base: float | None, verdict: str | None, longest: float | None) -> Markup:
    title = tag("h3", job.label or job.id)
    if job.state != "done" or job.report is None or job.file is None or not job.file.is_file():
        live = studio.jobs.live(job.id)
        words = job.error or ("" if job.state != "done" else "This video was deleted.") or job.state
        if live is not None:
            words = f"step {live.step} of {live.total}"
        box = tag("div", tag("p", words, cls="c-dim"), cls="c-stagebox c-blank")
        return tag("section", title, box, cls="c-arm c-panel", data_key=job.id)
    report, reuse = job.report, job.report.reuse
    took = report.making_seconds
    factor = ""
    if base is not None and took and job.request.reuse != "full":
        factor = f", {base / took:.1f}× as fast as the full run" if took <= base else f", {took / base:.1f}× as long"
    return tag(
        "section",
        title,
        tag("div", player(job.file, group=str(job.group)), cls="c-stagebox"),
        tag("p", tag("b", seconds(took)), tag("span", f" from prompt to frames{factor}", cls="c-dim")),
        tag("p", chip(OUTCOMES[reuse.outcome], reuse.outcome) if reuse else None, " ", headline(report)),
        _donor(studio, report),
        stage_bars(report, longest),
        tag("p", verdict) if verdict else None,
        cls="c-arm c-panel",
        data_key=job.id,
    )


def _donor(studio: Studio, report: Report) -> Markup | None:
    if report.reuse is None or report.reuse.entry_id is None:
        return None
    reuse = report.reuse
    words = tag("div", tag("b", f"entry {str(reuse.entry_id)[:6]}"), tag("p", reuse.entry_prompt, cls="c-dim c-clip"))
    return tag("div", entry_thumbnail(studio, str(reuse.entry_id)), words, cls="c-candidate")


def _others(groups: dict[str, list[Job]], shown: str) -> Markup | str:
    names = [name for name in groups if name != shown][:_SHOWN_GROUPS]
    if not names:
        return ""
    lines = [
        tag(
            "li",
            tag("button", groups[name][0].request.prompt, cls="c-link", type="button", data_group=name),
            tag("span", f"  {ago(groups[name][0].created)}", cls="c-dim"),
        )
        for name in names
    ]
    return tag("section", tag("h2", "Earlier"), tag("ul", join(lines)))


def _verdicts(studio: Studio, jobs: list[Job]) -> dict[str, str]:
    """What the judge of the demo world sees in each finished arm, by the id of its job; worked out once."""
    for job in jobs:
        if job.id in studio.verdicts or job.report is None or job.report.model != DEMO or job.file is None:
            continue
        if (job.report.height, job.report.width) != (64, 64) or not job.file.is_file() or job.report.num_frames < 2:
            continue
        try:
            studio.verdicts[job.id] = _judged(studio, job)
        except Exception:
            _log.exception("the judge failed at job %s", job.id)
            studio.verdicts[job.id] = ""
    return {job.id: studio.verdicts[job.id] for job in jobs if studio.verdicts.get(job.id)}


def _judged(studio: Studio, job: Job) -> str:
    with loading_turn():
        from chai_app.demo.judge import load_judge
    from chai_app.demo.world import COLOURS, MOTIONS, OBJECTS, SCENES
    from chai_app.media.video import read_video

    assert job.file is not None
    with studio.judging:
        if studio.judge is None:
            with loading_turn():
                studio.judge = load_judge()
        (verdict,) = studio.judge.verdicts(read_video(job.file).frames[None])
    prompt = job.request.prompt.lower()
    seen = {
        "object": verdict.objects[0],
        "colour": verdict.colours[0],
        "scene": verdict.scene,
        "motion": verdict.motion,
    }
    worlds = {"object": OBJECTS, "colour": COLOURS, "scene": SCENES, "motion": MOTIONS}
    asked = [kind for kind, names in worlds.items() if any(name.split()[-1] in prompt for name in names)]
    right = [kind for kind in asked if seen[kind].split()[-1] in prompt]
    what = f"{verdict.count} {seen['colour']} {seen['object']}, {seen['motion']}, {seen['scene']}"
    told = f"Of the {len(asked)} things that the prompt asks for and it can tell, {len(right)} are right."
    return f"The judge sees: {what}. {told}"


def _judge_note(verdicts: dict[str, str], jobs: list[Job]) -> str:
    if verdicts:
        return "The judge is a small classifier of the demo world; docs/demo-model.md tells how often it is right."
    if any(job.report is not None and job.report.model != DEMO for job in jobs):
        return "The judge knows the demo model's world alone, so it says nothing here."
    return ""


def _again(studio: Studio, args: dict[str, Any]) -> Answer:
    from dataclasses import replace

    jobs = studio.group(args.get("group"))
    if not jobs:
        return {"problem": "This comparison is no longer on the list."}
    chosen = chosen_donors(jobs)
    with studio.cache() as cache:
        here = [id for id in chosen if cache.entry(id) is not None]
    group = compare_arms(studio, replace(the_request(jobs), seed=None, reuse="auto"), here)
    left = "" if here == chosen else "A donor has left the cache, so it has no arm this time."
    return {"group": group, "toast": left}


ACTS: dict[str, Act] = {"view_compare": _view, "compare_again": _again, **DONOR_ACTS}
