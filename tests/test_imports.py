"""The rooms and who may import whom (docs/architecture.md), read off the source by ast."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "chai_app"

GROUND = {"checked", "errors", "files", "libraries", "memory", "only_data", "presets", "request", "settings", "texts"}
# room: the files and packages it is made of
SUBJECT_ROOMS = {
    "attention": {"attention"},
    "cache": {"cache"},
    "enhance": {"enhance"},
    "models": {"models", "vocabulary", "fingerprint", "weights", "mag_ratios"},
    "numbers": {"numbers"},
    "opensora": {"opensora"},
    "prompts": {"prompts"},
    "video": {"video", "pictures"},
}
ENGINE = {
    "engine",
    "decoding",
    "run",
    "loading",
    "conditioning",
    "donors",
    "ordering",
    "prompt_notes",
    "preview",
    "room",
    "run_times",
    "written",
}
# Of a server that outlives its pages; they stand on the engine.
SERVICES = {"gallery", "jobs", "jobs_file", "private_folder", "purge", "uploads"}
FACES = {"bench", "cli", "doctor"}
DEMO = "demo"
MAY_ALSO_IMPORT = {"attention": {"opensora"}, DEMO: {"opensora", "prompts", "video"}}


def room_of(module: str) -> str:
    """The room that a file or package directly in chai_app belongs to."""
    if module in GROUND | {DEMO}:
        return "ground" if module in GROUND else DEMO
    if module in ENGINE:
        return "engine"
    if module in SERVICES:
        return "services"
    if module in FACES:
        return "faces"
    for room, members in SUBJECT_ROOMS.items():
        if module in members:
            return room
    raise AssertionError(f"chai_app/{module} belongs to no room: give it one in tests/test_imports.py")


def allowed(room: str) -> set[str]:
    """The rooms that `room` may import from."""
    below = {room, "ground"}
    if room in SUBJECT_ROOMS or room == DEMO:
        return below | MAY_ALSO_IMPORT.get(room, set())
    if room == "engine":
        return below | set(SUBJECT_ROOMS)
    if room == "services":
        return below | set(SUBJECT_ROOMS) | {"engine"}
    if room == "faces":
        return below | set(SUBJECT_ROOMS) | {"engine", "services", DEMO}
    return below


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def own_imports(path: Path) -> set[str]:
    """The names directly in chai_app that a file imports, for types as well as for use."""
    inside = path.relative_to(PACKAGE).with_suffix("").parts
    package = inside if path.name == "__init__.py" else inside[:-1]
    package = package[:-1] if path.name == "__init__.py" else package
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = list(package[: len(package) - node.level + 1])
            parts = base + (node.module.split(".") if node.module else [])
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
    return found - {"__version__", "STARTED"}


def imported_modules(path: Path) -> set[str]:
    """The names that a file imports absolutely."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward_and_rooms_do_not_know_each_other(path):
    room = room_of(path.relative_to(PACKAGE).with_suffix("").parts[0])
    strangers = {name for name in own_imports(path) if room_of(name) not in allowed(room)}
    assert not strangers, f"{path.name} is of {room} and may not import {strangers}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_inside_the_package_imports_are_relative_and_the_path_is_left_alone(path):
    """ComfyUI loads the folder under a name of its own choosing, beside modules called app, nodes and utils."""
    absolute = {name for name in imported_modules(path) if name.split(".")[0] in ("chai_app", "app", "nodes", "ui")}
    assert not absolute
    assert "sys.path" not in path.read_text(encoding="utf-8")


def test_the_reading_of_imports_sees_what_it_should():
    assert {"errors", "opensora", "request"} <= own_imports(PACKAGE / "prompt_notes.py")
    assert {"errors", "settings"} <= own_imports(PACKAGE / "cli" / "__init__.py") | own_imports(
        PACKAGE / "cli" / "generate.py"
    )
    assert own_imports(PACKAGE / "opensora" / "__init__.py") == {"opensora"}
    assert allowed("opensora") == {"opensora", "ground"}


def test_importing_the_faces_is_free_of_effects_and_of_heavy_libraries(tmp_path):
    code = """
import sys
import chai_app, chai_app.cli, chai_app.doctor, chai_app.engine, chai_app.models, chai_app.opensora, chai_app.video
import chai_app.cache.cache
heavy = {"torch", "diffusers", "transformers", "numpy", "av", "PIL", "huggingface_hub", "faiss", "open_clip"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""
    environment = {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "PATH": ""}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert list(tmp_path.iterdir()) == []
