"""Folders come from the environment, and none is made by asking."""

from pathlib import Path

import pytest

from chai_app.errors import BadRequest
from chai_app.settings import BUNDLED_MODELS, Settings


def test_environment_variables_have_the_last_word(tmp_path):
    settings = Settings.from_environment(
        {"CHAI_HOME": str(tmp_path / "home"), "CHAI_MODELS": "~/models", "CHAI_OUTPUT": str(tmp_path / "out")}
    )
    assert settings == Settings(tmp_path / "home", Path("~/models").expanduser(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_models_are_kept_in_the_home_folder_and_videos_where_one_is(tmp_path):
    settings = Settings.from_environment({"CHAI_HOME": str(tmp_path), "CHAI_OUTPUT": "  "})
    assert settings.models_folder == tmp_path / "models"
    assert settings.output_folder == Path("videos")


def test_without_variables_the_platform_chooses_the_home_folder():
    assert Settings.from_environment({}).home.is_absolute()


def test_bundled_models_lie_beside_the_package():
    assert BUNDLED_MODELS.name == "assets"
    assert (BUNDLED_MODELS.parent / "chai_app").is_dir()


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "home").write_text("")
    with pytest.raises(BadRequest, match=r"CHAI_HOME is .*home, which is a file: set it to a folder"):
        Settings.from_environment({"CHAI_HOME": str(tmp_path / "home")})


def test_a_word_that_a_variable_does_not_know_is_refused():
    assert Settings.from_environment({"CHAI_COMPILE": " On "}).compile == "on"
    with pytest.raises(BadRequest, match="CHAI_COMPILE is 'yes': set it to one of off, on, graphs"):
        Settings.from_environment({"CHAI_COMPILE": "yes"})
