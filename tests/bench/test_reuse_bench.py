"""The benchmark of reuse: what donors share, how the table is made, and a run at the smallest size."""

import json
from dataclasses import asdict
from random import Random

import pytest

from chai_app.bench.reuse import conclusions, fewest_steps, rows
from chai_app.bench.runner import run
from chai_app.bench.warm import few, full
from chai_app.bench.worlds import asked_specs, donor_spec, shared, stream_specs, warm_specs, words


@pytest.mark.parametrize("shares", ["object", "scene", "both", "nothing"])
def test_a_donor_shares_what_it_should_and_nothing_else(shares):
    for asked in asked_specs(30):
        donor = donor_spec(asked, Random(asked.seed), shares)
        assert shared(asked, donor) == shares
        assert donor.motion != asked.motion
        if shares in ("scene", "nothing"):
            assert donor.things[0].object != asked.things[0].object
            assert donor.things[0].colour != asked.things[0].colour


def test_the_cache_begins_with_every_thing_and_every_scene_that_is_asked_for():
    asked = asked_specs(200)
    warm = warm_specs(asked)
    assert {spec.things for spec in asked} <= {spec.things for spec in warm}
    assert {spec.scene for spec in asked} <= {spec.scene for spec in warm}
    assert len(warm) == len({spec.things for spec in asked}) + len({spec.scene for spec in asked}) == 42


def test_more_prompts_begin_with_the_same_ones():
    assert asked_specs(60)[:7] == asked_specs(7)
    assert words(asked_specs(3)[2], 2) == words(asked_specs(60)[2], 2)


def test_a_stream_is_skewed_by_zipfs_law():
    stream = stream_specs(4000)
    counts = sorted(sum(spec.things == things for spec in stream) for things in {s.things for s in stream})[::-1]
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.2)
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.4)
    assert stream_specs(4000)[:50] == stream_specs(50)


def sample(prompt, arm, seconds, is_right):
    right = dict.fromkeys(("object", "colour", "scene", "motion"), is_right)
    near = {"certainty": 0.9, "consistency": 0.9, "psnr_db": 30.0, "ssim": 0.9, "feature_distance": 0.1}
    values = {"prompt": prompt, "arm": arm.name, "seconds": seconds, "stages": {"denoise": seconds}}
    return {**values, **near, "right": right, "score": float(is_right)}


def table_of(**rights):
    """A table over 8 prompts; names such as auto_8 or full_30 say the arm, values how many prompts come out right."""
    arms, made = [], []
    for name, right in rights.items():
        reuse, steps = name.split("_")
        arms.append(full(int(steps)) if reuse == "full" else few(reuse, int(steps)))
        made += [sample(i, arms[-1], float(steps), i >= 8 - right) for i in range(8)]
    return rows(made, {"arms": [asdict(arm) for arm in arms]})


def test_the_table_compares_each_arm_with_the_first_prompt_by_prompt():
    base, plain, hit = table_of(full_32=8, fast_8=4, auto_8=6)
    assert (base["score"], base["difference"]) == (1.0, (0, 0, 0))
    mean, low, high = hit["difference"]
    assert (hit["faster"], hit["score"], mean) == (4.0, 0.75, -0.25)
    assert low < -0.25 < high <= 0
    assert hit["gain_over_no_cache"][0] == 0.25
    assert "gain_over_no_cache" not in plain


def test_fewest_steps_are_told_only_down_to_the_first_loss():
    """3 steps that happen to be right do not count behind 4 that are not."""
    table = table_of(full_30=6, fast_8=6, fast_5=5, auto_8=6, auto_5=6, auto_4=4, auto_3=6)
    assert fewest_steps(table, "Cache Attention")["steps"] == 5
    assert fewest_steps(table, "no cache")["steps"] == 8
    assert fewest_steps(table_of(full_30=8, fast_8=2), "no cache") is None
    said = conclusions(table)
    assert said[1].startswith("Cache Attention: 5 steps hold")
    assert "6.00x faster" in said[1]


def test_a_run_at_the_smallest_size_prints_a_line_for_each_arm_and_is_not_made_twice(tmp_path, capsys):
    path, plot = tmp_path / "reuse.json", tmp_path / "reuse.png"
    arguments = ["--prompts", "1", "--full-steps", "2", "--steps", "2", "--guidance", "4"]
    arguments += ["--json", str(path)]
    run("reuse", arguments)
    written = json.loads(path.read_text())
    ways = ["no cache", "Cache Attention", "no cache, from 0.8", "Cache Attention, from 0.8"]
    names = ["2 steps, full run", *(f"2 steps, {way}, guided by 4" for way in ways)]
    assert [row["arm"] for row in written["table"]] == names
    assert len(written["samples"]) == 5
    base, fast, hit, begun, _ = written["table"]
    assert begun["psnr_db"] < fast["psnr_db"]
    assert base["psnr_db"] == fast["psnr_db"] > hit["psnr_db"]  # without a donor two steps are two steps
    assert fast["ssim"] == pytest.approx(1)
    assert written["samples"][2]["donor_shares"] in ("object", "scene")
    assert "| 2 steps, Cache Attention, guided by 4 | 1 |" in capsys.readouterr().out
    run("reuse", [*arguments, "--plot", str(plot)])
    assert "the cache holds" not in capsys.readouterr().err  # nothing was left to make
    assert json.loads(path.read_text())["samples"] == written["samples"]
    assert plot.read_bytes().startswith(b"\x89PNG")
