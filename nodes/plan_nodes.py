"""Nodes that look before a video is made: what a prompt names, and what the cache has for it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from ..chai_app.request import GenerationRequest
from . import handles, words
from .definition import CACHE, PIPELINE, PLAN, Call, Input, Node, Output, Result
from .retrievals import RETRIEVALS, asking, found_by
from .widgets import asked, widget, widgets

PROMPT = Input(
    "prompt",
    "STRING",
    "What the video should show, in plain English. The demo model knows balls, balloons, cars, boats, "
    "fish, stars, rockets and mushrooms in six colours and six places.",
    default="a red balloon rising in the desert",
    multiline=True,
)
SIZE = widgets("--width", "--height", "--frames", "--fps", usual="as the model likes it")
REUSE = Input(
    "reuse",
    "COMBO",
    "auto: attend to an earlier video that shows the same thing or place, in fewer steps, if there is "
    "one and the preset allows it. full: never, all steps. fast: the few steps of a hit, without a donor.",
    choices=lambda: ("auto", "full", "fast"),
    default="auto",
    optional=True,
)
ORIGINAL = Input(
    "original_prompt",
    "STRING",
    "From Enhance Prompt: what the prompt was before, for the report.",
    label="original prompt",
    optional=True,
    wired=True,
)
AFTER = Input(
    "after",
    "STRING",
    "Connect the report of another video here to look into the cache only after that one is finished.",
    optional=True,
    wired=True,
)


def request_of(values: dict[str, Any], **more: Any) -> GenerationRequest:
    """A request from what the widgets say: 0 and empty texts stand for the model's own choice.

    Raises: BadRequest, one sentence, for what makes no sense.
    """
    fields, prompt = asked(values), values.get("prompt") or ""
    if donor := str(values.get("donor") or "").strip():
        fields["reuse"] = donor
    if fields.get("original_prompt") == prompt.strip():
        del fields["original_prompt"]
    return GenerationRequest(prompt, **fields, **more)


class ExtractEntities(Node):
    id = "CHAI_ExtractEntities"
    name = "CHAI Extract Entities"
    about = "The objects and scenes that a prompt names: what its video is kept under, and what is looked for."
    inputs = (PROMPT,)
    outputs = (
        Output("STRING", "entities", "One line for each: object or scene, its words, and the count if it is said."),
        Output("STRING", "json", "The same as JSON: objects and scenes with head, phrase, attributes and count."),
    )

    @classmethod
    def run(cls, call: Call, **values: Any) -> Result:
        from ..chai_app.engine.prompt_notes import entities_of

        found = entities_of(values["prompt"])
        lines = []
        for kind, entities in (("object", found.objects), ("scene", found.scenes)):
            for each in entities:
                lines.append(f"{kind}: {each.phrase}" + ("" if each.count is None else f" (count {each.count})"))
        text = "\n".join(lines) or "This prompt names no object and no scene."
        return Result((text, json.dumps(asdict(found), ensure_ascii=False)), text)


class Plan(Node):
    id = "CHAI_Plan"
    name = "CHAI Plan"
    about = (
        "Look whether an earlier video can help with this prompt, and say why or why not. Nothing is "
        "written, and no model is loaded; it runs again by itself when the cache has something else to offer."
    )
    inputs = (
        Input("pipeline", PIPELINE, "From Load Pipeline: an entry helps only the model that made it."),
        PROMPT,
        *SIZE,
        REUSE,
        Input("cache", CACHE, "From Open Cache. Not connected: the usual cache.", optional=True),
        Input(
            "donor",
            "STRING",
            "The id of the entry to attend to (or several ids with commas between them), from the Donor Picker; it "
            "goes before what reuse says.",
            optional=True,
            wired=True,
        ),
        widget("--donors"),
        AFTER,
        *widgets("--preset", "--adaptive-steps", "--loops"),
        ORIGINAL,
        widget("--recipe"),
    )
    outputs = (
        Output(PLAN, "plan", "For the Sampler."),
        Output("STRING", "decision", "Hit or miss, steps, donor, and why."),
        Output("BOOLEAN", "is hit", "Whether an earlier video helps."),
    )
    hidden = ("unique_id", "prompt")
    has_fingerprint = True

    @classmethod
    def run(cls, call: Call, **values: Any) -> Result:
        pipeline: handles.Pipeline = values["pipeline"]
        cache = values.get("cache") or handles.default_cache()
        request = request_of(values, is_private=cache.is_private)
        engine = pipeline.engine(cache)
        plan = engine.plan(request)
        question = RETRIEVALS.note(cls.id, call, asking(engine, request), found_by(plan.reuse))
        text = words.plan_text(plan)
        planned = handles.Planned(pipeline, cache, request, plan, question)
        return Result((planned, text, plan.reuse.outcome == "hit"), text)

    @classmethod
    def fingerprint(cls, node_id: str | None, **constants: Any) -> str:
        return RETRIEVALS.fingerprint(cls.id, node_id, constants)


def with_sampling(
    request: GenerationRequest, values: dict[str, Any], image: str | None, extend: str | None = None
) -> GenerationRequest:
    """The request with what a sampler's widgets say about how it is carried out.

    Args:
        image, extend: paths of the picture or of the video that it starts from.
    Raises: BadRequest, one sentence, for what makes no sense.
    """
    return replace(request, **asked(values), image=image, extend=extend)
