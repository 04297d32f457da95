"""In which order planned videos run: those that serve others before them, and never worse than as they came."""

import random
import shutil

import numpy as np
import pytest

from chai_app.engine import Engine
from chai_app.engine.ordering import Standing, arrange
from chai_app.request import GenerationRequest
from chai_app.settings import BUNDLED_MODELS

MISS = Standing(is_hit=False, can_be_served=True, feeds=True)
PRIVATE = Standing(is_hit=False, can_be_served=True, feeds=False)
FORCED = Standing(is_hit=False, can_be_served=False, feeds=True)
HIT = Standing(is_hit=True, can_be_served=False, feeds=False)


def order_of(roles, *pairs, covers=()):
    """Pairs (donor, served) or (donor, served, score), in both directions, as likeness is."""
    scores, covered = np.zeros((len(roles),) * 2, np.float32), np.zeros((len(roles),) * 2, np.int64)
    for i, j, *score in pairs:
        scores[i, j] = scores[j, i] = score[0] if score else 1
        covered[i, j] = covered[j, i] = 1
    for i, j, count in covers:
        covered[i, j] = count
    return arrange(roles, scores, covered)


def hits_of(places, roles, served):
    """How many hits a run in this order brings, told by hand."""
    hits, entries = 0, []
    for place in places:
        role = roles[place]
        is_served = role.can_be_served and any(served(entry, place) for entry in entries)
        hits += role.is_hit or is_served
        if role.feeds and not is_served:
            entries.append(place)
    return hits


def test_what_serves_the_most_others_runs_first():
    order = order_of([MISS] * 4, (0, 3), (1, 3), (2, 3))
    assert (order.places, order.expected_hits, order.hits_as_given) == ((3, 0, 1, 2), 3, 1)


def test_each_follows_the_donor_that_serves_it_best_and_of_equals_the_one_that_covers_more():
    pairs = [(6, 0), (6, 1), (6, 2), (7, 3), (7, 4), (7, 5), (6, 8, 0.98), (7, 8, 0.999), (6, 9), (7, 9, 0.998)]
    order = order_of([MISS] * 10, *pairs, covers=[(7, 9, 2)])
    assert order.places.index(8) > order.places.index(7) and order.places.index(9) > order.places.index(7)
    assert order.places[:4] == (6, 0, 1, 2) and order.expected_hits == 8


def test_an_order_that_gains_nothing_is_left_as_it_came():
    assert order_of([MISS] * 3).places == (0, 1, 2)
    assert order_of([MISS] * 3, (0, 1), (0, 2)).places == (0, 1, 2)


def test_videos_that_run_in_full_anyway_come_first_and_private_ones_serve_nobody():
    assert order_of([MISS, FORCED], (0, 1)).places == (1, 0)
    order = order_of([PRIVATE, MISS, MISS], (0, 1), (0, 2))
    assert (order.places, order.expected_hits) == ((1, 0, 2), 1)
    assert order_of([MISS, HIT, MISS, MISS], (0, 3), (2, 3)).places == (1, 3, 0, 2)


def test_the_expected_hits_are_those_that_come_and_never_fewer_than_as_given():
    chance = random.Random(3)
    for _ in range(200):
        n = chance.randrange(1, 12)
        roles = [chance.choice([MISS, MISS, MISS, PRIVATE, FORCED, HIT]) for _ in range(n)]
        pairs = {(i, j) for i in range(n) for j in range(i) if chance.random() < 0.2}
        order = order_of(roles, *pairs)

        def served(i, j, pairs=pairs):
            return (i, j) in pairs or (j, i) in pairs

        assert sorted(order.places) == list(range(n))
        assert order.expected_hits == hits_of(order.places, roles, served)
        assert order.hits_as_given == hits_of(range(n), roles, served)
        assert order.expected_hits >= order.hits_as_given


@pytest.fixture(scope="module")
def model_folder(tiny_model_folder, tmp_path_factory):
    folder = shutil.copytree(tiny_model_folder, tmp_path_factory.mktemp("ordering") / "tiny")
    shutil.copytree(BUNDLED_MODELS / "demo" / "embedder", folder / "embedder")
    return folder


def test_the_engine_orders_what_shares_objects_and_scenes_and_keeps_sizes_apart(model_folder):
    engine = Engine(str(model_folder))
    prompts = ["a red ball on the ocean", "a blue boat in the desert", "a star on the moon", "a red ball in the desert"]
    plans = [engine.plan(GenerationRequest(prompt)) for prompt in prompts]
    order = engine.order_for_reuse(plans)
    assert (order.places, order.expected_hits, order.hits_as_given) == ((3, 0, 1, 2), 2, 1)
    plans[3] = engine.plan(GenerationRequest(prompts[3], width=64))
    assert engine.order_for_reuse(plans).places == (0, 1, 2, 3)
    assert engine.order_for_reuse([]).places == ()


def test_without_an_embedder_the_order_stays(tiny_model_folder):
    engine = Engine(str(tiny_model_folder))
    plans = [engine.plan(GenerationRequest(prompt)) for prompt in ("a red ball", "a red ball in the desert")]
    order = engine.order_for_reuse(plans)
    assert (order.places, order.gained_hits) == ((0, 1), 0)
