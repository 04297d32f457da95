"""Indexes: chosen by size, kept up with other processes, saved for the next start, and never trusted when damaged."""

import threading

import numpy as np
import pytest
from cache_kit import TINY_ENTRY_BYTES, WordEmbedder, index_of, look, open_cache, phrase, prompts, tiny_entry

from chai_app.cache import rows, shelf
from chai_app.cache.shelf import Shelf

NAMES = [
    f"{colour} {noun}" for colour in ("red", "blue", "green", "old") for noun in ("tiger", "parrot", "boat", "ball")
]


def fill(cache, names=NAMES):
    for name in names:
        cache.insert(tiny_entry(cache, f"a {name}", phrase(name)))


@pytest.fixture
def graphs_from_twelve(monkeypatch):
    monkeypatch.setattr(shelf, "GRAPH_FROM_ENTITIES", 12)


def test_few_embeddings_are_compared_one_by_one_and_many_are_a_graph():
    assert not Shelf(64).wants_graph
    for dim, count, wants in ((64, 49_999, False), (64, 50_000, True), (768, 4_166, False), (768, 4_167, True)):
        few = Shelf(dim)
        few.vectors = np.arange(count)
        assert few.wants_graph is wants


def test_the_index_becomes_a_graph_by_itself_and_finds_the_same(graphs_from_twelve, cache):
    fill(cache, NAMES[:3])
    assert look(cache, phrase("red tiger")).is_hit
    assert set(cache.shelves.kinds().values()) == {"flat"}
    fill(cache, NAMES[3:])
    cache.shelves.wait()
    for name in NAMES:
        assert look(cache, phrase(name)).entry.prompt == f"a {name}"
    assert set(cache.shelves.kinds().values()) == {"HNSW"}


@pytest.fixture
def slow_graphs(graphs_from_twelve, monkeypatch):
    """Graphs that take until `go` is set; `begun` tells that one is being built."""
    begun, go, build = threading.Event(), threading.Event(), shelf.graph_of

    def build_slowly(embeddings):
        begun.set()
        assert go.wait(60)
        return build(embeddings)

    monkeypatch.setattr("chai_app.cache.shelves.graph_of", build_slowly)
    yield begun, go
    go.set()


def test_inserts_and_lookups_go_on_while_a_graph_is_built_and_what_came_is_in_it_too(slow_graphs, home):
    begun, go = slow_graphs
    with open_cache(home) as cache, open_cache(home) as other:
        fill(cache, NAMES[:11])
        look(cache, phrase("red tiger"))
        fill(cache, NAMES[11:12])  # comes back although the graph waits
        assert begun.wait(60)
        fill(cache, NAMES[12:])
        other.insert(tiny_entry(other, "a late boat", phrase("late boat")))
        assert look(cache, phrase("late boat")).is_hit and set(cache.shelves.kinds().values()) == {"flat"}
        go.set()
        cache.shelves.wait()
        assert set(cache.shelves.kinds().values()) == {"HNSW"}
        for name in (*NAMES, "late boat"):
            assert look(cache, phrase(name)).entry.prompt == f"a {name}"
        assert cache.verify() == []


def test_a_graph_of_embeddings_that_went_meanwhile_is_not_put_in_place(slow_graphs, cache):
    begun, go = slow_graphs
    fill(cache, NAMES[:11])
    look(cache, phrase("red tiger"))
    fill(cache, NAMES[11:])
    assert begun.wait(60)
    for entry in cache.entries()[4:]:
        cache.remove(entry)
    with cache._database.reading() as connection:
        cache.shelves.get(connection, 1)
    cache.shelves._loaded[1] = cache.shelves._loaded[1].compact().without_tombstones()
    go.set()
    cache.shelves.wait()
    assert set(cache.shelves.kinds().values()) == {"flat"}
    assert look(cache, phrase(NAMES[-1])).is_hit and not look(cache, phrase(NAMES[0])).is_hit


def test_closing_waits_for_the_graph_and_saves_it(slow_graphs, home):
    begun, go = slow_graphs
    cache = open_cache(home)
    look(cache, phrase("red tiger"))
    fill(cache, NAMES[:11])
    look(cache, phrase("red tiger"))
    fill(cache, NAMES[11:])
    assert begun.wait(60)
    go.set()
    cache.close()
    with open_cache(home) as again:
        assert look(again, phrase("red tiger")).is_hit
        assert set(again.shelves.kinds().values()) == {"HNSW"}


def test_an_index_catches_up_with_what_another_process_wrote(home):
    with open_cache(home) as ours, open_cache(home) as theirs:
        assert not look(ours, phrase("red tiger")).is_hit
        entry = theirs.insert(tiny_entry(theirs, "a red tiger", phrase("red tiger")))
        assert look(ours, phrase("red tiger")).is_hit
        theirs.insert(tiny_entry(theirs, "another", phrase("red tiger"), phrase("blue boat")))
        assert look(ours, phrase("blue boat")).entry.prompt == "another"
        theirs.remove(entry)
        assert look(ours, phrase("red tiger")).entry.prompt == "another"
        theirs.clear()
        assert look(ours, phrase("red tiger")).candidates == ()
        assert ours.verify() == theirs.verify() == []


def test_an_index_that_lags_further_than_changes_are_kept_is_read_afresh(home, monkeypatch):
    monkeypatch.setattr(rows, "KEPT_CHANGES", 3)
    with open_cache(home) as ours, open_cache(home) as theirs:
        theirs.insert(tiny_entry(theirs, "first", phrase("red tiger")))
        assert look(ours, phrase("red tiger")).is_hit
        fill(theirs)
        for name in NAMES:
            assert look(ours, phrase(name)).is_hit
        assert ours.verify() == []


def test_the_next_start_reads_the_saved_index_and_catches_up_from_there(graphs_from_twelve, home, monkeypatch):
    with open_cache(home) as cache:
        fill(cache)
        assert look(cache, phrase("red tiger")).is_hit
    with open_cache(home) as cache:  # writes without an index in memory
        cache.insert(tiny_entry(cache, "late", phrase("late boat")))
        cache.remove(next(entry for entry in cache.entries() if entry.prompt == "a red tiger"))
    monkeypatch.setattr("chai_app.cache.shelves._from_rows", None)  # reading it afresh would be a bug now
    with open_cache(home) as cache:
        assert look(cache, phrase("late boat")).is_hit and look(cache, phrase("blue tiger")).is_hit
        assert not look(cache, phrase("red tiger")).is_hit
        assert set(cache.shelves.kinds().values()) == {"HNSW"}
        assert cache.verify() == []


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "gone", "of another cache"])
def test_a_damaged_index_is_made_anew_without_a_word(home, tmp_path, damage):
    with open_cache(home) as cache:
        fill(cache)
        assert look(cache, phrase("red tiger")).is_hit
    (path,) = index_of(home).iterdir()
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "gone":
        path.unlink()
    elif damage == "of another cache":
        with open_cache(tmp_path / "other") as other:
            fill(other, [f"{name} there" for name in NAMES])
            assert look(other, phrase("red tiger there")).is_hit
        path.write_bytes((index_of(tmp_path / "other") / path.name).read_bytes())
    else:
        path.write_bytes(content[: 0 if damage == "empty" else -100])
    with open_cache(home) as cache:
        for name in NAMES:
            assert look(cache, phrase(name)).entry.prompt == f"a {name}"
        assert cache.verify() == []


def test_entries_that_went_leave_no_trace_when_the_index_is_settled(graphs_from_twelve, home):
    with open_cache(home) as cache:
        fill(cache)
        look(cache, phrase("red tiger"))
        cache.set_budget(4 * TINY_ENTRY_BYTES)
        assert sum(look(cache, phrase(name)).is_hit for name in NAMES) == 4
        assert cache.verify() == []
    with open_cache(home) as cache:
        assert sum(look(cache, phrase(name)).is_hit for name in NAMES) == 4
        assert [len(s.vectors) for s in cache.shelves._loaded.values()] == [4]


def test_an_answer_is_found_behind_embeddings_whose_entries_went(cache):
    names = [f"very big tiger v{i}" for i in range(100)]
    fill(cache, names)
    look(cache, phrase("very big tiger"))
    for entry in cache.entries():
        if entry.prompt != "a very big tiger v0":
            cache.remove(entry)
    from chai_app.cache import Thresholds

    assert look(cache, phrase("very big tiger"), thresholds=Thresholds(object=0.5)).is_hit


def test_rebuilding_changes_no_answer(cache):
    fill(cache)
    before = [look(cache, phrase(name)).entry.id for name in NAMES]
    cache.rebuild()
    assert [look(cache, phrase(name)).entry.id for name in NAMES] == before
    assert len(prompts(cache)) == len(NAMES)


def test_a_shelf_finds_in_any_state_what_it_would_find_when_settled():
    """Rows put in place, fresh ones, and ones that went: against a plain list."""
    chance = np.random.default_rng(0)
    embeddings = WordEmbedder().embed([f"word{i}" for i in range(40)])
    settled, rows_of = Shelf(48), {vector * 2: [(vector, 1)] for vector in range(20)}
    settled.fill(np.arange(20) * 2, embeddings[:20], [(vector * 2, vector, 1) for vector in range(20)])
    for step in range(1, 60):
        if step % 20 == 0:
            settled = settled.compact()
            assert settled.unsettled == 0
        vector, entry, count = (int(v) for v in chance.integers([0, step * 100, -1], [20, step * 100 + 99, 4]))
        settled.add(np.empty(0, np.int64), embeddings[:0], [(vector * 2, entry, count)])
        rows_of.setdefault(vector * 2, []).append((entry, count))
        if step % 7 == 0:
            gone = int(chance.choice([e for r in rows_of.values() for e, _ in r if e >= 20]))
            settled.remove([gone])
            rows_of = {v: [r for r in found if r[0] != gone] for v, found in rows_of.items()}
        places = chance.permutation(len(settled.vectors))[:12]
        which, entries, counts = settled.rows_at(places)
        found = sorted(zip(settled.vectors[places[which]].tolist(), entries.tolist(), counts.tolist()))
        wanted = sorted((int(v), *r) for v in settled.vectors[places] for r in rows_of.get(int(v), []))
        assert found == wanted
    assert settled.live_rows() == {(v, entry) for v, found in rows_of.items() for entry, _ in found}


def test_a_graph_finds_at_least_98_of_100_nearest_neighbours():
    from chai_app.cache.shelf import graph_of

    chance = np.random.default_rng(1)
    embeddings = chance.standard_normal((3_000, 32)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    walked = Shelf(32)
    walked.vectors, walked.index = np.arange(3_000), graph_of(embeddings)
    queries = embeddings[:100] + 0.05 * chance.standard_normal((100, 32)).astype(np.float32)
    exact = (queries @ embeddings.T).argsort(axis=1)[:, -10:]
    found = [set(places) for places in walked.search(queries, 10)[0].tolist()]
    assert np.mean([len(set(e.tolist()) & f) / 10 for e, f in zip(exact, found)]) >= 0.98
