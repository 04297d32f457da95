"""The ablation: its arms, its table, and runs at the smallest size."""

import json

import pytest
import torch

from chai_app.attention import PAPER
from chai_app.bench.ablation import BASE, Batch, rows
from chai_app.bench.arms import ARMS
from chai_app.bench.runner import run
from chai_app.bench.studio import Studio
from chai_app.bench.worlds import asked_specs
from chai_app.demo.judge import load_judge
from chai_app.errors import BadRequest


@pytest.fixture(scope="module")
def batch():
    return Batch(Studio(), load_judge(), asked_specs(2), 0, full_steps=3)


def test_the_arms_differ_from_one_another_and_hold_the_paper_and_its_ends():
    arms = list(ARMS.values())
    assert len({arm.how for arm in arms}) == len(arms)
    assert ARMS["paper"].how.recipe == PAPER
    assert ARMS["paper"].how.kind == "steps"
    assert PAPER in {arm.how.recipe for arm in arms}
    assert {"shares nothing", "the answer itself", BASE} <= set(ARMS)


def test_an_arm_without_a_donor_is_the_plain_run_and_a_donor_changes_it(batch):
    plain = batch.studio.make(batch.task, 2).latents
    assert torch.equal(batch.make(ARMS[BASE], 2).latents, plain)
    for name in (
        "paper",
        "clean re-noised",
        "two donors joined",
        "start at 0.85",
        "start at 0.85, no donor",
        "start at 0.85, attention too",
    ):
        assert not torch.allclose(batch.make(ARMS[name], 2).latents, plain, atol=1e-3), name


def test_by_turns_a_hit_shares_the_object_or_the_scene(batch):
    hit = batch.latents_of("hit", lambda made: made.latents)
    assert torch.equal(hit[0], batch.donor("object").latents[0])
    assert torch.equal(hit[1], batch.donor("scene").latents[1])


@pytest.mark.parametrize(("kind", "shape"), [("48 px", (5, 6, 6)), ("9 frames", (3, 8, 8))])
def test_a_donor_of_another_size_or_duration_is_the_same_video_brought_to_it(batch, kind, shape):
    (donor,) = batch.donors(ARMS[f"donor of {kind}"].how, 2)
    assert tuple(donor.clean.shape[2:]) == shape
    back = donor.at(0.0, batch.task.noise)
    other = batch.donor("nothing").latents
    hit = batch.latents_of("hit", lambda made: made.latents)
    assert (back - hit).square().mean() < (other - hit).square().mean()


def test_passes_of_the_donor_through_the_blocks_are_counted(batch):
    assert batch.make(ARMS["clean re-noised"], 2).passes == 2
    assert batch.make(ARMS["all blocks, donor through them"], 2).passes == 3  # step 2 alone reuses


def test_a_run_from_the_donors_latents_begins_at_its_level(batch):
    levels = batch.studio.levels(4, 0.7)
    assert levels[0] == pytest.approx(0.7)
    assert levels == sorted(levels, reverse=True) and levels[-1] > 0
    full = batch.studio.make(batch.task, 3, keep_inputs=True)
    assert list(full.inputs) == pytest.approx(batch.studio.levels(3), abs=1e-6)


def test_the_table_shows_gains_over_as_many_steps_without_the_cache():
    def sample(prompt, arm, steps, score):
        right = dict.fromkeys(("object", "colour", "scene", "motion"), bool(score))
        near = {"certainty": score, "consistency": 0.9, "psnr_db": 20.0, "ssim": 0.9, "feature_distance": 0.1}
        return {"prompt": prompt, "arm": arm, "steps": steps, "passes": steps, "right": right, "score": score, **near}

    made = [sample(i, "full", 30, 1.0) for i in range(4)]
    made += [sample(i, BASE, 4, float(i > 2)) for i in range(4)] + [
        sample(i, "paper", 4, float(i > 1)) for i in range(3)
    ]
    full, base, paper = rows(made, {"full_steps": 30})
    assert (full["arm"], base["arm"], paper["arm"]) == ("full", BASE, "paper")
    assert paper["n"] == 3  # only the prompts that were made
    assert paper["score_gain"][0] == pytest.approx(1 / 3)
    assert base["to_full"][0] == -0.75
    assert "score_gain" not in base


def test_a_run_goes_on_with_what_is_missing_and_draws_without_running(tmp_path, capsys):
    path, plot = tmp_path / "ablation.json", tmp_path / "ablation.png"
    smallest = ["--prompts", "1", "--full-steps", "2", "--steps", "2", "--json", str(path)]
    run("ablation", [*smallest, "--arms", "joined"])
    run("ablation", [*smallest, "--arms", "joined", "clean re-noised"])
    written = json.loads(path.read_text())
    assert {sample["arm"] for sample in written["samples"]} == {"full", BASE, "joined", "clean re-noised"}
    lines = path.with_suffix(".samples.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 4  # nothing was made twice
    capsys.readouterr()
    run("ablation", ["--draw", str(path), "--plot", str(plot)])
    assert "| 2 | joined | 1 | 2 |" in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_an_arm_that_there_is_not_is_named():
    with pytest.raises(BadRequest, match="'jioned'"):
        run("ablation", ["--arms", "jioned"])


def test_the_maps_of_one_prompt_are_measured_and_drawn(tmp_path, capsys):
    path, plot = tmp_path / "attention.json", tmp_path / "maps.png"
    run("attention", ["--prompts", "1", "--steps", "2", "--full-steps", "1", "--json", str(path), "--plot", str(plot)])
    table = json.loads(path.read_text())["table"]
    assert [(line["shares"], line["step"]) for line in table] == [
        ("object", 2), ("scene", 2), ("both", 2), ("nothing", 2),
    ]  # fmt: skip
    assert all(0 < line["donor_entropy"] <= 1 and line["own_same_place"] > 0 for line in table)
    assert plot.read_bytes().startswith(b"\x89PNG")
    plot.unlink()
    run("attention", ["--draw", str(path), "--plot", str(plot)])
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_window_of_noise_levels_is_told_in_steps():
    levels = [1.0, 0.9, 0.7, 0.5]
    assert ARMS["levels from 0.6"].how.recipe_for(levels).steps == (2, 3)
    assert ARMS["levels up to 0.6"].how.recipe_for(levels).steps == (4,)
    assert ARMS["all steps from 2"].how.recipe_for(levels).steps == (2, 3, 4)
    assert ARMS["paper"].how.recipe_for(levels) == PAPER


@pytest.mark.parametrize(
    ("content", "words"), [(None, "no results"), ("[", "not the JSON"), ("{}", "holds no results")]
)
def test_drawing_what_is_not_there_is_one_sentence(tmp_path, content, words):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadRequest, match=words):
        run("ablation", ["--draw", str(path)])
