"""The benchmark of the gate on counts: what is in the cache, how arms are compared, and a run at the smallest size."""

import json

from chai_app.bench.counts import ARMS, chosen, rows, words
from chai_app.bench.runner import run
from chai_app.demo.world import ClipSpec, Thing
from chai_app.prompts import extract


def test_every_thing_is_there_with_one_or_two_counts_and_asked_for_with_all_three():
    held, asked = chosen(48)
    there = {thing: {spec.count for spec in held if spec.things[0] == thing} for thing in {s.things[0] for s in held}}
    assert len(there) == 48
    assert sorted(map(len, there.values())) == [1] * 24 + [2] * 24
    assert {spec.count for counts in there.values() for spec in held} == {1, 2, 3}
    assert len(asked) == 144 == len({words(spec, False) for spec in asked})
    assert len({words(spec, True) for spec in held}) == len(held) == 72


def test_prompts_say_how_many_of_what_and_no_scene():
    spec = ClipSpec((Thing("fish", "red"),), 3, "reef", "rising", 0)
    assert words(spec, names_scene=False) == "three red fish rising"
    found = extract(words(spec, names_scene=False))
    assert [(each.phrase, each.count) for each in found.objects] == [("three red fish", 3)] and not found.scenes
    assert [scene.phrase for scene in extract(words(spec, names_scene=True)).scenes] == ["reef"]


def test_an_arm_is_compared_with_the_open_gate_prompt_by_prompt():
    def sample(prompt, arm, is_right, donor):
        right = {"count": is_right, "object": True, "colour": True, "motion": False}
        return {
            "prompt": prompt,
            "arm": arm,
            "right": right,
            "donor": donor,
            "steps": 8 if donor else 30,
            "seconds": 1.0,
        }

    samples = [sample(i, arm, arm != "off" or i < 4, "x" if arm == "off" else "") for i in range(8) for arm in ARMS]
    by_arm = {row["arm"]: row for row in rows(samples, {})}
    assert (by_arm["off"]["count"], by_arm["off"]["gain"], by_arm["off"]["hit_rate"]) == (0.5, (0, 0, 0), 1.0)
    gain, low, high = by_arm["on"]["gain"]
    assert (by_arm["on"]["count"], gain, by_arm["on"]["hit_rate"]) == (1.0, 0.5, 0.0)
    assert 0 < low < 0.5 < high
    assert (by_arm["off"]["steps"], by_arm["on"]["steps"]) == (8, 30)


def test_a_run_at_the_smallest_size_hits_by_count_and_goes_on_where_it_stopped(tmp_path, capsys):
    command = ["--things", "1", "--full-steps", "2", "--fast-steps", "1", "--json", str(tmp_path / "counts.json")]
    run("counts", command)
    first = json.loads((tmp_path / "counts.json").read_text())
    by_arm = {row["arm"]: row for row in first["table"]}
    assert [by_arm[arm]["hit_rate"] for arm in ARMS] == [0, 1, 1 / 3, 1 / 3]
    assert "| gate on | 3 |" in capsys.readouterr().out
    run("counts", command)
    assert json.loads((tmp_path / "counts.json").read_text())["samples"] == first["samples"]
