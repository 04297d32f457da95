"""The doctor says healthy when videos can be made, and names what is broken when not."""

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chai_app import doctor
from chai_app.cli import app
from chai_app.settings import Settings


@pytest.fixture
def settings(tmp_path, monkeypatch, tiny_model_folder) -> Settings:
    """The tiny model in the place of the demo model."""
    bundled = tmp_path / "assets"
    shutil.copytree(tiny_model_folder, bundled / "demo")
    monkeypatch.setattr("chai_app.models.catalogue.BUNDLED_MODELS", bundled)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return Settings.from_environment()


def by_name(checks: list[doctor.Check]) -> dict[str, doctor.Check]:
    return {check.name: check for check in checks}


def test_a_machine_that_can_make_videos_is_healthy(settings):
    checks = doctor.examine(settings)
    found = by_name(checks)
    assert doctor.is_healthy(checks)
    for name in ("python", "torch", "diffusers", "transformers", "av", "attention", "mp4", "webm", "model demo"):
        assert found[name].status == "ok", found[name]
    assert {"CHAI_HOME", "CHAI_MODELS", "CHAI_OUTPUT"} <= set(found)
    assert "hf download" in found["model opensora-1.2"].detail
    assert found["model opensora-1.2"].status == "note"
    assert not settings.home.exists(), "looking makes no folder"


def test_a_damaged_demo_model_is_a_problem(settings, tmp_path):
    (weights,) = (tmp_path / "assets" / "demo" / "vae").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    checks = doctor.examine(settings)
    assert not doctor.is_healthy(checks)
    assert by_name(checks)["model demo"].status == "problem"
    assert "is damaged" in by_name(checks)["model demo"].detail


def test_a_library_that_cannot_be_imported_is_a_problem(settings, monkeypatch):
    import_module = doctor.import_module

    def broken(name):
        if name == "diffusers":
            raise RuntimeError("built for another torch")
        return import_module(name)

    monkeypatch.setattr(doctor, "import_module", broken)
    check = by_name(doctor.examine(settings))["diffusers"]
    assert check.status == "problem"
    assert check.detail == "cannot be imported (RuntimeError: built for another torch): pip install -r requirements.txt"


def test_a_home_that_cannot_be_written_is_a_problem(settings, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != settings.home.parent)
    check = by_name(doctor.examine(settings))["CHAI_HOME"]
    assert check.status == "problem" and "is not writable: set CHAI_HOME to another folder" in check.detail


def test_a_full_disk_is_a_problem_and_a_nearly_full_one_a_note(settings, monkeypatch):
    for free, status in ((10_000_000, "problem"), (500_000_000, "note"), (50_000_000_000, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: shutil._ntuple_diskusage(10**12, 0, free))
        assert by_name(doctor.examine(settings))["CHAI_HOME"].status == status


def test_an_examination_that_crashes_is_itself_a_problem(settings, monkeypatch):
    def crash():
        raise OSError("the driver does not answer")

    monkeypatch.setattr(doctor, "_device", crash)
    checks = doctor.examine(settings)
    assert by_name(checks)["crash"] == doctor.Check("crash", "problem", "OSError: the driver does not answer")
    assert "CHAI_HOME" in by_name(checks), "and the others are made all the same"


def test_the_command_prints_a_table_and_its_exit_code_tells(settings, tmp_path):
    result = CliRunner().invoke(app, ["doctor", "--json", "doctor.json"])
    assert result.exit_code == 0 and "Healthy." in result.stdout
    told = json.loads((tmp_path / "doctor.json").read_text())
    assert told["healthy"] and {"name", "status", "detail"} == set(told["checks"][0])
    shutil.rmtree(tmp_path / "assets" / "demo")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1 and "Not healthy" in result.stdout
