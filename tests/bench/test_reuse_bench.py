"""The benchmark of reuse: what a donor shares, how the table is made, and a run at the smallest size."""

import json
from random import Random

import pytest

from chai_app.bench.reuse import Arm, Sample, donor_spec, main, rows
from chai_app.demo.world import held_out_specs


@pytest.mark.parametrize("shares_object", [True, False])
def test_a_donor_shares_the_thing_or_the_scene_and_nothing_else(shares_object):
    for asked in held_out_specs(30):
        donor = donor_spec(asked, Random(asked.seed), shares_object)
        assert (donor.things == asked.things) == shares_object
        assert (donor.scene == asked.scene) != shares_object
        assert donor.motion != asked.motion
        if not shares_object:
            assert donor.things[0].object != asked.things[0].object
            assert donor.things[0].colour != asked.things[0].colour


def test_the_table_compares_each_arm_with_the_first_prompt_by_prompt():
    arms = [Arm("full", 30), Arm("auto", 8)]

    def sample(prompt, arm, seconds, is_right):
        right = dict.fromkeys(("object", "colour", "scene", "motion", "count"), is_right)
        return Sample(prompt, arm.name, seconds, right, 0.9, 30.0)

    samples = [sample(i, arms[0], 4.0, True) for i in range(8)] + [sample(i, arms[1], 1.0, i > 1) for i in range(8)]
    full, fast = rows(samples, arms)
    assert (full["score"], full["difference"], full["interval"]) == (1.0, 0.0, [0.0, 0.0])
    assert (fast["times_faster"], fast["score"], fast["difference"]) == (4.0, 0.75, -0.25)
    low, high = fast["interval"]
    assert low < -0.25 < high <= 0


def test_a_run_at_the_smallest_size_prints_a_line_for_each_arm(tmp_path, capsys):
    main(["--prompts", "1", "--full-steps", "2", "--steps", "2", "--json", str(tmp_path / "reuse.json")])
    written = json.loads((tmp_path / "reuse.json").read_text())
    assert [row["arm"] for row in written["table"]] == [
        "2 steps, full",
        "2 steps, no cache",
        "2 steps, Cache Attention",
    ]
    assert len(written["samples"]) == 3
    full, fast, hit = written["table"]
    assert full["psnr_db"] == fast["psnr_db"] > hit["psnr_db"]  # without a donor two steps are two steps
    assert "| 2 steps, Cache Attention | 1 |" in capsys.readouterr().out
