"""Databases of other versions, of other programs, and damaged ones."""

import sqlite3
from pathlib import Path

import pytest
from cache_kit import look, open_cache, phrase, prompts, tiny_entry

from chai_app.cache import DamagedCache

DATABASE = "cache.sqlite3"


def test_a_cache_of_version_1_is_upgraded_with_all_that_is_in_it(home, tmp_path):
    with open_cache(tmp_path / "new") as new:
        entry = new.insert(tiny_entry(new, "cave", phrase("tiger")))
    home.mkdir()
    (tmp_path / "new" / "latents").rename(home / "latents")
    with sqlite3.connect(home / DATABASE) as old:
        old.executescript(Path(__file__).with_name("version_1.sql").read_text())
        old.execute("ATTACH ? AS new", [str(tmp_path / "new" / DATABASE)])
        for table in ("entries", "shelves", "vectors", "entities", "changes"):
            columns = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
            old.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}")
    old.close()
    with open_cache(home) as cache:
        found = cache.entries()[0]
        assert (found.id, found.parent, found.compute_seconds, found.extra) == (entry.id, None, 0.0, {})
        assert look(cache, phrase("tiger")).is_hit and cache.load(found).note is None
        assert [(day.day, day.hits, day.inserted) for day in cache.days()] == [("1970-01-02", 1, 1)]
        assert cache.stats().budget_bytes == 5000
        cache.insert(tiny_entry(cache, "reef", parent=found.id))
        assert cache.verify() == []
    with open_cache(home) as cache:
        assert prompts(cache) == ["cave", "reef"] and cache.verify() == []


def test_an_upgraded_database_has_the_tables_of_a_new_one(home, tmp_path):
    home.mkdir()
    with sqlite3.connect(home / DATABASE) as old:
        old.executescript(Path(__file__).with_name("version_1.sql").read_text())
    old.close()
    schemas = []
    for folder in (home, tmp_path / "new"):
        open_cache(folder).close()
        with sqlite3.connect(folder / DATABASE) as database:
            query = "SELECT name, sql FROM sqlite_schema ORDER BY name"
            schemas.append(database.execute(query).fetchall() + database.execute("PRAGMA user_version").fetchall())
        database.close()
    assert schemas[0] == schemas[1]


def test_an_older_cache_is_not_upgraded_by_reading(home):
    home.mkdir()
    with sqlite3.connect(home / DATABASE) as old:
        old.executescript(Path(__file__).with_name("version_1.sql").read_text())
    old.close()
    with pytest.raises(Exception, match="older version: open it once for writing"):
        open_cache(home, read_only=True)


def test_a_newer_cache_is_refused_in_one_sentence_and_left_as_it_is(home):
    open_cache(home).close()
    with sqlite3.connect(home / DATABASE) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    before = (home / DATABASE).read_bytes()
    for read_only in (False, True):
        with pytest.raises(DamagedCache, match=r"newer version of this program .*version 99.*update the program"):
            open_cache(home, read_only=read_only)
    assert (home / DATABASE).read_bytes() == before


def test_the_database_of_another_program_is_refused_and_left_as_it_is(home):
    home.mkdir()
    with sqlite3.connect(home / DATABASE) as database:
        database.execute("CREATE TABLE theirs (x)")
    database.close()
    before = (home / DATABASE).read_bytes()
    with pytest.raises(DamagedCache, match="another program"):
        open_cache(home)
    assert (home / DATABASE).read_bytes() == before


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be taken for one" * 40, b"\x00" * 5000])
def test_a_file_that_is_no_database_is_refused_in_one_sentence(home, content):
    home.mkdir()
    (home / DATABASE).write_bytes(content)
    with pytest.raises(DamagedCache, match="damaged: move it away"):
        open_cache(home)
