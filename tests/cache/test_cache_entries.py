"""What goes into the cache comes out again, until it leaves, and then it leaves whole."""

import json

import numpy as np
import pytest
from cache_kit import (
    LARGER,
    MODEL,
    TINY,
    TINY_ENTRY_BYTES,
    WordEmbedder,
    files_of,
    folder_of,
    look,
    open_cache,
    phrase,
    prompts,
    tiny_entry,
)

from chai_app.cache import CacheError, CacheFull, Entity, NewEntry, Phrase, Schedule, Selection, Shape


def test_what_was_stored_is_read_back_with_everything_that_was_said_about_it(cache):
    tensors = {"clean": np.linspace(-3, 3, 96, dtype=np.float32).reshape(TINY.latent), "step_2": np.ones(TINY.latent)}
    parent = cache.insert(tiny_entry(cache, "cave"))
    phrases = [phrase("red ball", count=2), phrase("cave", "scene"), phrase("two red balls in a cave", "prompt")]
    entry = cache.insert(
        tiny_entry(
            cache,
            "two red balls in a cave",
            *phrases,
            seed=2**63 - 1,
            tensors=tensors,
            parent=parent.id,
            reuse_depth=1,
            drift=0.25,
            extra={"note": "ours"},
        )
    )
    assert cache.entry(entry.id) == entry
    assert (entry.fingerprint, entry.shape, entry.seed, entry.parent) == (MODEL, TINY, 2**63 - 1, parent.id)
    assert (entry.reuse_depth, entry.drift, entry.compute_seconds, entry.extra) == (1, 0.25, 2.0, {"note": "ours"})
    assert entry.schedule == Schedule(30, 7.0, {"clean": 0.0, "step_2": 0.0})
    assert cache.phrases(entry) == phrases
    loaded = cache.load(entry)
    assert loaded.note is None and set(loaded.tensors) == {"clean", "step_2"}
    for name, tensor in tensors.items():
        np.testing.assert_allclose(loaded.tensors[name], tensor, rtol=2**-11)  # fp16 keeps 11 bits
    json.dumps(entry.to_json())


def test_least_recently_used_entry_leaves_first(cache):
    for name in ("cave", "desert", "reef"):
        cache.insert(tiny_entry(cache, name))
    cache.touch(next(entry for entry in cache.entries() if entry.prompt == "cave"))
    gone = cache.set_budget(2 * TINY_ENTRY_BYTES)
    assert [entry.prompt for entry in gone] == ["desert"]
    assert prompts(cache) == ["cave", "reef"]


def test_least_frequently_used_entry_leaves_first_under_lfu(cache):
    cave, desert, reef = (cache.insert(tiny_entry(cache, name)) for name in ("cave", "desert", "reef"))
    for entry in (cave, cave, reef, desert, desert):
        cache.touch(entry)
    cache.set_budget(2 * TINY_ENTRY_BYTES, "lfu")
    assert prompts(cache) == ["cave", "desert"]


def test_the_entry_that_saves_the_least_computation_leaves_first_under_lcbfu(cache):
    cheap = cache.insert(tiny_entry(cache, "cave", compute_seconds=1.0))
    cache.insert(tiny_entry(cache, "desert", compute_seconds=50.0))
    cache.insert(tiny_entry(cache, "reef", compute_seconds=3.0))
    for _ in range(3):
        cache.touch(cheap)  # 4 x 1 s saved, against 1 x 50 s and 1 x 3 s
    cache.set_budget(2 * TINY_ENTRY_BYTES, "lcbfu")
    assert prompts(cache) == ["cave", "desert"]


def test_an_insert_makes_room_for_itself_and_never_for_more(cache):
    cache.set_budget(3 * TINY_ENTRY_BYTES)
    for name in ("cave", "desert", "reef", "jungle"):
        cache.insert(tiny_entry(cache, name))
    assert prompts(cache) == ["desert", "jungle", "reef"]
    assert cache.stats().evicted == 1


def test_pinned_entries_stay_until_they_are_unpinned(cache):
    cave = cache.insert(tiny_entry(cache, "cave"))
    assert cache.pin(cave)
    cache.insert(tiny_entry(cache, "desert"))
    cache.set_budget(TINY_ENTRY_BYTES)
    assert prompts(cache) == ["cave"]
    with pytest.raises(CacheFull, match="pinned"):
        cache.insert(tiny_entry(cache, "reef"))
    assert cache.unpin(cave)
    cache.insert(tiny_entry(cache, "reef"))
    assert prompts(cache) == ["reef"]


def test_an_entry_larger_than_the_budget_is_refused_and_nothing_leaves(cache, home):
    cave = cache.insert(tiny_entry(cache, "cave"))
    cache.set_budget(TINY_ENTRY_BYTES)
    with pytest.raises(CacheFull, match="budget"):
        cache.insert(tiny_entry(cache, "desert", shape=LARGER))
    assert prompts(cache) == ["cave"] and files_of(home) == {cave.id}


def test_an_entry_leaves_with_its_entities_its_embeddings_its_file_and_its_preview(cache, home):
    entry = cache.insert(tiny_entry(cache, "cave", phrase("tiger"), phrase("cave", "scene"), preview=b"picture"))
    assert cache.preview(entry).read_bytes() == b"picture"
    assert look(cache, phrase("tiger")).is_hit
    assert cache.remove(entry)
    assert files_of(home) == set()
    assert cache.stats().entities == 0
    decision = look(cache, phrase("tiger"), phrase("cave", "scene"))
    assert not decision.is_hit and decision.candidates == ()
    assert not cache.remove(entry) and not cache.touch(entry) and not cache.pin(entry)


def test_a_preview_can_come_later_and_again(cache, home):
    entry = cache.insert(tiny_entry(cache, "cave"))
    assert cache.preview(entry) is None
    for picture in (b"first", b"second"):
        assert cache.set_preview(entry, picture)
        assert cache.preview(entry).read_bytes() == picture
    cache.clear()
    assert not cache.set_preview(entry, b"late") and files_of(home) == set()


def test_an_embedding_stays_as_long_as_one_entry_has_it(cache):
    first = cache.insert(tiny_entry(cache, "cave", phrase("tiger")))
    second = cache.insert(tiny_entry(cache, "desert", phrase("tiger")))
    cache.remove(first)
    assert look(cache, phrase("tiger")).entry.id == second.id


def test_latents_that_are_not_finite_are_refused(cache):
    tensors = {"clean": np.full(TINY.latent, np.nan, np.float32)}
    with pytest.raises(CacheError, match="not finite"):
        cache.insert(tiny_entry(cache, "cave", tensors=tensors))
    assert cache.entries() == []


def test_purge_takes_what_is_selected_and_says_what_went(cache, clock):
    cave = cache.insert(tiny_entry(cache, "a Tiger in a cave", phrase("red tiger"), phrase("cave", "scene")))
    cache.insert(tiny_entry(cache, "a parrot in a jungle", phrase("parrot"), phrase("jungle", "scene")))
    middle = clock.now
    cache.insert(tiny_entry(cache, "a boat at sea", phrase("boat")))
    cache.pin(cave)
    assert [e.prompt for e in cache.purge(Selection(entity="tiger"))] == ["a Tiger in a cave"]
    assert [e.prompt for e in cache.purge(Selection(prompt="AT SEA", since=middle))] == ["a boat at sea"]
    assert cache.purge(Selection(prompt="jungle", since=middle)) == []
    assert [e.prompt for e in cache.purge(Selection(before=middle + 1))] == ["a parrot in a jungle"]
    assert cache.stats().entries == 0


@pytest.mark.in_folder
def test_what_was_purged_is_in_no_file_afterwards(home):
    with open_cache(home) as cache:
        cache.insert(tiny_entry(cache, "a xylophone at home", phrase("xylophone")))
        cache.insert(tiny_entry(cache, "a boat", phrase("boat")))
        assert look(cache, phrase("xylophone")).is_hit
        cache.purge(Selection(prompt="xylophone"))
        assert cache.verify() == []
    left = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"boat" in left and b"xylophone" not in left


def test_clear_leaves_an_empty_cache_that_goes_on(cache, home):
    for name in ("cave", "desert"):
        cache.insert(tiny_entry(cache, name))
    assert len(cache.clear()) == 2
    assert files_of(home) == set() and cache.entries() == []
    cache.insert(tiny_entry(cache, "reef"))
    assert look(cache, phrase("reef", "scene")).is_hit


def test_figures_count_hits_misses_and_what_came_and_went(home):
    day = 86_400.0
    with open_cache(home, clock=iter([0.0, 1.0, day, day + 1, day + 2, 2 * day]).__next__) as cache:
        entry = cache.insert(tiny_entry(cache, "cave"))  # looks at the clock for the entry, and for the commit
        cache.touch(entry)
        cache.count_miss()
        cache.touch(entry)
        cache.count_miss()
        stats = cache.stats()
        assert (stats.entries, stats.bytes, stats.hits, stats.misses, stats.hit_rate) == (
            1,
            TINY_ENTRY_BYTES,
            2,
            2,
            0.5,
        )
        assert stats.embedders == {WordEmbedder().fingerprint: 1}
        assert [(d.day, d.hits, d.misses, d.inserted) for d in cache.days()] == [
            ("1970-01-01", 0, 0, 1),
            ("1970-01-02", 2, 1, 0),
            ("1970-01-03", 0, 1, 0),
        ]
        assert [event.kind for event in cache.events(2)] == ["miss", "hit"]
        assert cache.entry(entry.id).hits == 2 and cache.entry(entry.id).last_used == day + 2
        assert cache.verify() == []


def test_entries_come_newest_first_in_pages(cache):
    for name in ("cave", "desert", "reef"):
        cache.insert(tiny_entry(cache, name))
    assert [entry.prompt for entry in cache.entries(limit=2)] == ["reef", "desert"]
    assert [entry.prompt for entry in cache.entries(limit=2, offset=2)] == ["cave"]


def test_a_cache_open_for_reading_finds_and_loads_but_changes_nothing(home):
    with open_cache(home) as cache:
        entry = cache.insert(tiny_entry(cache, "cave"))
        look(cache, phrase("cave", "scene"))
    before = {path: path.stat().st_mtime_ns for path in folder_of(home, "latents").rglob("*")}
    with open_cache(home, read_only=True) as cache:
        decision = look(cache, phrase("cave", "scene"))
        assert decision.entry == entry and cache.load(entry).note is None
        for change in (cache.clear, cache.rebuild, cache.count_miss, lambda: cache.insert(tiny_entry(cache, "reef"))):
            with pytest.raises(CacheError, match="reading only"):
                change()
        assert cache.verify() == []
    assert {path: path.stat().st_mtime_ns for path in folder_of(home, "latents").rglob("*")} == before


def test_a_folder_that_is_not_there_reads_as_an_empty_cache_and_is_not_made(home):
    with open_cache(home, read_only=True) as cache:
        assert not look(cache, phrase("cave", "scene")).is_hit
        assert cache.stats().entries == 0 and cache.verify() == []
    assert not home.exists()


def test_without_an_embedder_everything_works_that_needs_none(home):
    with open_cache(home) as cache:
        new = tiny_entry(cache, "cave")
        cache.insert(new)
    with open_cache(home, embedder=None) as cache:
        assert cache.verify() == [] and prompts(cache) == ["cave"]
        with pytest.raises(CacheError, match="without an embedder"):
            cache.insert(new)


def test_entries_of_another_embedder_are_found_again_once_they_are_embedded_anew(home):
    with open_cache(home) as cache:
        for i in range(3):
            cache.insert(tiny_entry(cache, f"cave {i}", phrase("tiger", count=i), phrase("cave", "scene")))
    with open_cache(home, embedder=WordEmbedder("other")) as cache:
        assert not look(cache, phrase("tiger")).is_hit
        cache.rebuild()
        assert cache.reembed(WordEmbedder().fingerprint) == 3
        assert cache.reembed(WordEmbedder().fingerprint) == 0
        assert look(cache, phrase("tiger", count=1)).entry.prompt == "cave 1"
        assert cache.stats().embedders == {WordEmbedder("other").fingerprint: 6}
        assert cache.verify() == []


@pytest.mark.parametrize(
    "make",
    [
        lambda e: Phrase("colour", "red", "red", None),
        lambda e: Phrase("object", " ", "", None),
        lambda e: Entity("object", "ball", "ball", None, np.ones(4, np.float32)),
        lambda e: Entity("object", "ball", "ball", None, np.full(4, np.nan, np.float32)),
        lambda e: Entity("object", "ball", "ball", None, np.ones((1, 1), np.float32)),
        lambda e: Shape((4, 0), 1, 1, 1, 1),
        lambda e: NewEntry(MODEL, TINY, "p", 0, Schedule(1, 1.0), [e], {}, 0.0),
        lambda e: NewEntry(MODEL, TINY, "p", 0, Schedule(1, 1.0), [e], {"clean": np.ones((4, 2, 3, 5))}, 0.0),
    ],
)
def test_values_that_make_no_sense_are_refused_where_they_are_made(make):
    good = Entity("object", "ball", "ball", None, np.array([1, 0], np.float32))
    with pytest.raises(ValueError, match=r"\w"):
        make(good)
