"""The kit for a GPU, on a CPU at small size: what is quick runs, and no step of it can cost the others anything."""

import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from chai_app.bench.gpu import fast, learn, main, right, run
from chai_app.bench.gpu.kit import Kit, Lack
from chai_app.bench.gpu.pack import add_parts, cut_latents
from chai_app.demo.learn.loop import Settings


@pytest.fixture
def kit(tmp_path) -> Kit:
    return Kit("cpu", tmp_path / "out" / "part.json", 10, True, {})


def written(kit: Kit) -> dict:
    return json.loads((kit.out / "part.json").read_text())["steps"]


# -- steps and their ends ---------------------------------------------------------------------------------------------


def test_whatever_becomes_of_a_step_is_written_down_and_stops_no_other(tmp_path):
    kit = Kit("cpu", tmp_path / "part.json", 10, False, {})

    def lack(_kit):
        raise Lack("there is no such thing here")

    def import_what_is_missing(_kit):
        import a_package_that_nobody_has  # noqa: F401

    def fail(_kit):
        raise RuntimeError("broken\nin two lines")

    def hang(kit):
        kit.so_far(half=1)
        time.sleep(60)

    steps = {"lack": lack, "import": import_what_is_missing, "fail": fail, "hang": hang, "work": lambda _kit: {"x": 2}}
    for name, work in steps.items():
        kit.step(name, 3.0 if name == "hang" else 60, work)
        assert name in written(kit)
    ends = {name: result["ended"] for name, result in written(kit).items()}
    assert ends == {
        "lack": "passed over: there is no such thing here",
        "import": "passed over: No module named 'a_package_that_nobody_has'",
        "fail": "failed: RuntimeError: broken in two lines",
        "hang": "stopped after 3 s",
        "work": "done",
    }
    assert written(kit)["hang"]["half"] == 1 and written(kit)["work"]["x"] == 2


def test_a_step_for_which_no_time_is_left_is_not_begun(tmp_path):
    kit = Kit("cpu", tmp_path / "part.json", 0.01, True, {})
    kit.step("late", 60, lambda _kit: pytest.fail("begun"))
    assert written(kit)["late"]["ended"] == "passed over: no time is left"


def test_the_full_size_is_not_begun_on_a_cpu(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--device", "cpu", "--parts", "right", "--out", str(tmp_path)])
    assert "need a GPU" in capsys.readouterr().err


def test_a_part_that_dies_is_told_of_and_the_next_one_runs(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(run, "LATE_S", 1.0)
    begun = []

    def instead(command, **options):
        begun.append((command[command.index("--parts", 4) + 1], options["timeout"]))
        if begun[-1][0] == "right":
            raise subprocess.TimeoutExpired(command, 1)
        return subprocess.CompletedProcess(command, -11)

    monkeypatch.setattr(run.subprocess, "run", instead)
    main(["--small", "--minutes", "5", "--out", str(tmp_path)])
    assert [part for part, _ in begun] == ["right", "fast", "train"]
    assert [round(limit) for _, limit in begun] == [181, 301, 301]
    told = capfd.readouterr().out
    assert "right was stuck and ended" in told and "train ended with code -11" in told


def test_the_kit_imports_where_there_is_little_beside_torch():
    code = """
import sys
for name in ("gradio", "typer", "rich", "textblob", "nltk", "faiss", "open_clip", "av", "xformers", "platformdirs"):
    sys.modules[name] = None
from chai_app.bench.gpu import fast, learn, right, run
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=run.ROOT)


# -- parts ------------------------------------------------------------------------------------------------------------


def test_what_is_right_is_found_right_on_a_cpu(tmp_path, capsys):
    main(["--small", "--device", "cpu", "--parts", "right", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "right.json").read_text())["steps"]
    assert {name for name, result in found.items() if result.get("is_right")} == {
        *("golden fp32", "golden bf16", "many sequences", "cache attention", "int8 text encoder")
    }
    assert found["golden fp32"]["worst"] < 1e-4 and len(found["golden fp32"]["cases"]) > 8
    assert found["attention kernels"]["ended"] == "passed over: xformers has no kernel on cpu"
    assert found["offload"]["ended"].startswith("passed over: offloading")
    assert "| golden fp32 | right |" in capsys.readouterr().out


def test_recorded_cases_that_are_not_here_are_passed_over(kit, tmp_path, monkeypatch):
    monkeypatch.setattr("chai_app.bench.gpu.kit.GOLDEN", tmp_path)
    kit.step("golden", 60, right.golden_fp32)
    assert "stdit3_config.json is not here" in written(kit)["golden"]["ended"]


def test_a_wrong_weight_is_found_wrong(kit, monkeypatch):
    whole = right.golden_transformer

    def damaged():
        model = whole()
        with torch.no_grad():
            model.proj_out.weight[0] *= 1.01
        return model

    monkeypatch.setattr(right, "golden_transformer", damaged)
    assert not right.golden_fp32(kit)["is_right"]


def test_a_step_is_timed_against_the_peak_and_compared_with_the_plain_one(kit, monkeypatch):
    kit.step("peak", 60, fast.peak)
    kit.step("step plain", 60, lambda kit: fast.step(kit, "plain"))
    line = written(kit)["step plain"]["sizes"]["144p"]
    assert line["ms"] > 0 and 0 < line["share"] < 1.5 and line["off"] == 0
    kit.step("step graphs", 60, lambda kit: fast.step(kit, "graphs"))
    kit.step("whole graphs", 60, lambda kit: fast.whole(kit, "graphs"))
    monkeypatch.delenv("OPENSORA_DIR", raising=False)
    kit.step("step original", 60, fast.original)
    ends = [written(kit)[name]["ended"] for name in ("step graphs", "whole graphs", "step original")]
    assert all(end.startswith("passed over: ") for end in ends)
    assert any("| plain | 144p |" in row for row in fast.rows(written(kit)))


def test_the_wanted_sizes_are_measured_in_full(tmp_path):
    sizes = fast.sizes_of(Kit("cpu", tmp_path / "part.json", 1, False, {}))
    assert [(s.width, s.depth, s.num_frames, s.text) for s in sizes.values()] == 2 * [(1152, 28, 51, 300)]
    assert [(s.height, s.video_width) for s in sizes.values()] == [(240, 426), (480, 854)]


# -- training ---------------------------------------------------------------------------------------------------------


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 1)


def loss_of(model):
    def loss(generator):
        x = torch.randn(32, 4, generator=generator)
        return (model.layer(x)[:, 0] - x.sum(1)).square().mean(), {}

    return loss


def test_training_takes_as_many_steps_as_fit_and_ends_with_a_low_rate(kit, monkeypatch):
    now, model, averages = [0.0], Line(), []
    monkeypatch.setattr(learn.time, "monotonic", lambda: now[0])

    def slower_from_the_200th_on(generator):
        now[0] += 0.01 if now[0] < 2 else 0.02
        return loss_of(model)(generator)

    settings = Settings(steps=100_000, batch_size=32, peak_lr=1e-2, warmup_steps=2, ema_decay=0.9)
    told = learn.learn(kit, "clips", model, settings, slower_from_the_200th_on, 4.0, averages.append)
    assert 290 < told["step"] <= told["of"] < 1.02 * told["step"]
    assert torch.equal(averages[-1][0], model.layer.weight)


def test_training_goes_on_where_it_was_stopped(kit, monkeypatch):
    settings = Settings(steps=40, batch_size=32, peak_lr=1e-2, warmup_steps=2, ema_decay=0.9)
    model = Line()
    learn.learn(kit, "whole", model, settings, loss_of(model), 60, len)
    halved, seen = Line(), []
    with monkeypatch.context() as patch:

        def until_20(generator):
            if len(seen) == 20:
                patch.setattr(learn.time, "monotonic", lambda: float("inf"))  # the time is over
            seen.append(1)
            return loss_of(halved)(generator)

        learn.learn(kit, "halved", halved, settings, until_20, 60, len)
    again = Line()
    told = learn.learn(kit, "halved", again, settings, loss_of(again), 60, len)
    assert (len(seen), told["step"]) == (21, 40)
    torch.testing.assert_close(again.layer.weight, model.layer.weight)


def test_stores_of_latents_are_cut_in_whole_blocks(tmp_path):
    for kind, row in (("frames", 10), ("clips", 50)):
        np.arange(96 * row, dtype=np.float16).tofile(tmp_path / f"train-{kind}.latents")
        np.zeros(96 * 4, dtype=np.uint8).tofile(tmp_path / f"train-{kind}.coverage")
        (tmp_path / f"train-{kind}.json").write_text(json.dumps({"done": 96}))
    cut_latents(tmp_path, tmp_path / "cut", 12_000)
    assert json.loads((tmp_path / "cut" / "train-clips.json").read_text()) == {"done": 64}
    assert json.loads((tmp_path / "cut" / "train-frames.json").read_text()) == {"done": 96}
    kept = np.fromfile(tmp_path / "cut" / "train-clips.latents", dtype=np.float16)
    assert np.array_equal(kept, np.arange(96 * 50, dtype=np.float16)[: 64 * 50], equal_nan=True)
    assert (tmp_path / "cut" / "train-clips.coverage").stat().st_size == 64 * 4


def test_the_parts_that_travel_are_those_that_training_loads_and_leave_room_for_latents(tmp_path):
    with tarfile.open(tmp_path / "parts.tar", "w") as archive:
        add_parts(archive)
        files = [Path(each.name) for each in archive.getmembers() if each.isfile()]
        size = sum(each.size for each in archive.getmembers())
    assert {file.parent.name for file in files} == {"text_encoder", "tokenizer", "vae"}
    assert size + 40e6 <= 64 * 2**20
