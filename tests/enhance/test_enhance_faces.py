"""The enhancer as the engine and the command line offer it: the prompt that was, the caption that is, files between."""

import json
import threading

import pytest
from typer.testing import CliRunner

from chai_app.cli import app
from chai_app.cli.prompt_files import read_lines
from chai_app.engine import Engine
from chai_app.errors import Cancelled
from chai_app.media.video import read_metadata
from chai_app.request import GenerationRequest


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")

    def call(*words, exit_code=0):
        result = CliRunner().invoke(app, [*map(str, words)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == exit_code, result.output
        return result

    return call


@pytest.fixture(scope="module")
def engine(tiny_model_folder):
    return Engine(str(tiny_model_folder), device="cpu")


def test_the_engine_enhances_a_queue_and_can_be_stopped(engine):
    seen = []
    results = engine.enhance(["red balloon", "a tiger"], on_text=lambda number, text: seen.append(number))
    assert results[0].is_changed and "red balloon" in results[0].text
    assert not results[1].is_changed and '"tiger"' in results[1].note
    assert set(seen) == {0}
    assert engine.enhance(["red balloon", "a tiger"]) == results
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        engine.enhance(["red balloon"], cancel=cancel)


def test_a_video_remembers_what_the_person_wrote(engine, tmp_path):
    request = GenerationRequest("a red ball rising in the desert", original_prompt="red ball", seed=1)
    generation = engine.generate(request)
    assert "The prompt was enhanced; it was 'red ball'." in generation.report.notes
    generation.save(tmp_path / "out.mp4")
    kept = GenerationRequest.from_json(read_metadata(tmp_path / "out.mp4")["chai"]["request"])
    assert kept.original_prompt == "red ball"


def test_prompts_are_shown_with_what_became_of_them(run, tmp_path):
    result = run("enhance", "red balloon", "a tiger", "--json", "out.json")
    told = json.loads((tmp_path / "out.json").read_text())["prompts"]
    assert [each["original"] for each in told] == ["red balloon", "a tiger"]
    assert told[0]["text"] in result.stdout and told[0]["note"] == ""
    assert told[1]["text"] == "a tiger" and told[1]["note"] in result.stdout
    assert run("enhance", "red balloon", "--json", "-").stdout.startswith("{")


def test_a_file_of_prompts_becomes_a_file_that_batch_takes(run, tmp_path):
    (tmp_path / "prompts.txt").write_text("# mine\nred balloon\n\na tiger\n")
    run("enhance", "prompts.txt", "-o", "captions.txt", "--seed", 3, "--lynx", 0.5)
    first, second = (fields["prompt"] for _, fields in read_lines(tmp_path / "captions.txt"))
    assert "red balloon" in first and len(first) > len("red balloon")
    assert second == "a tiger"


def test_a_file_of_requests_keeps_their_fields_and_the_original(run, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"prompt": "red balloon", "seed": 4}\n{"prompt": "a tiger"}\n')
    run("enhance", "in.jsonl", "-o", "out.jsonl")
    first, second = (GenerationRequest.from_json(fields) for _, fields in read_lines(tmp_path / "out.jsonl"))
    assert (first.original_prompt, first.seed) == ("red balloon", 4) and first.prompt != "red balloon"
    assert second == GenerationRequest("a tiger")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["missing.txt"], "There is no file"),
        (["a ball", "--lynx", "2"], "dial is 2"),
        (["a ball", "--model", "gpt"], "There is no enhancer 'gpt'"),
        (["a ball", "-o", "nowhere/out.txt"], "is not there"),
        (["a ball", " "], "Prompt 2 of 2 is empty"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(run, words, sentence):
    result = run("enhance", *words, exit_code=2)
    assert sentence in " ".join(result.output.split()) and "Traceback" not in result.output


def test_a_file_without_prompts_is_refused(run, tmp_path):
    (tmp_path / "empty.txt").write_text("# nothing\n")
    assert "holds no prompt" in run("enhance", "empty.txt", exit_code=2).output
