"""A database that was put back from a backup, or moved away: what is newer is kept, no index is believed blindly."""

import logging
import os
import shutil
import sqlite3

import pytest
from cache_kit import files_of, look, open_cache, phrase, prompts, tiny_entry

from chai_app.cache.latent_files import KEPT_ASTRAY_DAYS

pytestmark = pytest.mark.in_folder

NAMES = [
    f"{colour} {noun}" for colour in ("red", "blue", "green", "old") for noun in ("tiger", "parrot", "boat", "ball")
]


def fill(cache, names):
    for name in names:
        cache.insert(tiny_entry(cache, f"a {name}", phrase(name), preview=b"picture"))


def back_up(home, target):
    with sqlite3.connect(home / "cache.sqlite3") as live, sqlite3.connect(target) as copy:
        live.backup(copy)
    live.close()
    copy.close()


def test_latents_newer_than_a_backup_are_set_aside_with_a_word_and_come_back_with_their_database(
    home, tmp_path, caplog
):
    with open_cache(home) as cache:
        fill(cache, NAMES[:2])
        back_up(home, tmp_path / "old.sqlite3")
        fill(cache, NAMES[2:4])
    back_up(home, tmp_path / "new.sqlite3")
    shutil.copy(tmp_path / "old.sqlite3", home / "cache.sqlite3")
    with caplog.at_level(logging.WARNING), open_cache(home) as cache:
        assert len(cache.entries()) == 2 and cache.verify() == []
        assert len(files_of(home)) == 2 and len(list((home / "astray").iterdir())) == 4
    assert "4 files of entries that" in caplog.text and str(home / "astray") in caplog.text
    shutil.copy(tmp_path / "new.sqlite3", home / "cache.sqlite3")
    with open_cache(home) as cache:
        assert len(cache.entries()) == 4 and cache.verify() == []
        assert all(cache.load(entry).note is None and cache.preview(entry) for entry in cache.entries())


def test_a_database_that_was_moved_away_takes_no_latents_along(home, tmp_path):
    with open_cache(home) as cache:
        fill(cache, NAMES[:3])
    (home / "cache.sqlite3").rename(tmp_path / "away.sqlite3")
    with open_cache(home) as cache:
        assert cache.entries() == [] and cache.verify() == []
        fill(cache, NAMES[3:4])
    (tmp_path / "away.sqlite3").rename(home / "cache.sqlite3")
    with open_cache(home) as cache:
        assert len(cache.entries()) == 3 and cache.verify() == []
        assert all(cache.load(entry).note is None for entry in cache.entries())


def test_what_went_astray_is_removed_by_its_age_alone_and_when_the_cache_is_cleared(home):
    with open_cache(home) as cache:
        fill(cache, NAMES[:2])
    (home / "cache.sqlite3").unlink()
    open_cache(home).close()
    aged, *rest = sorted((home / "astray").iterdir())
    then = aged.stat().st_mtime - KEPT_ASTRAY_DAYS * 86_400 - 1
    os.utime(aged, (then, then))
    open_cache(home).close()
    assert sorted((home / "astray").iterdir()) == rest
    with open_cache(home) as cache:
        cache.clear()
    assert list((home / "astray").iterdir()) == []


def test_what_was_taken_away_leaves_no_file_whenever_its_remover_was_killed(home, monkeypatch):
    with open_cache(home) as cache:
        fill(cache, NAMES[:1])
        monkeypatch.setattr(cache._files, "unlink", lambda ids: None)
        cache.clear()
    open_cache(home).close()
    assert files_of(home) == set() and not (home / "astray").exists()


def test_an_index_of_another_history_is_never_believed(home, tmp_path):
    """Both histories have as many changes; only what they changed differs."""
    with open_cache(home) as cache:
        fill(cache, NAMES[:4])
        back_up(home, tmp_path / "old.sqlite3")
        fill(cache, NAMES[4:8])
        assert look(cache, phrase(NAMES[5])).is_hit
    assert list((home / "index").iterdir())
    shutil.copy(tmp_path / "old.sqlite3", home / "cache.sqlite3")
    with open_cache(home) as cache:
        fill(cache, NAMES[8:])
    with open_cache(home) as cache:
        for name in NAMES:
            found = look(cache, phrase(name)).entry
            assert (found and found.prompt) == (f"a {name}" if name not in NAMES[4:8] else None)
        assert cache.verify() == []


def test_a_running_process_goes_over_to_a_database_that_was_put_in_the_place_of_its_own(home, tmp_path):
    with open_cache(home) as cache:
        fill(cache, NAMES[:2])
        back_up(home, tmp_path / "old.sqlite3")
        fill(cache, NAMES[2:4])
        assert look(cache, phrase(NAMES[3])).is_hit
        (tmp_path / "old.sqlite3").replace(home / "cache.sqlite3")
        assert not look(cache, phrase(NAMES[3])).is_hit and look(cache, phrase(NAMES[1])).is_hit
        fill(cache, NAMES[4:6])
        assert look(cache, phrase(NAMES[5])).is_hit
    with open_cache(home) as cache:
        assert prompts(cache) == sorted(f"a {name}" for name in (*NAMES[:2], *NAMES[4:6]))
        assert cache.verify() == []
