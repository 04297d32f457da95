"""What the engine makes of counts that differ, on the tiny model."""

import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from chai_app.cache import LatentCache
from chai_app.engine import Engine
from chai_app.errors import BadRequest
from chai_app.request import GenerationRequest
from chai_app.settings import BUNDLED_MODELS, Settings


@pytest.fixture(scope="module")
def model_folder(tiny_model_folder, tmp_path_factory) -> Path:
    """The tiny model with the demo's text-image model beside it, and with words for several things."""
    folder = shutil.copytree(tiny_model_folder, tmp_path_factory.mktemp("counts") / "tiny")
    shutil.copytree(BUNDLED_MODELS / "demo" / "embedder", folder / "embedder")
    card = json.loads((folder / "chai.json").read_text())
    card["vocabulary"]["words"] += ["balls", "three", "several"]
    (folder / "chai.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def engine(model_folder):
    with closing(Engine(str(model_folder))) as engine:
        yield engine


@pytest.fixture
def cache():
    with LatentCache(Settings.from_environment().home) as cache:
        yield cache
        assert cache.verify() == []


def request(prompt) -> GenerationRequest:
    return GenerationRequest(prompt, fast_steps=1, seed=1)


def test_a_video_with_another_count_serves_less_and_the_plan_says_how_much(engine, model_folder, cache):
    engine.generate(request("two red balls in the desert"))
    reuse = engine.plan(request("a red ball on the ocean")).reuse
    assert reuse.outcome == "miss"
    (candidate,) = reuse.candidates
    assert candidate["counts"] == f"2 for 1 ball: {candidate['count_likeness']:.2f}"
    assert candidate["score"] == pytest.approx(candidate["similarity"] * candidate["count_likeness"])
    assert any(f"({candidate['counts']})" in sentence for sentence in reuse.why)


@pytest.mark.parametrize(("setting", "outcome"), [("off", "hit"), ("equal", "miss"), ("on", "miss")])
def test_the_setting_decides_what_counts_weigh(engine, model_folder, cache, monkeypatch, setting, outcome):
    engine.generate(request("three red balls in the desert"))
    monkeypatch.setenv("CHAI_COUNT_GATE", setting)
    with closing(Engine(str(model_folder))) as other:
        assert other.plan(request("two red balls on the ocean")).reuse.outcome == outcome
        assert other.plan(request("three red balls on the ocean")).reuse.outcome == "hit"
        assert other.plan(request("several red balls on the ocean")).reuse.outcome == "hit"


def test_a_range_is_filed_and_serves_a_count_within_it(engine, cache):
    engine.generate(request("several red balls in the desert"))
    assert {phrase.text: phrase.count for phrase in cache.phrases(cache.entries()[0])}["red balls"] == 5
    assert engine.plan(request("several red balls on the ocean")).reuse.outcome == "hit"
    assert engine.plan(request("two red balls on the ocean")).reuse.outcome == "miss"


def test_prompts_that_feed_each_other_are_found_by_the_same_gate(model_folder, monkeypatch, cache):
    prompts = ["two red balls in the desert", "three red balls on the ocean", "two red balls on the moon"]
    for setting, hits in (("on", 1), ("off", 2)):
        monkeypatch.setenv("CHAI_COUNT_GATE", setting)
        with closing(Engine(str(model_folder))) as engine:
            plans = [engine.plan(request(prompt)) for prompt in prompts]
            assert engine.order_for_reuse(plans).expected_hits == hits


def test_a_gate_that_there_is_not_is_named(monkeypatch):
    monkeypatch.setenv("CHAI_COUNT_GATE", "maybe")
    with pytest.raises(BadRequest, match="CHAI_COUNT_GATE is 'maybe': set it to one of on, equal, off"):
        Settings.from_environment()
