"""The command line's `cache`: what it prints, what it refuses, and that the cache is sound afterwards."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from chai_app.cache import LatentCache, NewEntry, Phrase, Schedule, Shape
from chai_app.cli import app
from chai_app.cli.cache_choice import embedder_of, moment, unknown_words
from chai_app.cli.cache_show import ago, percent
from chai_app.errors import BadRequest
from chai_app.files import bytes_of
from chai_app.models import Model
from chai_app.settings import Settings

ROOT = Path(__file__).parent.parent
SHAPE = Shape((4, 2, 3, 4), num_frames=17, height=24, width=32, fps=8)
OTHER_SHAPE = Shape((4, 2, 6, 8), num_frames=51, height=48, width=64, fps=8)
NOW = 1_790_000_000.0
ENTRY_BYTES, LARGER_ENTRY_BYTES = 344, 920
NEWEST_FIRST = ["a green boat on the ocean", "a blue ball in the desert", "a red ball in the desert"]


class WordEmbedder:
    """Phrases are as alike as the words that they share."""

    name, fingerprint, dim = "words", "fingerprint-of-words", 48

    def embed(self, texts):
        rows = [sum(self._direction(word) for word in text.lower().split()) for text in texts]
        values = np.array(rows, np.float32).reshape(-1, self.dim)
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    def _direction(self, word):
        values = np.random.default_rng(list(hashlib.sha256(word.encode()).digest())).standard_normal(self.dim)
        return values / np.linalg.norm(values)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def store(home, prompt, *phrases, made=NOW, shape=SHAPE, **more):
    with LatentCache(home, WordEmbedder(), clock=lambda: made) as cache:
        noise = np.random.default_rng([*prompt.encode()]).standard_normal(shape.latent)
        entities = cache.embed([*phrases, Phrase("prompt", prompt, prompt, None)])
        values = {"seed": 7, "schedule": Schedule(30, 7.0, {"clean": 0.0}), "compute_seconds": 2.5} | more
        tensors = {"clean": noise.astype(np.float32)}
        return cache.insert(NewEntry("model-a", shape, prompt, entities=entities, tensors=tensors, **values)).id


def store_three(home):
    """Entries made two hours, one hour and no time ago; the oldest was reused twice just now. Returns: ids, newest
    first."""
    desert = Phrase("scene", "desert", "desert", None)
    red = store(home, NEWEST_FIRST[2], Phrase("object", "red ball", "ball", 1), desert, made=NOW - 7_200)
    blue = store(
        home, NEWEST_FIRST[1], Phrase("object", "blue ball", "ball", 1), desert,
        made=NOW - 3_600, parent=red, reuse_depth=1, drift=0.125, preview=b"picture",
    )  # fmt: skip
    boat = store(home, NEWEST_FIRST[0], Phrase("object", "green boat", "boat", 1), shape=OTHER_SHAPE)
    with LatentCache(home, clock=lambda: NOW) as cache:
        cache.touch(cache.entry(red))
        cache.touch(cache.entry(red))
        cache.count_miss()
    return boat, blue, red


@pytest.fixture(scope="session")
def three(tmp_path_factory):
    """A cache of three entries, to be copied, and their ids."""
    home = tmp_path_factory.mktemp("three") / "home"
    return home, store_three(home)


@pytest.fixture
def fill(home, three):
    """`fill()` puts the three entries in place; returns their ids, newest first."""

    saved, ids = three

    def fill():
        shutil.copytree(saved, home)
        return ids

    return fill


@pytest.fixture(scope="session")
def commands():
    """Made once: it takes longer than most of the commands."""
    return get_command(app)


@pytest.fixture
def run(tmp_path, monkeypatch, commands):
    """Call `cache ...` in an empty folder, without weights, five seconds after the newest entry was made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("typer.testing._get_command", lambda app: commands)
    monkeypatch.setenv("COLUMNS", "120")
    for module in ("cache_look", "cache_show"):
        monkeypatch.setattr(f"chai_app.cli.{module}.time", SimpleNamespace(time=lambda: NOW + 5))
    for module in ("cache_search", "cache_calibrate"):
        monkeypatch.setattr(f"chai_app.cli.{module}.embedder_of", lambda model, settings: WordEmbedder())
    monkeypatch.setattr("chai_app.cli.cache_search.unknown_words", lambda model, words, settings: [])

    def call(*arguments, exit_code=0, answer=None):
        result = CliRunner().invoke(app, ["cache", *map(str, arguments)], input=answer)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == exit_code, result.output
        return result

    return call


@pytest.fixture
def told(run):
    """What a command says with --json -."""
    return lambda *arguments, **options: json.loads(run(*arguments, "--json", "-", **options).stdout)


def left(home):
    """The prompts that are still there, newest first, in a cache that is sound."""
    with LatentCache(home, read_only=True) as cache:
        assert cache.verify() == []
        return [entry.prompt for entry in cache.entries()]


# -- ls and show ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["ls", "stats"])
def test_an_empty_cache_says_how_it_fills_and_nothing_is_made_on_the_disk(run, home, monkeypatch, command):
    monkeypatch.delenv("COLUMNS")
    result = run(command)
    assert result.stdout.startswith("The cache is empty: generate a video first") and result.stdout.count("\n") == 1
    assert not home.exists()


def test_ls_lists_the_newest_first_with_all_that_tells_entries_apart(run, fill):
    boat, blue, red = fill()
    run("pin", blue)
    lines = run("ls").stdout.splitlines()
    assert " ".join(lines[0].split()) == "id prompt found by size frames bytes hits last used pinned"
    assert [line[:8] for line in lines[1:]] == [boat[:8], blue[:8], red[:8]]
    for words in ("a blue ball in the desert", "blue ball, desert", "32x24", "17", "344 B", "1 h ago", "yes"):
        assert words in lines[2]
    assert lines[3].split()[-3:] == ["2", "just", "now"], "two hits, the last of them now"


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_tables_fit_the_terminal(run, fill, monkeypatch, columns):
    ids = fill()
    run("pin", ids[0])
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in (["ls"], ["stats"], ["budget"], ["search", "red ball"], ["show", ids[1]]):
        lines = run(*command).stdout.splitlines()
        assert max(len(line.rstrip()) for line in lines if "embedder of" not in line) <= columns, command
    text = " ".join(run("ls").stdout.split())
    for words in ("green boat", "64x48", "51", "344 B", "1 h ago", "just now"):
        assert words in text


def test_what_programs_read_is_one_plain_line_for_each_entry(run, fill, monkeypatch):
    ids = fill()
    monkeypatch.delenv("COLUMNS")
    _, *lines = run("ls").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(ids), "whole ids"
    assert "\x1b" not in "".join(lines) and all(prompt in line for prompt, line in zip(NEWEST_FIRST, lines))


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        (["--sort", "made"], [0, 1, 2]),
        (["--sort", "used"], [0, 2, 1]),
        (["--sort", "hits"], [2, 0, 1]),
        (["--sort", "bytes"], [0, 1, 2]),
        (["--limit", "2"], [0, 1]),
        (["--pinned"], [1]),
    ],
)
def test_ls_sorts_and_chooses(run, told, fill, arguments, order):
    ids = fill()
    run("pin", ids[1])
    assert [entry["id"] for entry in told("ls", *arguments)["entries"]] == [ids[i] for i in order]


def test_ls_says_when_there_is_more_or_nothing_pinned(run, fill):
    fill()
    assert "1 of 3 entries; --limit shows more." in run("ls", "-n", 1).stdout
    assert run("ls", "--pinned").stdout.startswith("No entry is pinned: cache pin ID keeps one")


def test_show_tells_everything_about_one_entry(run, home, fill):
    _, blue, red = fill()
    text = " ".join(run("show", blue[:10]).stdout.split())
    with LatentCache(home, read_only=True) as cache:
        entry = cache.entry(blue)
    for words in (
        *(f"entry {blue}", "prompt a blue ball in the desert", "object 'blue ball', count 1 scene 'desert'"),
        *("(1 h ago), in 2.5 s", "hits 0", "seed 7", "30 steps, guidance 7", "32x24, 17 frames at 8 fps"),
        *("4x2x3x4: clean at 0", "model model-a", f"made by reusing {red}; 1 generation from a full run, drift 0.125"),
        *(f"{blue}.webp", f"{blue}.safetensors", "344 B (344)", f"checksum {entry.checksum}"),
    ):
        assert words in text
    assert f"made by a full run reused for {blue}" in " ".join(run("show", f"#{red}").stdout.split())


def test_show_says_what_is_missing(run, home, fill):
    _, blue, red = fill()
    run("rm", red, "--yes")
    (home / "latents" / f"{blue}.safetensors").unlink()
    text = " ".join(run("show", blue).stdout.split())
    assert f"made by reusing {red}, which has left the cache" in text
    assert "(missing: see cache verify)" in text


def test_an_entry_as_json_is_all_of_it(told, fill):
    _, blue, red = fill()
    entry = told("show", blue)["entry"]
    assert (entry["id"], entry["seed"], entry["shape"]["latent"]) == (blue, 7, [4, 2, 3, 4])
    assert [each["text"] for each in entry["entities"]] == ["blue ball", "desert", "a blue ball in the desert"]
    assert entry["lineage"] == {"parent": red, "parent_is_here": True, "children": []}
    assert Path(entry["path"]).stat().st_size == entry["bytes"] and Path(entry["preview"]).read_bytes() == b"picture"


@pytest.mark.parametrize("command", ["show", "pin", "unpin", "rm"])
def test_an_id_that_is_nobodys_is_refused(run, home, fill, command):
    (id, *_) = fill()
    for unknown in ("xyz", "", "#", id + "0"):
        result = run(command, unknown, exit_code=2)
        assert result.stderr == f"error There is no entry {unknown!r} in the cache: take an id from cache ls.\n"
    assert left(home) == NEWEST_FIRST


@pytest.mark.parametrize("command", ["show", "pin", "unpin", "rm"])
def test_an_id_that_could_be_several_is_refused_with_the_names_of_some(run, home, monkeypatch, command):
    ids = iter(f"abc{i:013}" for i in range(9))
    monkeypatch.setattr("chai_app.cache.store.secrets", SimpleNamespace(token_hex=lambda size: next(ids)))
    store_three(home)
    result = run(command, "abc", exit_code=2)
    names = ", ".join(f"abc000000000000{i}" for i in (2, 1, 0))
    assert result.stderr == f"error 3 entries begin with abc: {names}; give more digits.\n"
    assert left(home) == NEWEST_FIRST


# -- search -----------------------------------------------------------------------------------------------------------


def test_search_puts_what_is_most_alike_first_and_says_by_which_embedder(run, told, fill):
    boat, blue, red = fill()
    result = run("search", "red", "ball")
    lines = result.stdout.splitlines()
    assert lines[1].split()[:4] == [red[:8], "1.000", "red", "ball"] and lines[1].split()[-1] == "yes"
    assert "Compared by the embedder of demo (fingerprint-of-words); a match from object 0.920" in result.stdout
    found = told("search", "red ball")["found"]
    assert [line["entry"]["id"] for line in found] == [red, blue, boat]
    assert [line["matches"] for line in found] == [True, False, False]
    assert 0.3 < found[1]["score"] < 0.9 and found[1]["like"] == "blue ball" and found[1]["kind"] == "object"


def test_search_finds_prompts_by_their_words_too(run, told, fill, monkeypatch):
    boat, *_ = fill()
    (first, *_) = told("search", "on the ocean", "--limit", 1)["found"]
    assert first["entry"]["id"] == boat and first["has_the_words"] and first["kind"] == "prompt"

    class Stranger(WordEmbedder):
        fingerprint = "stranger"

    monkeypatch.setattr("chai_app.cli.cache_search.embedder_of", lambda model, settings: Stranger())
    (line,) = told("search", "Green Boat")["found"]
    assert line["entry"]["id"] == boat and line["score"] is None and line["has_the_words"]
    result = run("search", "rocket", "-m", "mine")
    assert "No entry has anything to do with 'rocket'." in result.stdout
    assert "No entry was filed by the embedder of mine (stranger): only prompts were searched." in result.stdout


def test_search_asks_the_vocabulary_before_the_embedder(run, fill, monkeypatch):
    fill()
    monkeypatch.setattr("chai_app.cli.cache_search.unknown_words", unknown_words)
    monkeypatch.setattr(WordEmbedder, "embed", lambda *_: pytest.fail("it would put a tiger anywhere"))
    result = run("search", "tiger")
    assert "No entry has anything to do with 'tiger'." in result.stdout
    assert "The model demo has never seen tiger: only the words of prompts were searched." in result.stdout
    assert unknown_words("demo", "a désert tiger", Settings.from_environment()) == ["tiger"]


def test_search_refuses_what_it_cannot_look_for(run, tmp_path, monkeypatch):
    assert "There is nothing to look for" in run("search", " ", exit_code=2).stderr
    assert run("search", "ball").stdout.startswith("The cache is empty")
    monkeypatch.undo()
    monkeypatch.setenv("CHAI_HOME", str(tmp_path / "home"))
    for name, words in (("sora", "There is no model 'sora'"), ("tiny", "has no folder embedder")):
        if name == "tiny":
            monkeypatch.setattr("chai_app.models.find_model", lambda *_: Model("tiny", "", {}, tmp_path))
        result = CliRunner().invoke(app, ["cache", "search", "ball", "-m", name])
        assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1


def test_the_demo_model_brings_its_embedder():
    embedder = embedder_of("demo", Settings.from_environment())
    assert (embedder.name, embedder.dim, len(embedder.fingerprint)) == ("demo", 64, 16)


# -- pin, rm, clear ---------------------------------------------------------------------------------------------------


def test_pinned_entries_stay_and_unpinned_ones_may_leave(run, home, fill):
    _, blue, red = fill()
    assert run("pin", red[:8], blue, red).stdout.startswith("Pinned 2 entries, 688 B:")
    result = run("budget", "0B", "--yes")
    assert left(home) == NEWEST_FIRST[1:]
    assert "Evicted because of it: 1 entry, 920 B:" in result.stdout
    assert "Pinned entries alone exceed the budget" in result.stdout
    assert run("unpin", blue, "--json", "out.json").stdout.startswith("Unpinned 1 entry")
    assert [entry["is_pinned"] for entry in json.loads(Path("out.json").read_text())["entries"]] == [False]
    run("budget", "0B", "--yes")
    assert left(home) == NEWEST_FIRST[2:]


def test_rm_lists_what_will_go_asks_and_lists_what_went(run, home, fill):
    _, blue, red = fill()
    result = run("rm", blue, red[:8], answer="y\n")
    before, after = result.output.split("Remove them? [y/N]")
    assert "This removes 2 entries, 688 B:" in before and "Removed 2 entries, 688 B:" in after
    assert all(f"{blue[:8]}  a blue ball in the desert" in part for part in (before, after))
    assert left(home) == NEWEST_FIRST[:1]


@pytest.mark.parametrize("answer", ["n\n", "\n"])
@pytest.mark.parametrize("command", [["rm", "--entity", "ball"], ["clear"]])
def test_who_does_not_say_yes_loses_nothing(run, home, fill, command, answer):
    fill()
    assert "Nothing was removed." in run(*command, answer=answer).stdout
    assert left(home) == NEWEST_FIRST


@pytest.mark.parametrize("command", [["rm", "--entity", "ball"], ["clear"]])
def test_where_nobody_can_answer_yes_has_to_be_said_beforehand(run, home, fill, command):
    fill()
    assert "Nobody can answer here, so nothing was changed: add --yes" in run(*command, exit_code=2).stderr
    assert left(home) == NEWEST_FIRST


@pytest.mark.parametrize(
    ("filters", "stay"),
    [
        (["--entity", "ball"], [0]),
        (["--entity", "Red  Ball"], [0, 1]),
        (["--entity", "desert", "--prompt", "BLUE"], [0, 2]),
        (["--prompt", "in the desert"], [0]),
        (["--before", datetime.fromtimestamp(NOW - 1_800).isoformat(" ")], [0]),
        (["--since", datetime.fromtimestamp(NOW - 1_800).isoformat()], [1, 2]),
        (["--since", datetime.fromtimestamp(NOW - 5_000).isoformat(), "--entity", "ball"], [0, 2]),
        (["--before", "2020-01-01"], [0, 1, 2]),
    ],
)
def test_rm_takes_what_all_filters_mean(told, home, fill, filters, stay):
    fill()
    removed = told("rm", *filters, "--yes")["removed"]
    assert len(removed) == 3 - len(stay)
    assert left(home) == [NEWEST_FIRST[i] for i in stay]


def test_rm_asks_where_the_person_reads_when_json_goes_to_standard_output(run, home, fill):
    fill()
    result = run("rm", "--entity", "boat", "--json", "-", answer="y\n")
    assert "Remove them?" in result.stderr
    echo, json_text = result.stdout.split("\n", 1)
    assert echo == " y" and len(json.loads(json_text)["removed"]) == 1
    assert left(home) == NEWEST_FIRST[1:]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Say which entries to remove either by their ids or by --entity"),
        (["abc", "--entity", "ball"], "Say which entries to remove either by their ids or by --entity"),
        (["--prompt", " "], "--prompt is blank: say what the entries have in common."),
        (["--entity", ""], "--entity is blank"),
        (["--before", "yesterday"], "Unknown date 'yesterday': write year-month-day, such as 2026-03-01"),
        (["--since", "2026-13-01"], "Unknown date '2026-13-01'"),
        (["--since", "0001-01-01"], "Unknown date '0001-01-01'"),
    ],
)
def test_rm_refuses_what_could_mean_anything(run, home, fill, arguments, words):
    fill()
    result = run("rm", *arguments, "--yes", exit_code=2)
    assert words in result.stderr and result.stderr.count("\n") == 1
    assert left(home) == NEWEST_FIRST


def test_clear_takes_everything_and_keeps_budget_and_statistics(run, told, home, fill):
    boat, *_ = fill()
    run("pin", boat)
    run("budget", "3GB")
    result = run("clear", answer="y\n")
    assert "Remove all 3 entries, 1 of them pinned, 1.6 kB? [y/N]" in result.output
    assert "Removed 3 entries, 1.6 kB." in result.output and left(home) == []
    figures = told("stats")
    assert (figures["budget_bytes"], figures["hits"], figures["misses"]) == (3_000_000_000, 2, 1)
    assert run("clear").stdout == "The cache is empty already.\n"


# -- stats and budget -------------------------------------------------------------------------------------------------


def test_stats_show_how_full_and_how_helpful_the_cache_is(run, told, fill):
    boat, *_ = fill()
    run("pin", boat)
    text = " ".join(run("stats").stdout.split())
    for words in (
        *("entries 3, of which 1 pinned", "of 5.0 GB (under 1%); lru (least recently used leaves first)"),
        *("2 hits, 1 miss, hit rate 67%", "3 stored, 0 evicted", "fingerprint-of-words: 8 of the entities"),
        *("█ hits ░ misses", f"{'█' * 16}{'░' * 8} 2 1 67%"),
    ):
        assert words in text
    figures = told("stats")
    assert figures["hit_rate"] == pytest.approx(2 / 3)
    assert sum(day["inserted"] for day in figures["days"]) == 3 and figures["days"][-1]["hits"] == 2


def test_days_are_as_many_as_asked_for(told, home, fill):
    fill()
    for days_ago in (1, 5, 20):
        with LatentCache(home, clock=lambda days_ago=days_ago: NOW - days_ago * 86_400) as cache:
            cache.count_miss()
    last = [told("stats", "--days", days)["days"] for days in (1, 6, 14, 21)]
    assert sum(day["misses"] for day in last[0]) == 1
    assert [sum(day["misses"] for day in days) for days in last[1:]] == [3, 3, 4]


def test_the_budget_is_shown_and_set_and_what_left_because_of_it_is_told(run, told, home, fill):
    fill()
    full_bytes = 2 * ENTRY_BYTES + LARGER_ENTRY_BYTES
    assert told("budget") == {"budget_bytes": 5_000_000_000, "policy": "lru", "bytes": full_bytes, "evicted": []}
    result = run("budget", "2", "GB", "--policy", "lfu")
    assert "2.0 GB" in result.stdout and "lfu (fewest hits leaves first)" in result.stdout
    evicted = told("budget", "400B", "--yes")["evicted"]
    assert [entry["prompt"] for entry in evicted] == [NEWEST_FIRST[1], NEWEST_FIRST[0]]
    assert left(home) == NEWEST_FIRST[2:]
    figures = told("budget", "--policy", "lcbfu")
    assert figures == {"budget_bytes": 400, "policy": "lcbfu", "bytes": ENTRY_BYTES, "evicted": []}


def test_a_budget_that_evicts_asks_first(run, told, home, fill):
    fill()
    result = run("budget", "400B", answer="n\n")
    assert "This evicts" in result.stdout and "Nothing was changed." in result.stdout
    assert told("budget")["budget_bytes"] == 5_000_000_000 and left(home) == NEWEST_FIRST
    assert "nothing was changed: add --yes" in run("budget", "400B", exit_code=2).stderr
    assert "Evicted because of it" in run("budget", "400B", answer="y\n").stdout
    assert left(home) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["big"], "Unknown size 'big': write a number and its unit, such as 2GB or 500MB."),
        (["5"], "Unknown size '5': write a number and its unit"),
        (["1,5GB"], "Unknown size '1,5GB'"),
        (["9e9GB"], "Unknown size '9e9GB'"),
        (["99999999TB"], "The size 99999999TB is beyond any disk: write 1000TB at most."),
        (["--policy", "fifo"], "Unknown eviction policy 'fifo': choose one of lru, lfu, lcbfu."),
    ],
)
def test_a_bad_budget_is_refused_and_changes_nothing(run, told, home, fill, arguments, words):
    fill()
    result = run("budget", *arguments, exit_code=2)
    assert words in result.stderr and result.stderr.count("\n") == 1
    assert told("budget")["budget_bytes"] == 5_000_000_000 and left(home) == NEWEST_FIRST


# -- verify, repair, rebuild ------------------------------------------------------------------------------------------


def test_verify_finds_what_is_wrong_repair_mends_it_and_both_say_so(run, told, home, fill):
    boat, blue, _ = fill()
    assert run("verify").stdout == "3 entries, nothing wrong.\n"
    file = home / "latents" / f"{blue}.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert run("verify", "--quick").stdout == "3 entries, nothing wrong.\n"
    (home / "latents" / f"{boat}.safetensors").unlink()
    result = run("verify", exit_code=1)
    assert f"problem entry {blue}: its latents file is not the one that was stored" in result.stdout
    assert f"problem entry {boat}: its latents file is missing" in result.stdout
    assert "3 entries, 2 wrong: cache repair puts it right." in result.stdout
    assert len(told("verify", "--quick", exit_code=1)["problems"]) == 1
    result = run("repair", "--json", "out.json")
    assert f"Removed entry {blue}: its latents file is not the one" in result.stdout
    assert result.stdout.endswith("1 entry in the cache.\n")
    assert len(json.loads(Path("out.json").read_text())["done"]) == 3
    assert left(home) == NEWEST_FIRST[2:] and run("verify").stdout == "1 entry, nothing wrong.\n"


def test_rebuild_makes_the_indexes_anew(run, told, home, fill):
    fill()
    assert run("rebuild").stdout == "Made the indexes of 8 entities of 3 entries anew.\n"
    assert list((home / "index").iterdir())
    assert told("rebuild") == {"entries": 3, "entities": 8}
    assert told("search", "desert")["found"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert left(home) == NEWEST_FIRST


# -- export and import ------------------------------------------------------------------------------------------------


def test_entries_travel_in_one_file(run, told, home, fill, tmp_path, monkeypatch):
    fill()
    assert run("export", "all.zip").stdout.startswith("3 entries in all.zip, ")
    assert told("export", "balls.zip", "--entity", "ball")["entries"] == 2
    monkeypatch.setenv("CHAI_HOME", str(tmp_path / "other"))
    assert run("import", "balls.zip").stdout.startswith("Imported 2 entries, 688 B:")
    report = told("import", "all.zip")
    assert [entry["prompt"] for entry in report["added"]] == NEWEST_FIRST[:1]
    assert len(report["already_here"]) == 2 and report["evicted"] == []
    result = run("import", "all.zip")
    assert "Nothing new was in it." in result.stdout and "3 entries of it stayed" in result.stdout
    assert sorted(left(tmp_path / "other")) == sorted(NEWEST_FIRST)


def test_import_says_what_left_to_make_room(run, fill, tmp_path, monkeypatch):
    fill()
    run("export", "red.zip", "--entity", "red ball")
    run("rm", "--entity", "red ball", "--yes")
    run("budget", f"{ENTRY_BYTES + LARGER_ENTRY_BYTES + 100}B", "--yes")
    result = run("import", "red.zip")
    assert "Imported 1 entry, 344 B:" in result.stdout and "Evicted to make room: 1 entry" in result.stdout
    assert left(tmp_path / "home") == [NEWEST_FIRST[2], NEWEST_FIRST[0]]


def test_a_whole_cache_is_copied_and_a_second_copy_finds_it_there(run, told, home, fill, tmp_path):
    fill()
    assert run("copy", str(home), str(tmp_path / "other")).stdout == "Copied 3 entries, 1.6 kB.\n"
    report = told("copy", str(home), str(tmp_path / "other"))
    assert (report["copied"], report["already_there"], report["notes"]) == (0, 3, [])
    assert sorted(left(tmp_path / "other")) == sorted(NEWEST_FIRST)


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("here", "here", "are one place"),
        ("nowhere", "here", "There is no cache in nowhere"),
        ("postgresql://db/chai", "here", "two addresses with a comma"),
        ("mysql://db/chai,s3://videos", "here", "CHAI_CACHE is no address"),
    ],
)
def test_a_copy_from_what_is_no_place_is_refused(run, source, target, words):
    result = run("copy", source, target, exit_code=2)
    assert words in result.stderr and "Traceback" not in result.stderr


def test_an_export_leaves_out_what_is_damaged_and_says_so(run, home, fill):
    boat, *_ = fill()
    (home / "latents" / f"{boat}.safetensors").write_bytes(b"damaged")
    result = run("export", "all.zip")
    assert result.stdout.startswith("2 entries in all.zip")
    assert f"note Entry {boat} was left out: its latents file has 7 bytes" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "folder"], "folder is a folder: give the name of a file in it."),
        (["export", "nowhere/all.zip"], "The folder nowhere is not there"),
        (["export", "all.zip", "--entity", "tiger"], "No entry fits, so nothing was written"),
        (["export", "all.zip", "--since", "now"], "Unknown date 'now'"),
        (["import", "missing.zip"], "missing.zip cannot be read as an archive"),
        (["import", "notes.zip"], "notes.zip cannot be read as an archive"),
        (["import", "foreign.zip"], "../evil"),
        (["ls", "--sort", "age"], "Unknown order 'age': choose one of made, used, hits, bytes."),
        (["ls", "--json", "nowhere/a.json"], "The folder nowhere is not there"),
    ],
)
def test_what_a_person_can_mend_is_one_sentence_and_exit_code_2(run, home, fill, tmp_path, arguments, words):
    fill()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").write_text("")
    (tmp_path / "notes.zip").write_text("no archive")
    with zipfile.ZipFile(tmp_path / "foreign.zip", "w") as archive:
        archive.writestr("../evil", "x")
    result = run(*arguments, exit_code=2)
    assert words in result.stderr and result.stderr.startswith("error ") and result.stderr.count("\n") == 1
    assert result.stdout == "" and not (tmp_path / "all.zip").exists() and (tmp_path / "folder" / "kept").exists()
    assert left(home) == NEWEST_FIRST


def test_an_empty_cache_has_nothing_to_export(run):
    assert "The cache is empty" in run("export", "all.zip", exit_code=2).stderr


def test_a_cache_of_another_program_is_named_in_one_sentence(run, home):
    import sqlite3

    home.mkdir()
    with sqlite3.connect(home / "cache.sqlite3") as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    for command in (["ls"], ["stats"], ["verify"], ["clear", "--yes"]):
        assert "is a database of another program" in run(*command, exit_code=2).stderr


# -- calibrate --------------------------------------------------------------------------------------------------------

PAIRS = [
    {"kind": "object", "a": "red tiger", "b": "big red tiger", "match": True},
    {"kind": "object", "a": "old boat", "b": "boat old", "match": True},
    {"kind": "object", "a": "red tiger", "b": "red boat", "match": False},
]


def test_calibrate_prints_figures_draws_them_and_keeps_them_only_if_asked(run, told, home, tmp_path):
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, PAIRS)) + "\n\n")
    result = run("calibrate", "--pairs", "pairs.jsonl", "--plot", "plot.png", "-m", "mine")
    assert result.stdout.splitlines()[1].split()[0] == "object" and "1.000" in result.stdout
    assert "Embedder of mine (fingerprint-of-words): with --save these thresholds will hold." in result.stdout
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG") and not home.exists()
    values = told("calibrate", "--pairs", "pairs.jsonl", "--save")
    assert values["saved"] and values["figures"]["object"]["pairs"] == 3
    with LatentCache(home, WordEmbedder(), read_only=True) as cache:
        assert cache.thresholds.object == values["thresholds"]["object"] and cache.thresholds.scene == 0.92


def test_kinds_without_pairs_keep_the_threshold_that_they_have(told, tmp_path):
    for name, kind in (("a.jsonl", "scene"), ("b.jsonl", "object")):
        (tmp_path / name).write_text("\n".join(json.dumps({**pair, "kind": kind}) for pair in PAIRS))
    first = told("calibrate", "--pairs", "a.jsonl", "--save")["thresholds"]
    second = told("calibrate", "--pairs", "b.jsonl", "--save")["thresholds"]
    assert first["scene"] == second["scene"] == second["object"] != first["object"] == 0.92


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "Line 2 of pairs.jsonl: This is not JSON"),
        ("[]", "Line 2 of pairs.jsonl: This is not a pair: write"),
        ({"kind": "object", "a": "x", "b": "y"}, "This is not a pair"),
        ({"kind": "colour", "a": "x", "b": "y", "match": True}, "Unknown kind 'colour': choose one of object, scene"),
        ({"kind": [], "a": "x", "b": "y", "match": True}, "Unknown kind []"),
        ({"kind": "scene", "a": " ", "b": "y", "match": True}, "a and b must be phrases that are not empty."),
        ({"kind": "scene", "a": "x", "b": "y", "match": "yes"}, "match is true or false, not 'yes'."),
        ("", "The pairs for object all match or all differ: give some of both."),
    ],
)
def test_pairs_that_are_none_are_named_with_their_line(run, tmp_path, line, words):
    text = line if isinstance(line, str) else json.dumps(line)
    (tmp_path / "pairs.jsonl").write_text(json.dumps(PAIRS[0]) + "\n" + text)
    result = run("calibrate", "--pairs", "pairs.jsonl", exit_code=2)
    assert words in result.stderr and result.stderr.count("\n") == 1


def test_calibrate_refuses_what_it_cannot_learn_from_or_write_to(run, tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, PAIRS)))
    for arguments, words in (
        (["--pairs", "missing.jsonl"], "missing.jsonl cannot be read as a text file"),
        (["--pairs", "empty.jsonl"], "empty.jsonl holds no pair"),
        (["-m", "mine"], "There are pairs of phrases for the demo model only: give mine its own with --pairs."),
        (["--pairs", "pairs.jsonl", "--plot", "."], ". is a folder: give the name of a file in it."),
        (["--pairs", "pairs.jsonl", "--plot", "nowhere/a.png"], "The folder nowhere is not there"),
    ):
        assert words in run("calibrate", *arguments, exit_code=2).stderr


# -- words and speed --------------------------------------------------------------------------------------------------


def test_times_are_told_in_plain_words():
    day = 86_400
    moments = (0, 59, 60, 200, 3_600, day - 1, day, 3 * day, 59 * day, 60 * day, 719 * day, 800 * day, -100)
    assert [ago(NOW - seconds, NOW) for seconds in moments] == [
        *("just now", "just now", "1 min ago", "3 min ago", "1 h ago", "23 h ago", "1 day ago", "3 days ago"),
        *("59 days ago", "2 months ago", "23 months ago", "2 years ago", "just now"),
    ]


def test_sizes_are_read_as_people_write_them():
    sizes = {
        **{"2GB": 2_000_000_000, "500 MB": 500_000_000, "1.5gb": 1_500_000_000, "10k": 10_000, "7 B": 7},
        **{"1KiB": 1024, "2 GiB": 2 * 1024**3, "1T": 10**12, "0B": 0},
    }
    assert {text: bytes_of(text) for text in sizes} == sizes
    for text in ("", "GB", "-1GB", "1 2GB", "nanGB", "1iB", "2 PB"):
        with pytest.raises(BadRequest):
            bytes_of(text)


def test_dates_are_of_this_machines_clock_unless_they_name_a_zone():
    assert moment("2026-03-01") == datetime(2026, 3, 1).timestamp() == moment(" 2026-03-01 00:00 ")
    assert moment("2026-03-01T12:00+00:00") == 1_772_366_400


def test_shares_are_not_rounded_to_nothing_or_all():
    assert [percent(share) for share in (0, 0.001, 0.5, 0.999, 1)] == ["0%", "under 1%", "50%", "over 99%", "100%"]


@pytest.mark.parametrize("arguments", [["--help"], [], ["search", "--help"], ["calibrate", "-h"], ["ls"], ["stats"]])
def test_help_and_lists_load_nothing_heavy(arguments, tmp_path):
    heavy = ["torch", "numpy", "faiss", "open_clip", "transformers", "PIL", "huggingface_hub"]
    if arguments not in (["ls"], ["stats"]):
        heavy.append("pydantic")  # typer reads the options of a command with it, and needs it for no help
    code = f"""
import sys
from chai_app.cli import main
sys.argv = ["app.py", "cache", *{arguments}]
try:
    main()
except SystemExit as leave:
    assert not leave.code
loaded = [name for name in {heavy} if name in sys.modules]
assert not loaded, loaded
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout or "The cache is empty" in done.stdout
