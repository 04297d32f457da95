"""Our nodes in ComfyUI's words, comfy_api.latest. Imported only where the host is."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import ComfyExtension, io

from . import host
from .definition import CATEGORY, Call, Input, Node, Output
from .everything import NODES

_HIDDEN = {
    "unique_id": io.Hidden.unique_id,
    "prompt": io.Hidden.prompt,
    "extra_pnginfo": io.Hidden.extra_pnginfo,
}
_SOCKETS = {"IMAGE": io.Image, "LATENT": io.Latent, "VIDEO": io.Video}
_WIDGETS = {"STRING": io.String, "INT": io.Int, "FLOAT": io.Float, "BOOLEAN": io.Boolean, "COMBO": io.Combo}


def input_of(each: Input) -> Any:
    """An input in the host's words."""
    common = {"display_name": each.label, "optional": each.optional, "tooltip": each.tooltip}
    if each.type not in _WIDGETS:
        kind = _SOCKETS.get(each.type) or io.Custom(each.type)
        return kind.Input(each.id, **common)
    special: dict[str, Any] = {"default": each.default}
    if each.wired:
        special["force_input"] = True
    if each.type == "COMBO":
        assert each.choices is not None
        special["options"] = list(each.choices())
    elif each.type in ("INT", "FLOAT"):
        special |= {"min": each.least, "max": each.most, "step": each.step or (1 if each.type == "INT" else None)}
        if each.seed:
            special["control_after_generate"] = True
    elif each.type == "STRING":
        special |= {"multiline": each.multiline, "placeholder": each.placeholder}
        if each.multiline:
            special["dynamic_prompts"] = True
    return _WIDGETS[each.type].Input(each.id, **common, **special)


def output_of(each: Output) -> Any:
    """An output in the host's words."""
    kind = _SOCKETS.get(each.type) or _WIDGETS.get(each.type) or io.Custom(each.type)
    return kind.Output(display_name=each.name, tooltip=each.tooltip, is_output_list=each.is_list)


def node_class(node: type[Node]) -> type[io.ComfyNode]:
    """The host's class for one of our nodes."""

    def define_schema(cls: Any) -> io.Schema:
        return io.Schema(
            node_id=node.id,
            display_name=node.name,
            category=CATEGORY,
            description=node.about,
            inputs=[input_of(each) for each in node.inputs],
            outputs=[output_of(each) for each in node.outputs],
            hidden=[_HIDDEN[name] for name in node.hidden],
            is_output_node=node.is_output,
        )

    def execute(cls: Any, **values: Any) -> io.NodeOutput:
        asked = {name: getattr(cls.hidden, name, None) for name in _HIDDEN} if cls.hidden is not None else {}
        call = Call(asked.get("unique_id"), asked.get("prompt"), asked.get("extra_pnginfo"))
        result = node.run(call, **{name: value for name, value in values.items() if value is not None})
        return io.NodeOutput(*result.values, ui=result.ui or None)

    members: dict[str, Any] = {
        "__doc__": node.about,
        "__module__": __name__,
        "define_schema": classmethod(define_schema),
        "execute": classmethod(execute),
    }
    if node.has_fingerprint:

        def fingerprint_inputs(cls: Any, **constants: Any) -> str:
            return node.fingerprint(host.node_being_fingerprinted(), **constants)

        members["fingerprint_inputs"] = classmethod(fingerprint_inputs)
    return type(node.__name__, (io.ComfyNode,), members)


class ChaiExtension(ComfyExtension):
    """What the host asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [node_class(node) for node in NODES]


async def comfy_entrypoint() -> ChaiExtension:
    """The host's way in."""
    return ChaiExtension()
