"""Entries carried from one cache to another, and archives that are not what they say they are."""

import hashlib
import io
import json
import random
import stat
import zipfile

import numpy as np
import pytest
from cache_kit import MODEL, TINY_ENTRY_BYTES, file_of, files_of, look, open_cache, phrase, prompts, tiny_entry

from chai_app.cache import BadArchive, CacheError, CacheFull, CannotStore, Selection
from chai_app.cache.codec import encode
from chai_app.errors import ChaiError

TOO_LONG = random.Random(0).randbytes(50_001).hex()  # random, so that it does not pack like a bomb


@pytest.fixture
def archive(home, tmp_path):
    """An archive of two entries: what it holds, by name."""
    with open_cache(home) as cache:
        parent = cache.insert(tiny_entry(cache, "a tiger in a cave", phrase("tiger", count=1), phrase("cave", "scene")))
        cache.insert(tiny_entry(cache, "a parrot", phrase("parrot"), parent=parent.id, drift=0.5, extra={"k": [1]}))
        cache.touch(parent)
        cache.pin(parent)
        report = cache.export(tmp_path / "two.zip")
        assert (report.entries, report.notes) == (2, ())
    with zipfile.ZipFile(tmp_path / "two.zip") as file:
        return {name: file.read(name) for name in file.namelist()}


def pack(members, target):
    """A zip of `members`; a value may be (ZipInfo, content)."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(*(content if isinstance(content, tuple) else (name, content)))
    return target


def manifest_of(members):
    return json.loads(members["manifest.json"])


def with_manifest(members, change):
    manifest = manifest_of(members)
    return {**members, "manifest.json": json.dumps(change(manifest) or manifest)}


def refused(members, tmp_path, match):
    """The archive is refused, and the cache is as empty as before."""
    target = tmp_path / "elsewhere"
    with open_cache(target) as cache:
        with pytest.raises(BadArchive, match=match):
            cache.import_archive(pack(members, tmp_path / "bad.zip"))
        assert cache.entries() == [] and cache.verify() == []
    assert files_of(target) == set()
    assert {path.name for path in tmp_path.iterdir()} <= {"home", "elsewhere", "two.zip", "bad.zip"}


def test_what_was_exported_comes_in_with_all_that_belongs_to_it(archive, home, tmp_path):
    with open_cache(home) as ours, open_cache(tmp_path / "elsewhere") as theirs:
        report = theirs.import_archive(tmp_path / "two.zip")
        assert (len(report.added), report.already_here, report.evicted) == (2, (), ())
        for entry in ours.entries():
            found = theirs.entry(entry.id)
            for name in ("fingerprint", "shape", "prompt", "seed", "schedule", "parent", "drift", "extra", "checksum"):
                assert getattr(found, name) == getattr(entry, name)
            assert (found.hits, found.is_pinned) == (0, False)
            assert theirs.phrases(found) == ours.phrases(entry)
            np.testing.assert_array_equal(theirs.load(found).tensors["clean"], ours.load(entry).tensors["clean"])
        assert look(theirs, phrase("parrot")).entry in report.added
        assert theirs.verify() == []


def test_of_two_that_import_one_archive_at_once_one_is_told_to_try_again(archive, tmp_path, monkeypatch):
    from chai_app.cache import archive as room

    check, calls = room._check_latents, []
    with open_cache(tmp_path / "elsewhere") as ours, open_cache(tmp_path / "elsewhere") as theirs:

        def check_and_be_overtaken(*args):
            calls.append(args)
            if len(calls) == 3:  # both were checked and found to be new; now they are being written
                theirs.import_archive(tmp_path / "two.zip")
            return check(*args)

        monkeypatch.setattr(room, "_check_latents", check_and_be_overtaken)
        with pytest.raises(CacheError, match="just now: try again"):
            ours.import_archive(tmp_path / "two.zip")
        assert len(ours.entries()) == 2 and ours.verify() == []
        assert len(ours.import_archive(tmp_path / "two.zip").already_here) == 2


def test_entries_that_are_here_already_stay_as_they_are(archive, home, tmp_path):
    with open_cache(home) as cache:
        before = cache.entries()
        report = cache.import_archive(tmp_path / "two.zip")
        assert report.added == () and sorted(report.already_here) == sorted(entry.id for entry in before)
        assert cache.entries() == before and cache.verify() == []


def test_only_what_is_selected_is_exported(archive, home, tmp_path):
    with open_cache(home) as cache, open_cache(tmp_path / "elsewhere") as other:
        assert cache.export(tmp_path / "one.zip", Selection(entity="parrot")).entries == 1
        other.import_archive(tmp_path / "one.zip")
        assert prompts(other) == ["a parrot"] and other.verify() == []


def test_damaged_entries_are_left_out_of_an_export_and_named(home, tmp_path):
    with open_cache(home) as cache:
        entry = cache.insert(tiny_entry(cache, "cave"))
        file_of(home, entry).write_bytes(b"x" * entry.bytes)
        report = cache.export(tmp_path / "none.zip")
        assert report.entries == 0 and entry.id in report.notes[0]


def test_an_import_makes_room_as_an_insert_does_and_never_exceeds_the_budget(archive, tmp_path):
    with open_cache(tmp_path / "elsewhere") as cache:
        cache.insert(tiny_entry(cache, "desert"))
        cache.set_budget(2 * TINY_ENTRY_BYTES)
        report = cache.import_archive(tmp_path / "two.zip")
        assert [entry.prompt for entry in report.evicted] == ["desert"] and len(cache.entries()) == 2
        cache.clear()
        cache.set_budget(2 * TINY_ENTRY_BYTES - 1)
        with pytest.raises(CacheFull, match="exceed"):
            cache.import_archive(tmp_path / "two.zip")
        assert cache.entries() == [] and cache.verify() == []


@pytest.mark.in_folder
def test_a_disk_that_fills_up_during_an_import_leaves_nothing_behind(archive, tmp_path, monkeypatch):
    from chai_app.cache import latent_files

    written = []

    def write(staged, content):
        if written:
            raise CannotStore("The disk is full.")
        written.append(content)

    monkeypatch.setattr(latent_files.Staged, "write", write)
    with open_cache(tmp_path / "elsewhere") as cache:
        with pytest.raises(CannotStore):
            cache.import_archive(tmp_path / "two.zip")
        assert cache.entries() == [] and cache.verify() == []
    assert files_of(tmp_path / "elsewhere") == set()


@pytest.mark.parametrize(
    "name",
    ["../evil.safetensors", "/etc/evil", "latents/../../evil.safetensors", "latents/abc.safetensors", "latents/",
     "C:\\evil", "latents\\0123456789abcdef.safetensors", "previews/0123456789abcdef.webp", "evil.pkl"],
)  # fmt: skip
def test_names_that_no_entry_has_are_refused(archive, tmp_path, name):
    refused({**archive, name: b"x"}, tmp_path, "is a name that no entry has")


def test_links_are_refused(archive, tmp_path):
    info = zipfile.ZipInfo("latents/0123456789abcdef.safetensors")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused({**archive, "link": (info, b"/etc/passwd")}, tmp_path, "0123456789abcdef.* is a link")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused(archive, tmp_path):
    name = next(name for name in archive if name != "manifest.json")
    refused({**archive, "again": (name, archive[name])}, tmp_path, "is the same name twice")


def test_an_entry_that_comes_twice_is_refused(archive, tmp_path):
    changed = with_manifest(archive, lambda m: m["entries"].append(m["entries"][0]))
    refused(changed, tmp_path, "entry [0-9a-f]{16} is the same entry twice")


def test_files_without_an_entry_and_entries_without_a_file_are_refused(archive, tmp_path):
    refused({**archive, "latents/0123456789abcdef.safetensors": b"x"}, tmp_path, "no entry of the manifest has it")
    name = next(name for name in archive if name != "manifest.json")
    refused({k: v for k, v in archive.items() if k != name}, tmp_path, f"{name} is missing")


def test_bombs_are_refused_before_they_are_unpacked(archive, tmp_path, monkeypatch):
    from chai_app.cache import archive as room

    monkeypatch.setattr(room, "_read", None)
    refused({**archive, "latents/0123456789abcdef.safetensors": bytes(10**7)}, tmp_path, "as bombs are")
    refused({**archive, "manifest.json": b" " * 10**7}, tmp_path, "manifest.json is packed")
    monkeypatch.setattr(room, "_MOST_LATENTS_BYTES", 300)
    refused(archive, tmp_path, "is too large")


def lie_about_size(content: bytes, name: bytes, size: int) -> bytes:
    """The central directory's line for `name`, with another size: 24 bytes into the line, name at 46."""
    at = content.rindex(name) - 46
    assert content[at : at + 4] == b"PK\x01\x02"
    return content[: at + 24] + size.to_bytes(4, "little") + content[at + 28 :]


@pytest.mark.parametrize("size", [100, 343, 345, 4_000])
def test_lying_sizes_are_refused(archive, tmp_path, size):
    name = next(name for name in archive if name != "manifest.json")
    buffer = io.BytesIO()
    pack(archive, buffer)
    honest = buffer.getvalue()
    (tmp_path / "bad.zip").write_bytes(lie_about_size(honest, name.encode(), size))
    with open_cache(tmp_path / "elsewhere") as cache:
        with pytest.raises(BadArchive, match=name):
            cache.import_archive(tmp_path / "bad.zip")
        assert cache.entries() == [] and cache.verify() == []
    changed = with_manifest(archive, lambda m: m["entries"][0].update(bytes=size))
    refused(changed, tmp_path, f"where the manifest says {size:,}")


def swap_latents(members, content):
    """The first entry with other latents, and everything that is said about them adjusted."""
    manifest = manifest_of(members)
    entry = manifest["entries"][0]
    entry |= {"bytes": len(content), "checksum": hashlib.sha256(content).hexdigest()}
    return {**members, f"latents/{entry['id']}.safetensors": content, "manifest.json": json.dumps(manifest)}


def test_latents_of_another_shape_with_nan_or_of_another_format_are_refused(archive, tmp_path):
    noise = np.random.default_rng(0).standard_normal((4, 2, 3, 5)).astype(np.float32)
    refused(swap_latents(archive, encode({"clean": noise})), tmp_path, r"clean is \(4, 2, 3, 5\)")
    good = encode({"clean": noise}, "fp32")
    bad = good.replace(noise[0, 0, 0, 0].tobytes(), np.float32("nan").tobytes())
    refused(swap_latents(archive, bad), tmp_path, "not finite")
    refused(swap_latents(archive, noise.tobytes()), tmp_path, "no safetensors file")


def test_a_checksum_that_does_not_fit_is_refused(archive, tmp_path):
    changed = with_manifest(archive, lambda m: m["entries"][1].update(checksum="0" * 64))
    refused(changed, tmp_path, "another checksum")


def test_an_unknown_schema_and_a_manifest_that_is_none_are_refused(archive, tmp_path):
    refused(with_manifest(archive, lambda m: m.update(schema=2)), tmp_path, "of schema 2, and this program knows 1")
    refused({**archive, "manifest.json": b"{"}, tmp_path, "manifest.json is no manifest")
    refused({**archive, "manifest.json": b"[]"}, tmp_path, "manifest.json is no manifest")
    refused({**archive, "manifest.json": b"[" * 100_000}, tmp_path, "manifest.json is")
    refused({k: v for k, v in archive.items() if k != "manifest.json"}, tmp_path, "manifest.json is missing")


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": None}, {"prompt": TOO_LONG}, {"seed": "1"}, {"seed": 2**63}, {"id": "../../x"}, {"id": 5},
        {"shape": {}}, {"shape": None}, {"schedule": 3}, {"bytes": True}, {"created": "today"}, {"extra": []},
        {"created": 1e300}, {"entities": None}, {"entities": [{}]}, {"entities": [None]}, {"surprise": 1},
        {"compute_seconds": float("nan")}, {"fingerprint": {}}, {"drift": "much"},
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused_by_the_name_of_their_entry(archive, tmp_path, change):
    refused(with_manifest(archive, lambda m: m["entries"][0].update(change)), tmp_path, "is not readable")


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "colour"}, {"text": ""}, {"count": 1.5}, {"embedding": "!"}, {"embedding": ""},
        {"embedding": "AAA="}, {"embedding": "AH4AfgB+"}, {"embedder": 1},
    ],
)  # fmt: skip
def test_entities_that_make_no_sense_are_refused(archive, tmp_path, change):
    changed = with_manifest(archive, lambda m: m["entries"][0]["entities"][0].update(change))
    refused(changed, tmp_path, "is not readable")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive" * 100])
def test_a_file_that_is_no_archive_is_refused(cache, tmp_path, content):
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(BadArchive, match="cannot be read as an archive"):
        cache.import_archive(tmp_path / "bad.zip")
    with pytest.raises(BadArchive, match="cannot be read as an archive"):
        cache.import_archive(tmp_path / "not there.zip")


def test_flipped_bytes_anywhere_are_refused_or_harmless(archive, tmp_path):
    honest = (tmp_path / "two.zip").read_bytes()
    chance = np.random.default_rng(0)
    with open_cache(tmp_path / "elsewhere") as cache:
        for place in chance.choice(len(honest), 60, replace=False):
            content = bytearray(honest)
            content[place] ^= 1 << int(chance.integers(8))
            (tmp_path / "bad.zip").write_bytes(content)
            try:
                cache.import_archive(tmp_path / "bad.zip")
            except ChaiError:
                assert cache.entries() == []
                continue
            assert all(cache.load(entry).note is None for entry in cache.entries(Selection(fingerprint=MODEL)))
            cache.clear()
        assert cache.verify() == []
