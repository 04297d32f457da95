"""What a cache that many machines share promises beyond what every cache does."""

import subprocess
import sys
import threading
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
    look,
    open_cache,
    phrase,
    prompts,
    shared_of,
    tiny_entry,
)

from chai_app.cache import CacheError, CacheFull, CannotStore, DamagedCache, LatentCache, Selection, shelves
from chai_app.errors import BadRequest
from chai_app.settings import Settings, SharedCache

psycopg = pytest.importorskip("psycopg", reason="needs the extra fleet")
objects = pytest.importorskip("chai_app.cache.objects", reason="needs the extra fleet")
postgres = pytest.importorskip("chai_app.cache.postgres", reason="needs the extra fleet")


@pytest.fixture
def home(fleet):
    """A shared cache, whatever other tests run on."""
    return fleet


@pytest.mark.in_folder
def test_without_the_extra_the_settings_end_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "chai_app.cache.postgres", raising=False)
    with pytest.raises(CacheError, match=r"needs the package psycopg: pip install 'psycopg\[binary\]' obstore"):
        LatentCache(tmp_path, shared=SharedCache("postgresql://db/chai", "memory:///"))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"CHAI_CACHE": "postgresql://db/chai"}, "CHAI_BLOBS is not"),
        ({"CHAI_BLOBS": "s3://bucket"}, "CHAI_CACHE is not"),
        ({"CHAI_CACHE": "mysql://secret@db/chai", "CHAI_BLOBS": "s3://bucket"}, "CHAI_CACHE is no address"),
        ({"CHAI_CACHE": "postgresql://db/chai", "CHAI_BLOBS": "bucket"}, "no place for latents"),
    ],
)
def test_half_a_setting_is_refused_in_one_sentence(values, match, tmp_path):
    with pytest.raises(BadRequest, match=match) as refusal:
        Settings.from_environment({"CHAI_HOME": str(tmp_path), **values})
    assert "secret" not in str(refusal.value)


def test_a_database_that_is_not_there_is_said_without_its_password(tmp_path):
    with pytest.raises(CacheError, match=r"127.0.0.1/chai cannot be reached") as refusal:
        LatentCache(tmp_path, shared=SharedCache("postgresql://me:secret@127.0.0.1:1/chai", "memory:///"))
    assert "secret" not in str(refusal.value)


def test_latents_that_no_store_can_hold_are_said(home):
    with pytest.raises(CacheError, match="obstore cannot open"):
        LatentCache(home, shared=SharedCache(shared_of(home).rows, "ftp://host/folder"))


def test_a_place_for_latents_belongs_to_one_cache(home):
    with open_cache(home) as cache:
        cache.insert(tiny_entry(cache, "cave"))
    other = shared_of(home.parent / "other")
    with pytest.raises(CacheError, match="another cache"):
        LatentCache(home, shared=SharedCache(other.rows, shared_of(home).blobs))
    assert len(files_of(home)) == 1


def test_latents_that_wait_for_a_row_stay_until_they_are_old(home, monkeypatch):
    stray = folder_of(home, "latents") / "aa" / "0123456789abcdef.safetensors"
    with open_cache(home) as cache:
        entry = cache.insert(tiny_entry(cache, "cave"))
        stray.parent.mkdir()
        stray.write_bytes(b"uploaded, never committed")
        assert cache.verify() == [] and cache.repair() == ["rebuilt the indexes"] and stray.exists()
        monkeypatch.setattr(objects, "KEPT_ASTRAY_DAYS", 0)
        assert cache.verify() == ["file aa/0123456789abcdef.safetensors: no entry has it"]
        assert "swept 0123456789abcdef.safetensors" in cache.repair()
        assert cache.verify() == [] and files_of(home) == {entry.id}


def test_what_was_left_of_an_entry_that_was_taken_away_goes_at_the_next_look(home, monkeypatch):
    with open_cache(home) as cache:
        entry, kept = (cache.insert(tiny_entry(cache, name, preview=b"picture")) for name in ("cave", "reef"))
        monkeypatch.setattr(cache._files, "unlink", lambda entries: None)  # killed after its commit
        cache.remove(entry)
        assert files_of(home) == {entry.id, kept.id}
        assert len(cache._store.sweep()) == 2 and files_of(home) == {kept.id}


def test_latents_that_went_between_their_upload_and_their_row_are_uploaded_again(home, monkeypatch):
    with open_cache(home) as cache:
        commit = cache._store.commit

        def lose_first(arrivals):
            file_of(home, arrivals[0].entry).unlink()
            return commit(arrivals)

        monkeypatch.setattr(cache._store, "commit", lose_first)
        assert cache.load(cache.insert(tiny_entry(cache, "cave"))).note is None
        assert cache.verify() == []


def test_latents_in_a_bucket_that_is_away_are_not_damaged(home):
    with open_cache(home) as cache:
        entry = cache.insert(tiny_entry(cache, "cave"))
        bucket = folder_of(home, "latents").parent
        bucket.rename(bucket.with_name("elsewhere"))
        assert "is not there" in cache.load(entry).note
        assert any(line.startswith("left entry") for line in cache.repair())
        bucket.with_name("elsewhere").rename(bucket)
        assert cache.load(entry).note is None and cache.verify() == []


def test_a_reader_sees_the_cache_that_somebody_begins_after_it_opened(home):
    with open_cache(home, read_only=True) as reader:
        assert reader.stats().entries == 0
        with open_cache(home) as cache:
            cache.insert(tiny_entry(cache, "cave"))
            assert look(reader, phrase("cave", "scene")).is_hit


def test_a_server_that_was_restarted_is_found_again(home):
    with open_cache(home) as cache:
        cache.insert(tiny_entry(cache, "cave"))
        with psycopg.connect(shared_of(home).rows, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        assert look(cache, phrase("cave", "scene")).is_hit


def test_a_writer_that_vanished_lets_the_others_go_on(home, monkeypatch):
    monkeypatch.setattr(postgres, "_LOCK", postgres._LOCK.replace("'30s'", "'1s'"))
    with open_cache(home) as cache, open_cache(home) as vanished:
        with pytest.raises(CacheError, match="cannot be reached"), vanished._database.writing() as connection:
            connection.execute("DELETE FROM settings")
            cache.insert(tiny_entry(cache, "cave"))  # waits, and comes in
            connection.execute("SELECT 1")
        assert prompts(cache) == prompts(vanished) == ["cave"] and cache.verify() == []


def test_tables_that_went_are_said_in_one_sentence(home):
    with open_cache(home) as cache:
        with psycopg.connect(shared_of(home).rows, autocommit=True) as other:
            other.execute("DROP TABLE chai.entities CASCADE")
        with pytest.raises(DamagedCache, match="is damaged"):
            cache.stats()


def test_a_failure_leaves_nothing_behind(home, monkeypatch):
    with open_cache(home) as cache:
        kept = cache.insert(tiny_entry(cache, "cave", preview=b"picture"))
        cache.set_budget(TINY_ENTRY_BYTES)

        def refuse(*_args, **_more):
            raise psycopg.errors.DiskFull("no space left")

        with monkeypatch.context() as patch, pytest.raises(CannotStore, match="refused it"):
            patch.setattr("chai_app.cache.events.record", refuse)
            cache.insert(tiny_entry(cache, "desert", preview=b"picture"))
        assert files_of(home) == {kept.id} and prompts(cache) == ["cave"] and cache.verify() == []


def test_many_writers_keep_the_budget(home):
    def work(seed):
        with open_cache(home) as cache:
            for i, name in enumerate(NAMES):
                entry = cache.insert(tiny_entry(cache, name, seed=100 * seed + i, preview=b"picture"))
                (cache.pin if i == seed == 0 else cache.touch)(entry)
        return True

    with open_cache(home) as cache:
        cache.set_budget(4 * TINY_ENTRY_BYTES)
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(4)))
        entries = cache.entries()
        assert len(entries) == 4 and sum(entry.is_pinned for entry in entries) == 1
        assert files_of(home) == {entry.id for entry in entries} and cache.verify() == []


def test_a_folder_needs_nothing_of_the_extra(tmp_path):
    code = f"""
import sys
from pathlib import Path
sys.path[:0] = {[str(Path(__file__).parents[2])]!r}
from chai_app.cache import LatentCache
LatentCache(Path({str(tmp_path)!r})).close()
print([name for name in sys.modules if name.partition(".")[0] in ("psycopg", "obstore")])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("count", [None, 2])
def test_the_database_searches_while_the_copy_of_a_large_shelf_is_made(home, monkeypatch, count):
    with open_cache(home) as cache:
        for i, name in enumerate(NAMES):
            cache.insert(tiny_entry(cache, f"a {name}", phrase(name, count=i), phrase("very old tiger"), seed=i))
    monkeypatch.setattr("chai_app.cache.shelves._MOST_AT_ONCE", 4)
    begun, go = threading.Event(), threading.Event()
    with open_cache(home) as copying:
        copy = shelves.Shelves._copy

        def copy_slowly(*args):
            begun.set()
            assert go.wait(60)
            copy(*args)

        monkeypatch.setattr(shelves.Shelves, "_copy", copy_slowly)
        wanted = phrase(NAMES[2], count=count), phrase("very old tiger")
        by_sql, found_by_sql = look(copying, *wanted), copying.search("tiger", limit=3)
        assert begun.is_set() and copying.shelves.kinds() == {}
        go.set()
        copying.shelves.wait()
        by_faiss, found_by_faiss = look(copying, *wanted), copying.search("tiger", limit=3)
        assert set(copying.shelves.kinds().values()) == {"flat"}
        assert by_sql.entry == by_faiss.entry and by_sql.entry.prompt == f"a {NAMES[2]}"
        assert [(c.entry_id, c.covers, c.lost_because) for c in by_sql.candidates] == [
            (c.entry_id, c.covers, c.lost_because) for c in by_faiss.candidates
        ]
        assert [f.entry for f in found_by_sql] == [f.entry for f in found_by_faiss] and len(found_by_sql) == 3
        assert copying.verify() == []


def test_what_was_purged_is_in_no_copy_of_an_index_after_its_next_lookup(home):
    with open_cache(home) as ours, open_cache(home) as theirs:
        for name in NAMES:
            ours.insert(tiny_entry(ours, name, phrase(name)))
        assert look(theirs, phrase(NAMES[0])).is_hit
        ours.purge(Selection(prompt=NAMES[0]))
        assert not look(theirs, phrase(NAMES[0])).is_hit
        (shelf,) = theirs.shelves._loaded.values()
        assert len(shelf.vectors) == len(NAMES) - 1


@pytest.fixture
def bucket(monkeypatch):
    """An S3 of this process, with a bucket in it."""
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    boto3 = pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    for name, value in {
        "AWS_ENDPOINT": address,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket="videos")
    yield "s3://videos/chai"
    server.stop()


@pytest.fixture(params=["s3", "memory"])
def store(request):
    return request.getfixturevalue("bucket") if request.param == "s3" else "memory:///"


def test_latents_may_lie_in_a_bucket_or_in_memory(home, store, monkeypatch):
    monkeypatch.setattr(objects, "_in_memory", objects.from_url)
    with open_cache(home, shared=SharedCache(shared_of(home).rows, store)) as cache:
        cache.set_budget(2 * TINY_ENTRY_BYTES)
        for name in NAMES[:3]:
            new = tiny_entry(cache, name, preview=b"picture")
            entry = cache.insert(new)
        np.testing.assert_allclose(cache.load(entry).tensors["clean"], new.tensors["clean"], rtol=2**-10)
        assert cache.preview(entry).read_bytes() == b"picture" and cache.set_preview(entry, b"other")
        assert cache.preview(entry).read_bytes() == b"other"
        assert look(cache, phrase(NAMES[2], "scene")).entry == entry and prompts(cache) == sorted(NAMES[1:3])
        cache._files.create(cache._files.latents_of(entry), b"what is there stays")
        assert cache.load(entry).note is None and cache.verify() == []
        cache._files.replace(cache._files.latents_of(entry), b"damaged")
        assert "set aside" in cache.load(entry).note
        cache.clear()
        assert cache._files.without_row(set()) == [] and not cache._files.has_litter(set()) and cache.verify() == []


def test_a_cache_moves_into_a_fleet_and_back_and_goes_on_where_it_was_stopped(home, tmp_path, monkeypatch):
    with open_cache(home) as shared, open_cache(tmp_path / "before", shared=None) as before:
        before.set_budget(10 * TINY_ENTRY_BYTES, "lfu")
        made = [before.insert(tiny_entry(before, name, phrase("tiger"), preview=b"picture")) for name in NAMES[:4]]
        before.touch(made[0])
        before.pin(made[1])
        Path(before._files.latents_of(made[2])).write_bytes(b"damaged")
        commit, calls = shared._store.commit, []

        def stop_at_the_second(arrivals):
            calls.append(arrivals)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return commit(arrivals)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(shared._store, "commit", stop_at_the_second)
            shared.copy_from(before)
        assert prompts(shared) == [NAMES[0]] and shared.verify() == []
        report = shared.copy_from(before)
        assert (report.copied, report.already_there, len(report.notes)) == (2, 1, 1) and made[2].id in report.notes[0]
        assert (shared.stats().budget_bytes, shared.stats().policy) == (10 * TINY_ENTRY_BYTES, "lfu")
        with open_cache(tmp_path / "after", shared=None) as after:
            assert after.copy_from(shared).copied == 3
            for cache in (shared, after):
                for entry in (before.entry(made[i].id) for i in (0, 1, 3)):
                    there = cache.entry(entry.id)
                    assert there.to_json() | {"number": 0} == entry.to_json() | {"number": 0}
                    assert cache.phrases(there) == before.phrases(entry) and cache.load(there).note is None
                    assert cache.preview(there).read_bytes() == b"picture"
                assert look(cache, phrase("tiger")).entry.prompt == NAMES[3] and cache.verify() == []


def test_a_copy_that_something_would_have_to_leave_for_is_refused(home, tmp_path):
    with open_cache(home) as shared, open_cache(tmp_path / "before", shared=None) as before:
        for name in NAMES[:3]:
            before.insert(tiny_entry(before, name))
        shared.insert(tiny_entry(shared, NAMES[4]))
        shared.set_budget(3 * TINY_ENTRY_BYTES)
        with pytest.raises(CacheFull, match="nothing was copied"):
            shared.copy_from(before)
        assert prompts(shared) == [NAMES[4]]
