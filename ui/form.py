"""The form of the first page: its fields, what they make a request of, and a request back in its fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from chai_app.errors import BadRequest
from chai_app.models import DEMO
from chai_app.opensora.sizes import RESOLUTIONS, video_size
from chai_app.request import GenerationRequest, RequestDefaults

from .studio import Studio

MODEL_SIZE = "the model's own"
CUSTOM_SIZE = "in pixels"
ASPECTS = {"wide": "9:16", "square": "1:1", "tall": "16:9"}
PRESETS: dict[str, dict[str, Any]] = {
    "The model's own": {"num_frames": None, "num_inference_steps": None, "fast_steps": None},
    "Draft: half the steps": {"num_frames": None, "num_inference_steps": 15, "fast_steps": 4},
    "Twice as long": {"num_frames": 2, "num_inference_steps": None, "fast_steps": None},
    "Picture": {"num_frames": 1, "num_inference_steps": None, "fast_steps": None},
}
_WHOLE = ("width", "height", "num_frames", "num_inference_steps", "fast_steps", "seed", "num_loops")
_NUMBERS = ("fps", "guidance_scale", "aesthetic_score", "motion_score", "start_level")
_TEXTS = ("negative_prompt", "camera_motion", "image", "extend", "model", "reuse")


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


def build_form(studio: Studio) -> Form:
    """Make the fields where they are called for. Called within a `gr.Blocks`."""
    names = [(f"{s.name}{'' if s.model else ' (weights missing)'}", s.name) for s in studio.models()]
    if studio.model not in [value for _, value in names]:
        names.append((studio.model, studio.model))
    fields: dict[str, Any] = {}
    fields["prompt"] = gr.Textbox(
        label="Prompt",
        placeholder="a red balloon rising in the desert",
        lines=3,
        max_lines=12,
        elem_id="prompt",
        autofocus=True,
    )
    return Form(fields) if not names else _settings(studio, fields, names)


def _settings(studio: Studio, fields: dict[str, Any], names: list[tuple[str, str]]) -> Form:
    model = studio.default_model()
    own = None if model is None else model.defaults
    with gr.Accordion("Seed, length and size", open=False, elem_id="settings-main"):
        with gr.Row():
            fields["seed_mode"] = gr.Radio(
                ["random", "fixed", "as before"], value="random", label="Seed", elem_id="seed-mode"
            )
            fields["seed"] = _optional("Fixed seed", own, "seed", "seed")
            fields["count"] = gr.Number(
                label="Videos per prompt", value=1, precision=0, minimum=1, maximum=100, elem_id="count"
            )
        fields["per_line"] = gr.Checkbox(label="Every line of the prompt is a video of its own", elem_id="per-line")
        with gr.Row():
            fields["preset"] = gr.Dropdown(
                list(PRESETS), value=next(iter(PRESETS)), label="Preset", elem_id="preset", filterable=False
            )
            fields["resolution"] = gr.Dropdown(
                [MODEL_SIZE, *RESOLUTIONS, CUSTOM_SIZE], value=MODEL_SIZE, label="Size", elem_id="resolution"
            )
            fields["aspect"] = gr.Dropdown(list(ASPECTS), value="wide", label="Shape", filterable=False)
        with gr.Row():
            fields["width"] = _optional("Width (px)", own, "width", "width")
            fields["height"] = _optional("Height (px)", own, "height", "height")
            fields["num_frames"] = _optional("Frames", own, "num_frames", "num-frames")
            fields["fps"] = _optional("Frames per second", own, "fps", "fps")
        if own is not None:
            gr.Markdown(
                f"Left empty, the model decides: {own.width} × {own.height}, {own.num_frames} frames, "
                f"{own.fps:g} per second, {own.num_inference_steps} steps.",
                elem_classes="c-hint",
            )
    with gr.Accordion("Reuse and steps", open=False, elem_id="settings-reuse"):
        fields["reuse"] = gr.Dropdown(
            [("automatic: attend to an earlier video if one fits", "auto"), ("off: a full run", "full"),
             ("few steps, without a donor", "fast")],
            value="auto",
            label="Reuse (or the id of an entry)",
            allow_custom_value=True,
            elem_id="reuse",
        )  # fmt: skip
        with gr.Row():
            fields["num_inference_steps"] = _optional("Steps of a full run", own, "num_inference_steps")
            fields["fast_steps"] = _optional("Steps of a hit", own, "fast_steps")
            fields["start_level"] = _optional("Noise a hit begins with (1: noise alone)", own, "start_level")
            fields["guidance_scale"] = _optional("Guidance", own, "guidance_scale")
        fields["is_private"] = gr.Checkbox(
            label="Private: read the cache, write nothing; the video is deleted when the program ends",
            elem_id="private",
        )
    with gr.Accordion("Guiding the video", open=False, elem_id="settings-guide"):
        fields["negative_prompt"] = gr.Textbox(label="What it should not show", lines=1)
        with gr.Row():
            fields["aesthetic_score"] = _optional("Aesthetic score (6.5 is good)", own, "aesthetic_score")
            fields["motion_score"] = _optional("Motion score (5 is usual)", own, "motion_score")
        with gr.Row():
            fields["camera_motion"] = gr.Textbox(label="Camera motion", placeholder="pan right", lines=1)
            fields["num_loops"] = gr.Number(label="Clips in a row", value=1, precision=0, minimum=1)
        with gr.Row():
            fields["image"] = gr.Image(
                label="Picture to start from", type="filepath", sources=["upload", "clipboard"], height=160
            )
            fields["extend"] = gr.File(
                label="Video to go on with", file_types=[".mp4", ".webm", ".gif"], type="filepath", height=160
            )
        fields["model"] = gr.Dropdown(names, value=studio.model, label="Model", elem_id="model", filterable=False)
    return Form(fields)


def _optional(label: str, own: RequestDefaults | None, name: str, elem_id: str | None = None) -> Any:
    """A number that may be left out: Gradio's field for numbers would make 0 of nothing. It shows the model's own."""
    value = getattr(own, name, None)
    placeholder = "" if value is None else f"{value:g}"
    return gr.Textbox(label=label, placeholder=placeholder, lines=1, max_lines=1, elem_id=elem_id)


def requests_from(values: Mapping[str, Any], last_seed: int | None = None) -> list[GenerationRequest]:
    """The requests that a form asks for: every line, every seed.

    Raises: BadRequest for the first field that makes no sense.
    """
    prompt = str(values.get("prompt") or "")
    prompts = [line.strip() for line in prompt.splitlines() if line.strip()] if values.get("per_line") else [prompt]
    request = _request({**values, "prompt": (prompts or [""])[0]}, last_seed)
    count = _whole(values.get("count")) or 1
    if not 1 <= count <= 100:
        raise BadRequest(f"Videos per prompt must be from 1 to 100, not {count}.")
    each = [replace(request, prompt=prompt) for prompt in prompts]
    return [
        replace(one, seed=None if one.seed is None else one.seed + i) if i else one
        for one in each
        for i in range(count)
    ]


def request_from(values: Mapping[str, Any], last_seed: int | None = None) -> GenerationRequest:
    """The first of them, for a plan."""
    return requests_from({**values, "count": 1}, last_seed)[0]


def _request(values: Mapping[str, Any], last_seed: int | None) -> GenerationRequest:
    fields: dict[str, Any] = {"prompt": values["prompt"], "is_private": bool(values.get("is_private"))}
    fields |= {name: _whole(values.get(name)) for name in _WHOLE if _is_given(values.get(name))}
    fields |= {name: _number(values[name]) for name in _NUMBERS if _is_given(values.get(name))}
    fields |= {name: str(values[name]).strip() for name in _TEXTS if _is_given(values.get(name))}
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


def _whole(value: Any) -> Any:
    """A whole number if it is one; else what it is, for `GenerationRequest` to refuse in a sentence."""
    value = _number(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        with suppress(ValueError):
            return kind(value.strip())
    return value


def fields_of(request: GenerationRequest) -> dict[str, Any]:
    """A request in the words of the form."""
    reuse = request.reuse or "auto"
    return {
        **{name: _text(getattr(request, name)) for name in (*_WHOLE, *_NUMBERS)},
        "num_loops": request.num_loops,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt or "",
        "camera_motion": request.camera_motion or "",
        "image": request.image,
        "extend": request.extend,
        "model": request.model or DEMO,
        "reuse": reuse,
        "seed_mode": "random" if request.seed is None else "fixed",
        "count": 1,
        "per_line": False,
        "preset": next(iter(PRESETS)),
        "resolution": MODEL_SIZE if request.width is None else CUSTOM_SIZE,
        "is_private": request.is_private,
    }


def _text(number: float | None) -> str:
    return "" if number is None else str(number)


def preset_fields(name: str, studio: Studio) -> dict[str, Any]:
    """What a preset puts into the form."""
    values = dict(PRESETS[name])
    model = studio.default_model()
    if values["num_frames"] == 2 and model is not None:
        values["num_frames"] = 2 * model.defaults.num_frames
    return {name: _text(value) for name, value in values.items()}
