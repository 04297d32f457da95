"""Files with damaged or hostile metadata: each ends in one sentence, and none stands in the way of the others."""

import json
import os
import shutil

import numpy as np
import pytest

from chai_app.cache import LatentCache, Selection
from chai_app.cache.thresholds import Thresholds, save_thresholds, thresholds_for
from chai_app.checks import check_fields
from chai_app.errors import BadRequest, CannotRead, ChaiError, DamagedCheckpoint
from chai_app.media.video import read_metadata, read_video, write_video
from chai_app.models import find_model
from chai_app.models.weights import check_weights
from chai_app.request import GenerationRequest, Report, Reuse
from chai_app.server.gallery import Gallery, restore
from chai_app.server.jobs import Job
from chai_app.server.jobs_file import JobsFile
from chai_app.server.purge import find_traces
from chai_app.settings import Settings

DEEP = "[" * 100_000
FRAMES = np.full((2, 32, 48, 3), 90, np.uint8)
REQUEST = GenerationRequest("a red ball", seed=1)
REPORT = Report("tiny", "f" * 16, 3, 32, 48, 2, 8.0, "cpu", "fp32", "0" * 64, {"text": 1.0}, reuse=Reuse("miss", 3))


def report_with(**changes):
    return {**REPORT.to_json(), **changes}


def reuse_with(**changes):
    return report_with(reuse={**REPORT.to_json()["reuse"], **changes})


BAD_REPORTS = [
    report_with(seconds={"text": "long"}),
    report_with(seconds={"text": float("nan")}),
    report_with(seconds={"text": -1.0}),
    report_with(seconds=[1]),
    report_with(steps="three"),
    report_with(notes="none"),
    report_with(notes=[1]),
    report_with(fps=10**400),
    report_with(versions={"torch": 2}),
    reuse_with(outcome="perhaps"),
    reuse_with(outcome=["hit"]),
    reuse_with(reused_steps=["first"]),
    reuse_with(full_seconds="many"),
    reuse_with(candidates=[5]),
    reuse_with(candidates=[{"entry_id": "../../etc/passwd"}]),
    reuse_with(candidates=[{"entry_id": "0" * 16, "score": "high"}]),
    reuse_with(donors=[{"entry_id": "0" * 16, "entry_prompt": 7}]),
    reuse_with(why=None),
    {},
    [],
    None,
    "a report",
]


@pytest.mark.parametrize("values", BAD_REPORTS)
def test_a_report_with_a_value_that_cannot_be_is_none_of_ours(values):
    with pytest.raises(BadRequest, match="not a report of ours"):
        Report.from_json(values)
    assert Report.from_json(REPORT.to_json()) == REPORT


@pytest.fixture
def gallery(tmp_path):
    """One sound video, and one for every way to be damaged."""
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "sound.mp4", FRAMES, 8, {"chai": {"request": REQUEST.to_json(), "report": REPORT.to_json()}})
    for i, report in enumerate(BAD_REPORTS):
        write_video(folder / f"report{i}.mp4", FRAMES, 8, {"chai": {"request": REQUEST.to_json(), "report": report}})
    for i, request in enumerate([{"prompt": "a\x1b"}, {"prompt": 5}, [], None, {"prompt": "a", "image": "\x00"}]):
        write_video(folder / f"request{i}.gif", FRAMES, 8, {"chai": {"request": request}})
    with_comment(folder / "request5.mp4", '{"chai": {"request": {"prompt": "a \\ud800"}}}')
    with_comment(folder / "deep.mp4", DEEP)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "none.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50)
    (folder / "none.gif").write_bytes(b"GIF89a" + b"\xff" * 50)
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    with open(os.fsencode(folder) + b"/\xff.mp4", "wb") as file:
        file.write(b"a name that is no text")
    return Gallery(folder, tmp_path / "thumbnails")


def with_comment(path, comment):
    import av

    with av.open(str(path), "w", format="mp4") as container:
        container.metadata["comment"] = comment
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for pixels in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_one_damaged_file_does_not_hide_the_others(gallery, tmp_path):
    items = {item.name: item for item in gallery.items()}
    assert items["sound.mp4"].request == REQUEST and items["sound.mp4"].report == REPORT
    assert len(items) == 1 + len(BAD_REPORTS) + 6 + 4
    assert [item.name for item in items.values() if item.report is not None] == ["sound.mp4"]
    assert len(gallery.items("red ball")) == 1
    for item in items.values():
        if item.name != "sound.mp4":
            with pytest.raises(ChaiError):
                restore(item.path, Settings.from_environment())


def test_damaged_files_do_not_stop_a_purge(gallery, tmp_path):
    class Jobs:
        def jobs(self):
            return []

    with LatentCache(tmp_path / "home") as cache:
        found = find_traces(Selection(prompt="red ball"), cache, gallery, Jobs(), tmp_path / "uploads")
        assert [item.name for item in found.items] == ["sound.mp4"]
        assert len(find_traces(Selection(), cache, gallery, Jobs(), tmp_path / "uploads").items) > 30


def test_metadata_that_is_deep_is_none(tmp_path):
    with_comment(tmp_path / "deep.mp4", DEEP)
    assert read_metadata(tmp_path / "deep.mp4") == {}


@pytest.mark.parametrize("fps", [0, -8, float("nan"), float("inf"), 10**400, "fast", None])
def test_a_frame_rate_that_cannot_be_is_not_believed(tmp_path, fps):
    write_video(tmp_path / "clip.mp4", FRAMES, 8, {"chai": {"report": {"fps": fps}}})
    assert read_video(tmp_path / "clip.mp4").fps == 8


@pytest.mark.parametrize("content", [DEEP, '{"a":' * 100_000, "{", "[]", '"jobs"', '{"schema": 1}', "\ud800"])
def test_a_damaged_queue_is_set_aside_and_starts_empty(tmp_path, content):
    path = tmp_path / "jobs.json"
    path.write_bytes(content.encode(errors="surrogatepass"))
    file = JobsFile(path)
    assert file.read() == []
    assert (tmp_path / "jobs.unreadable.json").read_bytes() == content.encode(errors="surrogatepass")
    file.close()


def test_a_queue_that_cannot_be_read_just_now_is_left_where_it_is(tmp_path, monkeypatch):
    path = tmp_path / "jobs.json"
    path.write_text('{"schema": 1, "jobs": []}')
    file = JobsFile(path)

    def refuse(*_args, **_more):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "read_text", refuse)
        with pytest.raises(CannotRead, match="cannot be read just now"):
            file.read()
    assert path.exists() and file.read() == []
    file.close()


@pytest.mark.parametrize(
    "change",
    [{"state": "unsure"}, {"created": "today"}, {"crashes": None}, {"file": 7}, {"id": 5}, {"surprise": 1}],
)
def test_a_job_with_a_value_that_cannot_be_is_none(change):
    job = Job("abc", REQUEST, created=1.0)
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job
    with pytest.raises((TypeError, KeyError)):
        Job.from_json({**job.to_json(), **change})


def test_every_field_of_a_job_and_a_report_has_a_type_that_can_be_looked_at():
    check_fields(Report, {**vars(REPORT), "reuse": None})
    check_fields(Reuse, vars(Reuse("hit", 2, "0" * 16, similarity=0.9, candidates=({"entry_id": "0" * 16},))))


@pytest.mark.parametrize(
    "card",
    [
        DEEP, "{", "[]", "5", '{"defaults": 5}', '{"defaults": {"height": "tall"}}', '{"defaults": {"height": -3}}',
        '{"defaults": {"fps": 1e999}}', '{"defaults": {"acceleration": "magic"}}', '{"vocabulary": 7}',
        '{"mag_ratios": ["x"]}', '{"name": "a\\u001b[2J"}', '{"vocabulary": {"words": [1]}}',
    ],
)  # fmt: skip
def test_a_damaged_model_card_is_named(tiny_model_folder, tmp_path, card):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "mine")
    (folder / "chai.json").write_text(card)
    with pytest.raises(DamagedCheckpoint, match=r"chai\.json"):
        find_model(str(folder), Settings.from_environment())


@pytest.mark.parametrize("content", [DEEP, "{", "[]", '{"hidden_size": "wide"}'])
def test_damaged_settings_of_a_transformer_are_named(tiny_model_folder, tmp_path, content):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "mine")
    (folder / "transformer" / "config.json").write_text(content)
    with pytest.raises(DamagedCheckpoint, match=r"transformer/config\.json"):
        find_model(str(folder), Settings.from_environment()).transformer_setting("hidden_size", 1152)


@pytest.mark.parametrize(
    "header",
    [
        DEEP, '{"a": {"data_offsets": [0, "4"]}, "b": {"data_offsets": [0, []]}}', '{"a": 5}', "[1]",
        '{"a": {"data_offsets": [0, 1e999]}}', '{"a": {"data_offsets": 3}}',
    ],
)  # fmt: skip
def test_a_damaged_header_of_weights_is_named(tmp_path, header):
    content = header.encode()
    (tmp_path / "model.safetensors").write_bytes(len(content).to_bytes(8, "little") + content + b"1234")
    with pytest.raises(DamagedCheckpoint, match=r"model\.safetensors"):
        check_weights(tmp_path)


def test_a_list_of_shards_that_is_deep_is_damaged(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(DEEP)
    with pytest.raises(DamagedCheckpoint, match=r"index\.json is damaged"):
        check_weights(tmp_path)


class Named:
    name, dim, fingerprint = "named", 8, "fingerprint"


@pytest.mark.parametrize("value", ["[" * 100_000, '"high"', "1e999", "NaN", "-1", "[]", "null"])
def test_thresholds_that_cannot_be_are_passed_over(tmp_path, value):
    (tmp_path / "thresholds.json").write_text(f'{{"fingerprint": {{"object": {value}}}}}')
    assert thresholds_for(Named(), tmp_path) == Thresholds()


def test_thresholds_that_cannot_be_read_are_not_written_over(tmp_path, monkeypatch):
    (tmp_path / "thresholds.json").write_text('{"other": {"object": 0.5}}')
    monkeypatch.setattr("chai_app.cache.thresholds.os.access", lambda *_: False)
    with pytest.raises(CannotRead, match="nothing was written"):
        save_thresholds(Named(), Thresholds(), tmp_path)
    assert "other" in (tmp_path / "thresholds.json").read_text()
