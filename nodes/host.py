"""Everything that is asked of ComfyUI while a node runs. Without ComfyUI around, each answer is a harmless one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..chai_app.engine.loading import LoadedModel, Machine

PREVIEW_PIXELS = 512
MODELS_FOLDER = "chai"


def _module(name: str) -> ModuleType | None:
    """A module of the host's, if the host has loaded it: never a stranger that happens to be called like it."""
    return sys.modules.get(name)


def is_there() -> bool:
    """Whether ComfyUI is what loads the pack."""
    return _module("folder_paths") is not None


def device() -> str | None:
    """Where the host computes, as torch calls it; None lets our own choice stand."""
    management = _module("comfy.model_management")
    return None if management is None else str(management.get_torch_device())


def stop_if_asked() -> None:
    """Raises the host's own exception if somebody has pressed cancel."""
    management = _module("comfy.model_management")
    if management is not None:
        management.throw_exception_if_processing_interrupted()


class Progress:
    """The bar on the node, with a picture of the unfinished video where previews are on."""

    def __init__(self, total: int = 1) -> None:
        utils = _module("comfy.utils")
        self._bar = None if utils is None else utils.ProgressBar(total)

    def update(self, done: int, total: int, pixels: np.ndarray | None = None) -> None:
        """Raises the host's own exception if somebody has pressed cancel. pixels are uint8 (H, W, 3)."""
        if self._bar is None:
            return
        preview = None
        if pixels is not None:
            from PIL import Image

            preview = ("JPEG", _large_enough(Image.fromarray(pixels)), PREVIEW_PIXELS)
        self._bar.update_absolute(done, total, preview)


def _large_enough(picture: Any) -> Any:
    """Small pictures in whole multiples, or a preview of 64 pixels is a stamp on the node."""
    times = max(1, 256 // max(picture.size))
    return picture if times == 1 else picture.resize((picture.width * times, picture.height * times))


def wants_previews() -> bool:
    """Whether the host was started with previews."""
    arguments = _module("comfy.cli_args")
    if arguments is None:
        return False
    return getattr(arguments.args.preview_method, "value", "none") != "none"


def tags(prompt: Mapping[str, Any] | None, workflow: Mapping[str, Any] | None) -> dict[str, str]:
    """What the host wants to find in a video, so that dropping it on the page brings the graph back."""
    arguments = _module("comfy.cli_args")
    if arguments is not None and getattr(arguments.args, "disable_metadata", False):
        return {}
    found = {} if prompt is None else {"prompt": json.dumps(prompt)}
    return found | {name: json.dumps(value) for name, value in (workflow or {}).items()}


def temporary_folder() -> Path:
    """A folder for files that nobody needs tomorrow."""
    paths = _module("folder_paths")
    if paths is None:
        import tempfile

        return Path(tempfile.gettempdir())
    folder = Path(paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def models_folders() -> list[Path]:
    """Where the host keeps models of ours: models/chai, and what extra_model_paths.yaml says under chai."""
    paths = _module("folder_paths")
    if paths is None:
        return []
    return [Path(folder) for folder in paths.get_folder_paths(MODELS_FOLDER)]


def announce_models_folder() -> None:
    """Tell the host that there is a kind of model called chai."""
    paths = _module("folder_paths")
    if paths is not None:
        paths.add_model_folder_path(MODELS_FOLDER, str(Path(paths.models_dir) / MODELS_FOLDER))


def video_from_file(path: Path) -> Any:
    """The host's VIDEO for a file that is encoded already."""
    return sys.modules["comfy_api.latest"].InputImpl.VideoFromFile(str(path))


def suffix_of(video: Any) -> str:
    """How a file of the host's VIDEO is called at the end: as the file that it is, mp4 where it is none yet."""
    is_file = isinstance(video, sys.modules["comfy_api.latest"].InputImpl.VideoFromFile)
    source = video.get_stream_source() if is_file else None
    return (Path(source).suffix if isinstance(source, str) else "") or ".mp4"


def send(event: str, values: Mapping[str, Any]) -> None:
    """Tell every page of the host that something has happened."""
    server = _server()
    if server is not None:
        server.send_sync(event, dict(values))


def routes() -> Any:
    """The host's table of routes (aiohttp), None without a server."""
    server = _server()
    return None if server is None else server.routes


def _server() -> Any:
    module = _module("server")
    return getattr(getattr(module, "PromptServer", None), "instance", None)


def node_being_fingerprinted() -> str | None:
    """The id of the node whose fingerprint the host is asking for, where it says so."""
    utils = _module("comfy_execution.utils")
    context = None if utils is None else utils.get_executing_context()
    return None if context is None else str(context.node_id)


def make_room_for_all() -> None:
    """Ask the host to move its models out of the GPU: something comes that may need all of it."""
    management = _module("comfy.model_management")
    if management is not None and management.get_torch_device().type != "cpu":
        management.unload_all_models()


def memory_host() -> HostMemory | None:
    """The host's memory management, None where there is none."""
    return None if _module("comfy.model_management") is None else HostMemory()


class HostMemory:
    """Lets the host move our model like its own: out when another needs the room, and back before our next run.

    A model with offloading has hooks that move its parts; for it the host only makes room.
    """

    def __init__(self) -> None:
        self._patcher: Any = None
        self._of: int | None = None

    def make_room(self, size_bytes: int, machine: Machine) -> None:
        """Ask the host to let other models go. The last model of ours is forgotten, so that it can go too."""
        import torch

        self._patcher = self._of = None
        management = sys.modules["comfy.model_management"]
        if machine.device != "cpu":
            needed = size_bytes if machine.offload == "none" else size_bytes // 2
            management.free_memory(needed * 1.1 + management.minimum_inference_memory(), torch.device(machine.device))

    def settle(self, loaded: LoadedModel) -> None:
        """Hand the model to the host, which puts it where it runs."""
        if loaded.machine.offload != "none":
            return
        if self._patcher is None or self._of != id(loaded.pipeline):
            self._patcher, self._of = _patcher(loaded), id(loaded.pipeline)
        management = sys.modules["comfy.model_management"]
        management.load_models_gpu([self._patcher], force_full_load=True)


def _patcher(loaded: LoadedModel) -> Any:
    """Our pipeline's parts as the host's ModelPatcher, all or nothing: in pieces they would not run."""
    import torch
    from comfy.model_patcher import ModelPatcher

    class WholePatcher(ModelPatcher):
        def partially_load(self, device_to: Any, extra_memory: int = 0, force_patch_weights: bool = False) -> int:
            return super().partially_load(device_to, self.model_size() * 2, force_patch_weights)

        def partially_unload(self, *args: Any, **kwargs: Any) -> int:
            return 0

    pipeline, device = loaded.pipeline, torch.device(loaded.machine.device)
    parts = {name: getattr(pipeline, name) for name in ("text_encoder", "transformer", "vae")}
    # An own class, because the host names it when it tells what it loads and unloads.
    whole = type("OpenSora", (torch.nn.ModuleDict,), {})(parts)
    return WholePatcher(whole, load_device=device, offload_device=torch.device("cpu"))


def image_from_frames(frames: np.ndarray) -> Tensor:
    """uint8 (T, H, W, 3) -> the host's IMAGE, fp32 (T, H, W, 3) in 0..1."""
    import torch

    return torch.from_numpy(frames.copy()).float() / 255


def frames_from_image(image: Tensor) -> np.ndarray:
    """The host's IMAGE, (T, H, W, C) in 0..1 -> uint8 (T, H, W, 3)."""
    import torch

    return (image[..., :3].float().clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy()
