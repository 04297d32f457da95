"""Verify says what is wrong, also of what nobody has loaded; and nothing of what others are in the midst of."""

import threading
import time
from types import SimpleNamespace

import pytest
from cache_kit import index_of, look, open_cache, phrase, tiny_entry

from chai_app.cache import latent_files, rows, upkeep


@pytest.fixture
def saved(home):
    """A cache whose index lies on the disk. Returns: the file."""
    with open_cache(home) as cache:
        for name in ("red tiger", "blue tiger", "boat"):
            cache.insert(tiny_entry(cache, name, phrase(name)))
        assert look(cache, phrase("boat")).is_hit
    (path,) = index_of(home).iterdir()
    return path


def fresh_verify(home, **options):
    with open_cache(home, read_only=True, embedder=None) as cache:
        return cache.verify(**options)


@pytest.mark.parametrize("damage", ["flipped", "short", "empty"])
def test_a_damaged_index_on_the_disk_is_found_by_a_process_that_never_used_it(home, saved, damage):
    assert fresh_verify(home) == []
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 1
    saved.write_bytes({"flipped": content, "short": content[:-9], "empty": b""}[damage])
    assert fresh_verify(home) == ["index 1: its file is damaged, or of another cache"]
    assert fresh_verify(home, is_thorough=False) == []
    with open_cache(home) as cache:
        cache.repair()
    assert fresh_verify(home) == []


def test_an_index_on_the_disk_that_leads_elsewhere_is_found(home, saved):
    with open_cache(home) as cache:
        look(cache, phrase("boat"))
        (shelf,) = cache.shelves._loaded.values()
        shelf._entries = shelf._entries[::-1].copy()
        cache.shelves.save(1)
    assert fresh_verify(home) == ["index 1: 2 rows of the database are missing and 2 are too many"]


def test_an_index_that_lags_behind_is_no_problem(home, saved, monkeypatch):
    with open_cache(home) as cache:
        cache.insert(tiny_entry(cache, "late", phrase("late boat")))
        cache.remove(cache.entries()[-1])
    assert fresh_verify(home) == []
    monkeypatch.setattr(rows, "KEPT_CHANGES", 1)
    with open_cache(home) as cache:
        for i in range(3):
            cache.insert(tiny_entry(cache, f"later {i}", phrase("later boat")))
    assert fresh_verify(home) == []


@pytest.fixture
def both(home):
    """A cache that writes, and one open for reading only."""
    with open_cache(home) as writer:
        writer.insert(tiny_entry(writer, "cave"))
        with open_cache(home, read_only=True) as reader:
            yield writer, reader


def test_what_came_while_verify_looked_is_not_taken_for_astray(both, monkeypatch):
    writer, reader = both
    look_for, came = reader._files.without_row, []

    def insert_first(ids):
        if not came:
            came.append(writer.insert(tiny_entry(writer, "reef")))
        return look_for(ids)

    monkeypatch.setattr(reader._files, "without_row", insert_first)
    assert reader.verify() == [] and came


@pytest.mark.in_folder
def test_verify_waits_for_a_writer_between_renaming_and_committing(both, monkeypatch):
    writer, reader = both
    has_renamed, may_commit = threading.Event(), threading.Event()
    add, guard, new = rows.add_entry, reader._database._guard, tiny_entry(writer, "reef")

    def add_late(*values):
        has_renamed.set()
        assert may_commit.wait(60)
        return add(*values)

    def guard_that_lets_go():
        may_commit.set()
        return guard()

    monkeypatch.setattr("chai_app.cache.store.rows.add_entry", add_late)
    monkeypatch.setattr(reader._database, "_guard", guard_that_lets_go)
    thread = threading.Thread(target=writer.insert, args=[new])
    thread.start()
    assert has_renamed.wait(60)
    assert len(reader._files.without_row(rows_of(reader))) == 1, "it is there, and has no row yet"
    assert reader.verify() == []
    thread.join()
    assert len(reader.entries()) == 2


def rows_of(cache):
    return {entry.id for entry in cache.entries()}


@pytest.mark.in_folder
def test_verify_gives_the_files_of_a_removed_entry_a_moment(both, home, monkeypatch):
    writer, reader = both
    monkeypatch.setattr(writer._files, "unlink", lambda ids: None)
    (entry,) = writer.entries()
    writer.remove(entry)
    file = home / "latents" / entry.file

    def sleep(seconds):
        file.unlink(missing_ok=True)

    monkeypatch.setattr(upkeep, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    assert file.is_file() and reader.verify() == []


@pytest.mark.in_folder
def test_a_file_that_stays_is_reported_by_a_reader_too(both, home):
    _, reader = both
    (home / "latents" / "0123456789abcdef.safetensors").write_bytes(b"x")
    assert reader.verify() == ["file latents/0123456789abcdef.safetensors: no entry has it"]


@pytest.mark.in_folder
def test_a_temporary_file_that_is_being_made_is_not_taken_for_abandoned(both, home, monkeypatch):
    """It is seen in the instant between its making and its locking."""
    writer, reader = both
    is_abandoned, seen = latent_files._is_abandoned, []

    def unlocked_at_first(part):
        seen.append(part)
        return len(seen) == 1 or is_abandoned(part)

    with writer._files.staged():
        monkeypatch.setattr(latent_files, "_is_abandoned", unlocked_at_first)
        assert reader.verify() == [] and seen
