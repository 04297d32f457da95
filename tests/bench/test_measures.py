"""What the benchmarks measure by: closeness, intervals, samples on disk, and where attention lies."""

import numpy as np
import pytest

from chai_app.bench.attention import mosaic, object_cells, shares
from chai_app.bench.journal import Journal
from chai_app.bench.measures import difference, measured, psnr_db, ssim
from chai_app.demo.judge import load_judge
from chai_app.demo.render import render
from chai_app.demo.world import ClipSpec, Thing


def clip(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (3, 32, 40, 3), dtype=np.uint8)


def test_a_clip_is_as_close_to_itself_as_can_be_and_noise_takes_it_away():
    one = clip()
    assert ssim(one, one) == pytest.approx(1)
    assert psnr_db(one, one) == pytest.approx(68.13, abs=0.01)
    near, far = (np.clip(one.astype(int) + amount * (clip(1) > 127), 0, 255).astype(np.uint8) for amount in (10, 60))
    assert 1 > ssim(near, one) > ssim(far, one) > ssim(clip(2), one)
    assert psnr_db(near, one) > psnr_db(far, one)


def test_ssim_of_two_flat_pictures_is_what_the_formula_gives():
    """Without any variance the luminance term alone is left: (2 a b + c1) / (a^2 + b^2 + c1)."""
    a, b, c1 = 100.0, 130.0, (0.01 * 255) ** 2
    one, other = (np.full((1, 16, 16, 3), value, np.uint8) for value in (a, b))
    assert ssim(one, other) == pytest.approx((2 * a * b + c1) / (a**2 + b**2 + c1), abs=1e-9)


def test_the_interval_of_a_difference_holds_its_mean_and_shrinks_with_more_prompts():
    random = np.random.default_rng(3)
    widths = []
    for number in (20, 500):
        ours, theirs = random.normal(0.1, 0.3, number), random.normal(0, 0.3, number)
        mean, low, high = difference(ours, theirs)
        assert mean == pytest.approx((ours - theirs).mean())
        assert low < mean < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3
    assert difference([1, 0, 1], [1, 0, 1]) == (0, 0, 0)


def test_real_clips_are_judged_right_and_another_prompts_clip_is_not():
    specs = [ClipSpec((Thing("ball", "red"),), 1, "desert", "rising", 5)]
    specs += [ClipSpec((Thing("boat", "blue"),), 1, "city", "moving left", 6)]
    clips = np.stack([render(spec) for spec in specs])
    right = measured(load_judge(), specs, clips, clips)
    wrong = measured(load_judge(), specs[::-1], clips, clips[::-1])
    assert [each.score for each in right] == [1, 1]
    assert [each.score for each in wrong] == [0, 0]
    assert min(each.certainty for each in right) > 0.9 > 0.1 > max(each.certainty for each in wrong)
    assert right[0].feature_distance == pytest.approx(0, abs=1e-6)
    assert wrong[0].feature_distance > 0.05


def test_an_interrupted_run_finds_its_samples_again(tmp_path):
    path = tmp_path / "results.json"
    key = lambda sample: (sample["prompt"], sample["arm"])  # noqa: E731
    journal = Journal(path, {"seed": 1, "steps": (2, 3)}, key)
    journal.add({"prompt": 0, "arm": "a", "score": 0.5})
    journal.add({"prompt": 1, "arm": "a", "score": 1.0})
    with path.with_suffix(".samples.jsonl").open("a") as file:
        file.write('{"prompt": 2, "ar')  # the power went
    again = Journal(path, {"seed": 1, "steps": (2, 3)}, key)
    assert again.has(prompt=1, arm="a")
    assert not again.has(prompt=2, arm="a")
    again.add({"prompt": 2, "arm": "a", "score": 0.0})
    assert [s["score"] for s in Journal(path, {"seed": 1, "steps": (2, 3)}, key).samples()] == [0.5, 1.0, 0.0]


def test_samples_that_have_to_be_made_together_are_dropped_together(tmp_path):
    path = tmp_path / "results.json"
    journal = Journal(path, {}, lambda sample: (sample["part"], sample["arm"]))
    for part in ("speed", "quality"):
        journal.add({"part": part, "arm": "a"})
    journal.clear(part="speed")
    assert [sample["part"] for sample in journal.samples()] == ["quality"]
    assert len(path.with_suffix(".samples.jsonl").read_text().splitlines()) == 1 + 1
    journal.clear()
    assert journal.samples() == []


def test_samples_of_something_else_are_set_aside(tmp_path, capsys):
    path = tmp_path / "results.json"
    Journal(path, {"model": "old"}, lambda sample: (sample["prompt"],)).add({"prompt": 0})
    assert not Journal(path, {"model": "new"}, lambda sample: (sample["prompt"],)).has(prompt=0)
    assert "old" in (tmp_path / "results.samples.old.jsonl").read_text()
    assert "kept" in capsys.readouterr().err


def test_where_attention_lies_is_told_in_units_of_chance():
    places = 4
    here = np.array([[True, False, False, False]])
    even = np.full((1, places, places), 1 / places)
    told = shares(even, here, here)
    assert told["same_place_over_chance"] == pytest.approx(1)
    assert told["entropy"] == pytest.approx(1)
    assert told["object_to_object"] == pytest.approx(1)
    same = shares(np.eye(places)[None], here, here)
    assert same["same_place_over_chance"] == pytest.approx(places)
    assert same["entropy"] == pytest.approx(0, abs=1e-9)
    assert (same["object_to_object"], same["elsewhere_to_object"]) == (pytest.approx(4), pytest.approx(0))
    nowhere = shares(even, np.zeros_like(here), here)
    assert np.isnan(nowhere["object_to_object"])


def test_the_cells_of_a_thing_are_found_by_its_colour_where_it_was_drawn():
    spec = ClipSpec((Thing("ball", "purple"),), 1, "desert", "spinning", 11)
    cells = object_cells(render(spec), "purple", 5, (4, 4))
    assert cells.shape == (5, 16)
    assert 1 <= cells.sum(1).min() <= cells.sum(1).max() <= 9
    assert not object_cells(render(spec), "green", 5, (4, 4)).any()


def test_a_mosaic_puts_each_querys_map_at_the_querys_place():
    weights = np.arange(36.0).reshape(6, 6)  # 2 rows, 3 columns
    picture = mosaic(weights, (2, 3))
    assert picture.shape == (5, 11)
    np.testing.assert_array_equal(picture[3:5, 4:7], weights[4].reshape(2, 3))
    assert np.isnan(picture[2]).all() and np.isnan(picture[:, 3]).all()
