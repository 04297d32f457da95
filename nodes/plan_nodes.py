"""Nodes that look before a video is made: what a prompt names, and what the cache has for it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from . import handles, words
from .definition import CACHE, PIPELINE, PLAN, Call, Input, Node, Output, Result
from .retrievals import RETRIEVALS, asking, found_by

if TYPE_CHECKING:
    from ..chai_app.request import GenerationRequest

PRESETS_OWN = "auto"
PROMPT = Input(
    "prompt",
    "STRING",
    "What the video should show, in plain English. The demo model knows balls, balloons, cars, boats, "
    "fish, stars, rockets and mushrooms in six colours and six places.",
    default="a red balloon rising in the desert",
    multiline=True,
)
WIDTH = Input("width", "INT", "Pixels. 0: as the model likes it.", default=0, least=0, most=4096, step=8, optional=True)
HEIGHT = Input(
    "height", "INT", "Pixels. 0: as the model likes it.", default=0, least=0, most=4096, step=8, optional=True
)
FRAMES = Input(
    "num_frames",
    "INT",
    "Length in frames: 51 are two seconds of Open-Sora, 1 makes a picture. 0: as the model likes it.",
    label="frames",
    default=0,
    least=0,
    most=1000,
    optional=True,
)
FPS = Input(
    "fps",
    "FLOAT",
    "Frames per second. 0: as the model likes it.",
    default=0.0,
    least=0.0,
    most=120.0,
    step=1.0,
    optional=True,
)
REUSE = Input(
    "reuse",
    "COMBO",
    "auto: attend to an earlier video that shows the same thing or place, in fewer steps, if there is "
    "one and the preset allows it. full: never, all steps. fast: the few steps of a hit, without a donor.",
    choices=lambda: ("auto", "full", "fast"),
    default="auto",
    optional=True,
)
PRESET = Input(
    "preset",
    "COMBO",
    "How much exactness is given for speed. exact: no approximation, no earlier video. balanced: earlier videos help "
    "where they fit, and a full run leaves out what does not matter. draft: half the steps, for a first look. What "
    "other widgets say goes before it.",
    choices=lambda: _presets(),
    default="balanced",
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
    from ..chai_app.request import GenerationRequest

    numbers = ("width", "height", "num_frames", "fps")
    fields: dict[str, Any] = {name: values.get(name) or None for name in numbers}
    prompt, original = values.get("prompt") or "", values.get("original_prompt")
    donor, reuse = str(values.get("donor") or "").strip(), values.get("reuse", "auto")
    fields["reuse"] = donor or (None if reuse == "auto" else reuse)  # auto leaves it to the preset
    fields |= {"donors": values.get("donors") or 1, "num_loops": values.get("num_loops") or 1}
    fields |= {"preset": values.get("preset"), "adaptive_steps": bool(values.get("adaptive_steps", False))}
    fields["original_prompt"] = None if original == prompt else original
    return GenerationRequest(prompt=prompt, **fields, **more)


def _presets() -> tuple[str, ...]:
    from ..chai_app.presets import PRESETS

    return tuple(PRESETS)


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
        WIDTH,
        HEIGHT,
        FRAMES,
        FPS,
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
        Input(
            "donors",
            "INT",
            "How many earlier videos the new one may attend to, each for things that the others do not show.",
            default=1,
            least=1,
            most=8,
            optional=True,
        ),
        AFTER,
        PRESET,
        Input(
            "adaptive_steps",
            "BOOLEAN",
            "The less a hit's donor resembles what is asked for, the more steps the hit takes.",
            label="adaptive steps",
            default=False,
            optional=True,
        ),
        Input(
            "num_loops",
            "INT",
            'Clips in a row, each going on from the end of the one before. A prompt like "|0| a sunny day |1| rain" '
            "gives each clip its own. Such a video looks for no donor.",
            label="loops",
            default=1,
            least=1,
            most=64,
            optional=True,
        ),
        ORIGINAL,
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
    acceleration = values.get("acceleration", PRESETS_OWN)
    sampling: dict[str, Any] = {
        "seed": values.get("seed"),
        "num_inference_steps": values.get("steps") or None,
        "fast_steps": values.get("fast_steps") or None,
        "start_level": values.get("start_level") or None,
        "guidance_scale": values.get("guidance") or None,
        "negative_prompt": str(values.get("negative_prompt") or "").strip() or None,
        "image": image,
        "extend": extend,
        "acceleration": None if acceleration == PRESETS_OWN else acceleration,
        "aesthetic_score": values.get("aesthetic_score") or None,
        "motion_score": values.get("motion_score") or None,
        "camera_motion": str(values.get("camera_motion") or "").strip() or None,
    }
    sizes = {name: values[name] for name in ("width", "height", "num_frames") if values.get(name)}
    return replace(request, **sampling, **sizes)
