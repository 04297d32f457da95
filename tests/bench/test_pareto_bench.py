"""The benchmark of both kinds of reuse: its arms, its frontier, and a run at the smallest size."""

import json

import pytest

from chai_app.bench.pareto import arms_of, draw, rows
from chai_app.bench.runner import run
from chai_app.errors import BadRequest

NEAR = {"certainty": 0.9, "consistency": 0.9, "psnr_db": 30.0, "ssim": 0.9, "feature_distance": 0.1}
NEAR |= {"right": dict.fromkeys(("object", "colour", "scene", "motion"), True)}


def test_every_technique_stands_alone_and_joined_and_off():
    names = [arm.name for arm in arms_of(30, [8], ["pab"])]
    assert names == [
        "30 steps, full run",
        "30 steps, full run, pab",
        "8 steps, no cache",
        "8 steps, no cache, pab",
        "8 steps, Cache Attention",
        "8 steps, Cache Attention, pab",
        "preset exact",
        "preset balanced, full run",
        "preset balanced",
        "preset draft, full run",
        "preset draft",
    ]


def test_the_frontier_holds_what_no_other_arm_beats(tmp_path):
    figures = {"30 steps, full run": (4.0, 0.9), "slow and worse, no cache": (5.0, 0.8), "preset draft": (1.0, 0.7)}
    samples = [
        {**NEAR, "prompt": i, "arm": arm, "seconds": seconds, "stages": {"decode": 0.5}, "score": score}
        for i in range(4)
        for arm, (seconds, score) in figures.items()
    ]
    arms = [{"name": name, "group": name.split(", ")[-1]} for name in figures]
    full, slow, fast = rows(samples, {"arms": arms})
    assert [line["is_best"] for line in (full, slow, fast)] == [True, False, True]
    assert fast["faster"] == 4.0
    assert fast["faster_without_decode"] == 7.0
    draw([full, slow, fast], samples, tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").stat().st_size > 1000


def test_a_run_at_the_smallest_size_has_a_line_for_each_arm(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("chai_app.bench.pareto.PRESETS", {})
    results = tmp_path / "pareto.json"
    run(
        "pareto",
        ["--prompts", "1", "--full-steps", "2", "--steps", "2", "--techniques", "first-block", "--json", str(results)],
    )
    table = json.loads(results.read_text())["table"]
    assert len(table) == 6
    assert all(line["n"] == 1 for line in table)
    assert "| 2 steps, Cache Attention, first-block | 1 |" in capsys.readouterr().out


def test_drawing_what_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(BadRequest, match="no results"):
        run("pareto", ["--draw", str(tmp_path / "results.json")])
