"""The one way to run a benchmark: turns, what is kept, the table, and drawing again."""

import json
from types import SimpleNamespace

import pytest

from chai_app.bench import runner
from chai_app.bench.journal import Journal
from chai_app.bench.runner import Arm, Bench, in_turns, interval, markdown, named, points, run
from chai_app.errors import BadRequest

ARMS = [Arm("a"), Arm("b"), Arm("c")]


def key(sample):
    return sample["prompt"], sample["arm"]


def test_arms_take_turns_and_another_one_is_first_each_time():
    order = []

    def make(i, arms):
        order.append([arm.name for arm in arms])
        return [{"arm": arm.name} for arm in arms]

    journal = Journal(None, {}, key)
    in_turns(journal, ARMS, range(4), make, size="small")
    assert order == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
    assert len(journal.samples()) == 12 and all(sample["size"] == "small" for sample in journal.samples())


def test_a_round_that_was_interrupted_is_made_again_as_a_whole_and_a_finished_one_is_not(tmp_path):
    made = []

    def make(i, arms):
        for arm in arms:
            made.append((i, arm.name))
            yield {"arm": arm.name}

    def make_four(i, arms):
        for sample in make(i, arms):
            if len(made) == 5:
                raise KeyboardInterrupt
            yield sample

    with pytest.raises(KeyboardInterrupt):
        in_turns(Journal(tmp_path / "x.json", {}, key), ARMS, range(2), make_four)
    made.clear()
    again = Journal(tmp_path / "x.json", {}, key)
    in_turns(again, ARMS, range(2), make)
    assert made == [(1, "b"), (1, "c"), (1, "a")]
    assert len(again.samples()) == 6


def test_a_cell_whose_value_is_missing_is_empty():
    columns = {"x": "{x:.1f}", "share": points("s"), "difference": interval("d")}
    rows = [{"x": 1, "s": 0.5, "d": (0.1, 0, 0.2)}, {"x": None}]
    table = markdown(columns, rows)
    assert table.splitlines()[2:] == ["| 1.0 | 50.0 | +10.0 (+0.0 to +20.0) |", "|  |  |  |"]


def test_a_name_that_is_not_known_is_told():
    assert named({"a": 1, "b": 2}, ["b"], "arm") == [2]
    with pytest.raises(BadRequest, match="no arm 'c'"):
        named({"a": 1}, ["c"], "arm")


def test_a_bench_prints_its_table_keeps_its_samples_and_prints_it_again_without_running(tmp_path, capsys, monkeypatch):
    runs = []

    def measure(options, journal):
        runs.append(options.rounds)
        in_turns(journal, ["a", "b"], range(options.rounds), lambda i, arms: [{"arm": arm, "n": i} for arm in arms])

    bench = Bench(
        "How much?",
        {"": {"arm": "{arm}", "sum": "{sum}"}},
        measure,
        lambda samples, _: [{"arm": arm, "sum": sum(s["n"] for s in samples if s["arm"] == arm)} for arm in ("a", "b")],
        options=lambda parser: parser.add_argument("--rounds", type=int, default=3),
        said=lambda rows: ["That much."],
        libraries=(),
    )
    monkeypatch.setattr(runner, "import_module", lambda *_: SimpleNamespace(BENCH=bench))
    path = tmp_path / "results.json"
    run("fake", ["--json", str(path)])
    told = capsys.readouterr().out
    assert "bench fake --json" in told and "| a | 3 |" in told and "That much." in told
    written = json.loads(path.read_text())
    assert len(written["samples"]) == 6 and written["table"] == [{"arm": "a", "sum": 3}, {"arm": "b", "sum": 3}]
    run("fake", ["--draw", str(path)])
    again = capsys.readouterr().out
    assert runs == [3] and again == told
