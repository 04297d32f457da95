"""`python app.py numbers`: what it says, and what it cannot read."""

import json

import pytest
from typer.testing import CliRunner

from chai_app.cli import app

runner = CliRunner()


def said(*arguments: str) -> str:
    result = runner.invoke(app, ["numbers", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_two_counts_are_compared_in_digits_or_words(tmp_path):
    file = tmp_path / "alike.json"
    assert said("alike", "3", "two", "--json", str(file)).startswith("2 for 3: 0.7")
    assert 0.6 < json.loads(file.read_text())["likeness"] < 0.8
    assert "12 for 12: 1.00" in said("alike", "12", "a dozen")
    assert "7 for 3 to 9: 1.00" in said("alike", "several", "7")


def test_the_network_counts_on_from_any_length():
    assert said("next", "9" * 40).strip() == "1" + "0" * 40
    assert said("next", "998", "-n", "3").split() == ["999", "1000", "1001"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["alike", "3", "many"], "'many' is not a count: write it in digits or words"),
        (["next", "-1"], ""),
        (["next", "3.5"], "'3.5' is not a whole number of at most 1,000 digits"),
        (["next", "9" * 1001], "is not a whole number of at most 1,000 digits"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_sentence(arguments, sentence):
    result = runner.invoke(app, ["numbers", *arguments])
    assert result.exit_code == 2
    assert sentence in " ".join(result.output.split())
