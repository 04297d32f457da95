"""Nodes that open what the others need: a model, and a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import handles, host
from .definition import CACHE, PIPELINE, Call, Input, Node, Output, Result

AUTO = "auto"
KEEP = "as it is"
DEMO, RELEASED = "demo", "opensora-1.2"


def model_names() -> list[str]:
    """demo, the published weights, and the model folders that ComfyUI and our own settings know."""
    folders = [*host.models_folders(), handles.settings().models_folder]
    own = {path.parent.parent.name for folder in folders for path in folder.glob("*/transformer/config.json")}
    return [DEMO, RELEASED, *sorted(own - {DEMO, RELEASED})]


def model_path(name: str) -> str:
    """What the engine is given for a name of the list: a folder of ComfyUI's as a path, everything else as it is."""
    for folder in host.models_folders():
        if (folder / name / "transformer" / "config.json").is_file():
            return str(folder / name)
    return name


class LoadPipeline(Node):
    id = "CHAI_LoadPipeline"
    name = "CHAI Load Pipeline"
    about = "Choose a model and where it runs. Its weights are read when the first video is made."
    inputs = (
        Input(
            "model",
            "COMBO",
            "demo comes with this pack and runs on any CPU; opensora-1.2 are the published weights, for "
            "a GPU; others are folders in models/chai.",
            choices=model_names,
            default=DEMO,
        ),
        Input(
            "folder",
            "STRING",
            "Path of a model folder in diffusers' layout, in place of the name above; empty uses the name.",
            default="",
            optional=True,
            placeholder="path of a model folder (optional)",
        ),
        Input(
            "device",
            "COMBO",
            "auto is where ComfyUI computes.",
            choices=lambda: (AUTO, "cpu", "cuda", "cuda:1", "mps"),
            default=AUTO,
            optional=True,
        ),
        Input(
            "dtype",
            "COMBO",
            "Number format of the weights. auto is bf16 on a GPU that has it and on a CPU with AMX, else fp32.",
            choices=lambda: (AUTO, "bf16", "fp16", "fp32"),
            default=AUTO,
            optional=True,
        ),
        Input(
            "offload",
            "COMBO",
            "none: all weights where they run, and ComfyUI moves them away when it needs the memory. "
            "model: one part at a time on the GPU. sequential: least memory, slowest.",
            choices=lambda: ("none", "model", "sequential"),
            default="none",
            optional=True,
        ),
    )
    outputs = (Output(PIPELINE, "pipeline", "The model, for Plan, Sampler, Decode and others."),)

    @classmethod
    def run(cls, call: Call, **values: Any) -> Result:
        from ..chai_app.models import find_model

        folder = str(values.get("folder") or "").strip()
        name = str(Path(folder).expanduser()) if folder else model_path(values["model"])
        find_model(name, handles.settings())  # what is missing is told here, before anything else runs
        device = values.get("device", AUTO)
        dtype = values.get("dtype", AUTO)
        pipeline = handles.Pipeline(
            name,
            host.device() if device == AUTO else device,
            None if dtype == AUTO else dtype,
            values.get("offload", "none"),
        )
        return Result((pipeline,))


class OpenCache(Node):
    id = "CHAI_OpenCache"
    name = "CHAI Open Cache"
    about = (
        "Choose the folder in which videos leave what helps to make the next ones. Without this node: the usual one."
    )
    inputs = (
        Input(
            "folder",
            "STRING",
            "Folder of the cache. Empty is the one that the command line and the browser page use: "
            "CHAI_HOME, or the platform's folder for caches.",
            default="",
            placeholder="the usual folder",
        ),
        Input(
            "budget_gb",
            "FLOAT",
            "How much latents may take, in GB of 10^9 bytes; beyond it entries leave. 0 leaves the budget as it is.",
            label="budget (GB)",
            default=0.0,
            least=0.0,
            most=100000.0,
            step=0.1,
            optional=True,
        ),
        Input(
            "policy",
            "COMBO",
            "Which entries leave first. lru: least recently used; lfu: fewest hits; lcbfu: fewest seconds saved.",
            choices=lambda: (KEEP, "lru", "lfu", "lcbfu"),
            default=KEEP,
            optional=True,
        ),
        Input(
            "private",
            "BOOLEAN",
            "Runs read this cache and write nothing into it.",
            default=False,
            optional=True,
        ),
    )
    outputs = (Output(CACHE, "cache", "For Plan, Prompt to Video and the nodes that look into it."),)

    @classmethod
    def run(cls, call: Call, **values: Any) -> Result:
        from .browse import opened

        folder = str(values.get("folder") or "").strip()
        home = Path(folder).expanduser().absolute() if folder else handles.settings().home
        cache = handles.Cache(home, bool(values.get("private", False)))
        budget_gb, policy = float(values.get("budget_gb", 0)), values.get("policy", KEEP)
        if budget_gb > 0 or policy != KEEP:
            with opened(home, writes=True) as opened_cache:
                budget = round(budget_gb * 1e9) if budget_gb > 0 else opened_cache.stats().budget_bytes
                opened_cache.set_budget(budget, None if policy == KEEP else policy)
        host.send("chai.cache", {"cache": cache.key})
        return Result((cache,))
