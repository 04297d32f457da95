"""The form of the first page: its fields, what they make a request of, and a request back in its fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from chai_app.engine.written import with_following_seeds
from chai_app.enhance import DEMO as DEMO_ENHANCER
from chai_app.enhance import PUBLISHED as ENHANCERS
from chai_app.errors import BadRequest, ChaiError
from chai_app.fields import REUSE, Number, Option, Whole
from chai_app.models import DEMO, find_model
from chai_app.opensora.sizes import RESOLUTIONS, video_size
from chai_app.presets import ACCELERATIONS, DEFAULT_PRESET, PRESETS, RECIPES
from chai_app.request import OPTIONS, GenerationRequest, RequestDefaults

from .enhancement import Enhancement, prompts_of
from .studio import Studio

MODEL_SIZE = "model's own"
CUSTOM_SIZE = "in pixels"
ASPECTS = {"wide": "9:16", "square": "1:1", "tall": "16:9"}
LENGTHS = {"model's own": None, "twice as long": 2, "a picture": 1}
_OF_PRESET = ("reuse", "num_inference_steps", "fast_steps", "acceleration")

_COUNT = Whole("Videos per prompt", least=1, most=100)
_NARROW = 110  # pixels; Gradio's own least width leaves room for two numbers in a row
_ACCELERATION_WORDS = {
    "none": "none: every block is computed at every step",
    "first-block": "first-block: skip the rest of a step whose first block changed little",
    "taylorseer": "taylorseer: guess what follows from the steps before",
    "pab": "pab: attention is not computed at every step",
    "fastercache": "fastercache: attention and guidance are not computed at every step",
    "text-kv": "text-kv: attention to the text is prepared once",
    "magcache": "magcache: skip steps whose blocks would add nearly what they added before",
}

_RECIPE_WORDS = {
    "paper": "paper: the first block looks at it, in steps 2 to 4",
    "trained": "trained: all blocks look at it, in all steps; for models that learnt with donors",
}


@dataclass
class Form:
    """The fields by name, in the order in which Gradio hands their values over."""

    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def components(self) -> list[Any]:
        """The fields for `inputs=` and `outputs=`."""
        return list(self.fields.values())

    def named(self, values: Sequence[Any]) -> dict[str, Any]:
        """Values as Gradio hands them over, by name."""
        return dict(zip(self.fields, values, strict=True))

    def updates(self, values: Mapping[str, Any]) -> list[Any]:
        """What a handler returns to put `values` into some fields and leave the others."""
        return [gr.update(value=values[name]) if name in values else gr.skip() for name in self.fields]


def build_prompt() -> Form:
    """Make the first field where it is called for. Called within a `gr.Blocks`; `build_settings` makes the others."""
    fields: dict[str, Any] = {}
    fields["prompt"] = gr.Textbox(
        label="Prompt",
        placeholder="a red balloon rising in the desert",
        lines=3,
        max_lines=12,
        elem_id="prompt",
        autofocus=True,
    )
    # The prompt that the enhancer was given stays beside what it wrote, until the form is filled with another.
    fields["enhanced"] = gr.Textbox(
        elem_id="enhanced", elem_classes="c-hidden", label="Before enhancing", container=False
    )
    return Form(fields)


def build_settings(studio: Studio, form: Form) -> None:
    """Make the other fields, below whatever stands under the prompt."""
    fields = form.fields
    names = [(f"{s.name}{'' if s.model else ' (weights missing)'}", s.name) for s in studio.models()]
    if studio.model not in [value for _, value in names]:
        names.append((studio.model, studio.model))
    model = studio.default_model()
    own = None if model is None else model.defaults
    fields["preset"] = gr.Radio(
        list(PRESETS), value=DEFAULT_PRESET, label="Preset", info=_about(DEFAULT_PRESET), elem_id="preset"
    )
    with gr.Accordion("Seed, length and size", open=False, elem_id="settings-main"):
        fields["seed_mode"] = gr.Radio(
            ["random", "fixed", "as before"], value="random", label="Seed", elem_id="seed-mode"
        )
        with gr.Row():
            fields["seed"] = _field("seed", own, label="Fixed seed")
            fields["count"] = gr.Number(label=_COUNT.label, value=1, precision=0, elem_id="count")
        fields["per_line"] = gr.Checkbox(label="Every line of the prompt is a video of its own", elem_id="per-line")
        with gr.Row():
            fields["resolution"] = gr.Dropdown(
                [MODEL_SIZE, *RESOLUTIONS, CUSTOM_SIZE], value=MODEL_SIZE, label="Size", elem_id="resolution"
            )
            fields["aspect"] = gr.Dropdown(list(ASPECTS), value="wide", label="Shape", filterable=False)
        with gr.Row():
            fields |= {name: _field(name, own) for name in ("width", "height")}
        with gr.Row():
            fields["length"] = gr.Dropdown(
                list(LENGTHS), value=next(iter(LENGTHS)), label="Length", elem_id="length", filterable=False
            )
            fields |= {name: _field(name, own) for name in ("num_frames", "fps")}
        if own is not None:
            gr.Markdown(
                f"Left empty, the model decides: {own.width} × {own.height}, {own.num_frames} frames, "
                f"{own.fps:g} per second, {own.num_inference_steps} steps.",
                elem_classes="c-hint",
            )
    with gr.Accordion("Reuse and steps", open=False, elem_id="settings-reuse"):
        fields["reuse"] = gr.Dropdown(
            [("as the preset has it", ""), ("automatic: attend to an earlier video if one fits", "auto"),
             ("off: a full run", "full"), ("few steps, without a donor", "fast")],
            value="",
            label="Reuse (or the id of an entry, or several with commas)",
            allow_custom_value=True,
            elem_id="reuse",
        )  # fmt: skip
        with gr.Row():
            fields |= {name: _field(name, own) for name in ("num_inference_steps", "fast_steps", "guidance_scale")}
        with gr.Row():  # what else is a number in this part of the command line's help
            further = (n for n, option in OPTIONS.items() if option.panel == REUSE and isinstance(option, Number))
            fields |= {name: _field(name, own) for name in further if name not in fields}
        fields["acceleration"] = gr.Dropdown(
            [("as the preset has it", ""), *((_ACCELERATION_WORDS[name], name) for name in ACCELERATIONS)],
            value="",
            label=f"{OPTIONS['acceleration'].title}: reuse within the run",
            elem_id="acceleration",
            filterable=False,
        )
        recipe = OPTIONS["recipe"]
        fields["recipe"] = gr.Dropdown(
            [("as the model likes it", ""), *((_RECIPE_WORDS[name], name) for name in RECIPES)],
            value="",
            label=f"{recipe.title}: how a hit attends to its donor",
            elem_id="recipe",
            filterable=False,
        )
        adaptive = OPTIONS["adaptive_steps"]
        fields["adaptive_steps"] = gr.Checkbox(
            label=f"{adaptive.title}: {adaptive.help[:1].lower()}{adaptive.help[1:-1]}", elem_id="adaptive-steps"
        )
        fields["is_private"] = gr.Checkbox(
            label="Private: read the cache, write nothing; the video is deleted when the program ends",
            elem_id="private",
        )
    with gr.Accordion("Guiding the video", open=False, elem_id="settings-guide"):
        fields["negative_prompt"] = _field("negative_prompt", own)
        with gr.Row():
            fields |= {name: _field(name, own) for name in ("aesthetic_score", "motion_score")}
        with gr.Row():
            fields["camera_motion"] = _field("camera_motion", own, placeholder="pan right")
            fields["num_loops"] = gr.Number(label=OPTIONS["num_loops"].title, value=1, precision=0, minimum=1)
        with gr.Row():
            fields["image"] = gr.Image(
                label=OPTIONS["image"].title, type="filepath", sources=["upload", "clipboard"], height=160
            )
            fields["extend"] = gr.File(
                label=OPTIONS["extend"].title, file_types=[".mp4", ".webm", ".gif"], type="filepath", height=160
            )
        with gr.Row():
            fields["model"] = gr.Dropdown(names, value=studio.model, label="Model", elem_id="model", filterable=False)
            fields["enhancer"] = gr.Dropdown(
                [DEMO_ENHANCER, *ENHANCERS], value=DEMO_ENHANCER, label="Enhancer", elem_id="enhancer", filterable=False
            )


def size_for(width: str, height: str, chosen: str) -> str:
    """The entry of the list of sizes that lets a width or a height count, and the model's own again without them."""
    if any(_is_given(side) for side in (width, height)):
        return CUSTOM_SIZE
    return MODEL_SIZE if chosen == CUSTOM_SIZE else chosen


def _field(name: str, own: RequestDefaults | None, label: str | None = None, placeholder: str | None = None) -> Any:
    """A text or a number that may be left out: Gradio's field for numbers would make 0 of nothing. It shows what it is
    then, by the model or for any request."""
    option, usual = OPTIONS[name], getattr(own, name, getattr(GenerationRequest, name))
    is_number = isinstance(option, Number)
    return gr.Textbox(
        label=label or option.caption,
        info=option.info,
        placeholder=f"{usual:g}" if is_number and usual is not None else placeholder,
        lines=1,
        max_lines=1 if is_number else None,
        elem_id=name.replace("_", "-"),
        min_width=_NARROW,
    )


def requests_from(values: Mapping[str, Any], last_seed: int | None = None) -> list[GenerationRequest]:
    """The requests that a form asks for: every line, every seed.

    Raises: BadRequest for the first field that makes no sense.
    """
    prompts = prompts_of(str(values.get("prompt") or ""), bool(values.get("per_line")))
    request = _request({**values, "prompt": (prompts or [""])[0]}, last_seed)
    count = _read(_COUNT, values.get("count") or 1)
    _COUNT.check(count)
    originals = Enhancement.from_text(str(values.get("enhanced") or "")).originals_of(prompts)
    each = [
        replace(request, prompt=prompt, original_prompt=original)
        for prompt, original in zip(prompts or [request.prompt], originals or [None], strict=True)
    ]
    return [request for one in each for request in with_following_seeds(one, count)]


def request_from(values: Mapping[str, Any], last_seed: int | None = None) -> GenerationRequest:
    """The first of them, for a plan."""
    return requests_from({**values, "count": 1}, last_seed)[0]


def _request(values: Mapping[str, Any], last_seed: int | None) -> GenerationRequest:
    fields: dict[str, Any] = {"prompt": values["prompt"]}
    fields |= {name: _read(option, values[name]) for name, option in OPTIONS.items() if _is_given(values.get(name))}
    mode = values.get("seed_mode") or ("fixed" if _is_given(values.get("seed")) else "random")
    if mode == "random":
        fields.pop("seed", None)
    elif mode == "as before":
        fields["seed"] = last_seed
    elif "seed" not in fields:
        raise BadRequest("The seed is to be fixed, but none is given: write a whole number, or choose random.")
    resolution = values.get("resolution") or CUSTOM_SIZE
    if resolution != CUSTOM_SIZE:
        for name in ("width", "height"):
            fields.pop(name, None)
        if resolution != MODEL_SIZE:
            aspect = ASPECTS.get(str(values.get("aspect")), "9:16")
            fields["height"], fields["width"] = video_size(str(resolution), aspect)
    return GenerationRequest(**fields)


def _is_given(value: object) -> bool:
    return value is not None and (not isinstance(value, str) or bool(value.strip()))


def _read(option: Option, value: Any) -> Any:
    """A value of the option's kind if it is one; else what it is, for `GenerationRequest` to refuse in a sentence."""
    if isinstance(value, bool):
        return value
    text = str(value).strip()
    with suppress(ValueError):
        return option.read(text)
    return text


def fields_of(request: GenerationRequest) -> dict[str, Any]:
    """A request in the words of the form."""
    original = request.original_prompt
    pairs = () if original is None else ((original, request.prompt),)
    values = {name: getattr(request, name) for name in OPTIONS}
    shown = {name: value if isinstance(value, bool) else _text(value) for name, value in values.items()}
    return shown | {
        "num_loops": request.num_loops,
        "donors": "" if request.donors == 1 else str(request.donors),
        "prompt": request.prompt,
        "enhanced": Enhancement(original or "", pairs).to_text(),
        "image": request.image,
        "extend": request.extend,
        "model": request.model or DEMO,
        "preset": request.preset or DEFAULT_PRESET,
        "seed_mode": "random" if request.seed is None else "fixed",
        "count": 1,
        "per_line": False,
        "length": next(iter(LENGTHS)),
        "resolution": MODEL_SIZE if request.width is None else CUSTOM_SIZE,
    }


def without_preset(fields: Mapping[str, Any], studio: Studio) -> dict[str, Any]:
    """Fields in which those are empty that the preset settles to the same values anyway, so that it can be changed."""
    settled = _of_preset(fields, studio)
    return {name: "" if name in settled and _text(settled[name]) == value else value for name, value in fields.items()}


def preset_words(values: Mapping[str, Any], studio: Studio) -> tuple[str, str, str]:
    """What the chosen preset does with this form, and the steps of a full run and of a hit that it stands for."""
    name = str(values.get("preset") or DEFAULT_PRESET)
    settled = _of_preset(values, studio)
    # What a person has set counts more; where it is nothing else than what the preset says, there is nothing to tell.
    given = [n for n in _OF_PRESET if _is_given(values.get(n)) and str(values[n]).strip() != _text(settled.get(n))]
    own = f" What you set counts more: {', '.join(OPTIONS[each].label for each in given)}." if given else ""
    steps, fast_steps = (_text(settled.get(n)) for n in ("num_inference_steps", "fast_steps"))
    return _about(name) + own, steps, fast_steps


def _about(preset: str) -> str:
    about = PRESETS[preset].about
    return f"{about[:1].upper()}{about[1:]}."


def _of_preset(values: Mapping[str, Any], studio: Studio) -> dict[str, Any]:
    """The fields that the form's preset settles for the form's model, if that is here."""
    preset = PRESETS[str(values.get("preset") or DEFAULT_PRESET)]
    settled: dict[str, Any] = {"reuse": preset.reuse, "acceleration": preset.acceleration or "none"}
    try:
        own = find_model(str(values.get("model") or studio.model), studio.settings).defaults
    except ChaiError:
        return settled
    settled["acceleration"] = preset.acceleration or own.acceleration
    steps = {name: preset.steps(getattr(own, name)) for name in ("num_inference_steps", "fast_steps")}
    return settled | steps


def _text(value: float | str | None) -> str:
    return "" if value is None else str(value)


def length_fields(name: str, studio: Studio) -> dict[str, Any]:
    """What a length puts into the form."""
    frames, model = LENGTHS[name], studio.default_model()
    if frames == 2:
        frames = None if model is None else 2 * model.defaults.num_frames
    return {"num_frames": _text(frames)}
