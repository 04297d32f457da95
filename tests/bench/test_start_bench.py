"""`bench start`: processes in turns, and one table of medians."""

import json

import pytest

from chai_app.bench import start


def test_arms_take_turns_and_the_table_has_a_line_for_each(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(start, "COMMANDS", {"--help": ["--help"], "again": ["--version"]})
    timed = start._timed
    monkeypatch.setattr(
        start, "_timed", lambda command, *where: [0.0, 0.0] if "generate" in command else timed(command, *where)
    )
    out = tmp_path / "out.json"
    start.main(["--rounds", "2", "--no-ui", "--against", str(start.ROOT), "--json", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[:2] for line in lines[-2:]] == [["| --help", "2"], ["| again", "2"]]
    assert float(lines[-1].split(" | ")[-1].strip(" |")) > 0
    assert {len(each) for arms in json.loads(out.read_text())["samples"].values() for each in arms.values()} == {2}


def test_a_command_that_fails_stops_it(tmp_path):
    with pytest.raises(RuntimeError, match="no such option"):
        start._timed(["sh", "-c", "echo no such option; exit 3"], tmp_path, {"PATH": "/bin:/usr/bin"})
