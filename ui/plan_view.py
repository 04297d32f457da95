"""What a prompt will lead to, shown while it is typed: entities, hit or miss, the donor, the time."""

from __future__ import annotations

from chai_app.engine.prompt_notes import entities_of
from chai_app.errors import ChaiError
from chai_app.request import GenerationRequest, Plan

from .markup import Markup, chip, join, seconds, tag
from .receipt import OUTCOMES, candidate_row, pin_button, use_entry_button
from .studio import Studio

EMPTY = tag(
    "div",
    tag("p", "Say what the video should show: this tells what will happen, before it does.", cls="c-dim"),
    cls="c-plan",
)

AUTOMATIC = tag("button", "Choose automatically", cls="c-button c-small", type="button", data_fill='{"reuse": ""}')


def plan_view(studio: Studio, request: GenerationRequest, note: str = "") -> Markup:
    """The plan of a request, or the sentence that says what is wrong with it; `note` stands below it."""
    try:
        plan = studio.plan(request)
    except ChaiError as error:
        return problem(str(error))
    reuse = plan.reuse
    expected = studio.expected_seconds(plan)
    notes = [*([note] if note else []), *plan.notes]
    return tag(
        "div",
        _chips(plan),
        tag(
            "p",
            chip(OUTCOMES[reuse.outcome], reuse.outcome),
            " ",
            tag("b", _sentence(plan)),
            tag("span", f" about {seconds(expected)}" if expected is not None else "", cls="c-dim"),
            cls="c-headline",
        ),
        _donor(studio, plan, request.reuse),
        _others(studio, plan),
        tag("ul", join(tag("li", each) for each in notes), cls="c-notes") if notes else None,
        cls=f"c-plan c-plan-{reuse.outcome}",
    )


def problem(sentence: str) -> Markup:
    """A sentence about what has to be mended."""
    return tag("div", tag("p", sentence, cls="c-problem", role="status"), cls="c-plan")


def _chips(plan: Plan) -> Markup:
    named = entities_of(plan.request.prompt)
    taken = [c for c in plan.reuse.candidates if c.get("lost_because") is None]
    served = {c["wanted"]: c["score"] for c in taken}
    also = {phrase for c in taken for phrase in c.get("serves", ())}
    passed_over = ("covers fewer", "further from a full run", "scores lower", "older")
    elsewhere = {c["wanted"] for c in plan.reuse.candidates if c.get("lost_because") in passed_over}
    near: dict[str, float] = {}
    for candidate in plan.reuse.candidates:
        near[candidate["wanted"]] = max(candidate["score"], near.get(candidate["wanted"], 0.0))
    chips = []
    for kind, phrases in (("object", named.objects), ("scene", named.scenes)):
        for each in phrases:
            detail = kind
            if each.phrase in served:
                detail = f"{kind}, found {served[each.phrase]:.2f}"
            elif each.phrase in also:
                detail = f"{kind}, found too"
            elif each.phrase in elsewhere:
                detail = f"{kind}, in another entry"
            elif each.phrase in near:
                detail = f"{kind}, nearest {near[each.phrase]:.2f}"
            chips.append(
                chip(each.phrase, f"{kind} c-found" if each.phrase in served or each.phrase in also else kind, detail)
            )
    if not chips:
        return tag("p", "No object and no scene was recognised in this prompt, so nothing can be reused.", cls="c-dim")
    return tag("div", join(chips), cls="c-chips", role="group", aria_label="What the prompt names")


def _sentence(plan: Plan) -> str:
    reuse, full = plan.reuse, plan.request.num_inference_steps
    if reuse.outcome == "hit":
        keeps = f"; the video keeps {reuse.kept}" if reuse.kept else ", with an earlier video as donor"
        return f"{reuse.steps} steps in place of {full}{keeps}."
    if reuse.outcome == "fast":
        return f"{reuse.steps} steps without a donor."
    return f"{reuse.steps} steps."


def _donor(studio: Studio, plan: Plan, asked: str | None) -> Markup | None:
    reuse = plan.reuse
    if reuse.entry_id is None:
        why = " ".join(sentence for sentence in reuse.why if not sentence.startswith("Not "))
        automatic = AUTOMATIC if asked in ("full", "fast") else None  # else it is the preset's
        why = why.removeprefix("Miss: ")
        return tag("div", tag("p", f"{why[:1].upper()}{why[1:]}", cls="c-dim"), automatic)
    taken = next((c for c in reuse.candidates if c.get("lost_because") is None), None)
    row = taken or {"entry_id": reuse.entry_id, "prompt": reuse.entry_prompt}
    without = tag("button", "Do without", cls="c-button c-small", type="button", data_fill='{"reuse": "full"}')
    is_chosen = plan.request.reuse == reuse.entry_id
    choose = AUTOMATIC if is_chosen else use_entry_button(reuse.entry_id, "Keep to this donor")
    with studio.cache() as cache:
        entry = cache.entry(reuse.entry_id)
    pin = pin_button(entry.id, entry.is_pinned) if entry is not None else None
    return candidate_row(studio, row, tag("div", without, choose, pin, cls="c-actions"))


def _others(studio: Studio, plan: Plan) -> Markup | None:
    others = [c for c in plan.reuse.candidates if c.get("lost_because") is not None]
    if not others:
        return None
    has_donor = plan.reuse.entry_id is not None
    # An entry of another model or size would be refused as a donor.
    unfit = ("another model", "other size", "file missing")
    rows = [
        candidate_row(studio, c, None if c["lost_because"] in unfit else use_entry_button(str(c["entry_id"])))
        for c in others
    ]
    return tag(
        "details",
        tag("summary", f"{len(others)} {'other ' * has_donor}candidate{'s' * (len(others) > 1)}"),
        tag("div", join(rows), cls="c-candidates"),
    )
