"""The pack loaded as ComfyUI loads it, beside ComfyUI's own modules and strangers of the same names."""

import importlib.util
import itertools
import shutil
import sys
import types
from pathlib import Path

import pytest
from comfy_double import Host, Pack, modules

from chai_app.settings import BUNDLED_MODELS

ROOT = Path(__file__).parent.parent.parent
_number = itertools.count()


HOST_MODULES = ("comfy", "comfy_api", "comfy_execution", "folder_paths", "server")
STRANGERS = ("nodes", "app", "utils")


def load_pack(host: Host) -> Pack:
    """Load the pack under a name of ComfyUI's choosing. What it puts into sys.modules, the caller removes."""
    for name in [each for each in sys.modules if each.split(".")[0] == "comfy_api"]:
        del sys.modules[name]
    doubles = modules(host)
    strangers = {name: types.ModuleType(name) for name in STRANGERS}
    sys.modules.update(doubles | strangers)
    name = f"/comfy/custom_nodes/chai_x_{next(_number)}"
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    assert all(sys.modules[each] is stranger for each, stranger in strangers.items())
    return Pack(module, host, doubles)


@pytest.fixture(scope="module")
def _modules_restored():
    before = {name: sys.modules[name] for name in STRANGERS if name in sys.modules}
    yield
    for name in list(sys.modules):
        if name.startswith("/comfy/") or name.split(".")[0] in (*HOST_MODULES, *STRANGERS):
            del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture(scope="module")
def _pack(tmp_path_factory, _modules_restored) -> Pack:
    return load_pack(Host(tmp_path_factory.mktemp("host")))


@pytest.fixture
def pack(_pack) -> Pack:
    """The pack as a host has loaded it."""
    _pack.activate()
    return _pack


@pytest.fixture(scope="session")
def model_folder(tiny_model_folder, tmp_path_factory) -> Path:
    """The tiny model with the demo's text-image model beside it."""
    folder = shutil.copytree(tiny_model_folder, tmp_path_factory.mktemp("nodes") / "tiny")
    shutil.copytree(BUNDLED_MODELS / "demo" / "embedder", folder / "embedder")
    return folder
