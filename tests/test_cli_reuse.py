"""The command line and reuse: one line says what happened, batches feed themselves, a cache is warmed."""

import json
import shutil
from dataclasses import replace

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from chai_app.cache import CannotStore, LatentCache
from chai_app.cli import app
from chai_app.cli.outcome import reuse_line, whole_time
from chai_app.request import Report, Reuse
from chai_app.settings import BUNDLED_MODELS, Settings

PROMPTS = ["a red ball on the ocean", "a blue boat in the desert", "a star on the moon", "a red ball in the desert"]


@pytest.fixture(scope="module")
def model_folder(tiny_model_folder, tmp_path_factory):
    """The tiny model with the demo's text-image model beside it."""
    folder = shutil.copytree(tiny_model_folder, tmp_path_factory.mktemp("cli") / "tiny")
    shutil.copytree(BUNDLED_MODELS / "demo" / "embedder", folder / "embedder")
    return folder


@pytest.fixture(scope="module")
def commands():
    return get_command(app)


@pytest.fixture
def run(model_folder, tmp_path, monkeypatch, commands):
    """Call the command line with the tiny model in an empty folder; three steps in full, two for a hit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("typer.testing._get_command", lambda app: commands)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments, exit_code=0):
        words = [*map(str, arguments), "-m", str(model_folder), "-s", "7"]
        result = CliRunner().invoke(app, words if "warm" in words else [*words, "--fast-steps", "2"])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == exit_code, result.output
        return result

    return call


def entries():
    with LatentCache(Settings.from_environment().home, read_only=True) as cache:
        assert cache.verify() == []
        return [entry.prompt for entry in cache.entries()]


def report_of(reuse, steps=8, seconds=2.0, **fields):
    values = {"model": "m", "model_fingerprint": "f", "steps": steps, "height": 8, "width": 8, "num_frames": 1}
    values |= {"fps": 8, "device": "cpu", "dtype": "fp32", "latents_sha256": "0"}
    return Report(**values, seconds={"load": 9, "denoise": seconds}, reuse=reuse, **fields)


BALLOON = {"entry_id": "0123456789abcdef", "found": "balloon", "similarity": 0.94}
DESERT = {"entry_id": "fedcba9876543210", "found": "desert", "similarity": 0.911}
LOST = {"entry_id": "0123456789abcdef", "kind": "object", "found": "blue ball", "prompt": "p", "score": 0.612}


@pytest.mark.parametrize(
    ("reuse", "line"),
    [
        (
            Reuse("hit", 8, "0123456789abcdef", found="balloon", similarity=0.94, full_seconds=6.8, donors=(BALLOON,)),
            "hit: balloon from #01234567, 0.94: 8 steps, 2.0 s, 3.4x faster than a full run",
        ),
        (
            Reuse("hit", 8, "0123456789abcdef", full_seconds=2.0, donors=(BALLOON, DESERT), stored_entry_id="ab" * 8),
            "hit: balloon from #01234567, 0.94 and desert from #fedcba98, 0.91: 8 steps, 2.0 s, no faster than a full "
            "run; kept as #abababab",
        ),
        (
            Reuse("hit", 8, "0123456789abcdef", donors=({"entry_id": "0123456789abcdef", "wanted": ()},)),
            "hit: #01234567, chosen by name: 8 steps, 2.0 s",
        ),
        (
            Reuse("hit", 8, "0123456789abcdef", found="balloon", similarity=0.94),  # as stored before there were donors
            "hit: balloon from #01234567, 0.94: 8 steps, 2.0 s",
        ),
        (
            Reuse(
                "miss", 8, candidates=({**LOST, "lost_because": "below the threshold 0.9"},), stored_entry_id="ab" * 8
            ),
            "miss: nothing fits, nearest is blue ball from #01234567, 0.61, below 0.9: "
            "8 steps, 2.0 s; kept as #abababab",
        ),
        (Reuse("miss", 8, why=("Miss: the cache is empty.",)), "miss: the cache is empty: 8 steps, 2.0 s"),
        (Reuse("full", 8, why=("Reuse was switched off.",)), "full: reuse was switched off: 8 steps, 2.0 s"),
        (Reuse("fast", 8), "fast: 8 steps, 2.0 s"),
        (None, "no reuse"),
    ],
)
def test_one_line_says_what_happened(reuse, line):
    assert reuse_line(report_of(reuse)) == line


def test_two_related_prompts_say_that_the_second_was_made_from_the_first(run):
    first, second = (run("generate", prompt).stdout for prompt in (PROMPTS[0], PROMPTS[3]))
    assert "miss: the cache is empty: 3 steps," in first and "; kept as #" in first
    id = first.split("kept as #")[1][:8]
    assert f"hit: red ball from #{id}, 1.00: 2 steps, " in second


def test_several_donors_are_asked_for_by_an_option(run, tmp_path):
    for prompt in PROMPTS[:2]:
        run("generate", prompt)
    result = run("generate", PROMPTS[3], "--donors", 2, "--json", "out.json")
    line = next(line for line in result.stdout.splitlines() if "hit: " in line)
    assert "red ball from #" in line and "desert from #" in line and ", 1.00 and " in line
    (video,) = json.loads((tmp_path / "out.json").read_text())["videos"]
    assert len(video["report"]["reuse"]["donors"]) == 2


def test_a_batch_runs_in_the_order_that_brings_most_hits_and_keeps_names_and_results_in_the_files_order(run, tmp_path):
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    result = run("batch", "prompts.txt", "--json", "out.json")
    lines = result.stdout.splitlines()
    assert lines[0] == (
        "Made in an order in which they feed each other: 2 of 4 should be hits; in the file's order 1 would be."
    )
    assert [line for line in lines if line in PROMPTS] == [PROMPTS[i] for i in (3, 0, 1, 2)]
    assert "2 of 4 were hits" in result.stdout and "The order gave 1 of them" in lines[-1]
    told = json.loads((tmp_path / "out.json").read_text())
    assert [video["line"] for video in told["videos"]] == [1, 2, 3, 4]
    assert [video["report"]["reuse"]["outcome"] for video in told["videos"]] == ["hit", "hit", "miss", "miss"]
    assert told["order"] == {"places": [3, 0, 1, 2], "expected_hits": 2, "hits_as_given": 1, "gained_hits": 1}
    assert sorted(path.name[:9] for path in (tmp_path / "videos").iterdir()) == [
        *("0001-a-re", "0002-a-bl", "0003-a-st", "0004-a-re")
    ]
    assert entries() == [PROMPTS[2], PROMPTS[3]]


def test_a_batch_keeps_the_files_order_if_asked(run, tmp_path):
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    result = run("batch", "prompts.txt", "--keep-order", "--json", "out.json")
    assert [line for line in result.stdout.splitlines() if line in PROMPTS] == PROMPTS
    assert "1 of 4 was a hit" in result.stdout and "The order gave" not in result.stdout
    assert json.loads((tmp_path / "out.json").read_text())["order"] is None


def test_warm_runs_what_nothing_serves_yet_and_passes_over_the_rest(run, tmp_path):
    (tmp_path / "prompts.txt").write_text("# things\n" + "\n".join(PROMPTS))
    result = run("cache", "warm", "prompts.txt", "--json", "out.json")
    outcomes = [line.split()[0] for line in result.stdout.splitlines()]
    assert outcomes[:4] == ["made", "covered", "covered", "made"]
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"made    {PROMPTS[3]}: #") and "3 steps, " in lines[0]
    assert lines[1].startswith(f"covered {PROMPTS[0]}: red ball from #")
    assert lines[4].startswith("2 made, 2 were covered already, 0 failed; the cache holds 2 entries, ")
    told = json.loads((tmp_path / "out.json").read_text())["prompts"]
    assert [(each["line"], each["outcome"]) for each in told] == [
        *((2, "covered"), (3, "covered"), (4, "made"), (5, "made"))
    ]
    assert entries() == [PROMPTS[2], PROMPTS[3]] and not (tmp_path / "videos").exists()
    again = run("cache", "warm", "prompts.txt").stdout
    assert "0 made, 4 were covered already, 0 failed" in again


def test_warm_tells_what_did_not_enter_and_what_had_to_leave(run, tmp_path, monkeypatch):
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS[:3]))
    with LatentCache(Settings.from_environment().home) as cache:
        cache.set_budget(2_000)
    result = run("cache", "warm", "prompts.txt")
    assert "3 made" in result.stdout and "made room for the others: raise the budget" in result.stdout

    def full(self, new):
        raise CannotStore("The disk is full.")

    monkeypatch.setattr(LatentCache, "insert", full)
    (tmp_path / "more.txt").write_text("a green boat")
    result = run("cache", "warm", "more.txt", exit_code=1)
    assert "failed  a green boat: This video was not kept for reuse: The disk is full." in result.stdout


@pytest.mark.parametrize(
    ("content", "store", "words"),
    [
        ("", "full", "prompts.jsonl holds no prompt"),
        ('{"prompt": "a red ball", "num_loops": 2}', "full", "Line 1 of prompts.jsonl: A video that starts from"),
        ('{"prompt": "a red ball", "colour": 2}', "full", "Line 1 of prompts.jsonl: Unknown field"),
        ('{"prompt": "a red ball"}', "nothing", "CHAI_STORE is nothing, so nothing would enter"),
    ],
)
def test_warm_refuses_what_it_cannot_warm_in_one_sentence(run, tmp_path, monkeypatch, content, store, words):
    (tmp_path / "prompts.jsonl").write_text(content)
    monkeypatch.setenv("CHAI_STORE", store)
    result = run("cache", "warm", "prompts.jsonl", exit_code=2)
    assert words in result.stderr and result.stderr.count("\n") == 1


def test_the_whole_time_is_told_and_compared_with_that_of_a_full_run():
    """Start-up, queue and writing are in both: what is seldom asked for alone does not become three times as fast."""
    hit = Reuse("hit", 8, "0123456789abcdef", found="balloon", similarity=0.94, full_seconds=6.8, donors=(BALLOON,))
    report = report_of(hit)
    report = replace(report, seconds={"start": 4.0, "wait": 1.0, **report.seconds, "write": 0.5})
    assert whole_time(report) == "in all 16.5 s, a full run 21.3 s"
    assert whole_time(replace(report, reuse=replace(hit, full_seconds=None))) == "in all 16.5 s"
