"""The gallery, restoring settings from files, and purging."""

import os
from dataclasses import replace

import numpy as np
import pytest

from chai_app.cache import LatentCache, Selection
from chai_app.engine import Engine
from chai_app.errors import BadMedia, BadRequest
from chai_app.media.video import write_video
from chai_app.request import GenerationRequest, Report
from chai_app.server.gallery import Gallery, restore
from chai_app.server.jobs import JobQueue
from chai_app.server.purge import find_traces, purge
from chai_app.settings import Settings

REPORT = Report("tiny", "0123", 3, 16, 16, 2, 8.0, "cpu", "fp32", "00")


@pytest.fixture
def gallery(tmp_path):
    (tmp_path / "videos").mkdir()
    return Gallery(tmp_path / "videos", tmp_path / "thumbnails")


@pytest.fixture
def made(gallery):
    """`made(name, prompt, at)`: a clip of ours in the gallery, as old as `at`."""

    def make(name, prompt, at=1_000_000.0, **fields):
        path = gallery.folder / name
        request = GenerationRequest(prompt, **{"seed": 7, "model": "demo", **fields})
        frames = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
        write_video(path, frames, 8, {"chai": {"request": request.to_json(), "report": REPORT.to_json()}})
        os.utime(path, (at, at))
        return path

    return make


def names(items):
    return [item.name for item in items]


def test_the_gallery_is_the_folder_newest_first_with_the_settings_of_each_file(gallery, made):
    made("old.mp4", "a red ball in the desert", at=1000)
    made("new.gif", "a blue boat", at=2000, seed=42)
    (gallery.folder / "notes.txt").write_text("no video")
    (gallery.folder / ".hidden.mp4").write_bytes(b"")
    items = gallery.items()
    assert names(items) == ["new.gif", "old.mp4"]
    assert items[1].request.prompt == "a red ball in the desert" and items[1].report == REPORT
    assert names(gallery.items("BALL desert")) == ["old.mp4"]
    assert names(gallery.items("seed 42")) == ["new.gif"]
    assert gallery.items("ball boat") == []


def test_a_file_that_changes_is_read_again_and_one_of_somebody_else_is_shown(gallery, made):
    path = made("clip.mp4", "a red ball")
    assert gallery.item("clip.mp4").request.prompt == "a red ball"
    made("clip.mp4", "a green star and a boat", at=5000)
    assert gallery.item("clip.mp4").request.prompt == "a green star and a boat"
    path.write_bytes(b"damaged")
    assert gallery.item("clip.mp4").request is None
    assert gallery.item("../clip.mp4") is None


def test_a_folder_that_is_not_there_is_an_empty_gallery(tmp_path):
    assert Gallery(tmp_path / "nowhere", tmp_path).items() == []


def test_a_thumbnail_moves_is_made_once_and_goes_with_its_file(gallery, made):
    made("clip.mp4", "a red ball")
    item = gallery.item("clip.mp4")
    thumbnail = gallery.thumbnail(item)
    assert thumbnail.read_bytes()[8:12] == b"WEBP"
    stamp = thumbnail.stat().st_mtime_ns
    assert gallery.thumbnail(item).stat().st_mtime_ns == stamp
    assert gallery.remove(item) and not gallery.remove(item)
    assert not thumbnail.exists() and gallery.items() == []


def test_settings_return_from_a_file_with_a_note_for_what_cannot(made, tmp_path):
    settings = Settings.from_environment()
    path = made("clip.mp4", "a red ball", image=str(tmp_path / "gone.png"), num_frames=17)
    restored = restore(path, settings)
    assert (restored.request.prompt, restored.request.seed, restored.request.image) == ("a red ball", 7, None)
    assert "gone.png" in restored.notes[0] and "weights of demo have changed" in restored.notes[1]
    elsewhere = restore(made("other.mp4", "a red ball", model="/not/here"), settings)
    assert elsewhere.request.model is None and "no model" in elsewhere.notes[0]


def test_a_file_without_settings_says_so(gallery, tmp_path):
    path = gallery.folder / "plain.mp4"
    write_video(path, np.zeros((2, 16, 16, 3), np.uint8), 8)
    with pytest.raises(BadRequest, match="carries no settings"):
        restore(path, Settings.from_environment())
    path.write_bytes(b"no video at all")
    with pytest.raises(BadMedia, match="not a video"):
        restore(path, Settings.from_environment())
    write_video(path, np.zeros((2, 16, 16, 3), np.uint8), 8, {"chai": {"request": {"prompt": "x", "colour": 1}}})
    with pytest.raises(BadRequest, match="colour"):
        restore(path, Settings.from_environment())


@pytest.fixture
def jobs(tiny_model_folder, gallery, tmp_path):
    queue = JobQueue(
        Engine(str(tiny_model_folder)), tmp_path / "home" / "jobs.json", lambda r: gallery.folder / "x.mp4"
    )
    yield queue
    queue.close()


def test_purging_an_entity_takes_it_from_gallery_queue_and_uploads_and_nothing_else(gallery, made, jobs, tmp_path):
    uploads = tmp_path / "uploads"
    (uploads / "a").mkdir(parents=True)
    mine, other = uploads / "a" / "me.png", uploads / "a" / "you.png"
    mine.write_bytes(b"1"), other.write_bytes(b"2")
    made("ball.mp4", "a red ball in the desert", image=str(mine))
    made("boat.mp4", "a blue boat on the ocean")
    for job in jobs.submit([GenerationRequest("the red ball again"), GenerationRequest("a boat")]):
        jobs.cancel(job.id)
    selection = Selection(entity="red ball")
    with LatentCache(tmp_path / "cache") as cache:
        found = find_traces(selection, cache, gallery, jobs, uploads)
        gone = purge(selection, cache, gallery, jobs, uploads)
    assert found == gone and gone.count == 3
    assert names(gallery.items()) == ["boat.mp4"]
    assert [job.request.prompt for job in jobs.jobs()] == ["a boat"]
    assert not mine.exists() and other.exists()


def test_purging_by_date_takes_what_was_made_then(gallery, made, jobs, tmp_path):
    made("old.mp4", "a red ball", at=1000)
    made("new.mp4", "a red ball", at=2000)
    (tmp_path / "uploads").mkdir()
    upload = tmp_path / "uploads" / "x.png"
    upload.write_bytes(b"1")
    os.utime(upload, (1500, 1500))
    with LatentCache(tmp_path / "cache") as cache:
        gone = purge(Selection(before=1600), cache, gallery, jobs, tmp_path / "uploads")
    assert names(gone.items) == ["old.mp4"] and gone.uploads == (upload,)
    assert names(gallery.items()) == ["new.mp4"] and not upload.exists()


def test_a_job_that_waits_is_not_purged(gallery, jobs, tmp_path):
    jobs.submit([replace(GenerationRequest("a red ball"), seed=1)])
    with LatentCache(tmp_path / "cache") as cache:
        assert find_traces(Selection(entity="ball"), cache, gallery, jobs, tmp_path).jobs == ()
