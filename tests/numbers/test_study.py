"""The networks that learn to count, at small sizes, and the one that is shipped at its real one."""

import json
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from chai_app.numbers import counter, successor
from chai_app.numbers.carry import find_carry
from chai_app.numbers.make_assets import shipped_counter, shipped_networks
from chai_app.numbers.measures import accuracies, geometry, interval, monotone_share, plane, similarity_means
from chai_app.numbers.plots import NAMES, draw
from chai_app.numbers.study import Size, Study, run
from chai_app.numbers.successor import COUNT_LIST, PLACE_VALUE, Stage, train
from chai_app.numbers.table import table


@pytest.fixture(scope="module")
def place_value():
    return train(PLACE_VALUE, 4, (Stage(99, 200),))


@pytest.fixture(scope="module")
def count_list():
    return train(COUNT_LIST, 3, (Stage(99, 100),))


def test_numbers_are_written_with_one_symbol_or_with_tens_and_ones():
    numbers = torch.tensor([0, 7, 42, 99])
    assert COUNT_LIST.digits(numbers).tolist() == [[0], [7], [42], [99]]
    assert PLACE_VALUE.digits(numbers).tolist() == [[0, 0], [0, 7], [4, 2], [9, 9]]
    assert PLACE_VALUE.one_hot(numbers).sum(1).tolist() == [2, 2, 2, 2]
    assert COUNT_LIST.one_hot(numbers).argmax(1).tolist() == [0, 7, 42, 99]


def test_each_network_is_trained_on_its_own_four_fifths(place_value):
    assert place_value.is_trained.sum(1).tolist() == [79] * 4
    assert not torch.equal(place_value.is_trained[0], place_value.is_trained[1])


def test_a_count_list_knows_what_it_was_told_and_nothing_else(count_list):
    shares = accuracies(count_list)
    assert shares["trained"].mean() > 0.9
    assert shares["held out"].max() == 0


def test_places_let_a_network_answer_what_it_was_never_told(place_value):
    shares = accuracies(place_value)
    assert shares["trained"].mean() > 0.9
    assert shares["held out"].mean() > 0.1


def test_the_next_number_is_less_alike_across_tens_only_where_numbers_have_places(place_value, count_list):
    drop = interval(similarity_means(place_value)["drop"])
    assert drop["low"] > 0.03
    assert abs(float(similarity_means(count_list)["drop"].mean())) < drop["mean"]


def test_networks_side_by_side_learn_as_they_do_alone():
    """The sum of the losses of seeds must not let one seed touch another."""
    both = train(PLACE_VALUE, 2, (Stage(99, 5),))
    states = torch.stack([both.hidden(torch.arange(99))[0]])
    alone = train(PLACE_VALUE, 2, (Stage(99, 5),))
    assert torch.equal(states[0], alone.hidden(torch.arange(99))[0])
    assert not torch.allclose(*both.hidden(torch.arange(99)))


def test_a_stage_shows_only_the_pairs_below_its_bound():
    looked = []
    train(PLACE_VALUE, 2, (Stage(10, 30),), held_out=0, after_epoch=lambda epoch, nets: looked.append((epoch, nets)))
    assert [epoch for epoch, _ in looked] == list(range(1, 31))
    confidence = looked[-1][1].confidence(torch.arange(99))
    assert confidence[:, :10].mean() > 3 * confidence[:, 10:].mean()


def test_geometry_finds_what_was_laid_out_on_purpose():
    """Tens and ones that add up, in directions of their own, are separable, grouped and stepped by a sum."""
    networks = train(PLACE_VALUE, 1, (Stage(99, 1),))
    into = torch.zeros(1, 20, 8)
    for digit in range(10):
        angle = torch.tensor(2 * torch.pi * digit / 10)
        into[0, digit, :2] = torch.stack([angle.cos(), angle.sin()])
        into[0, 10 + digit, 2:4] = torch.stack([angle.cos(), angle.sin()]) * 0.2
    laid = successor.Networks(
        PLACE_VALUE, into, networks.into_bias * 0, networks.out, networks.out_bias, networks.is_trained
    )
    found = {name: float(values[0]) for name, values in geometry(laid).items()}
    assert found["tens separable"] == found["tens separable in 2-D"] == 1
    assert found["same ones grouped"] == 1
    assert found["boundary step is a sum"] > 0.99
    tens = torch.arange(100) // 10
    assert plane(laid.hidden(torch.arange(100)), tens).shape == (1, 100, 2)


def test_an_order_is_monotone_if_nearer_counts_are_more_alike():
    far = (torch.arange(10)[:, None] - torch.arange(10)).abs().float()
    assert monotone_share(-far, 1, 9) == 1
    assert monotone_share(far, 1, 9) == 0


def test_symbols_are_read_from_the_ones_up():
    assert counter.written([0, 19, 305]).tolist() == [[0, 10, 10, 10], [9, 1, 10, 10], [5, 0, 3, 10]]
    assert counter.successors([9, 99], 3).tolist() == [[0, 1, 10], [0, 0, 1]]


def test_the_shipped_counter_is_right_far_past_what_it_was_trained_on():
    network, random = shipped_counter(), Random(7)
    drawn = [random.randrange(10**29, 10**30) for _ in range(10_000)]
    parts = [drawn[start : start + 1_000] for start in range(0, len(drawn), 1_000)]
    assert torch.cat([counter.is_right(network, part) for part in parts], dim=1).float().mean() >= 0.999
    nines = [10**digits - 1 for digits in range(1, 61)]
    assert counter.is_right(network, nines).all()
    tails = [number // 10**k * 10**k + 10**k - 1 for number, k in zip(drawn[:300], [*range(30)] * 10, strict=True)]
    assert counter.is_right(network, tails).all()
    assert counter.count_on(network, 995, 10) == list(range(995, 1006))


def test_an_untrained_counter_is_wrong_and_stops_where_it_writes_no_number():
    network = counter.train(1, epochs=1)
    assert counter.is_right(network, list(range(100))).float().mean() < 0.5
    assert len(counter.count_on(network, 5, 3)) <= 4


def test_the_carry_is_one_direction_and_moving_along_it_changes_what_is_written():
    random = Random(3)
    numbers = [random.randrange(10**19, 10**20) // 10**k * 10**k + 10**k - 1 for k in range(20) for _ in range(5)]
    carry = find_carry(shipped_counter(), numbers)
    assert carry.told_apart > 0.99
    assert carry.flips > 0.95 > 0.2 > carry.flips_elsewhere
    assert float(carry.along_with.min()) > float(carry.along_without.max())


@pytest.fixture(scope="module")
def small_study() -> Study:
    return run(Size(seeds=2, epochs=10, stage_epochs=10, counters=1, counter_epochs=5, numbers=20))


def test_a_study_at_the_smallest_size_has_a_table_plots_and_plain_figures(small_study, tmp_path):
    written = table(small_study.figures)
    assert "| right, held out, % |" in written and "24 (place value)" in written
    assert json.loads(json.dumps(small_study.figures)) == small_study.figures
    paths = draw(small_study, tmp_path)
    assert [path.name for path in paths] == [f"numbers-{name}.png" for name in NAMES]
    for path in paths:
        assert np.asarray(Image.open(path).convert("L")).std() > 5  # something is drawn


def test_what_is_shipped_is_what_its_script_makes_by_shape():
    networks = shipped_networks()
    assert (networks.into.shape, networks.out.shape) == ((10, 20, 8), (10, 8, 20))
