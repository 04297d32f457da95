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
    file_of,
    files_of,
    folder_of,
    insert_and_evict_until_killed,
    is_shared,
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
            if not is_shared(home):  # in a bucket, what no row speaks of waits in its place
                assert files_of(home) == ids, f"files without rows, after kill {i + 1}"
            assert files_of(home) >= ids, f"rows without files, after kill {i + 1}"
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


@pytest.mark.in_folder
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


@pytest.mark.in_folder
def test_files_of_living_writers_are_left_alone(home):
    with open_cache(home) as ours:
        with latent_files.LatentFiles(home).staged() as staged:
            staged.write(b"still being written")
            open_cache(home).close()
            assert ours.verify() == [] and staged.path.exists()
        assert not staged.path.exists()


@pytest.mark.in_folder
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
        path = file_of(home, entry)
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[-5] ^= 1
        damaged = {
            "short": content[:-1],
            "flipped": bytes(flipped),
            "swapped": file_of(home, other).read_bytes(),
            "replaced": np.random.default_rng(0).bytes(len(content)),
            "empty": b"",
        }
        path.write_bytes(damaged[damage])
        assert len(cache.verify()) == 1 and entry.id in cache.verify()[0]
        loaded = cache.load(entry)
        assert loaded.tensors is None and entry.id in loaded.note and "set aside" in loaded.note
        assert (folder_of(home, "quarantine") / entry.file).read_bytes() == damaged[damage]
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
        file_of(home, again).unlink()
        assert "latents file is missing, so it was taken out" in ours.load(again).note
        assert ours.entries() == [] and ours.verify() == []


def test_the_quarantine_keeps_only_the_latest(home, monkeypatch):
    for room in (latent_files, pytest.importorskip("chai_app.cache.objects") if is_shared(home) else latent_files):
        monkeypatch.setattr(room, "_MOST_QUARANTINED", 2)
    with open_cache(home) as cache:
        for name in ("cave", "desert", "reef"):
            entry = cache.insert(tiny_entry(cache, name))
            file_of(home, entry).write_bytes(b"")
            cache.load(entry)
        assert len(list(folder_of(home, "quarantine").iterdir())) == 2 and cache.verify() == []


@pytest.mark.in_folder
def test_repair_puts_right_all_that_verify_finds(home):
    with open_cache(home) as cache:
        entries = [cache.insert(tiny_entry(cache, name)) for name in NAMES[:5]]
        file_of(home, entries[0]).unlink()
        file_of(home, entries[1]).write_bytes(b"damaged")
        (home / "latents" / "0123456789abcdef.safetensors").write_bytes(b"no row")
        with cache._database.writing() as connection:
            connection.execute("INSERT INTO vectors (shelf, digest, embedding) VALUES (1, x'00', zeroblob(96))")
            connection.execute("UPDATE entries SET bytes = bytes + 1 WHERE id = ?", [entries[2].id])
        assert len(cache.verify()) == 5
        assert len(cache.repair()) == 6
        assert cache.verify() == [] and prompts(cache) == sorted(NAMES[3:5])


@pytest.mark.in_folder
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


@pytest.mark.in_folder
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


@pytest.mark.in_folder
def test_a_folder_that_cannot_be_made_is_said_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CannotStore, match="cannot be made"):
        open_cache(tmp_path / "file" / "home")


@pytest.mark.parametrize("way", ["remove", "purge", "evict", "damage"])
def test_an_entry_that_comes_back_while_its_files_go_keeps_them(home, tmp_path, monkeypatch, way):
    """Another process imports it between the commit that takes it away and the unlinking of its files."""
    with open_cache(home) as ours, open_cache(home) as theirs:
        entry = ours.insert(tiny_entry(ours, "cave"))
        ours.export(tmp_path / "cave.zip")
        if way == "damage":
            file_of(home, entry).write_bytes(b"damaged")
        unlink, came = ours._store._unlink, []

        def import_first(ids):
            ids = list(ids)
            if ids and not came:
                theirs.set_budget(10**9)
                came.append(theirs.import_archive(tmp_path / "cave.zip"))
            unlink(ids)

        monkeypatch.setattr(ours._store, "_unlink", import_first)
        match way:
            case "remove":
                assert ours.remove(entry)
            case "purge":
                ours.clear()
            case "evict":
                ours.set_budget(0)
            case "damage":
                ours.repair()
        assert came and prompts(ours) == ["cave"]
        assert ours.load(ours.entries()[0]).note is None and ours.verify() == []


def test_what_was_looked_at_before_it_came_in_anew_is_not_damaged(home, tmp_path):
    with open_cache(home) as ours, open_cache(home) as theirs:
        old = ours.insert(tiny_entry(ours, "cave"))
        ours.export(tmp_path / "cave.zip")
        theirs.clear()
        theirs.import_archive(tmp_path / "cave.zip")
        assert not ours._store.set_aside(old)
        assert ours.remove(old) and ours.verify() == [], "whoever wants it gone gets it gone"


@pytest.mark.in_folder
@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_what_cannot_be_read_just_now_is_not_damaged(home, monkeypatch, code):
    def refuse(_path):
        raise OSError(code, os.strerror(code))

    with open_cache(home) as cache:
        entries = [cache.insert(tiny_entry(cache, name)) for name in NAMES]
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", refuse)
            assert "cannot be read just now" in cache.load(entries[0]).note
            assert len(cache.verify()) == len(NAMES)
            assert all("cannot be read just now" in line for line in cache.verify())
            assert sum(line.startswith("left entry") for line in cache.repair()) == len(NAMES)
        assert prompts(cache) == sorted(NAMES) and cache.verify() == []


@pytest.mark.in_folder
def test_without_a_file_descriptor_left_repair_takes_no_entry_off(home):
    with open_cache(home) as cache:
        for name in NAMES:
            cache.insert(tiny_entry(cache, name))
    code = f"""
import os, resource, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}
from pathlib import Path
from cache_kit import open_cache, look, phrase
from chai_app.cache import CacheError
cache = open_cache(Path({str(home)!r}))
look(cache, phrase("cave", "scene"))
limit = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (limit - 1, limit - 1))
try:
    cache.repair()
except CacheError as error:
    print(error)
"""
    pytest.importorskip("resource")
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    with open_cache(home) as cache:
        assert prompts(cache) == sorted(NAMES) and cache.verify() == []


@pytest.mark.in_folder
def test_latents_on_a_disk_that_is_away_are_not_damaged(home):
    with open_cache(home) as cache:
        entry = cache.insert(tiny_entry(cache, "cave"))
        (home / "latents").rename(home / "elsewhere")
        assert "is not there" in cache.load(entry).note
        cache.repair()
        (home / "elsewhere").rename(home / "latents")
        assert cache.load(entry).note is None and cache.verify() == []


def test_a_reader_says_that_a_damaged_entry_is_still_there(home):
    with open_cache(home) as cache:
        entry = cache.insert(tiny_entry(cache, "cave"))
    file_of(home, entry).write_bytes(b"damaged")
    with open_cache(home, read_only=True) as reader:
        note = reader.load(entry).note
        assert "cache repair takes it out" in note and "set aside" not in note
        assert reader.entry(entry.id) == entry


@pytest.mark.in_folder
def test_a_disk_that_fills_up_while_the_tables_are_made_is_a_full_disk_and_the_cache_is_empty(home, monkeypatch):
    from chai_app.cache import database

    connect = database._connect

    def connect_to_a_small_disk(address):
        connection = connect(address)
        connection.execute("PRAGMA max_page_count = 3")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(database, "_connect", connect_to_a_small_disk)
        with pytest.raises(CannotStore, match="full"):
            open_cache(home)
    with open_cache(home, read_only=True) as reader:
        assert reader.entries() == [] and not look(reader, phrase("cave", "scene")).is_hit
    with open_cache(home) as cache, open_cache(home, read_only=True) as reader:
        cache.insert(tiny_entry(cache, "cave"))
        assert prompts(reader) == ["cave"]


@pytest.mark.in_folder
def test_threads_that_read_while_a_cache_is_closed_see_no_half_closed_one(home):
    import sqlite3

    cache = open_cache(home)
    cache.insert(tiny_entry(cache, "cave"))
    with ThreadPoolExecutor(1) as pool:
        with cache._database.reading() as connection:
            closing = pool.submit(cache.close)
            assert connection.execute("SELECT count(*) FROM entries").fetchone() == (1,)
            assert not closing.done()
        closing.result(60)
    with pytest.raises(sqlite3.ProgrammingError):
        cache.entries()
