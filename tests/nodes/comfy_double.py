"""ComfyUI's modules as far as a pack of nodes touches them, small and faithful: same names, same shapes, same rules.

Written after ComfyUI 0.3.64 (comfy_api.latest, execution.py, nodes.py, server.py, comfy.utils, comfy.model_management).
"""

import asyncio
import contextvars
import enum
import shutil
import sys
import types
from collections import namedtuple
from pathlib import Path

import av


class InterruptProcessingException(Exception):
    """What the cancel button raises; an Exception, as the host's is."""


class VideoFromFile:
    def __init__(self, file):
        self.file = file

    def get_stream_source(self):
        return self.file

    def save_to(self, path, format="auto", codec="auto", metadata=None):
        with av.open(str(self.file)):  # what is no video is told by PyAV, as in the host
            shutil.copyfile(self.file, path)


class Host:
    """What the doubles write down, and what a test can set."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.progress, self.events, self.memory = [], [], []
        self.cancel_at_step = None
        self.previews = "none"
        self.context = contextvars.ContextVar("node", default=None)


def modules(host: Host) -> dict[str, types.ModuleType]:
    """The host's modules by name, ready for sys.modules."""
    import torch
    from aiohttp import web

    made: dict[str, types.ModuleType] = {}

    def module(name, **members):
        made[name] = types.ModuleType(name)
        vars(made[name]).update(members)
        return made[name]

    class ProgressBar:
        def __init__(self, total, node_id=None):
            self.total = total

        def update_absolute(self, value, total=None, preview=None):
            if host.cancel_at_step is not None and value >= host.cancel_at_step:
                raise InterruptProcessingException
            host.progress.append((value, total, preview))

    class ModelPatcher:
        def __init__(self, model, load_device, offload_device, size=0, weight_inplace_update=False):
            self.model, self.load_device, self.offload_device = model, load_device, offload_device

        def model_size(self):
            return sum(each.nbytes for each in self.model.parameters())

        def partially_load(self, device_to, extra_memory=0, force_patch_weights=False):
            assert extra_memory >= self.model_size(), "in pieces the model would not run"
            self.model.to(device_to)
            return self.model_size()

        def detach(self, unpatch_all=True):
            self.model.to(self.offload_device)

    def load_models_gpu(models, memory_required=0, force_patch_weights=False, force_full_load=False):
        for model in models:
            host.memory.append(("load", model))
            model.partially_load(model.load_device, 1e32)

    class PromptServer:
        instance = types.SimpleNamespace(
            routes=web.RouteTableDef(), send_sync=lambda event, data, sid=None: host.events.append((event, data))
        )

    Context = namedtuple("ExecutionContext", "prompt_id node_id list_index")
    arguments = types.SimpleNamespace(preview_method=types.SimpleNamespace(value=host.previews), disable_metadata=False)
    host.arguments = arguments
    model_folders = {}
    module("comfy")
    module("comfy.cli_args", args=arguments)
    module("comfy.utils", ProgressBar=ProgressBar)
    module("comfy.model_patcher", ModelPatcher=ModelPatcher)
    module(
        "comfy.model_management",
        get_torch_device=lambda: torch.device("cpu"),
        throw_exception_if_processing_interrupted=lambda: None,
        free_memory=lambda size, device: host.memory.append(("free", size)),
        minimum_inference_memory=lambda: 0,
        load_models_gpu=load_models_gpu,
    )
    module(
        "folder_paths",
        models_dir=str(host.folder / "models"),
        add_model_folder_path=lambda name, path, is_default=False: model_folders.setdefault(name, []).append(path),
        get_folder_paths=lambda name: list(model_folders[name]),
        get_temp_directory=lambda: str(host.folder / "temp"),
    )
    module("server", PromptServer=PromptServer)
    module("comfy_execution")
    module(
        "comfy_execution.utils",
        get_executing_context=lambda: None if host.context.get() is None else Context("p", host.context.get(), None),
    )
    module("comfy_api")
    latest = module("comfy_api.latest")
    latest.io, latest.ComfyExtension = interface(), type("ComfyExtension", (), {})
    latest.InputImpl = types.SimpleNamespace(VideoFromFile=VideoFromFile)
    return made


def interface() -> types.SimpleNamespace:
    """comfy_api.latest.io: types with Input and Output, Schema, ComfyNode, NodeOutput."""

    class Input:
        def __init__(self, id, io_type, **options):
            self.id, self.io_type, self.optional = id, io_type, options.pop("optional", False)
            self.options = {name: value for name, value in options.items() if value is not None}

    class Output:
        def __init__(self, io_type, display_name=None, tooltip=None, is_output_list=False):
            self.io_type, self.display_name, self.tooltip = io_type, display_name, tooltip
            self.is_output_list = is_output_list

    def kind(io_type, *allowed):
        """A type whose Input takes these options and no others, as the host's constructors do."""
        common = {"display_name", "optional", "tooltip"}

        def make_input(id, **options):
            strange = set(options) - common - set(allowed)
            if strange:
                raise TypeError(f"{io_type}.Input() got unexpected arguments {strange}")
            return Input(id, io_type, **options)

        return types.SimpleNamespace(Input=make_input, Output=lambda **told: Output(io_type, **told))

    class Schema:
        def __init__(
            self, node_id, display_name, category, description, inputs, outputs, hidden=None, is_output_node=False
        ):
            ids = [each.id for each in inputs]
            if len(set(ids)) != len(ids):
                raise ValueError("Input ids must be unique")
            vars(self).update(locals())

    class NodeOutput:
        def __init__(self, *args, ui=None):
            self.args, self.ui = args, ui

    class ComfyNode:
        hidden = None

    Hidden = enum.Enum("Hidden", {"unique_id": "UNIQUE_ID", "prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"})
    widget = ("default", "force_input")
    return types.SimpleNamespace(
        Image=kind("IMAGE"),
        Latent=kind("LATENT"),
        Video=kind("VIDEO"),
        String=kind("STRING", *widget, "multiline", "placeholder", "dynamic_prompts"),
        Int=kind("INT", *widget, "min", "max", "step", "control_after_generate"),
        Float=kind("FLOAT", *widget, "min", "max", "step"),
        Boolean=kind("BOOLEAN", *widget),
        Combo=kind("COMBO", "default", "options"),
        Custom=kind,
        Hidden=Hidden,
        Schema=Schema,
        ComfyNode=ComfyNode,
        NodeOutput=NodeOutput,
    )


class Pack:
    """The pack as the host has loaded it, and the host's way of running nodes."""

    def __init__(self, module: types.ModuleType, host: Host, doubles: dict[str, types.ModuleType]):
        self.module, self.host, self._doubles = module, host, doubles

        async def nodes():
            return await (await module.comfy_entrypoint()).get_node_list()

        self.classes = {each.define_schema().node_id: each for each in asyncio.run(nodes())}

    def activate(self):
        """Make this pack's host the one that is there, with nothing written down yet."""
        for name in [each for each in sys.modules if each.split(".")[0] in ("comfy", "comfy_api", "comfy_execution")]:
            del sys.modules[name]
        sys.modules.update(self._doubles)
        self.host.progress.clear()
        self.host.events.clear()
        self.host.memory.clear()
        self.host.cancel_at_step = None
        self.host.arguments.preview_method.value = "none"

    def host_routes(self):
        """What the pack has put on the host's server."""
        return self._doubles["server"].PromptServer.instance.routes

    def part(self, name):
        """A module inside the pack, such as nodes.retrievals."""
        return sys.modules[f"{self.module.__name__}.{name}"]

    def inputs(self, node_id):
        """id: (type, options, optional), as the host reads it."""
        schema = self.classes[node_id].define_schema()
        return {each.id: (each.io_type, each.options, each.optional) for each in schema.inputs}

    def outputs(self, node_id):
        """(type, name) in order."""
        return [(each.io_type, each.display_name) for each in self.classes[node_id].define_schema().outputs]

    def lists(self, node_id):
        """Names of the outputs whose values the host gives out one by one."""
        outputs = self.classes[node_id].define_schema().outputs
        return [each.display_name for each in outputs if each.is_output_list]

    def run(self, class_id, node_id="1", wires=(), **values):
        """Outputs and what is sent to the page. Widgets that are not given hold their defaults; `wires` are names of
        values that come over a wire."""
        full = {**self.defaults(class_id), **values}
        prompt = self.prompt(node_id, class_id, full, wires)
        workflow = {"workflow": {"nodes": []}}
        import torch

        with torch.inference_mode():
            clone = type("Clone", (self.classes[class_id],), {})
            clone.hidden = types.SimpleNamespace(unique_id=node_id, prompt=prompt, extra_pnginfo=workflow)
            output = clone.execute(**full)
            return list(output.args), output.ui or {}

    def fingerprint(self, class_id, node_id="1", wires=(), **values):
        """What the host asks before it runs a graph: wires are None."""
        full = {**self.defaults(class_id), **values}
        sent = {k: (None if self.is_wire(v) or k in wires else v) for k, v in full.items()}
        token = self.host.context.set(node_id)
        try:
            return self.classes[class_id].fingerprint_inputs(**sent)
        finally:
            self.host.context.reset(token)

    def defaults(self, class_id):
        """What the page fills in: every widget's default."""
        found = {}
        for name, (io_type, options, _) in self.inputs(class_id).items():
            if io_type in ("STRING", "INT", "FLOAT", "BOOLEAN", "COMBO") and not options.get("force_input"):
                found[name] = options["default"]
        return found

    @staticmethod
    def is_wire(value):
        return not isinstance(value, str | int | float | bool)

    def prompt(self, node_id, class_id, values, wires):
        inputs = {k: (["0", 0] if self.is_wire(v) or k in wires else v) for k, v in values.items()}
        return {node_id: {"class_type": class_id, "inputs": inputs}}
