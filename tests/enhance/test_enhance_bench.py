"""The benchmark of the enhancer: what its arms do, what its tables say, and a run at the smallest size."""

import json

import pytest
import torch

from chai_app.bench.enhance import speed_row
from chai_app.bench.enhance_arms import arms, fewer_experts, opportunistic, random_set
from chai_app.bench.enhance_quality import Quality
from chai_app.bench.enhance_speed import Size, Speed
from chai_app.bench.runner import run
from chai_app.enhance.lynx import lynx_policy
from chai_app.enhance.routing import NO_EXPERT, Choice


def choice(batch=16, num_experts=64, top_k=8, seed=0):
    logits = torch.randn(batch, num_experts, generator=torch.Generator().manual_seed(seed))
    return Choice(logits, logits.topk(top_k).indices, torch.ones(batch, dtype=torch.bool), batch)


def rows(experts):
    return [[expert for expert in row if expert != NO_EXPERT] for row in experts.tolist()]


def test_fewer_experts_are_each_tokens_best():
    before = choice()
    assert rows(fewer_experts(2)(before)) == before.experts[:, :6].tolist()


def test_opportunistic_tokens_add_only_experts_that_are_somebodys_first():
    before = choice(batch=6)
    firsts = {expert for row in before.experts[:, :3].tolist() for expert in row}
    after = rows(opportunistic(3)(before))
    for row, own in zip(after, before.experts.tolist(), strict=True):
        assert row[:3] == own[:3]
        assert set(row) <= firsts
        assert len(row) == len(set(row)) == 8
        best_left = [e for e in before.logits[after.index(row)].argsort(descending=True).tolist() if e in firsts]
        assert set(row) == set(best_left[:8])


def test_opportunistic_tokens_alone_have_nothing_to_add():
    assert rows(opportunistic(3)(choice(batch=1))) == choice(batch=1).experts[:, :3].tolist()


def test_a_random_set_is_as_large_as_that_of_lynx():
    before = choice()
    after, other = random_set(0.5)(before), lynx_policy(0.5)(before)
    assert len(after.unique()) == len(other.unique()) < len(before.experts.unique())
    assert all(len(set(row)) == 8 for row in after.tolist())
    assert not torch.equal(after, other)


def test_a_line_compares_an_arm_with_the_plain_one_prompt_by_prompt_and_step_by_step():
    plain = Quality("plain", 4, 20.0, 20.0, [True, True], [True, True], ["a", "b"], [0.0, -1.0], [1, 2])
    arm = Quality("Lynx", 4, 20.0, 10.0, [True, False], [True, True], ["a", "c"], [-1.0, -1.0], [1, 3])
    row = arm.row(plain)
    assert (row["kept"], row["kept_difference"], row["tokens_agreed"], row["texts_same"]) == (0.5, -0.5, 0.5, 0.5)
    assert row["perplexity"] == pytest.approx(torch.e)
    before = Speed("plain", 4, [2.0, 4.0, 2.0], [2.0] * 3, [16.0] * 3)
    row = speed_row(Speed("Lynx", 4, [1.0, 2.0, 2.0], [0.5] * 3, [8.0] * 3), before, [0.1])
    assert (row["faster"], row["cpu_faster"], row["experts"], row["tokens_per_s"]) == (2.0, 4.0, 8.0, 2000.0)
    assert row["selection_share"] == pytest.approx(0.05)


def test_the_output_layer_has_the_share_that_it_has_in_the_published_model():
    assert Size().vocabulary == 50304 * 2 // 16


def test_names_of_arms_are_told_apart():
    names = [arm.name for arm in arms((0.5, 1.0), fewer=(1, 2), first=(4,), random_dials=(0.5,), binned_dials=(0.5,))]
    assert names == [
        "plain",
        "Lynx 0.5",
        "Lynx 1",
        "Lynx, binned, 0.5",
        "k - 1",
        "k - 2",
        "OEA 4",
        "random as Lynx 0.5",
    ]


def test_a_run_at_the_smallest_size_prints_a_line_for_each_arm_and_draws(tmp_path, capsys):
    figures, picture = tmp_path / "figures.json", tmp_path / "plot.png"
    run("enhance", ["--tiny", "--prompts", "8", "--batches", "1", "4", "--steps", "2", "--json", str(figures)])
    written = json.loads(figures.read_text())
    quality = [row for row in written["table"] if row["part"] == "quality"]
    assert [(row["arm"], row["batch"]) for row in quality] == [("plain", 1)] + [
        (arm, 4) for arm in ("plain", "Lynx 0.5", "Lynx 0.65", "Lynx 1")
    ]
    alone, plain, half, _, most = quality
    assert plain["texts_same"] == plain["tokens_agreed"] == 1
    assert plain["experts"] > half["experts"] > most["experts"] >= 8
    assert alone["perplexity"] == pytest.approx(plain["perplexity"], rel=1e-3)
    speed = {(row["arm"], row["batch"]): row for row in written["table"] if row["part"] == "speed"}
    assert speed["plain", 1]["experts"] == speed["Lynx 1", 1]["experts"] == 8
    assert speed["plain", 4]["experts"] > speed["Lynx 1", 4]["experts"]
    table = capsys.readouterr().out
    other = ["--batches", "4", "--arms", "Lynx 0.5", "--steps", "3", "--json", str(figures)]
    run("enhance", ["--tiny", "--prompts", "8", *other])
    both = json.loads(figures.read_text())["table"]
    assert [row for row in both if row["part"] == "quality"] == quality
    timed = [(row["arm"], row["batch"], row["n"]) for row in both if row["part"] == "speed"]
    assert timed[-2:] == [("plain", 4, 3), ("Lynx 0.5", 4, 3)] and {batch for _, batch, _ in timed[:-2]} == {1}
    table += capsys.readouterr().out
    run("enhance", ["--draw", str(figures), "--picture", str(picture)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| Lynx")]
    assert len(lines) == 7 and all(line in table for line in lines)
    assert picture.stat().st_size > 5000
