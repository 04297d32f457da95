"""Databases of other versions, of other programs, and damaged ones."""

import sqlite3
from pathlib import Path

import pytest
from cache_kit import look, open_cache, phrase, prompts, tiny_entry

from chai_app.cache import DamagedCache, OlderCache

pytestmark = pytest.mark.in_folder

DATABASE = "cache.sqlite3"


OLDER = (1, 2)


def make_older(home, version):
    """A database as version 1 or 2 of the tables made it, with a budget and a day's events. Returns: a connection."""
    home.mkdir(exist_ok=True)
    old = sqlite3.connect(home / DATABASE)
    old.executescript(Path(__file__).with_name(f"version_{version}.sql").read_text())
    return old


@pytest.mark.parametrize("version", OLDER)
def test_an_older_cache_is_upgraded_with_all_that_is_in_it(home, tmp_path, version):
    with open_cache(tmp_path / "new") as new:
        entry = new.insert(tiny_entry(new, "cave", phrase("tiger")))
    home.mkdir()
    (tmp_path / "new" / "latents").rename(home / "latents")
    old = make_older(home, version)
    old.execute("ATTACH ? AS new", [str(tmp_path / "new" / DATABASE)])
    for table in ("entries", "shelves", "vectors", "entities", "changes"):
        columns = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
        old.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}")
    old.commit()
    old.close()
    with open_cache(home) as cache:
        found = cache.entries()[0]
        seconds = 0.0 if version == 1 else 2.0
        assert (found.id, found.parent, found.root) == (entry.id, None, None)
        assert (found.compute_seconds, found.extra) == (seconds, {})
        assert look(cache, phrase("tiger")).is_hit and cache.load(found).note is None
        assert [(day.day, day.hits, day.inserted) for day in cache.days()] == [("1970-01-02", 1, 1)]
        assert cache.stats().budget_bytes == 5000
        cache.insert(tiny_entry(cache, "reef", parent=found.id, root=found.id, reuse_depth=1))
        assert cache.verify() == []
    with open_cache(home) as cache:
        assert prompts(cache) == ["cave", "reef"] and cache.verify() == []
        assert [child.root for child in cache.children(found)] == [found.id]


@pytest.mark.parametrize("version", OLDER)
def test_an_upgraded_database_has_the_tables_of_a_new_one(home, tmp_path, version):
    make_older(home, version).close()
    schemas = []
    for folder in (home, tmp_path / "new"):
        open_cache(folder).close()
        with sqlite3.connect(folder / DATABASE) as database:
            query = "SELECT name, sql FROM sqlite_schema ORDER BY name"
            schemas.append(database.execute(query).fetchall() + database.execute("PRAGMA user_version").fetchall())
        database.close()
    assert schemas[0] == schemas[1]


def test_an_upgrade_finds_the_full_run_that_each_line_of_reuse_began_with(home):
    """Lines of which a part has left the cache, a line that bites its tail, and one that lies about its length."""
    lines = [
        *(("full", None, 0), ("once", "full", 1), ("twice", "once", 2), ("orphan", "gone", 1), ("late", "orphan", 2)),
        *(("lost", "gone", 3), ("tail", "tail", 9), ("liar", "twice", 10**9)),
    ]
    with make_older(home, 2) as old:
        for id, parent, depth in lines:
            values = {"id": id, "parent": parent, "reuse_depth": depth, "file": id, "latent_shape": "1x1x1x1"}
            values |= dict.fromkeys(("num_frames", "height", "width", "fps", "bytes"), 1)
            values |= dict.fromkeys(("fingerprint", "prompt", "checksum"), "x")
            values |= dict.fromkeys(("seed", "created", "last_used"), 0)
            values["schedule"] = '{"steps": 1, "guidance_scale": 1, "timesteps": {}}'
            old.execute(
                f"INSERT INTO entries ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
                list(values.values()),
            )
    old.close()
    with open_cache(home) as cache:
        roots = {entry.id: entry.root for entry in cache.entries()}
    assert roots == {
        "full": None, "once": "full", "twice": "full", "orphan": "gone", "late": "gone",
        "lost": None, "tail": "tail", "liar": None,
    }  # fmt: skip


@pytest.mark.parametrize("version", OLDER)
def test_an_older_cache_is_not_upgraded_by_reading_and_the_way_to_upgrade_it_is_named(home, version):
    make_older(home, version).close()
    before = (home / DATABASE).read_bytes()
    with pytest.raises(OlderCache, match=f"tables are version {version}, .* python app.py cache upgrade"):
        open_cache(home, read_only=True)
    assert (home / DATABASE).read_bytes() == before


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
    with pytest.raises(DamagedCache, match=r"damaged .*move it away"):
        open_cache(home)
