"""Widgets for the fields of a request: names, words and bounds are those of its table, the same for every face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..chai_app.fields import Choice, Number, Switch, Whole
from ..chai_app.request import OPTIONS, GenerationRequest, field_of
from .definition import Input

PRESETS_OWN = "auto"

# A saved graph knows a widget by its id, which for most is the field's name.
_ID = {"num_inference_steps": "steps", "guidance_scale": "guidance"}
_NO_WIDGETS = ("model", "image", "extend")  # inputs of these names are chosen, or connected, in another way


def widget(name: str, usual: str = "") -> Input:
    """The widget for an option of the command line. 0, auto or an empty text leave its field open.

    Args:
        usual: what the field is then, where that is another thing for this node than for a request.
    """
    field = field_of(name)
    assert field is not None, name
    option, default = OPTIONS[field], getattr(GenerationRequest, field)
    id, usual = _ID.get(field, field), usual or option.usual or "not asked for"
    label = option.label if "_" in id else None
    if isinstance(option, Switch):
        return Input(id, "BOOLEAN", option.help, label=label, default=default, optional=True)
    if isinstance(option, Choice):
        choices, default = option.choices, usual
        if usual not in choices:
            choices, default = (PRESETS_OWN, *choices), PRESETS_OWN
        tooltip = f"{option.help} {default}: {usual}." if default != usual else option.help
        return Input(id, "COMBO", tooltip, label=label, choices=lambda: choices, default=default, optional=True)
    if isinstance(option, Number):
        kind, zero = ("INT", 0) if isinstance(option, Whole) else ("FLOAT", 0.0)
        bounds = {"least": zero if default is None else option.least, "most": option.most, "step": option.step}
        tooltip = f"{option.help} 0: {usual}." if default is None else option.whole_help
        default = zero if default is None else default
        return Input(id, kind, tooltip, label=label, default=default, optional=True, **bounds)
    shown = f"{option.label} (optional)"
    return Input(id, "STRING", option.help, label=label, default="", optional=True, placeholder=shown)


def widgets(*names: str, usual: str = "") -> tuple[Input, ...]:
    """Several of them, one below the other."""
    return tuple(widget(name, usual) for name in names)


def asked(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request that widgets say something about."""
    fields = {_field_of_id(id): value.strip() if isinstance(value, str) else value for id, value in values.items()}
    return {
        field: value
        for field, value in fields.items()
        if field is not None and (field == "seed" or value not in (None, 0, "", PRESETS_OWN))
    }


def _field_of_id(id: str) -> str | None:
    field = field_of(id)
    return field if field in OPTIONS and field not in _NO_WIDGETS else None
