"""Faults made on purpose: killed processes, four writers, full disks, damaged files.

CHAI_KILLS and CHAI_OPERATIONS raise the numbers: 200 and 500 are what docs/cache.md reports.
"""

import errno
import multiprocessing
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cache_kit import (
    NAMES,
    TINY_ENTRY_BYTES,
    files_of,
    insert_and_evict_until_killed,
    look,
    mix_operations,
    open_cache,
    phrase,
    prompts,
    tiny_entry,
)

from chai_app.cache import CannotStore, latent_files

KILLS = int(os.environ.get("CHAI_KILLS", "15"))
OPERATIONS = int(os.environ.get("CHAI_OPERATIONS", "40"))
WRITERS = 4


@pytest.fixture(scope="module")
def processes():
    """Clean processes that start within milliseconds: forks of one that has imported everything and done nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["cache_kit", "chai_app.cache.cache", "chai_app.cache.codec", "chai_app.cache.lookup"]
    )
    here = Path(__file__).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(here), str(here.parents[1])]))
        yield context


def test_a_process_killed_at_any_moment_leaves_a_sound_cache(home, processes):
    chance = random.Random(7)
    seen = set()
    for i in range(KILLS):
        ready = processes.Event()
        process = processes.Process(target=insert_and_evict_until_killed, args=(str(home), i, ready))
        process.start()
        assert ready.wait(60)
        process.join(chance.uniform(0, 0.08))  # it works on meanwhile
        process.kill()
        process.join()
        with open_cache(home) as cache:
            ids = {entry.id for entry in cache.entries()}
            assert files_of(home) == ids, f"files without rows, or rows without files, after kill {i + 1}"
            assert cache.verify() == []
            assert all(cache.load(entry).note is None for entry in cache.entries())
            assert len(ids) <= 4
            seen |= ids
    assert len(seen) > KILLS / 2, "the killed processes did some work"


def test_four_processes_lose_nothing_and_never_find_the_cache_locked(home, processes):
    results = processes.Queue()
    writers = [
        processes.Process(target=mix_operations, args=(str(home), seed, OPERATIONS, results)) for seed in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    outcomes = [results.get(timeout=300) for _ in writers]
    for writer in writers:
        writer.join()
    assert [problem for _, problem in outcomes] == [None] * WRITERS
    with open_cache(home) as cache:
        assert {entry.id for entry in cache.entries()} == set().union(*(own for own, _ in outcomes))
        assert cache.verify() == []
        for name in NAMES:
            assert look(cache, phrase(name, "scene")).is_hit == (name in prompts(cache))


def test_threads_of_one_process_share_a_cache(cache):
    look(cache, phrase("cave", "scene"))

    def work(seed):
        for i, name in enumerate(NAMES):
            entry = cache.insert(tiny_entry(cache, name, seed=100 * seed + i))
            assert look(cache, phrase(name, "scene")).is_hit
            assert cache.load(entry).note is None and cache.touch(entry)
        return True

    with ThreadPoolExecutor(WRITERS) as pool:
        assert all(pool.map(work, range(WRITERS)))
    assert cache.stats().entries == WRITERS * len(NAMES)


def test_files_of_dead_writers_are_swept_when_the_cache_is_opened(home):
    with open_cache(home) as cache:
        entry = cache.insert(tiny_entry(cache, "cave", preview=b"picture"))
    (home / "latents" / "0123456789abcdef.safetensors").write_bytes(b"renamed, never committed")
    (home / "previews" / "0123456789abcdef.webp").write_bytes(b"the same")
    (home / "latents" / ".0123456789abcdef.part").write_bytes(b"never renamed")
    (home / "latents" / "notes of a person.txt").write_text("not ours")
    with open_cache(home) as cache:
        assert files_of(home) == {entry.id, "notes of a person"}
        assert cache.verify() == []


def test_files_of_living_writers_are_left_alone(home):
    with open_cache(home) as ours:
        with latent_files.LatentFiles(home).staged() as staged:
            staged.write(b"still being written")
            open_cache(home).close()
            assert ours.verify() == [] and staged.path.exists()
        assert not staged.path.exists()


def test_a_writer_between_renaming_and_committing_holds_the_sweep_up(home, monkeypatch):
    """The file has its name and no row yet; to look at this moment, the insert is stopped inside it."""
    seen = []
    with open_cache(home) as ours:
        from chai_app.cache import rows

        add = rows.add_entry

        def look_around(connection, entry, entities):
            database = str(home / "cache.sqlite3")
            code = f"import sqlite3; sqlite3.connect({database!r}, timeout=0).execute('BEGIN IMMEDIATE')"
            result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
            seen.append((entry.file, "database is locked" in result.stderr))
            return add(connection, entry, entities)

        monkeypatch.setattr(rows, "add_entry", look_around)
        entry = ours.insert(tiny_entry(ours, "cave"))
        assert seen == [(entry.file, True)]
        assert ours.verify() == []


@pytest.mark.parametrize("damage", ["short", "flipped", "swapped", "replaced", "empty"])
def test_a_damaged_file_is_a_miss_with_a_note_and_never_a_wrong_tensor(home, damage):
    with open_cache(home) as cache:
        other = cache.insert(tiny_entry(cache, "desert"))
        entry = cache.insert(tiny_entry(cache, "cave"))
        path = home / "latents" / entry.file
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[-5] ^= 1
        damaged = {
            "short": content[:-1],
            "flipped": bytes(flipped),
            "swapped": (home / "latents" / other.file).read_bytes(),
            "replaced": np.random.default_rng(0).bytes(len(content)),
            "empty": b"",
        }
        path.write_bytes(damaged[damage])
        assert len(cache.verify()) == 1 and entry.id in cache.verify()[0]
        loaded = cache.load(entry)
        assert loaded.tensors is None and entry.id in loaded.note and "set aside" in loaded.note
        assert (home / "quarantine" / entry.file).read_bytes() == damaged[damage]
        assert not look(cache, phrase("cave", "scene")).is_hit and prompts(cache) == ["desert"]
        assert cache.load(other).note is None
        assert cache.events(1)[0].kind == "damage"
        assert cache.verify() == []


def test_an_entry_that_another_process_evicted_in_the_meantime_is_a_miss_that_says_so(home):
    with open_cache(home) as ours, open_cache(home) as theirs:
        entry = ours.insert(tiny_entry(ours, "cave"))
        theirs.clear()
        assert "removed in the meantime" in ours.load(entry).note
        again = ours.insert(tiny_entry(ours, "reef"))
        (home / "latents" / again.file).unlink()
        assert "latents are missing" in ours.load(again).note
        assert ours.entries() == [] and ours.verify() == []


def test_the_quarantine_keeps_only_the_latest(home, monkeypatch):
    monkeypatch.setattr(latent_files, "_MOST_QUARANTINED", 2)
    with open_cache(home) as cache:
        for name in ("cave", "desert", "reef"):
            entry = cache.insert(tiny_entry(cache, name))
            (home / "latents" / entry.file).write_bytes(b"")
            cache.load(entry)
        assert len(list((home / "quarantine").iterdir())) == 2 and cache.verify() == []


def test_repair_puts_right_all_that_verify_finds(home):
    with open_cache(home) as cache:
        entries = [cache.insert(tiny_entry(cache, name)) for name in NAMES[:5]]
        latents = home / "latents"
        (latents / entries[0].file).unlink()
        (latents / entries[1].file).write_bytes(b"damaged")
        (latents / "0123456789abcdef.safetensors").write_bytes(b"no row")
        with cache._database.writing() as connection:
            connection.execute("INSERT INTO vectors (shelf, digest, embedding) VALUES (1, x'00', zeroblob(96))")
            connection.execute("UPDATE entries SET bytes = bytes + 1 WHERE id = ?", [entries[2].id])
        assert len(cache.verify()) == 5
        assert len(cache.repair()) == 6
        assert cache.verify() == [] and prompts(cache) == sorted(NAMES[3:5])


@pytest.mark.parametrize("moment", ["write", "fsync", "replace", "commit"])
def test_a_full_disk_is_said_in_one_sentence_and_nothing_is_half_written(home, monkeypatch, moment):
    def refuse(*_args, **_more):
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_cache(home) as cache:
        kept = cache.insert(tiny_entry(cache, "cave", preview=b"picture"))
        cache.set_budget(TINY_ENTRY_BYTES)
        new = tiny_entry(cache, "desert", preview=b"picture")
        with monkeypatch.context() as patch:
            if moment == "write":
                patch.setattr(latent_files, "_locked_file", refuse)
            elif moment == "fsync":
                patch.setattr(latent_files.os, "fsync", refuse)
            elif moment == "replace":
                patch.setattr(Path, "replace", refuse)
            else:
                (pages,) = cache._database._connection.execute("PRAGMA page_count").fetchone()
                cache._database._connection.execute(f"PRAGMA max_page_count = {pages}")
                new = tiny_entry(cache, "desert", preview=b"picture", extra={"long": "x" * 100_000})
            with pytest.raises(CannotStore, match="full"):
                cache.insert(new)
        assert files_of(home) == {kept.id} and prompts(cache) == ["cave"]
        assert cache.load(kept).note is None and cache.verify() == []
        cache._database._connection.execute("PRAGMA max_page_count = 1000000")
        cache.insert(tiny_entry(cache, "reef"))
        assert prompts(cache) == ["reef"] and cache.verify() == []


def limit_files_to_200_kilobytes():
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


def test_a_limit_of_the_system_on_files_is_met_like_a_full_disk(home):
    """A real refusal in the midst of a write, and one in the midst of SQLite's."""
    pytest.importorskip("resource")
    code = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}
from pathlib import Path
import numpy as np
from cache_kit import open_cache, tiny_entry
from chai_app.cache import CannotStore, Shape
large = Shape((4, 15, 60, 53), 51, 480, 426, 24)
with open_cache(Path({str(home)!r})) as cache:
    try:
        cache.insert(tiny_entry(cache, "large", shape=large))
    except CannotStore as error:
        print(error)
    try:
        for i in range(1000):
            cache.insert(tiny_entry(cache, f"small {{i}}", extra={{"long": "x" * 5000}}))
    except CannotStore as error:
        print(error)
    assert cache.verify() == []
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=limit_files_to_200_kilobytes,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(result.stdout.splitlines()) == 2 and result.stdout.count("full") == 2
    with open_cache(home) as cache:
        entries = cache.entries()
        assert entries and files_of(home) == {entry.id for entry in entries} and cache.verify() == []


def test_a_folder_that_cannot_be_made_is_said_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CannotStore, match="cannot be made"):
        open_cache(tmp_path / "file" / "home")
