"""Archives that say what cannot be, and databases in which it already stands."""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cache"))
from cache_kit import WordEmbedder, look, open_cache, phrase, prompts, tiny_entry

from chai_app.cache import BadArchive, DamagedCache
from chai_app.cache.entries import MOST_COUNT


class NarrowEmbedder(WordEmbedder):
    """Says that it is the other one, and gives embeddings of another width."""

    dim = 8


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def archive_of(tmp_path, change=None, embedder=None):
    """An archive of one entry, the manifest of which `change` has had in its hands."""
    with open_cache(tmp_path / "theirs", embedder=embedder or WordEmbedder()) as cache:
        cache.insert(tiny_entry(cache, "a tiger in a cave", phrase("tiger", count=1), phrase("cave", "scene")))
        cache.export(tmp_path / "honest.zip")
    with zipfile.ZipFile(tmp_path / "honest.zip") as file:
        members = {name: file.read(name) for name in file.namelist()}
    manifest = json.loads(members["manifest.json"])
    if change is not None:
        change(manifest["entries"][0])
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as file:
        for name, content in members.items():
            file.writestr(name, json.dumps(manifest) if name == "manifest.json" else content)
    return tmp_path / "archive.zip"


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.update(prompt="a \x1b[31mred ball"),
        lambda e: e.update(prompt="a ball\x00"),
        lambda e: e.update(prompt="a \x9b2Jball"),
        lambda e: e.update(prompt="a \ud800 ball"),
        lambda e: e.update(prompt="  "),
        lambda e: e.update(fingerprint="\x1b"),
        lambda e: e.update(parent="../../etc"),
        lambda e: e.update(root="x" * 16),
        lambda e: e.update(created=1e17),
        lambda e: e.update(created=-1),
        lambda e: e.update(compute_seconds=-3),
        lambda e: e.update(drift=-0.1),
        lambda e: e.update(reuse_depth=10**9),
        lambda e: e.update(reuse_depth=-1),
        lambda e: e.update(seed=-1),
        lambda e: e.update(bytes=0),
        lambda e: e["shape"].update(num_frames=2**40),
        lambda e: e["shape"].update(fps=0),
        lambda e: e["shape"].update(fps=1e9),
        lambda e: e["schedule"].update(steps=0),
        lambda e: e["schedule"].update(guidance_scale=-7),
        lambda e: e["schedule"].update(timesteps={"\x1b": 0}),
        lambda e: e.update(extra={"deep": deep(30)}),
        lambda e: e.update(extra={"deep": deep(950)}),
        lambda e: e.update(extra={"long": "x" * 200_000}),
        lambda e: e.update(entities=e["entities"] * 1_000),
        lambda e: e["entities"][0].update(count=2**41),
        lambda e: e["entities"][0].update(count=-5),
        lambda e: e["entities"][0].update(text="t\x1biger"),
        lambda e: e["entities"][0].update(text="t" * 5_000),
        lambda e: e["entities"][0].update(head=""),
        lambda e: e["entities"][0].update(kind=["object"]),
        lambda e: e["entities"][0].update(embedder=" "),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_the_name_of_its_entry(home, tmp_path, change):
    path = archive_of(tmp_path, change)
    with open_cache(home) as cache:
        with pytest.raises(
            BadArchive, match=r"nothing of it was imported: (entry [0-9a-f]{16}|manifest.json) is"
        ) as refusal:
            cache.import_archive(path)
        assert str(refusal.value).isprintable()
        assert cache.entries() == [] and cache.verify() == []


def test_a_timestep_for_latents_that_are_not_there_is_refused(home, tmp_path):
    path = archive_of(tmp_path, lambda e: e["schedule"].update(timesteps={"clean": 0, "noisy": 500}))
    with open_cache(home) as cache, pytest.raises(BadArchive, match="where the entry says otherwise"):
        cache.import_archive(path)


def test_an_entry_from_the_future_is_used_no_later_than_now(home, tmp_path):
    path = archive_of(tmp_path, lambda e: e.update(created=9e10))
    with open_cache(home) as cache:
        (entry,) = cache.import_archive(path).added
        assert entry.created == 9e10 and entry.last_used < 9e9


def test_embeddings_of_another_width_than_their_embedders_are_refused(home, tmp_path):
    path = archive_of(tmp_path, embedder=NarrowEmbedder())
    with open_cache(home) as cache, pytest.raises(BadArchive, match="has 8 numbers, and its embedder gives 48"):
        cache.import_archive(path)
    with open_cache(home) as cache:
        cache.insert(tiny_entry(cache, "cave"))
    with open_cache(home, embedder=None) as cache, pytest.raises(BadArchive, match="its embedder gives 48"):
        cache.import_archive(path)


@pytest.fixture
def narrow(home, tmp_path):
    """A cache in which embeddings of another width stand under the embedder's name, as an older import left them."""
    path = archive_of(tmp_path, embedder=NarrowEmbedder())
    with open_cache(home, embedder=None) as cache:  # nobody here knows how wide they should be
        assert len(cache.import_archive(path).added) == 1
    return home


def test_a_wrong_width_that_is_here_already_breaks_no_lookup_no_search_and_no_insert(narrow):
    with open_cache(narrow) as cache:
        missed = look(cache, phrase("tiger"))
        assert not missed.is_hit
        assert any("cache repair makes them anew" in sentence for sentence in missed.sentences())
        assert cache.search("tiger") == []
        cache.insert(tiny_entry(cache, "a tiger", phrase("tiger")))
        assert look(cache, phrase("tiger")).entry.prompt == "a tiger"
        assert [found.entry.prompt for found in cache.search("tiger")] == ["a tiger"]


def test_repair_files_a_wrong_width_anew_and_without_an_embedder_leaves_it(narrow):
    with open_cache(narrow) as cache:
        assert cache.verify() == ["database: 2 embeddings of a wrong width"]
        assert "filed 1 entries anew, whose embeddings had a wrong width" in cache.repair()
        assert look(cache, phrase("tiger")).is_hit and cache.verify() == []


def test_clear_heals_a_wrong_width(narrow):
    with open_cache(narrow) as cache:
        cache.clear()
        cache.insert(tiny_entry(cache, "a tiger", phrase("tiger")))
        assert look(cache, phrase("tiger")).is_hit and cache.verify() == []


def test_a_prompt_that_says_one_thing_over_and_over_goes_out_and_comes_in(home, tmp_path):
    with open_cache(tmp_path / "theirs") as theirs, open_cache(home) as ours:
        theirs.insert(tiny_entry(theirs, "tiger " * 5_000, phrase("tiger")))
        theirs.export(tmp_path / "tigers.zip")
        assert len(ours.import_archive(tmp_path / "tigers.zip").added) == 1
        assert ours.verify() == []


def set_value(home, statement, *values):
    with open_cache(home) as cache, cache._database.writing() as connection:
        connection.execute(statement, values)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("created", 1e300), ("created", "yesterday"), ("schedule", "{"), ("schedule", "[" * 100_000), ("extra", "[]"),
        ("latent_shape", "4x2xyx4"), ("fps", -1.0), ("extra", '{"a":' * 100_000), ("seed", -1), ("bytes", -5),
    ],
)  # fmt: skip
def test_one_damaged_row_stands_in_nobodys_way_and_repair_takes_it_out(home, column, value):
    with open_cache(home) as cache:
        for name in ("cave", "reef"):
            cache.insert(tiny_entry(cache, name))
    set_value(home, f"UPDATE entries SET {column} = ? WHERE prompt = 'reef'", value)
    with open_cache(home) as cache:
        assert prompts(cache) == ["cave"]
        assert look(cache, phrase("cave", "scene")).is_hit and not look(cache, phrase("reef", "scene")).is_hit
        assert "database: row 2 of entries says what no entry can be" in cache.verify()
        cache.insert(tiny_entry(cache, "moon"))
        cache.repair()
        assert prompts(cache) == ["cave", "moon"] and cache.verify() == []


def test_a_count_that_is_none_and_words_that_a_terminal_obeys_are_harmless_where_they_already_stand(home):
    with open_cache(home) as cache:
        entry = cache.insert(tiny_entry(cache, "a tiger", phrase("tiger", count=3)))
    for count in (2**41, -7):
        set_value(home, "UPDATE entities SET count = ?", count)
        set_value(home, "UPDATE entries SET prompt = ?", "a \x1b[31mtiger")
        set_value(home, "UPDATE entities SET head = ?", "ti\x1bger")
        with open_cache(home) as cache:
            assert look(cache, phrase("tiger", count=3)).entry.prompt == "a [31mtiger"
            (found,) = cache.phrases(entry)
            assert (found.count, found.head) == (None, "tiger")


def test_a_count_that_nobody_could_see_is_none_of_a_phrase():
    phrase("stars", count=MOST_COUNT)
    with pytest.raises(ValueError, match="none that anybody could see"):
        phrase("stars", count=MOST_COUNT + 1)


def test_an_embedding_cut_short_in_the_database_leaves_the_others_findable(home):
    with open_cache(home) as cache:
        for name in ("red tiger", "blue boat", "old ball"):
            cache.insert(tiny_entry(cache, name, phrase(name)))
    set_value(home, "UPDATE vectors SET embedding = zeroblob(5) WHERE number = 2")
    with open_cache(home) as cache:
        assert [look(cache, phrase(name)).is_hit for name in ("red tiger", "blue boat", "old ball")] == [
            True,
            False,
            True,
        ]
        cache.repair()
        assert look(cache, phrase("blue boat")).entry.prompt == "blue boat" and cache.verify() == []


def test_pages_flipped_anywhere_in_the_database_end_in_a_sentence_or_are_harmless(home, tmp_path):
    with open_cache(home) as cache:
        for i in range(12):
            cache.insert(tiny_entry(cache, f"cave {i}", phrase(f"tiger {i}"), phrase("cave", "scene")))
    honest = (home / "cache.sqlite3").read_bytes()
    latents = {path.name: path.read_bytes() for path in (home / "latents").iterdir()}
    chance = np.random.default_rng(0)
    sentences = []
    for _ in range(60):
        content = bytearray(honest)
        begin = int(chance.integers(100, len(content) - 200))
        content[begin : begin + 100] = chance.bytes(100)
        (home / "cache.sqlite3").write_bytes(content)
        for name, latent in latents.items():
            (home / "latents" / name).write_bytes(latent)
        try:
            with open_cache(home) as cache:
                look(cache, phrase("tiger 3"), phrase("cave", "scene"))
                [cache.phrases(entry) for entry in cache.entries()]
                cache.search("tiger")
                cache.insert(tiny_entry(cache, "reef"))
                cache.stats(), cache.days(), cache.events(), cache.verify()
        except DamagedCache as error:
            sentences.append(str(error))
    assert sentences and all("move it away" in sentence for sentence in sentences)
