"""The command line: files where they are expected, exit codes, one sentence for what a person can mend."""

import inspect
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from chai_app.cli import app
from chai_app.cli.options import takes_request
from chai_app.cli.show import RunDisplay, shortened
from chai_app.engine.run import Generation
from chai_app.errors import BadMedia, ChaiError
from chai_app.files import human_bytes
from chai_app.media import video
from chai_app.media.names import free_name, slug
from chai_app.media.video import read_metadata, read_video
from chai_app.request import GenerationRequest

ROOT = Path(__file__).parent.parent
PROMPT = "a red ball"


@pytest.fixture
def run(tiny_model_folder, tmp_path, monkeypatch):
    """Call the command line in an empty folder; generate and batch use the tiny model unless told otherwise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")

    def call(command: str, *arguments: object, exit_code: int = 0):
        words = [command, *map(str, arguments)]
        if command in ("generate", "batch") and not {"-m", "--model", "--like"} & set(words):
            words += ["-m", str(tiny_model_folder)]
        result = CliRunner().invoke(app, words)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == exit_code, result.output
        return result

    return call


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


# -- generate ---------------------------------------------------------------------------------------------------------


def test_a_prompt_becomes_the_file_that_was_named(run, tmp_path):
    result = run("generate", PROMPT, "-o", "out.mp4", "--seed", 7)
    assert read_video(tmp_path / "out.mp4").frames.shape == (17, 32, 48, 3)
    assert names(tmp_path) == ["out.mp4"]
    for words in ("a red ball", "out.mp4", "48x32, 17 frames at 8 fps", "seed 7", "steps 3", "denoise", "in all"):
        assert words in result.stdout


def test_without_a_name_files_are_named_by_prompt_and_seed(run, tmp_path):
    run("generate", "A red ball, rising!", PROMPT, "--seed", 7, "--count", 3, "--steps", 1)
    expected = [f"a-red-ball-{seed}.mp4" for seed in (7, 8, 9)] + [f"a-red-ball-rising-{s}.mp4" for s in (7, 8, 9)]
    assert names(tmp_path / "videos") == expected
    seeds = [read_metadata(tmp_path / "videos" / name)["chai"]["request"]["seed"] for name in expected]
    assert seeds == [7, 8, 9, 7, 8, 9]


def test_a_seed_that_was_not_given_is_drawn_shown_and_stored(run, tmp_path):
    result = run("generate", PROMPT, "-o", "out.mp4", "--steps", 1)
    seed = read_metadata(tmp_path / "out.mp4")["chai"]["request"]["seed"]
    assert f"seed {seed}" in result.stdout


def test_made_names_never_replace_a_file_and_a_named_file_is_replaced(run, tmp_path):
    for _ in range(2):
        run("generate", PROMPT, PROMPT, "--seed", 7, "--steps", 1)
    assert names(tmp_path / "videos") == [f"a-red-ball-7{n}.mp4" for n in ("-2", "-3", "-4", "")]
    (tmp_path / "out.mp4").write_text("old")
    run("generate", PROMPT, "-o", "out.mp4", "--steps", 1)
    assert (tmp_path / "out.mp4").stat().st_size > 1000


def test_output_may_be_a_folder(run, tmp_path):
    (tmp_path / "here").mkdir()
    run("generate", PROMPT, "-o", "here", "--seed", 7, "--steps", 1, "-f", "gif")
    assert names(tmp_path / "here") == ["a-red-ball-7.gif"]


@pytest.mark.parametrize("name", ["out.webm", "out.gif", "out.png"])
def test_other_kinds_of_files_are_asked_for_by_name(run, tmp_path, name):
    result = run("generate", PROMPT, "-o", name, "--steps", 1, "--json", "out.json")
    file = Path(json.loads((tmp_path / "out.json").read_text())["videos"][0]["file"])
    assert file.name == ("out" if name == "out.png" else name) and str(file) in result.stdout
    assert read_video(tmp_path / file).frames.shape == (17, 32, 48, 3)
    assert read_metadata(tmp_path / file)["chai"]["request"]["prompt"] == PROMPT


def test_one_frame_is_a_picture(run, tmp_path):
    result = run("generate", PROMPT, "--frames", 1, "--seed", 7)
    assert names(tmp_path / "videos") == ["a-red-ball-7.png"]
    assert "48x32, 1 frame," in result.stdout


def test_sizes_and_lengths_go_by_number_or_by_name(run, tmp_path):
    run("generate", PROMPT, "-o", "a.mp4", "--size", "24x40", "--frames", 5, "--fps", 12, "--steps", 1)
    clip = read_video(tmp_path / "a.mp4")
    assert clip.frames.shape == (5, 40, 24, 3) and clip.fps == 12
    run("generate", PROMPT, "-o", "b.mp4", "--resolution", "144p", "--aspect", "1:1", "--frames", 1, "--steps", 1)
    assert read_video(tmp_path / "b.mp4").frames.shape == (1, 192, 192, 3)
    run("generate", PROMPT, "-o", "c.mp4", "--size", "16x16", "--duration", "2s", "--steps", 1)
    assert len(read_video(tmp_path / "c.mp4").frames) == 51


def test_odd_sizes_are_made_even_for_mp4_and_said(run, tmp_path):
    result = run("generate", PROMPT, "-o", "a.mp4", "--size", "33x47", "--frames", 5, "--steps", 1)
    assert read_video(tmp_path / "a.mp4").frames.shape == (5, 48, 34, 3)
    assert "mp4 needs even sizes" in result.stdout


def test_every_option_reaches_the_request(run, tmp_path):
    run(
        *("generate", PROMPT, "-o", "a.mp4", "--seed", 1, "--steps", 2, "--guidance", 5, "--negative", "a boat"),
        *("--aesthetic", 6.5, "--motion-score", 5, "--camera", "over", "--loops", 2, "--dtype", "fp32"),
        *("--device", "cpu", "--offload", "none", "--fps", 10),
    )
    request = read_metadata(tmp_path / "a.mp4")["chai"]["request"]
    expected = {
        **{"seed": 1, "steps": 2, "guidance": 5, "negative": "a boat", "fps": 10},
        **{"aesthetic": 6.5, "motion_score": 5, "camera": "over", "loops": 2},
        **{"dtype": "fp32", "device": "cpu", "offload": "none"},
    }
    assert {name: request[name] for name in expected} == expected


def test_0_is_a_value_and_a_switch_that_is_off_says_nothing():
    given = []

    @takes_request(without=("seed",))
    def command(count: int = 1, *, asked: dict[str, object]) -> None:
        given.append((count, asked))

    options = {name: each.default for name, each in inspect.signature(command).parameters.items()}
    assert "seed" not in options and list(options)[:3] == ["count", "num_inference_steps", "guidance_scale"]
    command(**{**options, "guidance_scale": 0.0, "is_private": True})
    assert given == [(1, {"guidance_scale": 0.0, "is_private": True})]


def test_a_video_starts_from_a_picture_and_is_extended(run, tmp_path):
    run("generate", PROMPT, "-o", "start.png", "--frames", 1, "--steps", 1)
    run("generate", PROMPT, "-o", "a.mp4", "--image", "start.png", "--steps", 1)
    run("generate", PROMPT, "-o", "b.mp4", "--extend", "a.mp4", "--steps", 1)
    assert len(read_video(tmp_path / "b.mp4").frames) == 29
    assert read_metadata(tmp_path / "a.mp4")["chai"]["request"]["image"] == str(tmp_path / "start.png")


def test_like_repeats_a_video_bit_by_bit_and_says_so(run, tmp_path):
    run("generate", PROMPT, "-o", "out.mp4", "--guidance", 3)
    result = run("generate", "--like", "out.mp4", "-o", "again.gif")
    assert "This repeats out.mp4 exactly: its latents are equal bit by bit." in result.stdout
    first, again = (read_metadata(tmp_path / name)["chai"] for name in ("out.mp4", "again.gif"))
    assert first["request"] == again["request"]
    assert first["report"]["latents_sha256"] == again["report"]["latents_sha256"]


def test_like_takes_the_settings_and_the_command_line_overrides_them(run, tmp_path):
    run("generate", PROMPT, "-o", "out.mp4", "--seed", 7, "--guidance", 3, "--steps", 2)
    result = run("generate", "a blue star", "--like", "out.mp4", "--seed", 8, "-o", "other.mp4")
    request = read_metadata(tmp_path / "other.mp4")["chai"]["request"]
    assert (request["prompt"], request["seed"], request["guidance"]) == ("a blue star", 8, 3)
    assert request["steps"] == 2
    assert "exactly" not in result.stdout


def test_like_says_when_the_weights_have_changed(run, tmp_path, tiny_model_folder):
    import shutil

    own = shutil.copytree(tiny_model_folder, tmp_path / "mine")
    run("generate", PROMPT, "-o", "out.mp4", "-m", "mine", "--steps", 1)
    (weights,) = (own / "transformer").glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-2] ^= 1  # the last number, by one part in 128
    weights.write_bytes(content)
    assert "This is not quite out.mp4: other weights." in run("generate", "--like", "out.mp4").stdout


def test_json_goes_to_a_file_or_to_standard_output_alone(run, tmp_path):
    run("generate", PROMPT, "-o", "a.mp4", "--seed", 7, "--json", "a.json")
    (told,) = json.loads((tmp_path / "a.json").read_text())["videos"]
    assert told["file"] == "a.mp4" and told["request"]["seed"] == 7
    stages = ["start", "plan", "load", "text", "denoise", "decode", "keep", "write"]
    assert list(told["report"]["seconds"]) == stages
    result = run("generate", PROMPT, "-o", "b.mp4", "--seed", 7, "--json", "-")
    assert json.loads(result.stdout)["videos"][0]["file"] == "b.mp4"
    assert "b.mp4" in result.stderr


# -- what a person can mend -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([" "], "The prompt is empty"),
        ([], "No prompt: say what the video should show"),
        ([PROMPT, "--steps", "0"], "must be a whole number from 1 to 1000, not 0"),
        ([PROMPT, "--steps", "100000"], "must be a whole number from 1 to 1000, not 100000"),
        ([PROMPT, "--size", "big"], "Unknown size 'big': write width x height in pixels"),
        ([PROMPT, "--size", "4x4"], "Width (px) must be a whole number from 16"),
        ([PROMPT, "--resolution", "241p"], "Unknown resolution '241p': choose one of"),
        ([PROMPT, "--resolution", "240p", "--aspect", "5:1"], "Unknown aspect ratio '5:1'"),
        ([PROMPT, "--aspect", "1:1"], "--aspect 1:1 needs a --resolution"),
        ([PROMPT, "--size", "64x64", "--resolution", "240p"], "either as --size or as --resolution"),
        ([PROMPT, "--duration", "3h"], "Unknown duration '3h': choose one of"),
        ([PROMPT, "--duration", "2s", "--frames", "17"], "either as --duration or as --frames"),
        ([PROMPT, "-o", "nowhere/out.mp4"], "The folder nowhere is not there: make it first"),
        ([PROMPT, "-o", "/proc/nowhere/"], "The folder /proc/nowhere cannot be made"),
        ([PROMPT, "-o", "out.avi"], "Unknown kind of file 'out.avi': end its name in .mp4"),
        ([PROMPT, "-f", "avi"], "Unknown format 'avi': choose one of mp4, webm, gif, png"),
        ([PROMPT, "a star", "-o", "out.mp4"], "2 videos cannot all be out.mp4: name a folder"),
        ([PROMPT, "--count", "2", "-o", "out.mp4"], "2 videos cannot all be out.mp4"),
        ([PROMPT, "--json", "nowhere/a.json"], "The folder nowhere is not there"),
        ([PROMPT, "--image", "notes.txt"], "notes.txt is not a picture that can be read"),
        ([PROMPT, "--extend", "notes.txt"], "notes.txt is not a video that can be read"),
        ([PROMPT, "--like", "notes.txt"], "notes.txt is not a video that can be read"),
        ([PROMPT, "--like", "missing.mp4"], "There is no video or picture at missing.mp4"),
        ([PROMPT, "--model", "sora"], "There is no model 'sora': choose one of demo, opensora-1.2"),
        ([PROMPT, "--model", "opensora-1.2"], "fetch them with: hf download hpcai-tech/OpenSora-STDiT-v3"),
        ([PROMPT, "--device", "tpu"], "Unknown device 'tpu'"),
    ],
)
def test_what_a_person_can_mend_is_one_sentence_and_exit_code_2(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "notes.txt").write_text("neither picture nor video")
    result = run("generate", *arguments, exit_code=2)
    assert words in result.stderr
    assert result.stderr.startswith("error ") and result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert names(tmp_path / "videos") == []


def test_a_video_from_elsewhere_has_no_settings_to_take(run, tmp_path):
    import numpy as np

    video.write_video(tmp_path / "plain.mp4", np.zeros((3, 16, 16, 3), np.uint8), 8)
    result = run("generate", "--like", "plain.mp4", exit_code=2)
    assert "plain.mp4 carries no settings: --like needs a file that was made here" in result.stderr


def test_a_default_folder_that_cannot_be_made_is_named(run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CHAI_OUTPUT", str(tmp_path / "file" / "videos"))
    result = run("generate", PROMPT, exit_code=2)
    assert "cannot be made" in result.stderr and "set CHAI_OUTPUT" in result.stderr


def test_a_disk_that_fills_up_leaves_no_half_video(run, tmp_path, monkeypatch):
    def disk_full(path, *_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(video, "_encode", disk_full)
    result = run("generate", PROMPT, "-o", "out.mp4", "--steps", 1, exit_code=2)
    assert "The disk is full, so out.mp4 was not written" in result.stderr
    assert not list(tmp_path.glob("*.mp4")) and not list(tmp_path.glob(".*"))


def test_ctrl_c_exits_130_and_leaves_nothing(run, tmp_path, monkeypatch):
    def ctrl_c(display, step, total, latents):
        if step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunDisplay, "step", ctrl_c)
    result = run("generate", PROMPT, exit_code=130)
    assert "Stopped; nothing half-written is left." in result.stderr
    assert names(tmp_path / "videos") == []


def test_a_bug_of_ours_keeps_its_traceback(run, monkeypatch):
    def bug(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(Generation, "save", bug)
    with pytest.raises(ZeroDivisionError):
        run("generate", PROMPT, "--steps", 1)


# -- batch ------------------------------------------------------------------------------------------------------------


def test_a_batch_makes_a_video_of_each_line(run, tmp_path):
    (tmp_path / "prompts.txt").write_text("# my prompts\n\na red ball\n  a blue star  \n")
    result = run("batch", "prompts.txt", "--seed", 7, "--steps", 1, "--json", "out.json")
    assert names(tmp_path / "videos") == ["0003-a-red-ball.mp4", "0004-a-blue-star.mp4"]
    assert "2 of 2 videos made, 0 failed." in result.stdout
    told = json.loads((tmp_path / "out.json").read_text())["videos"]
    assert [(video["line"], video["request"]["seed"]) for video in told] == [(3, 7), (4, 7)]


def test_a_json_line_holds_a_request_and_wins_over_the_command_line(run, tmp_path):
    lines = [
        {"prompt": "a red ball", "seed": 3, "size": "32x16"},
        {"prompt": "a star", "num_frames": 1, "guidance_scale": 2},
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    run("batch", "prompts.jsonl", "--seed", 7, "--steps", 1, "-f", "png")
    assert names(tmp_path / "videos") == ["0001-a-red-ball", "0002-a-star.png"]
    first, second = (read_metadata(path)["chai"]["request"] for path in sorted((tmp_path / "videos").iterdir()))
    assert (first["seed"], first["width"], first["height"]) == (3, 32, 16)
    assert (second["seed"], second["guidance"], second["steps"]) == (7, 2, 1)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "a red ball\n红\n", "Line 2 of a.txt: Nothing of '红' is left"),
        ("a.jsonl", '{"prompt": "a ball"}\n{"prompt"\n', "Line 2 of a.jsonl: This is not JSON"),
        ("a.jsonl", '{"prompt": "a ball"}\n["a ball"]\n', "Line 2 of a.jsonl: This is not a JSON object"),
        ("a.jsonl", '\n{"prompt": "a ball", "num_inference_steps": 0}', "Line 2 of a.jsonl: Steps of a full run"),
        ("a.jsonl", '{"promt": "a ball"}', "Line 1 of a.jsonl: Unknown field 'promt'"),
        ("a.jsonl", '{"seed": 1}', "Line 1 of a.jsonl: The prompt is empty"),
        ("a.jsonl", '{"prompt": "a ball", "duration": "9s"}', "Line 1 of a.jsonl: Unknown duration '9s'"),
        ("a.jsonl", '{"prompt": "a ball", "image": "missing.png"}', "Line 1 of a.jsonl: There is no picture"),
        ("a.txt", "# nothing\n", "a.txt holds no prompt"),
    ],
)
def test_a_bad_line_is_named_before_any_video_is_made(run, tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    assert words in run("batch", name, exit_code=2).stderr
    assert names(tmp_path / "videos") == []


def test_a_batch_file_that_cannot_be_read_is_named(run, tmp_path):
    (tmp_path / "movie.txt").write_bytes(b"\xff\xfe\x00\x80")
    assert "movie.txt cannot be read as a text file" in run("batch", "movie.txt", exit_code=2).stderr
    assert "There is no file missing.txt" in run("batch", "missing.txt", exit_code=2).stderr


def test_a_video_that_fails_does_not_stop_the_others(run, tmp_path, monkeypatch):
    save = Generation.save

    def fails_for_stars(generation, path):
        if "star" in generation.request.prompt:
            raise ChaiError("No stars today.")
        return save(generation, path)

    monkeypatch.setattr(Generation, "save", fails_for_stars)
    (tmp_path / "prompts.txt").write_text("a red ball\na blue star\na boat\n")
    result = run("batch", "prompts.txt", "--steps", 1, "--json", "out.json", exit_code=1)
    assert "failed line 2: No stars today." in result.stdout
    assert "2 of 3 videos made, 1 failed." in result.stdout
    assert names(tmp_path / "videos") == ["0001-a-red-ball.mp4", "0003-a-boat.mp4"]
    told = json.loads((tmp_path / "out.json").read_text())["videos"]
    assert [video.get("error") for video in told] == [None, "No stars today.", None]


def test_resume_makes_only_what_is_not_there_yet(run, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red ball\na blue star\n")
    run("batch", "prompts.txt", "--steps", 1)
    kept = (tmp_path / "videos" / "0001-a-red-ball.mp4").read_bytes()
    (tmp_path / "videos" / "0002-a-blue-star.mp4").unlink()
    result = run("batch", "prompts.txt", "--steps", 1, "--resume")
    assert "1 of 2 videos made, 1 was there already, 0 failed." in result.stdout
    assert (tmp_path / "videos" / "0001-a-red-ball.mp4").read_bytes() == kept
    assert names(tmp_path / "videos") == ["0001-a-red-ball.mp4", "0002-a-blue-star.mp4"]
    run("batch", "prompts.txt", "--steps", 1)
    assert len(names(tmp_path / "videos")) == 4, "without --resume new names are found"


def test_resume_makes_anew_what_was_made_with_another_seed_or_size(run, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red ball\na blue star\n")
    run("batch", "prompts.txt", "--steps", 1, "--seed", 7)
    assert "2 were there already" in run("batch", "prompts.txt", "--steps", 1, "--seed", 7, "--resume").stdout
    assert "2 were there already" in run("batch", "prompts.txt", "--steps", 1, "--resume").stdout, "any seed will do"
    for other in (["--seed", 8], ["--seed", 7, "--size", "32x32"], ["--seed", 7, "--negative", "mud"]):
        result = run("batch", "prompts.txt", "--steps", 1, *other, "--resume")
        assert "2 of 2 videos made, 0 failed." in result.stdout, other


def test_options_go_by_either_name_and_json_may_stand_in_any_text(run, tmp_path):
    line = '{"prompt": "a star", "frames": 1, "guidance": 2, "aesthetic": 6.5, "private": true}'
    (tmp_path / "prompts.txt").write_text(f"a red ball --seed 5 --steps 2\n{line}\n")
    run("batch", "prompts.txt", "--steps", 1, "-f", "png")
    first, second = (read_metadata(path)["chai"]["request"] for path in sorted((tmp_path / "videos").iterdir()))
    assert (first["prompt"], first["seed"], first["steps"]) == ("a red ball", 5, 1)
    assert (second["frames"], second["guidance"], second["aesthetic"]) == (1, 2, 6.5)
    twice = '{"prompt": "a star", "frames": 1, "num_frames": 2}'
    (tmp_path / "twice.jsonl").write_text(twice)
    assert "Frames is there twice" in run("batch", "twice.jsonl", exit_code=2).stderr


def test_a_table_is_read_by_its_header_and_its_file_names_are_no_prompts(run, tmp_path):
    (tmp_path / "a.csv").write_text('path,text,seed\nball.mp4,"a red ball, rising",3\nstar.mp4,a star,4\n')
    run("batch", "a.csv", "--steps", 1)
    made = [read_metadata(path)["chai"]["request"] for path in sorted((tmp_path / "videos").iterdir())]
    assert [(each["prompt"], each["seed"]) for each in made] == [("a red ball, rising", 3), ("a star", 4)]
    (tmp_path / "b.csv").write_text("a red ball\na star\n")
    assert "b.csv has no column called prompt, text or caption" in run("batch", "b.csv", exit_code=2).stderr


def test_prompts_come_from_standard_input(tiny_model_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (["generate", "-"], ["generate"], ["batch", "-"]):
        words = [*command, "--steps", "1", "-m", str(tiny_model_folder), "-o", f"{'-'.join(command)}/"]
        result = CliRunner().invoke(app, words, input="a red ball\n")
        assert result.exit_code == 0, result.output
        (path,) = (tmp_path / "-".join(command)).iterdir()
        assert read_metadata(path)["chai"]["request"]["prompt"] == "a red ball"


def test_a_batch_that_is_stopped_tells_what_is_done_and_how_to_go_on(run, tmp_path, monkeypatch):
    save, told = Generation.save, []

    def stops_at_stars(generation, path):
        if "star" in generation.request.prompt:
            told.append(json.loads((tmp_path / "out.json").read_text())["videos"])
            raise KeyboardInterrupt
        return save(generation, path)

    monkeypatch.setattr(Generation, "save", stops_at_stars)
    (tmp_path / "prompts.txt").write_text("a red ball\na blue star\na boat\n")
    words = ("batch", "prompts.txt", "--steps", 1, "--keep-order", "--json", "out.json")
    result = run(*words, exit_code=130)
    assert "Stopped: 1 of 3 videos made. The same command with --resume makes the others." in result.stdout
    assert [each["line"] for each in told[0]] == [1], "the file is written as videos are made"
    assert [each["line"] for each in json.loads((tmp_path / "out.json").read_text())["videos"]] == [1]


def test_open_soras_own_form_gives_a_picture(run, tmp_path):
    from PIL import Image

    Image.new("RGB", (48, 32), "red").save(tmp_path / "bars.png")
    run("generate", 'a red ball{"reference_path": "bars.png", "mask_strategy": "0"}', "-o", "out.mp4", "--steps", 1)
    request = read_metadata(tmp_path / "out.mp4")["chai"]["request"]
    assert (request["prompt"], request["image"]) == ("a red ball", str(tmp_path / "bars.png"))


# -- models, doctor, help ---------------------------------------------------------------------------------------------


def test_models_lists_what_is_ready_and_how_to_get_the_rest(run, tmp_path, monkeypatch, tiny_model_folder):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("CHAI_MODELS", str(tiny_model_folder.parent))
    result = run("models", "--json", "models.json")
    assert "hf download hpcai-tech/OpenSora-VAE-v1.2" in result.stdout
    told = {model["name"]: model for model in json.loads((tmp_path / "models.json").read_text())["models"]}
    assert told["tiny"]["ready"] and told["tiny"]["size_bytes"] > 1_000_000
    assert not told["opensora-1.2"]["ready"] and "19.1 GB" in told["opensora-1.2"]["problem"]


def test_help_lists_the_commands(run):
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0 and "generate" in result.stdout and "doctor" in result.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["batch", "-h"], ["doctor", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    heavy = ["torch", "diffusers", "transformers", "numpy", "av", "PIL", "pydantic", "huggingface_hub", "tokenizers"]
    code = f"""
import sys
from chai_app.cli import main
sys.argv = ["app.py", *{arguments}]
try:
    main()
except SystemExit as leave:
    assert not leave.code
loaded = [name for name in {heavy} if name in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_the_program_runs_as_a_person_would_run_it(tiny_model_folder, tmp_path):
    """In a process of its own: libraries stay silent, the exit code comes through, and the video is there."""
    command = [sys.executable, str(ROOT / "app.py"), "generate", PROMPT, "-m", str(tiny_model_folder), "-o", "out.mp4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(PROMPT) and "out.mp4" in done.stdout and "%|" not in done.stdout
    assert len(read_video(tmp_path / "out.mp4").frames) == 17


# -- names ------------------------------------------------------------------------------------------------------------


def test_a_prompt_becomes_a_tidy_file_name():
    assert slug("A red Ball, rising (slowly)!") == "a-red-ball-rising-slowly"
    assert slug("Crème brûlée") == "creme-brulee"
    assert slug("../../etc/passwd") == "etc-passwd"
    assert slug("红色的球") == "video"
    assert slug("x" * 300) == "x" * 60
    long = slug("a very " * 40)
    assert len(long) <= 60 and not long.endswith("-")


def test_a_free_name_counts_on(tmp_path):
    path = tmp_path / "a.png"
    assert free_name(path, 17, set()) == path
    (tmp_path / "a").mkdir()
    assert free_name(path, 17, {tmp_path / "a-2.png"}) == tmp_path / "a-3.png"


def test_numbers_and_texts_are_shown_short():
    assert [human_bytes(n) for n in (0, 950, 38_000, 1_240_000, 19_100_000_000)] == [
        "0 B",
        "950 B",
        "38 kB",
        "1.2 MB",
        "19 GB",
    ]
    assert shortened("one\n two", 10) == "one two"
    assert shortened("x" * 50, 10) == "x" * 9 + "…"


def test_the_moving_line_tells_video_stage_and_steps():
    screen = io.StringIO()
    display = RunDisplay(Console(file=screen, force_terminal=True, width=120, color_system=None), 2)
    with display.shown():
        display.video(1, "a [red] ball")
        display.step(0, 3, None)
        for stage in ("load", "text", "denoise"):
            display.stage(stage)
        display.step(2, 3, None)
        display.stage("decode")
    for words in ("2/2 a [red] ball  denoising", "2/3 steps", "decoding"):
        assert words in screen.getvalue()


def test_a_damaged_file_is_not_taken_for_done(tmp_path):
    from chai_app.cli.batch import _is_there

    (tmp_path / "a.mp4").write_bytes(b"half")
    assert not _is_there(tmp_path / "a.mp4", GenerationRequest(PROMPT), GenerationRequest(PROMPT))
    with pytest.raises(BadMedia):
        read_metadata(tmp_path / "a.mp4")
