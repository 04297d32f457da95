"""Lynx: who keeps which expert, and what a model with it does in a prefill, in a decode step, and after it."""

import math

import pytest
import torch
from moe_kit import FAMILIES, PAD, SIGMOID, prefill_and_steps, texts, tiny_model

from chai_app.enhance.lynx import apply_lynx, bins, lynx, lynx_policy, needed, remap, remove_lynx, scores
from chai_app.enhance.routing import NO_EXPERT, Choice, find_routers, num_touched, policy_on, reweighted
from chai_app.errors import BadRequest

DIALS = (0.1, 0.5, 1.0)


def choice(batch=16, num_experts=64, top_k=8, seed=0, voters=None, spread=1.5):
    logits = spread * torch.randn(batch, num_experts, generator=torch.Generator().manual_seed(seed))
    is_voter = torch.ones(batch, dtype=torch.bool) if voters is None else torch.tensor(voters)
    return Choice(logits, logits.topk(top_k).indices, is_voter, int(is_voter.sum()))


def touched(experts):
    return set(experts.flatten().tolist())


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("dial", DIALS)
def test_each_token_keeps_its_best_expert_and_as_many_experts_as_it_had(dial, seed):
    before = choice(batch=2 + seed * 3, seed=seed)
    after = lynx_policy(dial)(before)
    best = before.logits.argmax(1)
    assert (after == best[:, None]).any(1).all()
    assert all(len(set(row)) == 8 for row in after.tolist())
    assert touched(after) <= touched(before.experts)


def test_fewer_experts_are_touched_the_further_the_dial_is_turned():
    before = choice()
    counts = [len(touched(lynx_policy(dial)(before))) for dial in (0, 0.25, 0.5, 0.75, 1)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == len(touched(before.experts)) > 50
    assert counts[2] < 0.7 * counts[0]
    assert counts[-1] < 25


def test_with_the_dial_at_zero_nothing_is_changed():
    before = choice()
    assert lynx_policy(0)(before) is before.experts


@pytest.mark.parametrize("dial", DIALS)
def test_a_batch_whose_tokens_all_agree_is_unchanged(dial):
    one = choice(batch=1).logits
    logits = one.repeat(16, 1)
    before = Choice(logits, logits.topk(8).indices, torch.ones(16, dtype=torch.bool), 16)
    assert torch.equal(lynx_policy(dial)(before), before.experts)


@pytest.mark.parametrize("votes", ["squared", "binned"])
def test_a_confident_vote_outweighs_all_lukewarm_ones(votes):
    """Expert 0 is the second of one token, close to its first; expert 1 is the second of all others, far behind."""
    logits = torch.full((8, 12), -20.0)
    logits[torch.arange(8), torch.arange(4, 12)] = 0.0  # each has a best of its own
    logits[0, 0] = -0.01
    logits[1:, 1] = -3.0
    told = scores(Choice(logits, logits.topk(2).indices, torch.ones(8, dtype=torch.bool), 8), votes)
    assert told[0] > told[1] > told[2]
    assert told[2] == -math.inf  # nobody's


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_a_squared_vote_is_the_square_of_the_share_in_the_weights(scoring):
    logits = torch.tensor([[2.0, 1.0, -1.0, -9.0], [1.0, 2.0, -9.0, 0.0]])
    before = Choice(logits, logits.topk(2).indices, torch.ones(2, dtype=torch.bool), 2, scoring)
    weights = logits.exp() if scoring == "softmax" else logits.sigmoid()
    first = (weights[0, 0] / weights[0, :2].sum()) ** 2 + (weights[1, 0] / weights[1, :2].sum()) ** 2
    torch.testing.assert_close(2 ** scores(before)[0], first)
    torch.testing.assert_close(before.shares.sum(1), torch.ones(2))


def test_votes_of_another_kind_are_refused():
    with pytest.raises(BadRequest, match="Lynx has no votes 'loud': choose one of squared, binned"):
        lynx_policy(0.5, "loud")


def test_dropped_experts_give_way_to_the_best_of_those_that_stay():
    logits = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
    keep = torch.tensor([True, False, False, False, True, True])
    before = Choice(logits, torch.tensor([[1, 0, 2]]), torch.tensor([True]), 1)
    assert remap(before, keep).tolist() == [[4, 0, 5]]


def test_bins_are_finer_for_sparser_models_and_follow_from_the_sparsity_alone():
    widths = [bins(8, 2), bins(64, 8), bins(128, 8), bins(256, 8)]
    assert [alpha for alpha, _ in widths] == [2, 3, 4, 5]
    assert [beta for _, beta in widths] == [5, 6, 7, 8]


def test_padding_tokens_do_not_vote():
    voters = [True] * 6 + [False] * 10
    padded = choice(seed=3, voters=voters)
    alone = Choice(padded.logits[:6], padded.experts[:6], torch.ones(6, dtype=torch.bool), 6)
    assert torch.equal(needed(padded, 0.5), needed(alone, 0.5))
    after = lynx_policy(0.5)(padded)
    assert torch.equal(after[:6], lynx_policy(0.5)(alone))
    assert touched(after) <= set(needed(alone, 0.5).nonzero().flatten().tolist())


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_weights_sum_to_what_they_summed_to_and_rows_that_stay_are_the_same_bit_for_bit(scoring):
    before = choice()
    parts = before.logits.softmax(1) if scoring == "softmax" else before.logits.sigmoid()
    weights = parts.gather(1, before.experts)
    chosen = lynx_policy(0.4)(before)
    chosen[3] = before.experts[3]
    new, experts = reweighted(before, weights, chosen, scoring)
    torch.testing.assert_close(new.sum(1), weights.sum(1))
    assert torch.equal(new[3], weights[3])
    assert torch.equal(experts, chosen)
    ratio = new / parts.gather(1, experts)  # the shares within a row are those of the router's own formula
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))


def test_an_empty_place_weighs_nothing_and_touches_no_further_expert():
    before = choice()
    weights = before.logits.softmax(1).gather(1, before.experts)
    chosen = before.experts.clone()
    chosen[:, 4:] = NO_EXPERT
    new, experts = reweighted(before, weights, chosen, "softmax")
    assert (new[:, 4:] == 0).all()
    torch.testing.assert_close(new.sum(1), weights.sum(1))
    assert touched(experts) == touched(before.experts[:, :4])
    assert num_touched(experts, 64) == len(touched(experts))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_changed_in_decode_steps_alone_and_restored_bit_for_bit(family):
    model = tiny_model(family)
    prompt, steps = texts(8), texts(8, 3, seed=2)
    plain_prefill, plain_steps = prefill_and_steps(model, prompt, steps)
    statistics = apply_lynx(model, 0.7)
    prefill, after = prefill_and_steps(model, prompt, steps)
    assert torch.equal(prefill, plain_prefill)
    assert not torch.equal(after, plain_steps)
    assert statistics.steps == 3
    assert 4 <= statistics.after < statistics.before <= 16
    assert len(statistics.layers) == 2
    assert statistics.to_json()["layers"][1]["before"] > statistics.to_json()["layers"][1]["after"]
    remove_lynx(model)
    prefill, after = prefill_and_steps(model, prompt, steps)
    assert torch.equal(prefill, plain_prefill) and torch.equal(after, plain_steps)
    assert statistics.steps == 3  # no hook is left that would count


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_one_equals_plain(family):
    model = tiny_model(family)
    prompt, steps = texts(1), texts(1, 3, seed=2)
    plain = prefill_and_steps(model, prompt, steps)
    with lynx(model, 1.0) as statistics:
        assert all(map(torch.equal, prefill_and_steps(model, prompt, steps), plain))
    assert statistics.steps == 0


def test_tokens_that_agree_equal_plain_in_a_whole_model():
    model = tiny_model("olmoe")
    prompt, steps = texts(1).repeat(8, 1), texts(1, 3, seed=2).repeat(8, 1)
    plain = prefill_and_steps(model, prompt, steps)
    with lynx(model, 0.5) as statistics:
        assert all(map(torch.equal, prefill_and_steps(model, prompt, steps), plain))
    assert statistics.before == statistics.after == 4


def test_a_prefill_of_one_token_is_no_decode_step():
    model = tiny_model("olmoe")
    prompt = texts(8, 1)
    plain, _ = prefill_and_steps(model, prompt, prompt[:, :0])
    with lynx(model, 1.0) as statistics:
        assert torch.equal(prefill_and_steps(model, prompt, prompt[:, :0])[0], plain)
    assert statistics.steps == 0


def test_finished_texts_do_not_change_what_the_others_get():
    """A batch of which four are finished and fed padding gives the other four what they get among themselves."""
    model = tiny_model("olmoe")
    prompt, steps = texts(8), texts(8, 2, seed=2)
    steps[4:] = PAD
    with lynx(model, 0.6):
        _, padded = prefill_and_steps(model, prompt, steps)
        _, alone = prefill_and_steps(model, prompt[:4], steps[:4])
    torch.testing.assert_close(padded[:4], alone, rtol=1e-4, atol=1e-4)


def test_one_text_left_among_finished_ones_equals_plain():
    model = tiny_model("olmoe")
    prompt, steps = texts(4), texts(4, 2, seed=2)
    steps[1:] = PAD
    _, plain = prefill_and_steps(model, prompt, steps)
    with lynx(model, 1.0) as statistics:
        assert torch.equal(prefill_and_steps(model, prompt, steps)[1], plain)
    assert statistics.steps == 0


def test_lynx_comes_off_after_an_exception_and_a_second_replaces_the_first():
    model = tiny_model("olmoe")
    prompt, steps = texts(8), texts(8, 1, seed=2)
    plain = prefill_and_steps(model, prompt, steps)
    with pytest.raises(RuntimeError, match="stop"), lynx(model, 1.0):
        raise RuntimeError("stop")
    first = apply_lynx(model, 1.0)
    second = apply_lynx(model, 0.5)
    prefill_and_steps(model, prompt, steps)
    assert (first.steps, second.steps) == (0, 1)
    remove_lynx(model)
    remove_lynx(model)
    assert all(map(torch.equal, prefill_and_steps(model, prompt, steps), plain))


def test_counting_alone_changes_nothing():
    model = tiny_model("mixtral")
    prompt, steps = texts(8), texts(8, 2, seed=2)
    plain = prefill_and_steps(model, prompt, steps)
    with policy_on(model, None) as statistics:
        assert all(map(torch.equal, prefill_and_steps(model, prompt, steps), plain))
    assert statistics.before == statistics.after > 4


def test_the_kind_of_router_is_found_by_asking_it():
    assert {family: {r.scoring for r in find_routers(tiny_model(family))} for family in FAMILIES} == {
        family: {"sigmoid" if family in SIGMOID else "softmax"} for family in FAMILIES
    }


def test_what_cannot_be_done_is_said():
    with pytest.raises(BadRequest, match="no router"):
        apply_lynx(torch.nn.Linear(2, 2))
    with pytest.raises(BadRequest, match=r"from 0 \(exact\) to 1"):
        apply_lynx(tiny_model("olmoe"), 1.5)
