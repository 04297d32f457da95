"""Private means that nobody else sees it and nothing of it stays; and a video tells of itself alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attacks import files_in
from gradio_client import Client

from chai_app.cache import Selection
from chai_app.media.video import read_metadata
from chai_app.request import GenerationRequest
from chai_app.server.purge import purge
from ui.visitors import asked_by

SECRET = "a red star on the moon"
ROOT = Path(__file__).parents[2]


class Asked:
    """A request as a handler sees it."""

    def __init__(self, cookie):
        self.headers = {"cookie": cookie}


def make(site, request, cookie=""):
    with asked_by(Asked(cookie)):
        (job,) = site.studio.submit([request])
    return site.studio.jobs.wait(job.id, 120)


@pytest.fixture
def private_job(site):
    mine = site.visitor()
    job = make(site, GenerationRequest(SECRET, seed=5, num_inference_steps=2, is_private=True), mine)
    assert job.state == "done"
    yield job, mine
    site.studio.jobs.forget([job.id])


def test_a_private_video_is_on_its_own_page_and_on_no_other(site, private_job):
    job, mine = private_job
    assert SECRET in json.dumps(site.call("poll", {"job": job.id}, Cookie=mine)[1])
    for other in ({}, {"Cookie": site.visitor()}, {"Cookie": "chai-visitor=x"}):
        for message in ({}, {"job": job.id}, {"fresh": True}):
            told = json.dumps(site.call("poll", message, **other)[1])
            assert SECRET not in told and job.id not in told and str(job.file) not in told
        for act in ("again", "gif", "forget", "move", "compare_job"):
            told = json.dumps(site.call("act", {"act": act, "args": {"id": job.id}}, **other)[1])
            assert "no longer on the list" in told, act
        for act in ("view_compare", "view_gallery", "view_cache", "view_system", "purge_look"):
            args = {"words": "", "since": "1970-01-02", "prompt": "star" if act == "purge_look" else None}
            assert SECRET not in json.dumps(site.call("act", {"act": act, "args": args}, **other)[1]), act
    assert site.studio.jobs.job(job.id) == job and job.file.is_file()


def press(site, button, cookie, **fields):
    """What the page sends when a button is pressed: the form as it is at first, but for `fields` by their ids."""
    blocks = site.started.blocks
    (pressed,) = (id for id, block in blocks.blocks.items() if block.elem_id == button)
    (event,) = (each for each in blocks.config["dependencies"] if [pressed, "click"] in map(list, each["targets"]))
    inputs = [blocks.blocks[id] for id in event["inputs"]]
    data = [fields.get(each.elem_id, getattr(each, "value", None)) for each in inputs]
    body = json.dumps({"data": data, "fn_index": event["id"], "session_hash": "mine"})
    status, _, told = site.ask("POST", "/gradio_api/queue/join", body, Content_Type="application/json", Cookie=cookie)
    assert status == 200, told


def test_what_the_form_asks_for_in_private_is_the_browser_s_own(site):
    mine, jobs = site.visitor(), site.studio.jobs
    press(site, "generate", mine, prompt=SECRET, private=True)
    with jobs._changed:
        assert jobs._changed.wait_for(lambda: any(job.request.is_private for job in jobs.jobs()), 60)
    (job,) = [job for job in jobs.jobs() if job.request.is_private]
    jobs.wait(job.id, 120)
    assert f"chai-visitor={job.owner}" == mine
    assert SECRET in json.dumps(site.call("poll", {}, Cookie=mine)[1])
    assert SECRET not in json.dumps(site.call("poll", {})[1])
    jobs.forget([job.id])


def test_a_waiting_private_video_is_known_to_others_as_one_and_no_more(site, monkeypatch):
    mine = site.visitor()
    long = GenerationRequest("a boat", num_inference_steps=1000, reuse="full")
    with asked_by(Asked(mine)):
        (running,) = site.studio.submit([long])
        (waiting,) = site.studio.submit([GenerationRequest(SECRET, num_inference_steps=2, is_private=True)])
    told = site.call("poll", {})[1]
    assert "a private video of another visitor" in told["html"]["queue"] and told["waiting"] == 2
    assert SECRET not in json.dumps(told) and waiting.id not in json.dumps(told)
    assert site.call("act", {"act": "cancel", "args": {"id": waiting.id}})[1] == {"toast": "It was over already."}
    for job in (waiting, running):
        site.studio.jobs.cancel(job.id)
        site.studio.jobs.wait(job.id, 120)
    site.studio.jobs.forget([waiting.id, running.id])


def test_a_private_video_leaves_nothing_on_the_disk(open_site, tmp_path):
    site = open_site()
    home, output = site.studio.settings.home, site.studio.settings.output_folder
    client = Client(site.started.url, verbose=False, download_files=str(tmp_path / "downloads"))
    settings = {"is_private": True, "seed": 5, "num_inference_steps": 2}
    file, told = client.predict(SECRET, settings, api_name="/generate")
    assert read_metadata(Path(file))["chai"]["request"]["prompt"] == SECRET == told["request"]["prompt"]
    mine = site.visitor()
    job = make(site, GenerationRequest(SECRET, **settings), mine)
    with asked_by(Asked(mine)):
        from ui.generate_page import ACTS, filling

        frame = filling(site.studio, {"continue": job.id, "how": "last_frame"})["image"]
        gif = ACTS["gif"](site.studio, {"id": job.id})["name"]
    assert Path(frame).is_relative_to(job.file.parent) and (job.file.parent / gif).is_file()
    words = [word.encode() for word in (SECRET, job.id)]
    traces = [
        path for folder in (home, output) for path in files_in(folder) if any(w in path.read_bytes() for w in words)
    ]
    assert traces == [] and files_in(site.studio.uploads) == files_in(output) == []
    site.started.close()
    assert not job.file.parent.exists()


def test_a_public_result_is_given_out_where_it_lies_and_no_copy_is_made(site, tmp_path):
    client = Client(site.started.url, verbose=False, download_files=str(tmp_path))
    client.predict("a blue star", {"seed": 1, "num_inference_steps": 2}, api_name="/generate")
    assert files_in(site.studio.uploads) == []


def test_purging_words_finds_copies_and_archives(site, tmp_path):
    studio = site.studio
    job = make(site, GenerationRequest("a green boat on the ocean", seed=3, num_inference_steps=2))
    copies = [studio.uploads / "copy" / "x.mp4", studio.exports / "chai-cache-1.zip", studio.uploads / "other.png"]
    for path in copies:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(job.file.read_bytes())
    with studio.cache() as cache:
        gone = purge(
            Selection(prompt="green boat"),
            cache,
            studio.gallery,
            studio.jobs,
            studio.uploads,
            studio.exports,
            studio.sees,
        )
    assert set(gone.uploads) == set(copies[:2]) and not job.file.exists()
    copies[2].unlink()


def test_a_video_carries_its_own_prompt_and_no_other(tiny_model_folder, tmp_path, site):
    """Of a hit, too, whose report names its donor and all who lost."""
    others = ["a red ball in the desert", "a red ball and a boat", "two red balls over the ocean"]
    for seed, prompt in enumerate(others):
        make(site, GenerationRequest(prompt, seed=seed, reuse="full"))
    for prompt in ("a red ball on the moon", "a green boat rising"):
        job = make(site, GenerationRequest(prompt, seed=9))
        assert any(other in json.dumps(job.report.to_json()) for other in others), "the page tells of the donors"
        carried = read_metadata(job.file)["chai"]
        text = json.dumps(carried)
        assert carried["request"]["prompt"] == prompt and not any(other in text for other in others)
        assert carried["report"]["reuse"]["outcome"] == job.report.reuse.outcome and len(text) < 6_000
        assert carried["report"]["reuse"]["entry_id"] == job.report.reuse.entry_id


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
def test_a_program_that_is_ended_takes_private_videos_along_and_counts_no_crash(tiny_model_folder, tmp_path):
    """SIGTERM, as from a service manager: within seconds, with a job that runs and one that is private."""
    script = f"""
import sys, threading
from chai_app.request import GenerationRequest
from chai_app.settings import Settings
from pathlib import Path
from ui import server
launch = server.launch
def launched(*args):
    started = launch(*args)
    (private,) = started.studio.jobs.submit(
        [GenerationRequest({SECRET!r}, num_inference_steps=2, is_private=True)], owner="me")
    started.studio.jobs.wait(private.id)
    (long,) = started.studio.jobs.submit([GenerationRequest("a boat", num_inference_steps=1000, reuse="full")])
    while (live := started.studio.jobs.live(long.id)) is None or not live.step:
        threading.Event().wait(0.05)
    print("READY", started.studio.jobs.private_folder(), flush=True)
    return started
server.launch = launched
base = Path(sys.argv[1])
server.serve(Settings(base / "home", base / "models", base / "videos"), {str(tiny_model_folder)!r},
             server.Access(), opens_browser=False)
"""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    ) as program:
        line = next(line for line in program.stdout if line.startswith("READY"))
        folder = Path(line.split()[1])
        assert len(files_in(folder)) == 1 and folder.is_relative_to(temporary)
        asked = time.monotonic()
        program.send_signal(signal.SIGTERM)
        assert program.wait(60) == 0 and time.monotonic() - asked < 60
    assert list(temporary.glob("chai-private-*")) == []
    (job,) = json.loads((tmp_path / "home" / "jobs.json").read_text())["jobs"]
    assert (job["state"], job["crashes"]) == ("queued", 0)
