"""What `pip install .` carries: the wheel, built from a clone, holds all that the program needs, and no common name."""

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent
ASSETS = ("demo", "enhancer", "numbers")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this clone; what setuptools leaves behind while it builds lies beside it."""
    pytest.importorskip("setuptools", minversion="77", reason="a wheel is built by setuptools 77 or later")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", folder, "build", "--build-base"]
    command += [folder / "build", "bdist_wheel", "--bdist-dir", folder / "bdist", "--dist-dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """The names of its files."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def own_files(folder: str, under: str) -> set[str]:
    """The files of a folder of ours by the names that they get; caches of Python and stubs of Gradio are nobody's."""
    files = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    kept = (path for path in files if "__pycache__" not in path.parts and path.suffix != ".pyi")
    return {str(PurePosixPath(under, *path.relative_to(ROOT / folder).parts)) for path in kept}


def test_a_wheel_holds_every_file_of_the_program(names):
    assert own_files("chai_app", "chai_app") <= names
    assert own_files("ui", "chai_app/ui") <= names
    for folder in ASSETS:
        assert own_files(f"assets/{folder}", f"chai_app/assets/{folder}") <= names


def test_a_wheel_holds_the_pictures_that_a_page_shows(names):
    page = ast.parse((ROOT / "ui" / "numbers_page.py").read_text(encoding="utf-8"))  # importing it takes seconds
    (shown,) = (ast.literal_eval(node.value) for node in page.body if ast.unparse(node).startswith("_SHOWN = "))
    assert {f"chai_app/docs/pictures/numbers-{name}.png" for name, _ in shown} <= names


def test_a_wheel_takes_no_name_that_others_could_want(names):
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"chai_app"}
    assert not {name for name in names if "test" in name.split("/") or name.endswith((".gif", ".md"))}


def test_an_unpacked_wheel_finds_its_models_and_says_chai(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "chai = chai_app.ui.__main__:main" in archive.read(entry_points).decode()
    code = """
import sys
from chai_app.enhance.models import find
from chai_app.models import find_model
from chai_app.numbers import count_likeness
from chai_app.settings import BUNDLED_MODELS, Settings
settings = Settings.from_environment()
assert BUNDLED_MODELS.parts[-3:] == ("site", "chai_app", "assets"), BUNDLED_MODELS
assert find_model("demo", settings).vocabulary and find("demo", settings)[0].is_dir() and count_likeness()(2, 3) < 1
from chai_app.ui.__main__ import main
sys.argv = ["chai", "generate", "--help"]
main()
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 'chai generate "a red balloon' in done.stdout and "app.py" not in done.stdout


def test_no_shipped_config_says_where_it_was_made():
    assert [path for path in (ROOT / "assets").rglob("*.json") if "_name_or_path" in path.read_text("utf-8")] == []
