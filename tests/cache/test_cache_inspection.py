"""Looking into a cache, and small corrections."""

import pytest
from cache_kit import LARGER, TINY_ENTRY_BYTES, files_of, look, open_cache, phrase, prompts, tiny_entry

from chai_app.cache import CacheFull
from chai_app.cache.inspection import entity_map, only, rename, what_archive_brings, would_leave


def test_the_map_shows_every_object_and_scene_once(cache):
    cache.insert(tiny_entry(cache, "one", phrase("red ball"), phrase("desert", "scene")))
    cache.insert(tiny_entry(cache, "two", phrase("red ball"), phrase("reef", "scene"), seed=1))
    shown = entity_map(cache)
    assert {(p.kind, p.text, p.entries) for p in shown.points} == {
        ("object", "red ball", 2),
        ("scene", "desert", 1),
        ("scene", "reef", 1),
    }
    assert all(0 <= p.x <= 1 and 0 <= p.y <= 1 for p in shown.points)
    assert shown.explained == pytest.approx(1)  # three points lie in a plane


def test_near_phrases_lie_near_each_other_on_the_map(cache):
    for i, text in enumerate(("red ball", "red ball rolling", "old dark cave", "old dark cave entrance")):
        cache.insert(tiny_entry(cache, text, phrase(text), seed=i))
    at = {p.text: (p.x, p.y) for p in entity_map(cache).points}

    def distance(a, b):
        return ((at[a][0] - at[b][0]) ** 2 + (at[a][1] - at[b][1]) ** 2) ** 0.5

    assert distance("red ball", "red ball rolling") < distance("red ball", "old dark cave")


def test_an_empty_cache_has_an_empty_map(cache):
    assert entity_map(cache).points == ()


def test_what_would_leave_is_what_then_leaves(cache):
    for i, name in enumerate(("cave", "desert", "reef")):
        cache.insert(tiny_entry(cache, name, seed=i))
    cache.touch(cache.entries()[-1])
    told = would_leave(cache, budget_bytes=2 * TINY_ENTRY_BYTES)
    assert prompts(cache) == ["cave", "desert", "reef"]
    assert [entry.id for entry in cache.set_budget(2 * TINY_ENTRY_BYTES)] == [entry.id for entry in told]
    assert [entry.prompt for entry in would_leave(cache, TINY_ENTRY_BYTES)] == ["reef"]
    with pytest.raises(CacheFull, match="does not fit"):
        would_leave(cache, 10 * TINY_ENTRY_BYTES)


def test_a_renamed_entry_is_found_by_its_new_name_and_no_longer_by_the_old(cache):
    entry = cache.insert(tiny_entry(cache, "one", phrase("red ball")))
    assert rename(cache, entry, [phrase("blue star"), phrase("one", "prompt")])
    assert look(cache, phrase("blue star")).entry.id == entry.id
    assert look(cache, phrase("red ball")).entry is None
    assert [p.text for p in cache.phrases(entry)] == ["blue star", "one"]
    cache.remove(entry)
    assert not rename(cache, entry, [phrase("blue star")])


def test_one_entry_alone_can_be_carried_away_and_brought_back(cache, tmp_path):
    for seed in (1, 2):
        cache.insert(tiny_entry(cache, "the same prompt", phrase("red ball"), seed=seed))
    entry = cache.entries()[0]
    assert cache.export(tmp_path / "one.zip", only(entry)).entries == 1
    cache.remove(entry)
    assert [back.id for back in cache.import_archive(tmp_path / "one.zip").added] == [entry.id]


def test_a_dry_run_tells_what_an_import_does_and_does_nothing(cache, tmp_path, home):
    with open_cache(tmp_path / "other") as other:
        for i, name in enumerate(("cave", "moon")):
            other.insert(tiny_entry(other, name, seed=i))
        other.export(tmp_path / "two.zip")
    cache.insert(tiny_entry(cache, "large", shape=LARGER))
    cache.set_budget(cache.stats().bytes + TINY_ENTRY_BYTES)
    before = files_of(home)
    told = what_archive_brings(cache, tmp_path / "two.zip")
    assert (prompts(cache), files_of(home)) == (["large"], before)
    done = cache.import_archive(tmp_path / "two.zip")
    assert {e.id for e in told.added} == {e.id for e in done.added} and len(told.added) == 2
    assert [e.id for e in told.evicted] == [e.id for e in done.evicted] and len(told.evicted) == 1
