"""What a hit is compared with: the middle of the last full runs of its kind, and never one cold run."""

from dataclasses import replace

import pytest

from chai_app.engine.run_times import RunTimes
from chai_app.request import GenerationRequest, Report, RequestDefaults, Reuse

REQUEST = GenerationRequest("a red ball", seed=1).resolved(RequestDefaults())


def report(seconds, **fields):
    stages = {"load": 90.0, "text": 0.5, "denoise": seconds - 1, "decode": 0.5, "write": 3.0}
    values = {"threads": 1, "reuse": Reuse("full", 30), **fields}
    return Report("tiny", "f" * 16, 30, 240, 426, 51, 24.0, "cpu", "fp32", "0" * 64, stages, **values)


def test_one_cold_run_is_no_measure(tmp_path):
    times = RunTimes(tmp_path)
    times.add(REQUEST, report(60), is_first=True)
    assert times.usual(REQUEST, report(2)) is None
    times.add(REQUEST, report(20), is_first=True)
    assert times.usual(REQUEST, report(2)) == 20, "of two cold ones the faster"


def test_the_middle_of_the_warm_runs_counts_whatever_single_ones_took(tmp_path):
    times = RunTimes(tmp_path)
    for seconds, is_first in ((60, True), (9, False), (10, False), (80, False), (11, False), (1, False)):
        times.add(REQUEST, report(seconds), is_first)
        assert is_first or 9 <= times.usual(REQUEST, report(2)) <= 10
    assert times.usual(REQUEST, report(2)) == 10


@pytest.mark.parametrize(
    ("request_fields", "report_fields"),
    [({"width": 64}, {}), ({"num_inference_steps": 8}, {}), ({"acceleration": "pab"}, {}), ({}, {"threads": 2}),
     ({}, {"device": "cuda"}), ({}, {"model_fingerprint": "e" * 16}), ({"guidance_scale": 1.0}, {})],
)  # fmt: skip
def test_only_runs_of_one_kind_are_compared(tmp_path, request_fields, report_fields):
    times = RunTimes(tmp_path)
    times.add(REQUEST, report(9), is_first=False)
    other = replace(report(2), **report_fields)
    assert times.usual(replace(REQUEST, **request_fields), other) is None
    assert times.usual(replace(REQUEST, seed=5, prompt="a boat"), report(2)) == 9


def test_only_the_last_runs_count(tmp_path):
    times = RunTimes(tmp_path)
    for seconds in (50,) * 20 + (9,) * 15:
        times.add(REQUEST, report(seconds), is_first=False)
    assert times.usual(REQUEST, report(2)) == 9


@pytest.mark.parametrize("content", ["{", "[]", '{"x": 5}', "[" * 100_000])
def test_a_damaged_memory_only_means_that_nothing_is_claimed(tmp_path, content):
    (tmp_path / "run_times.json").write_text(content)
    times = RunTimes(tmp_path)
    assert times.usual(REQUEST, report(2)) is None and times.expected(REQUEST, "f" * 16, 30) is None
    times.add(REQUEST, report(9), is_first=False)
    assert times.usual(REQUEST, report(2)) == 9


def test_the_time_of_a_larger_video_is_told_from_smaller_ones(tmp_path):
    times = RunTimes(tmp_path)
    assert times.expected(REQUEST, "f" * 16, 30) is None
    times.add(REQUEST, report(10), is_first=False)
    assert times.expected(REQUEST, "f" * 16, 30) == 10
    larger = replace(REQUEST, width=2 * 426, num_frames=102, num_loops=3)
    assert times.expected(larger, "f" * 16, 15) == pytest.approx(10 * 2 * 2 * 3 / 2)
    assert times.expected(REQUEST, "e" * 16, 30) is None
