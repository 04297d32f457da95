"""How a lookup decides, and that it says why."""

import json

import pytest
from cache_kit import LARGER, MODEL, file_of, look, open_cache, phrase, tiny_entry

from chai_app.cache import CacheError, Thresholds

TIGER, CAVE, JUNGLE = phrase("tiger"), phrase("cave", "scene"), phrase("jungle", "scene")


def reasons(decision):
    return {candidate.prompt: candidate.lost_because for candidate in decision.candidates}


def test_a_prompt_finds_a_video_that_shares_one_of_its_entities(cache):
    cache.insert(tiny_entry(cache, "a tiger in a cave", TIGER, CAVE))
    decision = look(cache, TIGER, JUNGLE)
    assert decision.entry.prompt == "a tiger in a cave"
    assert (decision.chosen.wanted, decision.chosen.found, decision.chosen.covers) == ("tiger", "tiger", 1)
    assert decision.chosen.score == pytest.approx(1, abs=1e-3)  # the stored embedding is rounded to fp16


def test_an_empty_cache_and_a_prompt_without_entities_are_misses_with_a_reason(cache):
    assert not look(cache, TIGER).is_hit
    assert look(cache, TIGER).sentences() == ["Miss: nothing in the cache is like anything in the prompt."]
    assert not cache.lookup([], MODEL, LARGER).is_hit


def test_among_equals_the_entry_that_covers_most_of_the_prompt_wins(cache):
    cache.insert(tiny_entry(cache, "both", TIGER, JUNGLE))
    cache.insert(tiny_entry(cache, "tiger only", TIGER, CAVE))
    cache.insert(tiny_entry(cache, "jungle only", phrase("parrot"), JUNGLE))
    decision = look(cache, TIGER, JUNGLE)
    assert reasons(decision) == {"both": None, "tiger only": "covers fewer", "jungle only": "covers fewer"}
    assert decision.chosen.covers == 2


def test_among_equals_that_cover_as_much_the_newest_wins(cache):
    for name in ("first", "second"):
        cache.insert(tiny_entry(cache, name, TIGER))
    assert reasons(look(cache, TIGER)) == {"second": None, "first": "older"}


def test_the_most_similar_entry_wins_over_one_that_covers_more(cache):
    loose = Thresholds(object=0.5, scene=0.5, prompt=0.5)
    cache.insert(tiny_entry(cache, "exact", phrase("big red tiger")))
    cache.insert(tiny_entry(cache, "near, and the cave", phrase("big tiger"), CAVE))
    decision = look(cache, phrase("big red tiger"), phrase("dark cave", "scene"), thresholds=loose)
    assert reasons(decision) == {"exact": None, "near, and the cave": "scores lower"}


def test_what_is_below_the_threshold_is_a_miss_that_names_the_threshold(cache):
    cache.insert(tiny_entry(cache, "a red tiger", phrase("red tiger")))
    decision = look(cache, phrase("blue tiger"), thresholds=Thresholds(object=0.82))
    assert not decision.is_hit and decision.chosen is None
    assert reasons(decision) == {"a red tiger": "below the threshold 0.82"}
    assert decision.sentences()[0] == "Miss: no candidate fits."


def test_an_object_is_never_found_under_a_scene_or_a_prompt_of_the_same_words(cache):
    cache.insert(tiny_entry(cache, "scene", phrase("orange", "scene")))
    cache.insert(tiny_entry(cache, "prompt", phrase("orange", "prompt")))
    assert not look(cache, phrase("orange")).is_hit
    assert look(cache, phrase("orange", "prompt")).entry.prompt == "prompt"


def test_entries_of_another_model_are_named_and_never_taken(cache):
    cache.insert(tiny_entry(cache, "theirs", TIGER, fingerprint="model-b"))
    decision = look(cache, TIGER)
    assert not decision.is_hit and reasons(decision) == {"theirs": "another model"}
    cache.insert(tiny_entry(cache, "ours", TIGER))
    assert reasons(look(cache, TIGER)) == {"ours": None, "theirs": "another model"}


def test_entries_of_another_size_are_named_and_never_taken(cache):
    cache.insert(tiny_entry(cache, "large", TIGER, shape=LARGER))
    assert reasons(look(cache, TIGER)) == {"large": "other size"}
    assert look(cache, TIGER, shape=LARGER).is_hit


def test_an_entry_is_found_however_many_of_other_models_lie_as_near(cache):
    cache.insert(tiny_entry(cache, "ours", TIGER))
    for i in range(80):
        cache.insert(tiny_entry(cache, f"theirs {i}", TIGER, fingerprint=f"model-{i % 3 + 1}"))
    assert look(cache, TIGER).entry.prompt == "ours"


def test_three_dogs_are_not_made_from_nine_dogs(cache):
    cache.insert(tiny_entry(cache, "nine dogs", phrase("dogs", count=9)))
    decision = look(cache, phrase("dogs", count=3))
    assert reasons(decision) == {"nine dogs": "another count than 3"}
    cache.insert(tiny_entry(cache, "three dogs", phrase("dogs", count=3)))
    assert look(cache, phrase("dogs", count=3)).entry.prompt == "three dogs"
    assert look(cache, phrase("dogs")).is_hit


def test_the_likeness_of_counts_is_the_callers(cache):
    cache.insert(tiny_entry(cache, "nine dogs", phrase("dogs", count=9)))
    cache.insert(tiny_entry(cache, "four dogs", phrase("dogs", count=4)))

    def nearly(wanted, found):
        return 0.96 if abs(wanted - found) == 1 else 0.1

    decision = look(cache, phrase("dogs", count=3), count_likeness=nearly)
    assert decision.entry.prompt == "four dogs"
    assert decision.chosen.score == pytest.approx(0.96 * decision.chosen.similarity)


def test_a_phrase_with_the_right_count_is_found_behind_many_nearer_ones_with_another(cache):
    """150 phrases, each a little different, as colours and articles make them, stand before the right one."""
    loose = Thresholds(object=0.6)
    for i in range(150):
        cache.insert(tiny_entry(cache, f"nine {i}", phrase(f"big brown shaggy old dogs v{i}", count=9)))
    cache.insert(tiny_entry(cache, "three", phrase("big brown shaggy dogs x y", count=3)))
    decision = look(cache, phrase("big brown shaggy old dogs", count=3), thresholds=loose)
    assert decision.entry.prompt == "three"


def test_an_entry_whose_file_is_missing_is_passed_over_for_the_next(cache, home):
    next_best = cache.insert(tiny_entry(cache, "next", TIGER))
    lost = cache.insert(tiny_entry(cache, "lost", TIGER))
    file_of(home, lost).unlink()
    decision = look(cache, TIGER)
    assert decision.entry.id == next_best.id and reasons(decision)["lost"] == "file missing"
    assert any(lost.id in line for line in cache.repair())


@pytest.mark.in_folder
def test_a_lookup_has_no_side_effect_and_reads_no_latents(home, clock):
    with open_cache(home, clock=clock) as cache:
        entry = cache.insert(tiny_entry(cache, "cave", TIGER))
        file_of(home, entry).write_bytes(b"x" * entry.bytes)  # as long as it should be, and damaged
        before, now = (home / "cache.sqlite3-wal").read_bytes(), clock.now
        decision = look(cache, TIGER)
        assert decision.entry == entry and cache.entry(entry.id) == entry
        assert (home / "cache.sqlite3-wal").read_bytes() == before and clock.now == now
        assert "damaged" not in str(cache.load(entry).tensors)
        assert cache.verify() == []


def test_a_decision_is_plain_values(cache):
    cache.insert(tiny_entry(cache, "cave", TIGER))
    values = json.loads(json.dumps(look(cache, TIGER).to_json()))
    assert values["entry"]["prompt"] == "cave" and values["lookup_ms"] > 0
    assert values["candidates"][0]["lost_because"] is None


def test_many_entries_with_one_phrase_do_not_hide_the_one_that_covers_more(cache):
    cache.insert(tiny_entry(cache, "both", TIGER, JUNGLE))
    for i in range(100):
        cache.insert(tiny_entry(cache, f"tiger {i}", TIGER))
    assert look(cache, TIGER, JUNGLE).entry.prompt == "both"


def test_an_embedding_of_another_width_under_one_fingerprint_is_a_bug_and_says_so(cache):
    import numpy as np

    from chai_app.cache import Entity

    cache.insert(tiny_entry(cache, "cave", TIGER))
    new = tiny_entry(cache, "desert", TIGER)
    narrow = Entity("object", "tiger", "tiger", None, np.eye(1, 8, dtype=np.float32)[0])
    object.__setattr__(new, "entities", [narrow])
    with pytest.raises(ValueError, match="gives 48 numbers"):
        cache.insert(new)


def test_entities_without_an_embedder_have_no_place(home):
    with open_cache(home, embedder=None) as cache, pytest.raises(CacheError, match="without an embedder"):
        look(cache, TIGER)


def test_of_equals_the_one_nearer_to_a_full_run_is_taken_though_others_are_newer(cache):
    full = cache.insert(tiny_entry(cache, "full", phrase("red tiger")))
    once = cache.insert(tiny_entry(cache, "once", phrase("red tiger"), parent=full.id, root=full.id, reuse_depth=1))
    decision = look(cache, phrase("red tiger"))
    assert decision.entry.id == full.id
    assert [c.lost_because for c in decision.candidates] == [None, "further from a full run"]
    cache.remove(full)
    assert look(cache, phrase("red tiger")).entry.id == once.id


def test_a_candidate_names_the_phrases_that_it_would_serve(cache):
    cache.insert(tiny_entry(cache, "one", phrase("tiger"), phrase("cave", "scene")))
    cache.insert(tiny_entry(cache, "two", phrase("tiger")))
    wanted = (phrase("tiger"), phrase("boat"), phrase("cave", "scene"))
    assert [c.serves for c in look(cache, *wanted).candidates] == [("tiger", "cave"), ("tiger",)]
