"""The queue of a server, on the tiny model: what outlives a page, a crash, a failure."""

import json
import threading
from dataclasses import replace

import pytest

from chai_app.engine import Engine
from chai_app.errors import BadRequest, ChaiError
from chai_app.media.video import read_metadata
from chai_app.request import GenerationRequest
from chai_app.server.jobs import JobQueue
from chai_app.server.private_folder import PrivateFolder

FOREVER = 1_000  # steps; far more than a test waits for


@pytest.fixture(scope="module")
def engine(tiny_model_folder):
    return Engine(str(tiny_model_folder), device="cpu")


@pytest.fixture
def open_queue(engine, tmp_path):
    opened = []

    def open_(**options):
        (tmp_path / "videos").mkdir(exist_ok=True)
        queue = JobQueue(
            engine, tmp_path / "home" / "jobs.json", lambda r: tmp_path / "videos" / f"{r.seed}.mp4", **options
        )
        opened.append(queue)
        return queue

    yield open_
    for queue in opened:
        queue.close()


def request(prompt="a red ball in the desert", **fields):
    return GenerationRequest(prompt, **{"num_inference_steps": 2, "seed": 1, **fields})


def seeds(queue):
    return [job.request.seed for job in queue.jobs()]


def wait_for_step(queue, id):
    """Until the running job has made a step."""
    is_reached = threading.Event()

    def look():
        live = queue.live(id)
        return live is not None and live.step > 0

    with queue._changed:
        assert queue._changed.wait_for(look, timeout=120)
    is_reached.set()


def test_jobs_are_made_one_after_the_other_and_each_has_its_video_and_report(open_queue, tmp_path):
    done = []
    queue = open_queue(on_done=lambda job, generation: done.append((job.id, len(generation.frames))))
    jobs = queue.submit([request(seed=1), request(seed=2)])
    queue.start()
    finished = [queue.wait(job.id, 120) for job in jobs]
    assert [job.state for job in finished] == ["done", "done"]
    assert finished[0].ended <= finished[1].started
    assert [job.file for job in finished] == [tmp_path / "videos" / "1.mp4", tmp_path / "videos" / "2.mp4"]
    assert read_metadata(finished[0].file)["chai"]["request"]["seed"] == 1
    assert finished[0].report.steps == 2 and "write" in finished[0].report.seconds
    assert done == [(jobs[0].id, 17), (jobs[1].id, 17)]
    assert replace(finished[0].request, seed=None).seed is None, "once more, with another seed"


def test_a_request_that_cannot_be_made_is_refused_before_anything_is_queued(open_queue):
    queue = open_queue()
    with pytest.raises(BadRequest, match="no model"):
        queue.submit([request(), request(model="nobody's")])
    assert queue.jobs() == []


def test_a_running_job_shows_steps_and_previews_and_stops_at_the_next_step(open_queue, tmp_path):
    queue = open_queue()
    (job,) = queue.submit([request(num_inference_steps=FOREVER)])
    queue.start()
    wait_for_step(queue, job.id)
    live = queue.live(job.id)
    assert (live.stage, live.total) == ("denoise", FOREVER)
    assert live.preview[:3] == b"\xff\xd8\xff"  # a JPEG
    assert queue.cancel(job.id)
    stopped = queue.wait(job.id, 120)
    assert (stopped.state, stopped.file, list((tmp_path / "videos").iterdir())) == ("cancelled", None, [])
    assert not queue.cancel(job.id)
    assert queue.live(job.id) is None


def test_a_waiting_job_can_be_moved_and_cancelled_at_once(open_queue):
    queue = open_queue()
    first, second, third = queue.submit([request(seed=seed) for seed in (1, 2, 3)])
    assert queue.move(third.id, -1) and seeds(queue) == [1, 3, 2]
    assert queue.move(third.id, -5) and seeds(queue) == [3, 1, 2]
    assert queue.move(third.id, 1) and seeds(queue) == [1, 3, 2]
    assert queue.cancel(first.id)
    assert queue.job(first.id).state == "cancelled" and not queue.move(first.id, 1)
    assert {job.id for job in queue.forget([first.id, second.id])} == {first.id, second.id}
    assert seeds(queue) == [3]


def test_a_failure_is_a_sentence_and_the_next_one_gets_its_turn(open_queue, engine, monkeypatch, tmp_path):
    queue = open_queue()
    jobs = queue.submit([request(seed=1), request(seed=2), request(seed=3)])
    generate = engine.generate

    def fail(asked, *rest):
        if asked.seed == 1:
            raise ChaiError("The disk is full.")
        if asked.seed == 2:
            raise ZeroDivisionError("our bug")
        return generate(asked, *rest)

    monkeypatch.setattr(engine, "generate", fail)
    queue.start()
    told, bug, fine = (queue.wait(job.id, 120) for job in jobs)
    assert (told.state, told.error) == ("failed", "The disk is full.")
    assert bug.state == "failed" and "ZeroDivisionError: our bug" in bug.error and "\n" not in bug.error
    assert fine.state == "done"


def test_what_follows_a_video_cannot_cost_the_video(open_queue):
    def fail(*_):
        raise RuntimeError("no thumbnail")

    queue = open_queue(on_done=fail)
    (job,) = queue.submit([request()])
    queue.start()
    assert queue.wait(job.id, 120).state == "done"


def test_the_queue_survives_the_end_of_the_program(open_queue):
    queue = open_queue()
    jobs = queue.submit([request(seed=1), request(seed=2)])
    queue.start()
    done = [queue.wait(job.id, 120) for job in jobs]
    queue.close()
    assert open_queue().jobs() == [done[1], done[0]]


def test_closing_leaves_the_running_job_waiting_for_the_next_start(open_queue):
    queue = open_queue()
    job, other = queue.submit([request(seed=1, num_inference_steps=FOREVER), request(seed=2)])
    queue.start()
    wait_for_step(queue, job.id)
    queue.close()
    again = open_queue()
    assert [(j.id, j.state, j.crashes) for j in again.jobs()] == [(job.id, "queued", 0), (other.id, "queued", 0)]


def test_who_ends_the_program_without_patience_does_not_make_it_a_crash(open_queue, engine, monkeypatch, tmp_path):
    is_over = threading.Event()
    monkeypatch.setattr(engine, "generate", lambda *_: is_over.wait(60))
    queue = open_queue()
    (job,) = queue.submit([request()])
    queue.start()
    with queue._changed:
        assert queue._changed.wait_for(lambda: queue.live(job.id) is not None, timeout=60)
    assert json.loads((tmp_path / "home" / "jobs.json").read_text())["jobs"][0]["state"] == "running"
    queue.close(timeout_s=0)  # the step that it is at takes too long
    (kept,) = json.loads((tmp_path / "home" / "jobs.json").read_text())["jobs"]
    assert (kept["state"], kept["crashes"]) == ("queued", 0)
    is_over.set()


def test_a_job_that_ran_at_a_crash_goes_first_and_is_given_up_after_the_second(open_queue, tmp_path):
    queue = open_queue()
    queue.submit([request(seed=1), request(seed=2)])
    queue.close()
    file = tmp_path / "home" / "jobs.json"
    for crashes, expected in ((1, [2, 1]), (2, [1, 2])):
        values = json.loads(file.read_text())
        victim = next(job for job in values["jobs"] if job["request"]["seed"] == 2)
        victim["state"] = "running"
        file.write_text(json.dumps(values))
        queue = open_queue()
        assert seeds(queue) == expected
        (job,) = [job for job in queue.jobs() if job.request.seed == 2]
        assert job.crashes == crashes
        queue._tell(is_kept=True)
        queue.close()
    assert job.state == "failed" and "twice" in job.error


def test_a_file_that_cannot_be_read_is_set_aside(open_queue, tmp_path):
    open_queue().close()
    file = tmp_path / "home" / "jobs.json"
    file.write_text("{")
    assert open_queue().jobs() == []
    assert (tmp_path / "home" / "jobs.unreadable.json").read_text() == "{"


def test_a_job_of_another_version_is_passed_over_and_the_others_stay(open_queue, tmp_path):
    queue = open_queue()
    queue.submit([request(seed=1), request(seed=2)])
    queue.close()
    file = tmp_path / "home" / "jobs.json"
    values = json.loads(file.read_text())
    values["jobs"][0]["colour"] = "red"
    file.write_text(json.dumps(values))
    assert seeds(open_queue()) == [2]


def test_two_programs_do_not_work_on_one_queue(open_queue):
    open_queue()
    with pytest.raises(ChaiError, match="Another browser UI"):
        open_queue()


def test_a_private_video_leaves_no_word_on_the_disk_and_goes_with_the_queue(open_queue, tmp_path):
    queue = open_queue()
    (job,) = queue.submit([request("a red star on the moon", is_private=True)])
    queue.start()
    done = queue.wait(job.id, 120)
    assert done.state == "done" and done.file.is_file() and not done.file.is_relative_to(tmp_path)
    assert b"red star" not in (tmp_path / "home" / "jobs.json").read_bytes()
    assert list((tmp_path / "videos").iterdir()) == []
    queue.close()
    assert not done.file.exists()


def test_what_a_killed_program_left_of_private_videos_goes_with_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / "chai-private-left"
    left.mkdir()
    (left / "video.mp4").write_bytes(b"private")
    running = PrivateFolder()
    assert not left.exists()
    (running.path / "video.mp4").write_bytes(b"private")
    another = PrivateFolder()
    assert (running.path / "video.mp4").is_file()
    for folder in (running, another):
        folder.close()
    assert list(tmp_path.glob("chai-private-*")) == []


def test_the_arms_of_a_comparison_stand_together(open_queue):
    queue = open_queue()
    queue.submit([request(seed=9)])
    arms = queue.submit([replace(request(), reuse=reuse) for reuse in ("full", "fast")], "one", ["full", "fast"])
    assert queue.group("one") == arms and [job.label for job in arms] == ["full", "fast"]
