"""What enters the cache is a setting, and a hit that enters knows its line; several donors; words that are unknown."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chai_app.cache import LatentCache
from chai_app.cache.drift import drift
from chai_app.engine import Engine
from chai_app.errors import BadRequest
from chai_app.request import GenerationRequest
from chai_app.settings import BUNDLED_MODELS, Settings

FIRST, SECOND, UNRELATED = "a red ball in the desert", "a red ball on the ocean", "a blue boat on the moon"


@pytest.fixture(scope="module")
def model_folder(tiny_model_folder, tmp_path_factory) -> Path:
    """The tiny model with the demo's text-image model beside it."""
    folder = shutil.copytree(tiny_model_folder, tmp_path_factory.mktemp("lines") / "tiny")
    shutil.copytree(BUNDLED_MODELS / "demo" / "embedder", folder / "embedder")
    return folder


@pytest.fixture
def engine_with(model_folder):
    """`engine_with(store="hits")`: an engine of these settings, closed in the end."""
    engines = []

    def make(**fields):
        engines.append(Engine(str(model_folder), settings=replace(Settings.from_environment(), **fields)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def cache():
    """A look into the cache that the engine writes; whatever a test does, nothing is wrong with it afterwards."""
    with LatentCache(Settings.from_environment().home) as cache:
        yield cache
        assert cache.verify() == []


def request(prompt=FIRST, **fields) -> GenerationRequest:
    return GenerationRequest(prompt, **{"num_inference_steps": 3, "fast_steps": 2, "seed": 1, **fields})


def latents_of(cache, entry):
    return cache.load(entry).tensors["clean"]


def test_where_nothing_enters_the_cache_is_still_read_and_its_hits_are_counted(engine_with, cache):
    engine_with().generate(request())
    engine = engine_with(store="nothing")
    assert engine.generate(request(SECOND)).report.reuse.outcome == "hit"
    assert engine.generate(request(UNRELATED)).report.reuse.stored_entry_id is None
    (entry,) = cache.entries()
    assert (entry.hits, cache.stats().misses) == (1, 2)


def test_a_hit_that_enters_knows_its_line_and_how_far_it_has_wandered(engine_with, cache):
    engine = engine_with(store="hits")
    root = engine.generate(request()).report.reuse.stored_entry_id
    once = engine.generate(request(SECOND, seed=2)).report.reuse
    assert once.entry_id == root and once.stored_entry_id and once.bytes_written > 0
    twice = engine.generate(request("a blue ball on the ocean", seed=3)).report.reuse
    assert twice.entry_id == once.stored_entry_id
    entries = {entry.id: entry for entry in cache.entries()}
    full, first, second = (entries[id] for id in (root, once.stored_entry_id, twice.stored_entry_id))
    assert [(e.parent, e.root, e.reuse_depth) for e in (full, first, second)] == [
        (None, None, 0),
        (root, root, 1),
        (first.id, root, 2),
    ]
    assert full.drift is None
    for entry in (first, second):
        assert entry.drift == pytest.approx(drift(latents_of(cache, entry), latents_of(cache, full)), rel=0.01)
        assert 0 < entry.drift < 3
    assert (first.schedule.steps, full.hits, first.hits) == (2, 1, 1)


def test_the_depth_of_reuse_is_capped(engine_with, cache):
    engine = engine_with(store="hits", reuse_depth=1)
    engine.generate(request())
    once = engine.generate(request(SECOND)).report.reuse.stored_entry_id
    report = engine.generate(request(UNRELATED, reuse=once)).report
    assert report.reuse.outcome == "hit" and report.reuse.stored_entry_id is None and report.notes == ()
    assert sorted(entry.reuse_depth for entry in cache.entries()) == [0, 1]


def test_without_its_root_a_line_goes_on_and_says_that_its_drift_is_unknown(engine_with, cache):
    engine = engine_with(store="hits")
    root = engine.generate(request()).report.reuse.stored_entry_id
    once = engine.generate(request(SECOND)).report.reuse.stored_entry_id
    cache.remove(cache.entry(root))
    reuse = engine.generate(request(UNRELATED, reuse=once)).report.reuse
    entry = cache.entry(reuse.stored_entry_id)
    assert (entry.root, entry.reuse_depth, entry.drift) == (root, 2, None)


def test_drift_is_nothing_for_equals_and_root_two_for_strangers():
    random = np.random.default_rng(0)
    one, other = random.standard_normal((2, 4, 5, 8, 8))
    assert drift(one, one) == 0
    assert drift(other, one) == pytest.approx(2**0.5, rel=0.05)
    assert drift(one * 0, one) == 1
    with pytest.raises(ValueError, match="must have one shape"):
        drift(one, other[:2])


def test_each_thing_of_a_prompt_has_a_donor_of_its_own_if_asked_for(engine_with, cache):
    engine = engine_with()
    ball = engine.generate(request("a red ball on the moon")).report.reuse.stored_entry_id
    desert = engine.generate(request("a blue boat in the desert")).report.reuse.stored_entry_id
    one = engine.generate(request(FIRST, is_private=True))
    assert [donor["entry_id"] for donor in one.report.reuse.donors] == [one.report.reuse.entry_id]
    both = engine.generate(request(FIRST, donors=3))
    told = {donor["entry_id"]: (donor["wanted"], donor["found"]) for donor in both.report.reuse.donors}
    assert told == {ball: (("red ball",), "red ball"), desert: (("desert",), "desert")}
    assert sum(sentence.startswith("Hit: ") for sentence in both.report.reuse.why) == 2
    assert both.report.reuse.bytes_read == 2 * one.report.reuse.bytes_read
    assert both.report.latents_sha256 != one.report.latents_sha256
    assert sorted(cache.entry(id).hits for id in (ball, desert)) == [1, 1]
    assert set(both.request.reuse.split(",")) == {ball, desert}
    again = engine.generate(GenerationRequest.from_json(both.request.to_json()))
    assert again.report.latents_sha256 == both.report.latents_sha256


def test_one_donor_that_shows_everything_is_not_joined_by_others(engine_with, cache):
    engine = engine_with()
    engine.generate(request(UNRELATED))
    whole = engine.generate(request()).report.reuse.stored_entry_id
    (donor,) = engine.plan(request(donors=4)).reuse.donors
    assert donor["entry_id"] == whole and set(donor["wanted"]) == {"red ball", "desert"}


def test_a_donor_that_is_damaged_leaves_the_others_at_work(engine_with, cache, tmp_path):
    engine = engine_with(store="hits")
    engine.generate(request("a red ball on the moon"))
    engine.generate(request("a blue boat in the desert", reuse="full"))
    first, second = (donor["entry_id"] for donor in engine.plan(request(FIRST, donors=2)).reuse.donors)
    file = tmp_path / "home" / "latents" / f"{first}.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    made = engine.generate(request(FIRST, donors=2, reuse=f"{first},{second}"))
    assert made.report.reuse.entry_id == second and len(made.report.reuse.donors) == 1
    assert any("was set aside" in note for note in made.report.notes)
    assert cache.entry(made.report.reuse.stored_entry_id).parent == second


def test_too_many_donors_are_refused(engine_with):
    engine = engine_with()
    id = engine.generate(request()).report.reuse.stored_entry_id
    with pytest.raises(BadRequest, match="9 entries are too many to attend to: name 8 at most"):
        engine.plan(request(reuse=",".join([id] * 9)))
    with pytest.raises(BadRequest, match=r"Donors at most must be .* from 1 to 8, not 0"):
        request(donors=0)


def test_words_that_the_model_does_not_know_are_neither_looked_up_nor_filed(engine_with, cache):
    engine = engine_with()
    stored = engine.generate(request("a purple tiger in the desert")).report.reuse.stored_entry_id
    assert [p.text for p in cache.phrases(cache.entry(stored)) if p.kind != "prompt"] == ["desert"]
    plan = engine.plan(request("a purple tiger on the moon"))
    assert plan.reuse.outcome == "miss"
    sentence = "Not looked up: 'purple tiger', for the tiny model does not know 'purple' and 'tiger'."
    assert sentence in plan.reuse.why
    counted = engine.plan(request("seven red balls")).reuse.why
    assert not any("Not looked up" in sentence for sentence in counted), "numbers and plurals are no strangers"
    alone = engine.plan(request("a tiger")).reuse
    assert alone.why[0] == "Miss: all that the prompt names has words that the model has never seen."


def test_an_older_cache_is_upgraded_by_the_next_video_and_not_by_a_plan(engine_with, tmp_path):
    import sqlite3

    home = tmp_path / "home"
    home.mkdir()
    with sqlite3.connect(home / "cache.sqlite3") as old:
        old.executescript((Path(__file__).parent / "cache" / "version_2.sql").read_text())
        old.execute("UPDATE settings SET value = 5000000 WHERE name = 'budget_bytes'")
    old.close()
    engine = engine_with()
    assert "cache upgrade" in engine.plan(request()).reuse.why[0]
    assert engine.generate(request()).report.reuse.outcome == "miss"
    assert engine.generate(request(SECOND)).report.reuse.outcome == "hit"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"CHAI_STORE": "all"}, "CHAI_STORE is 'all': set it to one of full, hits, nothing"),
        ({"CHAI_REUSE_DEPTH": "0"}, "CHAI_REUSE_DEPTH is '0': set it to a whole number from 1 to 100"),
        ({"CHAI_REUSE_DEPTH": "deep"}, "CHAI_REUSE_DEPTH is 'deep'"),
        ({"CHAI_REUSE_DEPTH": "101"}, "CHAI_REUSE_DEPTH is 101"),
    ],
)
def test_settings_that_make_no_sense_are_named(variables, words):
    with pytest.raises(BadRequest, match=words):
        Settings.from_environment(variables)


def test_settings_are_read_from_the_environment():
    read = Settings.from_environment({"CHAI_STORE": " Hits", "CHAI_REUSE_DEPTH": "5"})
    assert (read.store, read.reuse_depth) == ("hits", 5)
    assert (Settings.from_environment({}).store, Settings.from_environment({}).reuse_depth) == ("full", 2)
