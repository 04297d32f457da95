"""The second video is faster than the first: what the engine makes of the cache, on the tiny model."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from chai_app.cache import CannotStore, LatentCache
from chai_app.engine import Engine
from chai_app.errors import BadRequest
from chai_app.request import GenerationRequest
from chai_app.settings import BUNDLED_MODELS, Settings

FIRST, SECOND, UNRELATED = "a red ball in the desert", "a red ball on the ocean", "a blue boat on the moon"


@pytest.fixture(scope="module")
def model_folder(tiny_model_folder, tmp_path_factory) -> Path:
    """The tiny model with the demo's text-image model beside it."""
    folder = shutil.copytree(tiny_model_folder, tmp_path_factory.mktemp("reuse") / "tiny")
    shutil.copytree(BUNDLED_MODELS / "demo" / "embedder", folder / "embedder")
    return folder


@pytest.fixture
def engine(model_folder):
    engine = Engine(str(model_folder))
    yield engine
    engine.close()


@pytest.fixture
def cache():
    """A look into the cache that the engine writes; whatever a test does, nothing is wrong with it afterwards."""
    with LatentCache(Settings.from_environment().home) as cache:
        yield cache
        assert cache.verify() == []


def request(prompt=FIRST, **fields) -> GenerationRequest:
    return GenerationRequest(prompt, **{"num_inference_steps": 5, "fast_steps": 3, "seed": 1, **fields})


def test_a_prompt_that_shares_an_object_attends_to_the_earlier_video_in_fewer_steps(engine, cache):
    first = engine.generate(request())
    assert (first.report.reuse.outcome, first.report.steps) == ("miss", 5)
    second = engine.generate(request(SECOND)).report
    assert (second.reuse.outcome, second.steps, second.reuse.reused_steps) == ("hit", 3, (2, 3))
    assert second.reuse.entry_id == first.report.reuse.stored_entry_id
    assert (second.reuse.wanted, second.reuse.found) == ("red ball", "red ball")
    assert second.reuse.similarity > 0.99
    assert second.reuse.bytes_read == first.report.reuse.bytes_written > 0


def test_a_model_that_learnt_with_donors_keeps_the_very_thing_in_every_step(model_folder, cache, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "trained")
    card = json.loads((folder / "chai.json").read_text())
    card["defaults"]["recipe"] = "trained"
    (folder / "chai.json").write_text(json.dumps(card))
    engine = Engine(str(folder))
    engine.generate(request())
    plan = engine.plan(request(SECOND))
    assert (plan.request.recipe, plan.reuse.keeps) == ("trained", ("red ball",))
    made = engine.generate(request(SECOND)).report.reuse
    assert (made.reused_steps, made.kept) == ((1, 2, 3), "this red ball")
    paper = engine.generate(request(SECOND, recipe="paper")).report.reuse
    assert (paper.reused_steps, paper.kept) == ((2, 3), "")
    both = engine.plan(request("in the desert, a red ball")).reuse
    assert both.kept in ("this red ball and this desert", "this desert and this red ball")
    engine.close()


def test_a_model_that_did_not_learn_with_donors_refuses_the_recipe_for_those_that_did(engine):
    assert engine.plan(request()).request.recipe == "paper"
    with pytest.raises(BadRequest, match="did not learn with donors, so the recipe trained is not for it"):
        engine.plan(request(recipe="trained"))


def test_a_prompt_that_shares_a_scene_hits_as_well_and_an_unrelated_one_misses(engine, cache):
    engine.generate(request())
    assert engine.plan(request("a green star in the desert")).reuse.found == "desert"
    missed = engine.plan(request(UNRELATED)).reuse
    assert (missed.outcome, missed.steps, missed.entry_id) == ("miss", 5, None)
    assert any("below the threshold" in sentence for sentence in missed.why)


def test_weights_whose_checksums_were_forgotten_find_their_videos_once_they_are_read(engine, model_folder, monkeypatch):
    engine.generate(request())
    monkeypatch.setattr("chai_app.models.fingerprint._REMEMBERED_BYTES", 10)
    fresh = Engine(str(model_folder))
    planned = fresh.plan(request(SECOND)).reuse
    assert planned.outcome == "miss" and "are new here" in planned.why[0]
    made = fresh.generate(request(SECOND))
    assert made.report.reuse.outcome == "hit"
    fresh.close()


def test_attending_to_the_donor_changes_the_video(engine, cache):
    engine.generate(request(UNRELATED))
    donor = engine.generate(request())
    fast = engine.generate(request(SECOND, reuse="fast"))
    hit = engine.generate(request(SECOND, reuse=donor.report.reuse.stored_entry_id))
    assert fast.report.steps == hit.report.steps == 3
    assert fast.report.reuse.reused_steps == ()
    assert fast.report.latents_sha256 != hit.report.latents_sha256


def test_a_hit_may_begin_from_its_donor_and_says_so_and_is_made_again_by_its_own_request(engine, cache):
    engine.generate(request())
    from_noise = engine.generate(request(SECOND)).report
    begun = engine.generate(request(SECOND, start_level=0.8))
    assert (from_noise.reuse.start_level, begun.report.reuse.start_level) == (None, 0.8)
    assert begun.report.latents_sha256 != from_noise.latents_sha256
    again = GenerationRequest.from_json(begun.request.to_json())
    assert engine.generate(again).report.latents_sha256 == begun.report.latents_sha256


def test_few_steps_without_a_donor_begin_below_all_noise_too_and_full_runs_never_do(engine, cache):
    plain = engine.generate(request(reuse="fast")).report
    begun = engine.generate(request(reuse="fast", start_level=0.8)).report
    assert (plain.reuse.start_level, begun.reuse.start_level) == (None, 0.8)
    assert begun.latents_sha256 != plain.latents_sha256
    full = engine.generate(request(reuse="full")).report
    asked = engine.generate(request(reuse="full", start_level=0.8)).report
    assert (asked.reuse.start_level, asked.latents_sha256) == (None, full.latents_sha256)


def test_few_steps_have_their_own_guidance_which_the_report_tells(engine):
    full = engine.generate(request()).report
    weak, strong = (
        engine.generate(request(SECOND, fast_guidance_scale=scale, is_private=True)) for scale in (1.5, 4.0)
    )
    assert [each.report.reuse.outcome for each in (weak, strong)] == ["hit", "hit"]
    assert weak.report.guidance_scale(weak.request) == 1.5
    assert full.guidance_scale(request(guidance_scale=9)) == 4.0  # what was done, whatever is asked for now
    assert weak.report.latents_sha256 != strong.report.latents_sha256
    assert engine.generate(weak.request).report.latents_sha256 == weak.report.latents_sha256


def test_a_full_run_enters_the_cache_and_a_hit_only_refreshes_its_donor(engine, cache):
    engine.generate(request())
    engine.generate(request(SECOND))
    engine.generate(request(SECOND, reuse="fast"))
    (entry,) = cache.entries()
    assert (entry.prompt, entry.seed, entry.hits) == (FIRST, 1, 1)
    assert {phrase.text for phrase in cache.phrases(entry)} == {"red ball", "desert", FIRST}
    assert cache.preview(entry).read_bytes()[8:12] == b"WEBP"
    stats = cache.stats()
    assert (stats.hits, stats.misses) == (1, 1)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"num_inference_steps": 1, "reuse": "full"}, "it took 1 of the 3 steps of a full run of tiny"),
        ({"num_inference_steps": 2}, "it took 2 of the 3 steps of a full run of tiny"),
        ({"preset": "draft", "num_inference_steps": None, "fast_steps": None}, "it took 2 of the 3 steps"),
        ({"acceleration": "first-block", "reuse": "full"}, "first-block left out more than a full run of tiny does"),
    ],
)
def test_what_was_not_made_in_the_models_own_way_is_no_donor_and_says_why(engine, cache, fields, why):
    report = engine.generate(request(**fields)).report
    assert report.reuse.stored_entry_id is None and cache.entries() == []
    assert any(note.startswith(f"This video was not kept for reuse: {why}") for note in report.notes)
    assert engine.plan(request(SECOND)).reuse.outcome == "miss"


def test_weights_that_changed_take_no_donor_of_the_old_ones(model_folder, tmp_path, cache):
    engine = Engine(str(shutil.copytree(model_folder, tmp_path / "mine")))
    old = engine.generate(request()).report
    config = tmp_path / "mine" / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text() + "\n")
    new = engine.generate(request(SECOND)).report
    assert (new.reuse.outcome, new.model_fingerprint == old.model_fingerprint) == ("miss", False)
    fingerprints = {entry.prompt: entry.fingerprint for entry in cache.entries()}
    assert fingerprints == {FIRST: old.model_fingerprint, SECOND: new.model_fingerprint}
    engine.close()


def test_a_hit_is_compared_with_the_usual_full_run_here_and_never_with_one_cold_run(engine, cache):
    engine.generate(request())
    assert engine.generate(request(SECOND)).report.reuse.full_seconds is None
    warm = [engine.generate(request(seed=seed, reuse="full")).report.making_seconds for seed in (2, 3, 4)]
    reuse = engine.generate(request(SECOND)).report.reuse
    assert reuse.full_seconds == pytest.approx(sorted(warm)[1], abs=0.001)
    assert engine.generate(request(SECOND, is_private=True)).report.reuse.full_seconds == reuse.full_seconds


def test_with_attention_left_out_of_a_step_the_report_names_the_others(engine, cache):
    engine.generate(request(num_inference_steps=8))
    fields = {"num_inference_steps": 8, "fast_steps": 8, "acceleration": "pab"}
    report = engine.generate(request(SECOND, **fields)).report
    assert report.acceleration == "pab" and report.reuse.outcome == "hit"
    assert set(report.reuse.reused_steps) < {2, 3, 4}


def test_reuse_that_is_switched_off_runs_in_full_and_still_feeds_the_cache(engine, cache):
    engine.generate(request())
    report = engine.generate(request(SECOND, reuse="full")).report
    assert (report.reuse.outcome, report.steps) == ("full", 5)
    assert len(cache.entries()) == 2


def test_a_private_run_reads_the_cache_and_writes_nothing(engine, cache):
    engine.generate(request(UNRELATED, is_private=True))
    assert cache.entries() == []
    engine.generate(request())
    before = cache.events()
    report = engine.generate(request(SECOND, is_private=True)).report
    assert report.reuse.outcome == "hit"
    assert cache.events() == before


def test_a_plan_looks_and_writes_nothing(engine, model_folder, cache):
    engine.generate(request())
    before = cache.events(), cache.entries()
    plan = Engine(str(model_folder)).plan(request(SECOND))
    assert (plan.reuse.outcome, plan.reuse.steps) == ("hit", 3)
    assert plan.to_json()["reuse"]["candidates"][0]["found"] == "red ball"
    assert (cache.events(), cache.entries()) == before


def test_prompts_of_a_batch_feed_each_other(engine, cache):
    outcomes = [made.report.reuse.outcome for made in engine.generate_batch([request(), request(SECOND)])]
    assert outcomes == ["miss", "hit"]


def test_what_a_video_says_of_itself_repeats_it_bit_by_bit(engine, cache):
    miss = engine.generate(request())
    hit = engine.generate(request(SECOND))
    assert hit.request.reuse == miss.report.reuse.stored_entry_id
    for made in (miss, hit):
        again = engine.generate(GenerationRequest.from_json(made.request.to_json()))
        assert again.report.latents_sha256 == made.report.latents_sha256


def test_another_size_is_another_matter(engine, cache):
    entry_id = engine.generate(request()).report.reuse.stored_entry_id
    plan = engine.plan(request(SECOND, width=64))
    assert plan.reuse.outcome == "miss"
    assert any("other size" in sentence for sentence in plan.reuse.why)
    with pytest.raises(BadRequest, match="17 frames of 48x32, and this video 17 of 64x32"):
        engine.plan(request(SECOND, width=64, reuse=entry_id))


def test_an_entry_that_is_not_there_is_named(engine):
    with pytest.raises(BadRequest, match="There is no entry nothing, because the cache is empty: say auto"):
        engine.plan(request(reuse="nothing"))
    engine.generate(request())
    with pytest.raises(BadRequest, match=r"There is no entry 'nothing' in the cache: .* Or say auto, full or fast"):
        engine.plan(request(reuse="nothing"))


def test_the_first_digits_of_an_id_are_enough_if_they_are_one_entrys(engine, cache, monkeypatch):
    ids = iter(("ab01000000000000", "ab02000000000000"))
    monkeypatch.setattr("chai_app.cache.store.secrets", SimpleNamespace(token_hex=lambda size: next(ids)))
    stored = engine.generate(request()).report.reuse.stored_entry_id
    assert engine.plan(request(SECOND, reuse="#AB")).reuse.entry_id == stored
    engine.generate(request(seed=2, reuse="full"))
    with pytest.raises(BadRequest, match=f"2 entries begin with ab: ab02000000000000, {stored}; give more digits"):
        engine.plan(request(reuse="ab"))
    assert engine.plan(request(SECOND, reuse="ab01")).reuse.entry_id == stored


def test_a_damaged_donor_costs_its_entry_and_not_the_video(engine, cache, tmp_path):
    stored = engine.generate(request()).report.reuse.stored_entry_id
    (file,) = (tmp_path / "home" / "latents").rglob(f"*{stored}*")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    report = engine.generate(request(SECOND)).report
    assert (report.reuse.outcome, report.steps) == ("miss", 5)
    assert any("was set aside" in note for note in report.notes)
    assert [entry.prompt for entry in cache.entries()] == [SECOND]


def test_a_full_disk_costs_the_entry_and_not_the_video(engine, cache, monkeypatch):
    def full(self, new):
        raise CannotStore("The disk that holds the cache is full: free some space.")

    monkeypatch.setattr(LatentCache, "insert", full)
    report = engine.generate(request()).report
    assert report.reuse.stored_entry_id is None
    assert any("not kept for reuse: The disk" in note for note in report.notes)


def test_loops_pictures_to_start_from_and_models_without_an_embedder_run_as_ever(engine, tiny_model_folder, cache):
    assert engine.plan(request(num_loops=2)).reuse.outcome == "full"
    report = Engine(str(tiny_model_folder)).generate(request()).report
    assert (report.reuse.outcome, report.notes) == ("full", ())
    assert cache.entries() == []
