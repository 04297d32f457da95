"""The stream: decisions that are replayed, and a run at the smallest size."""

import json

import numpy as np
import pytest

from chai_app.bench.matching import WordEmbedder
from chai_app.bench.runner import run
from chai_app.bench.stream import budget_bytes, replayed, rows
from chai_app.errors import BadRequest

PROMPTS = ["a red ball in the desert", "a blue boat on the ocean", "a red ball on the moon", "a green star at sea"]
PROMPTS += ["a red ball in the desert", "a purple rocket in the city"]


def test_bags_of_words_are_alike_by_the_words_that_they_share():
    one, same, half, other = WordEmbedder().embed(["a red ball", "the ball, red", "red boat", "green star"])
    assert one @ same == pytest.approx(1)
    assert one @ half == pytest.approx(0.5, abs=0.15)
    assert abs(one @ other) < 0.25
    assert np.linalg.norm(WordEmbedder().embed(["the", ""]), axis=1) == pytest.approx(1)


def test_entities_find_what_whole_prompts_do_not():
    def hits(by):
        found = replayed(by, WordEmbedder(), PROMPTS, warm=2, seconds=None, threshold=None)
        return [sample["is_hit"] for sample in found]

    # One entry is all that a tenth of six prompts allows: the ball was evicted by the boat, and comes back as a miss.
    assert hits("entities") == [False, False, False, False]
    many = PROMPTS * 5  # room for three
    found = list(replayed("entities", WordEmbedder(), many, warm=3, seconds=(1.0, 4.0), threshold=None))
    whole = list(replayed("whole prompt", WordEmbedder(), many, warm=3, seconds=None, threshold=None))
    assert sum(s["is_hit"] for s in found) > sum(s["is_hit"] for s in whole)
    assert {s["seconds"] for s in found if s["is_hit"]} == {1.0}
    assert {s["seconds"] for s in found if not s["is_hit"]} == {4.0}
    assert "red ball" in {s["found_by"] for s in found}


def test_the_cache_is_limited_to_a_tenth_in_whole_entries():
    assert budget_bytes(1_000, 1_100) == 110_000
    assert budget_bytes(1_000, 3) == 1_000


def test_the_table_follows_the_stream():
    made = [{"prompt": i, "arm": "entities", "is_hit": i > 1, "seconds": 1.0 if i > 1 else 4.0} for i in range(4)]
    made += [{"prompt": i, "arm": "no cache", "is_hit": False, "seconds": 4.0} for i in range(4)]
    _, line = rows(made, {"mode": "real"})
    assert line["arm"] == "entities"
    assert (line["hit_rate"], line["mean_s"], line["faster"]) == (0.5, 2.5, 1.6)
    assert (line["hit_s"], line["full_s"]) == (1.0, 4.0)
    assert line["running_hit_rate"] == pytest.approx([0, 0, 1 / 3, 0.5])


def test_real_prompts_are_replayed_for_hit_rates_alone(tmp_path, capsys):
    prompts, plot = tmp_path / "prompts.txt", tmp_path / "stream.png"
    prompts.write_text("\n".join(PROMPTS * 4))
    run(
        "stream",
        ["--prompt-file", str(prompts), "--warm", "4", "--json", str(tmp_path / "s.json"), "--plot", str(plot)],
    )
    written = json.loads((tmp_path / "s.json").read_text())
    assert written["settings"]["mode"] == "replay"
    assert [row["arm"] for row in written["table"]] == ["entities", "whole prompt"]
    assert all("mean_s" not in row for row in written["table"])
    assert "entities that found most: " in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_prompt_file_that_is_not_there_or_too_short_is_named(tmp_path):
    with pytest.raises(BadRequest, match="cannot be read"):
        run("stream", ["--prompt-file", str(tmp_path / "none.txt")])
    (tmp_path / "short.txt").write_text("a ball\n")
    with pytest.raises(BadRequest, match="has 1 prompts"):
        run("stream", ["--prompt-file", str(tmp_path / "short.txt")])


def test_a_real_run_at_the_smallest_size_makes_every_arm_and_judges_it(tmp_path, capsys):
    path = tmp_path / "stream.json"
    run("stream", ["--prompts", "2", "--warm", "1", "--full-steps", "2", "--fast-steps", "1", "--json", str(path)])
    written = json.loads(path.read_text())
    assert written["settings"]["mode"] == "real"
    assert len(written["samples"]) == 6
    lines = {row["arm"]: row for row in written["table"]}
    assert list(lines) == ["no cache", "entities", "whole prompt"]
    assert lines["no cache"]["hit_rate"] == 0
    assert lines["entities"]["hit_rate"] >= lines["whole prompt"]["hit_rate"]
    assert all(0 <= line["score"] <= 1 and line["mean_s"] > 0 for line in lines.values())
    misses = [s for s in written["samples"] if not s["is_hit"]]
    assert all(s["psnr_db"] == pytest.approx(68.13, abs=0.01) for s in misses)  # a miss is the full run itself
    assert "| no cache | 2 |" in capsys.readouterr().out
