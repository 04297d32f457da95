"""A browser UI on the same CHAI_HOME makes the videos of `generate`; without one, or with another, it works as ever."""

import json
import shutil
import signal
import stat
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import chai_app.cli.handover as handover
from chai_app.cli import app
from chai_app.engine import Engine
from chai_app.errors import BadRequest, Cancelled, ChaiError
from chai_app.media.video import read_metadata, read_video
from chai_app.request import GenerationRequest
from chai_app.server.note import Note, told_settings
from chai_app.settings import BUNDLED_MODELS, Settings
from ui.server import Access, launch

ROOT = Path(__file__).parents[1]
NEVER = 60.0
PROMPT = "a red ball on the moon"


@pytest.fixture(scope="module")
def site(tiny_model_folder, tmp_path_factory):
    base = tmp_path_factory.mktemp("handover")
    model = shutil.copytree(tiny_model_folder, base / "tiny")
    shutil.copytree(BUNDLED_MODELS / "demo" / "embedder", model / "embedder")
    settings = Settings(base / "home", base / "home" / "models", base / "videos")
    with closing(launch(settings, str(model), Access())) as started:
        started.studio.first_page.set()
        yield started
    assert not (settings.home / "server.json").exists()


@pytest.fixture
def run(site, tmp_path, monkeypatch):
    """`run(*arguments)`: `generate` with the server's model and CHAI_HOME."""
    monkeypatch.setenv("CHAI_HOME", str(site.studio.settings.home))

    def run_(*arguments, model=site.studio.model):
        return CliRunner().invoke(app, ["generate", *arguments, "-m", model])

    return run_


def note_of(site):
    return Note.found_in(site.studio.settings.home)


def test_the_server_makes_it_and_the_command_loads_no_model(site, run, tmp_path, monkeypatch):
    monkeypatch.setattr(handover, "Engine", None)  # there is none to fall back upon
    out = tmp_path / "ball.mp4"
    told = run(PROMPT, "-s", "7", "-o", str(out), "--json", str(tmp_path / "told.json"))
    assert told.exit_code == 0, told.output
    assert f"Handed over to the browser UI at {note_of(site).url}" in told.output.replace("\n", "")
    made = json.loads((tmp_path / "told.json").read_text())["videos"][0]
    assert made["file"] == str(out) and made["request"]["seed"] == 7
    assert list(made["report"]["seconds"])[:2] == ["start", "wait"] and "in all" in told.output
    assert site.studio.jobs.jobs() == [], "the job is over, and the video is the command's own"
    assert not list(site.studio.settings.output_folder.iterdir())


def test_the_video_its_receipt_and_the_words_are_those_of_a_command_that_works_here(site, run, tmp_path):
    arguments = [PROMPT, "-s", "8", "--reuse", "full", "--frames", "17"]
    there, here = tmp_path / "there.mp4", tmp_path / "here.mp4"
    by_server = run(*arguments, "-o", str(there))
    by_itself = run(*arguments, "-o", str(here), "--here")
    assert by_server.exit_code == by_itself.exit_code == 0
    assert "Handed over" in by_server.output and "Handed over" not in by_itself.output
    np.testing.assert_array_equal(read_video(there).frames, read_video(here).frames)
    first, second = (read_metadata(path)["chai"] for path in (there, here))
    assert first["request"] == second["request"]
    assert first["report"]["latents_sha256"] == second["report"]["latents_sha256"]
    assert first["report"].keys() == second["report"].keys() and first["report"]["notes"] == second["report"]["notes"]
    lines = [told.output.splitlines() for told in (by_server, by_itself)]
    assert [line.split("seed")[1] for line in lines[0] if "seed" in line] == [
        line.split("seed")[1] for line in lines[1] if "seed" in line
    ]


@pytest.mark.parametrize("here", [[], ["--here"]])
def test_a_mistake_ends_alike(run, here, tmp_path):
    told = run("a ball", "--reuse", "ffffffff", "-o", str(tmp_path / "a.mp4"), *here)
    assert told.exit_code == 2 and "ffffffff" in told.output
    assert not (tmp_path / "a.mp4").exists()


def test_a_file_that_no_page_may_name_is_the_persons_own(run, tmp_path):
    from PIL import Image

    Image.new("RGB", (48, 32), "red").save(tmp_path / "start.png")
    told = run("a ball", "--image", str(tmp_path / "start.png"), "-o", str(tmp_path / "a.mp4"))
    assert told.exit_code == 0 and "Handed over" in told.output, told.output


def test_a_private_video_leaves_nothing(site, run, tmp_path):
    told = run("a private boat", "--private", "-o", str(tmp_path / "a.mp4"))
    assert told.exit_code == 0 and "Handed over" in told.output
    assert (tmp_path / "a.mp4").is_file()
    for file in site.studio.settings.home.rglob("*"):
        assert not file.is_file() or b"private boat" not in file.read_bytes(), file


def test_whoever_hangs_up_has_stopped_the_video(site):
    """As Ctrl-C does, and a kill."""
    at_work = threading.Event()
    maker = handover.HandedOver(note_of(site), site.studio.settings)
    plan = maker.plan(GenerationRequest(PROMPT, num_inference_steps=1000, reuse="full", acceleration="none"))

    def interrupt(step, total, latents):
        at_work.set()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        maker.generate(plan.request, progress=interrupt)
    assert at_work.is_set()
    with site.studio.jobs._changed:
        assert site.studio.jobs._changed.wait_for(lambda: not site.studio.jobs._jobs, NEVER)


def test_a_command_that_is_interrupted_ends_as_ever(site, tmp_path):
    settings = site.studio.settings
    command = [sys.executable, "app.py", "generate", PROMPT, "-m", site.studio.model, "--steps", "1000"]
    command += ["--reuse", "full", "--acceleration", "none", "-o", str(tmp_path / "a.mp4")]
    environment = {"CHAI_HOME": str(settings.home), "PATH": "", "HOME": str(tmp_path)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    jobs = site.studio.jobs
    with jobs._changed:
        assert jobs._changed.wait_for(lambda: any(job.state == "running" for job in jobs._jobs), NEVER)
    process.send_signal(signal.SIGINT)
    assert "Stopped; nothing half-written is left." in process.communicate(timeout=NEVER)[1]
    assert process.returncode == 130 and not list(tmp_path.glob("*.mp4"))
    with jobs._changed:
        assert jobs._changed.wait_for(lambda: not jobs._jobs, NEVER)


def test_a_video_that_is_stopped_in_the_browser_stops_the_command(site):
    maker = handover.HandedOver(note_of(site), site.studio.settings)
    plan = maker.plan(GenerationRequest(PROMPT, num_inference_steps=1000, reuse="full", acceleration="none"))

    def cancel(stage):
        for job in site.studio.jobs.jobs():
            site.studio.jobs.cancel(job.id)

    with pytest.raises(Cancelled):
        maker.generate(plan.request, on_stage=cancel)


def test_what_is_handed_over_is_on_the_list_and_in_no_file(site):
    jobs, seen = site.studio.jobs, []
    maker = handover.HandedOver(note_of(site), site.studio.settings)
    plan = maker.plan(GenerationRequest("a green boat", num_inference_steps=3, reuse="full"))

    def look(stage):
        seen.extend(job.request.prompt for job in jobs.jobs())
        jobs._tell(is_kept=True)
        assert "a green boat" not in (site.studio.settings.home / "jobs.json").read_text()

    maker.generate(plan.request, on_stage=look)
    assert "a green boat" in seen


def test_the_note_is_its_owners_alone_and_has_no_word_of_a_password(site):
    file = site.studio.settings.home / "server.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    note = note_of(site)
    assert len(note.secret) >= 32 and note.host == "127.0.0.1" and note.works_like(site.studio.settings)


@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.write_text("{"),
        lambda file: file.write_text("[]"),
        lambda file: file.write_text(json.dumps({**json.loads(file.read_text()), "port": "7860"})),
        lambda file: file.write_text(json.dumps({**json.loads(file.read_text()), "machine": "another"})),
        lambda file: file.write_text(json.dumps({**json.loads(file.read_text()), "more": 1})),
        lambda file: file.chmod(0o644),
        lambda file: file.unlink(),
        lambda file: (file.rename(file.with_suffix(".old")), file.symlink_to(file.with_suffix(".old"))),
    ],
)
def test_a_note_that_is_not_to_be_trusted_is_none(site, tmp_path, harm):
    shutil.copy(site.studio.settings.home / "server.json", tmp_path)
    (tmp_path / "jobs.lock").symlink_to(site.studio.settings.home / "jobs.lock")
    assert Note.found_in(tmp_path) == note_of(site)
    harm(tmp_path / "server.json")
    assert Note.found_in(tmp_path) is None


def test_a_note_that_a_killed_server_left_is_harmless(site, tmp_path, run):
    """No lock, no server; and who took its port meanwhile does not know the secret, and is told nothing."""
    shutil.copy(site.studio.settings.home / "server.json", tmp_path)
    (tmp_path / "jobs.lock").touch()
    assert Note.found_in(tmp_path) is None
    other = replace(note_of(site), secret="s" * 43)
    assert handover._is_there(note_of(site)) and not handover._is_there(other)
    assert not handover._is_there(replace(other, port=1))


@pytest.mark.parametrize(
    "differs",
    [
        {"fields": {"model": "demo"}},
        {"fields": {"dtype": "bf16"}},
        {"settings": {"store": "hits"}},
        {"settings": {"text_encoder": "int8"}},
        {"note": {"version": "0.0.1"}},
        {"note": {"port": 1}},
        {"here": True},
    ],
    ids=str,
)
def test_what_the_server_would_do_otherwise_is_done_here(site, monkeypatch, differs):
    note, said = replace(note_of(site), **differs.get("note", {})), []
    monkeypatch.setattr(handover.Note, "found_in", lambda home: note)
    settings = replace(site.studio.settings, **differs.get("settings", {}))
    fields = {"model": site.studio.model, **differs.get("fields", {})}
    assert isinstance(handover.engine_for([fields], settings, differs.get("here", False), said.append), Engine)
    assert said == []
    assert told_settings(settings) == told_settings(replace(settings, output_folder=Path("elsewhere")))


def test_where_the_server_goes_away_the_command_makes_it_itself(site):
    gone = replace(note_of(site), port=1)
    with closing(handover.HandedOver(gone, site.studio.settings)) as maker:
        request = GenerationRequest("a blue star", model=site.studio.model, reuse="full", num_inference_steps=2, seed=1)
        made = maker.generate(maker.plan(request).request)
        assert made.report.steps == 2 and made.frames.shape[-1] == 3


def test_a_door_without_the_secret_is_closed(site):
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    url = note_of(site).url
    for act, headers in (("make", {}), ("plan", {"Authorization": "Bearer x"}), ("hello/x", {})):
        with pytest.raises(HTTPError, match="403"):
            urlopen(Request(f"{url}/handed-over/{act}", b"{}", headers), timeout=NEVER)
    foreign = {"Authorization": f"Bearer {note_of(site).secret}", "Origin": "http://evil.example"}
    with pytest.raises(HTTPError, match="403"):
        urlopen(Request(f"{url}/handed-over/plan", b"{}", foreign), timeout=NEVER)


def test_words_of_errors_are_the_same(site):
    maker = handover.HandedOver(note_of(site), site.studio.settings)
    request = GenerationRequest("a ball", reuse="ffffffff")
    with pytest.raises(ChaiError) as there:
        maker.plan(request)
    with pytest.raises(BadRequest) as here, closing(Engine(site.studio.model, settings=site.studio.settings)) as engine:
        engine.plan(request)
    assert str(there.value) == str(here.value)
