"""Ways to an entry besides a lookup: by the first digits of its id, and by what is like some words."""

from types import SimpleNamespace

import pytest
from cache_kit import LARGER, WordEmbedder, open_cache, phrase, prompts, tiny_entry

from chai_app.cache import Selection, Thresholds, UnknownEntry


@pytest.fixture
def numbered(monkeypatch):
    """Ids that count: ab000000000000 00, 01, ..."""
    ids = iter(f"ab{i:014x}" for i in range(100))
    monkeypatch.setattr("chai_app.cache.store.secrets", SimpleNamespace(token_hex=lambda size: next(ids)))


def test_the_first_digits_find_an_entry_if_they_are_one_entrys_alone(numbered, cache):
    for i in range(17):
        cache.insert(tiny_entry(cache, f"cave {i}"))
    assert cache.find("#AB0000000000001").prompt == "cave 16"
    assert cache.find(" ab00000000000003 ").prompt == "cave 3"
    with pytest.raises(UnknownEntry, match=r"17 entries begin with ab: ab0+10, ab0+f, ab0+e, \.\.\.; give more"):
        cache.find("ab")


@pytest.mark.parametrize("prefix", ["", "#", "ac", "ab000000000000000", "xyz", "%", "é"])
def test_digits_that_are_nobodys_are_named(numbered, cache, prefix):
    cache.insert(tiny_entry(cache, "cave"))
    with pytest.raises(UnknownEntry, match=r"There is no entry .* take an id from cache ls"):
        cache.find(prefix)


def test_a_search_ranks_entries_of_every_model_size_and_kind_each_once(cache):
    cache.insert(tiny_entry(cache, "one", phrase("red tiger"), phrase("tiger")))
    cache.insert(tiny_entry(cache, "two", phrase("blue tiger"), shape=LARGER))
    cache.insert(tiny_entry(cache, "three", phrase("red tiger cave", "scene"), fingerprint="model-b"))
    cache.insert(tiny_entry(cache, "four", phrase("boat")))
    found = cache.search("Red  tiger")
    assert [(f.entry.prompt, f.kind, f.text) for f in found[:3]] == [
        ("one", "object", "red tiger"),
        ("three", "scene", "red tiger cave"),
        ("two", "object", "blue tiger"),
    ]
    assert found[0].score == pytest.approx(1, abs=1e-3)
    assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)
    assert [f.is_match for f in found] == [True, False, False, False] and found[0].threshold == 0.92


def test_a_search_keeps_to_one_kind_to_matches_and_to_its_limit(cache):
    cache.insert(tiny_entry(cache, "one", phrase("tiger")))
    cache.insert(tiny_entry(cache, "two", phrase("tiger", "scene")))
    cache.insert(tiny_entry(cache, "three", phrase("boat")))
    cache.thresholds = Thresholds(object=0.9, scene=0.99)
    assert [f.entry.prompt for f in cache.search("tiger", kind="scene")] == ["two"]
    assert [f.entry.prompt for f in cache.search("tiger", is_match=True)] == ["two", "one"]
    assert [f.entry.prompt for f in cache.search("tiger", limit=1)] == ["two"]
    assert cache.search("  ") == cache.search("tiger", limit=0) == []


def test_a_search_looks_past_phrases_that_few_entries_share_and_shows_the_newest_of_many(cache):
    for i in range(30):
        cache.insert(tiny_entry(cache, f"v{i}", *(phrase(f"very big tiger {i} {j}") for j in range(4))))
    for i in range(20):
        cache.insert(tiny_entry(cache, f"t{i}", phrase("tiger")))
    assert [f.entry.prompt for f in cache.search("tiger", limit=3)] == ["t19", "t18", "t17"]
    assert len({f.entry.id for f in cache.search("tiger", limit=45)}) == 45


def test_a_search_finds_nothing_that_went_or_that_another_embedder_filed(cache, home):
    gone = cache.insert(tiny_entry(cache, "one", phrase("tiger")))
    assert cache.search("tiger")
    cache.remove(gone)
    assert cache.search("tiger") == []
    cache.insert(tiny_entry(cache, "two", phrase("tiger")))
    with open_cache(home, embedder=WordEmbedder("others"), read_only=True) as theirs:
        assert theirs.search("tiger") == []


def test_pages_come_in_any_order_and_their_total_is_told(cache):
    for name, hits in (("cave", 1), ("desert", 3), ("reef", 0), ("moon", 2)):
        entry = cache.insert(tiny_entry(cache, name))
        for _ in range(hits):
            cache.touch(entry)
    assert [e.prompt for e in cache.entries(order="hits")] == ["desert", "moon", "cave", "reef"]
    assert [e.prompt for e in cache.entries(order="used", limit=2, offset=1)] == ["reef", "desert"]
    assert [e.prompt for e in cache.entries(order="bytes", limit=2)] == ["moon", "reef"]
    assert cache.count() == len(prompts(cache)) == 4
    assert cache.count(Selection(prompt="e")) == 3


def test_a_search_loads_no_embedder_for_what_entries_are_filed_under_nor_where_none_are(cache, monkeypatch):
    asked = []
    embed = type(cache.embedder).embed
    monkeypatch.setattr(type(cache.embedder), "embed", lambda self, texts: asked.extend(texts) or embed(self, texts))
    assert cache.search("tiger") == []
    cache.insert(tiny_entry(cache, "one", phrase("red tiger")))
    asked.clear()
    assert cache.search(" Red  Tiger")[0].score == pytest.approx(1, abs=1e-3)
    assert asked == []
    assert cache.search("tiger")[0].text == "red tiger"
    assert asked == ["tiger"]
