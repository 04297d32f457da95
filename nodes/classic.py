"""Our nodes through ComfyUI's first interface: classes in NODE_CLASS_MAPPINGS."""

from __future__ import annotations

from typing import Any

from . import host
from .definition import CATEGORY, Call, Input, Node, Output
from .everything import NODES

# Under names of our own, as a node has an input called prompt, too.
_HIDDEN = {
    "unique_id": ("host_node_id", "UNIQUE_ID"),
    "prompt": ("host_prompt", "PROMPT"),
    "extra_pnginfo": ("host_workflow", "EXTRA_PNGINFO"),
}
_HIDDEN_NAMES = {name for name, _ in _HIDDEN.values()}


def input_of(each: Input) -> tuple[Any, dict[str, Any]]:
    """An input in the host's words."""
    options: dict[str, Any] = {"tooltip": each.tooltip}
    if each.label is not None:
        options["display_name"] = each.label
    if each.wired:
        options["forceInput"] = True
    if each.default is not None:
        options["default"] = each.default
    numbers = {"min": each.least, "max": each.most, "step": each.step or (1 if each.type == "INT" else None)}
    if each.type in ("INT", "FLOAT"):
        options |= {name: value for name, value in numbers.items() if value is not None}
    if each.seed:
        options["control_after_generate"] = True
    if each.multiline:
        options |= {"multiline": True, "dynamicPrompts": True}
    if each.placeholder is not None:
        options["placeholder"] = each.placeholder
    if each.choices is not None:
        return list(each.choices()), options
    return each.type, options


def node_class(node: type[Node], has_video: bool) -> type:
    """The host's class for one of our nodes; without VIDEO, inputs and outputs of that type are left out."""
    inputs: list[Input] = [each for each in node.inputs if has_video or not each.needs_video]
    outputs: list[Output] = [each for each in node.outputs if has_video or not each.needs_video]

    def input_types(cls: type) -> dict[str, dict[str, Any]]:
        types: dict[str, dict[str, Any]] = {"required": {}, "optional": {}}
        for each in inputs:
            types["optional" if each.optional else "required"][each.id] = input_of(each)
        if node.hidden:
            types["hidden"] = dict(_HIDDEN[name] for name in node.hidden)
        return types

    def execute(self: Any, **values: Any) -> dict[str, Any]:
        call, given = _split(values)
        result = node.run(call, **given)
        return {"ui": result.ui, "result": tuple(result.values[: len(outputs)])}

    members: dict[str, Any] = {
        "__doc__": node.about,
        "__module__": __name__,
        "INPUT_TYPES": classmethod(input_types),
        "RETURN_TYPES": tuple(each.type for each in outputs),
        "RETURN_NAMES": tuple(each.name for each in outputs),
        "OUTPUT_IS_LIST": tuple(each.is_list for each in outputs),
        "OUTPUT_TOOLTIPS": tuple(each.tooltip for each in outputs),
        "FUNCTION": "execute",
        "CATEGORY": CATEGORY,
        "DESCRIPTION": node.about,
        "OUTPUT_NODE": node.is_output,
        "execute": execute,
    }
    if node.has_fingerprint:

        def is_changed(cls: type, **values: Any) -> str:
            call, _ = _split(values)
            constants = {name: value for name, value in values.items() if name not in _HIDDEN_NAMES}
            return node.fingerprint(call.node_id or host.node_being_fingerprinted(), **constants)

        members["IS_CHANGED"] = classmethod(is_changed)
    return type(node.__name__, (), members)


def _split(values: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    """What the host says about the call, and the inputs that are connected or filled in."""
    call = Call(values.get("host_node_id"), values.get("host_prompt"), values.get("host_workflow"))
    given = {name: value for name, value in values.items() if name not in _HIDDEN_NAMES and value is not None}
    return call, given


NODE_CLASS_MAPPINGS = {node.id: node_class(node, host.has_video_type()) for node in NODES}
NODE_DISPLAY_NAME_MAPPINGS = {node.id: node.name for node in NODES}
