"""The rooms and who may import whom (docs/architecture.md), read off the source by ast."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "chai_app"

GROUND = {"checks", "errors", "fields", "files", "presets", "process", "request", "settings"}
SUBJECTS = {"attention", "cache", "enhance", "families", "media", "models", "numbers", "opensora", "prompts"}
DEMO = "demo"  # the bundled model: its world, training, measures
ENGINE, SERVER = "engine", "server"
FACES = {"bench", "cli", "doctor", "ui", "nodes"}
ABOVE_FACES = {"app"}
MAY_ALSO_IMPORT = {
    "attention": {"opensora"},
    "families": {"attention"},
    DEMO: {"opensora", "prompts", "media"},
    # What the product's faces may know of the demo's world: benchmarks measure on it, and a calibration learns from it.
    "bench": {DEMO},
    "cli": {DEMO, "bench", "doctor"},
    "ui": {DEMO, "doctor"},
    "app": {DEMO, *FACES},
}


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {"app": ROOT / "app.py"}
    for folder in ("chai_app", "ui", "nodes"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room_of(module: str) -> str:
    """The room a module belongs to: its folder within chai_app, or its folder at the top."""
    parts = module.split(".")
    if module == "ui.__main__":  # what app.py is when installed
        return "app"
    if parts[0] != "chai_app":
        return parts[0]
    return parts[1] if len(parts) > 1 else "chai_app"


def allowed(room: str) -> set[str]:
    """The rooms that `room` may import from."""
    below = {room, *GROUND, "chai_app"} | MAY_ALSO_IMPORT.get(room, set())
    if room in {ENGINE, SERVER} | FACES | ABOVE_FACES:
        below |= SUBJECTS | {ENGINE}
    if room in {SERVER} | FACES | ABOVE_FACES:
        below |= {SERVER}
    return below


def own_imports(module: str) -> set[str]:
    """The modules of ours that a module imports, for types as well as for use, at its top or later."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join(base + (node.module.split(".") if node.module else []))
            for alias in node.names:
                name = f"{source}.{alias.name}"
                found |= {name} if name in MODULES else {source} & MODULES.keys()
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & MODULES.keys()
    return found - {module}


def circles() -> Iterator[list[str]]:
    """Modules that import each other, directly or through others."""
    below = {module: own_imports(module) for module in MODULES}
    changed = True
    while changed:  # every module's imports, and theirs, until nothing is added
        changed = False
        for module, names in below.items():
            more = set().union(*(below[name] for name in names)) - names
            if more:
                below[module] = names | more
                changed = True
    for module, names in below.items():
        if module in names:
            yield sorted(name for name in names if module in below[name])


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downward_and_rooms_do_not_know_each_other(module):
    room = room_of(module)
    assert room in {*GROUND, *SUBJECTS, DEMO, ENGINE, SERVER, *FACES, *ABOVE_FACES, "chai_app"}, "a room of its own?"
    strangers = {name for name in own_imports(module) if room_of(name) not in allowed(room)}
    assert not strangers, f"{module} is of {room} and may not import {strangers}"


def test_no_modules_import_each_other_in_a_circle():
    assert list(circles()) == []


def test_few_files_stand_at_the_top():
    assert len([path for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]) <= 8


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("chai_app")])
def test_inside_the_package_imports_are_relative_and_the_path_is_left_alone(module):
    """ComfyUI loads the folder under a name of its own choosing, beside modules called app, nodes and utils."""
    text = MODULES[module].read_text(encoding="utf-8")
    absolute = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            absolute |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            absolute.add(node.module)
    assert not {name for name in absolute if name.split(".")[0] in ("chai_app", "app", "nodes", "ui")}
    assert "sys.path" not in text


def test_the_reading_of_imports_sees_what_it_should():
    assert {"chai_app.errors", "chai_app.request"} <= own_imports("chai_app.engine.prompt_notes")
    assert "chai_app.engine" in own_imports("chai_app.cli.work")
    assert "chai_app.opensora.transformer" in own_imports("chai_app.attention.cache_attention")
    assert "chai_app.cli.options" in own_imports("chai_app.cli.generate")
    assert allowed("opensora") == {"opensora", "chai_app", *GROUND}


def test_importing_the_faces_is_free_of_effects_and_of_heavy_libraries(tmp_path):
    code = """
import sys
import chai_app, chai_app.cli, chai_app.doctor, chai_app.engine, chai_app.models, chai_app.opensora
import chai_app.media.video, chai_app.cache.cache, chai_app.server.jobs
heavy = {"torch", "diffusers", "transformers", "numpy", "av", "PIL", "huggingface_hub", "faiss", "open_clip"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""
    environment = {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "PATH": ""}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert list(tmp_path.iterdir()) == []
