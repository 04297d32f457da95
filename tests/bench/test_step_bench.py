"""The benchmark of a step: ours alone where there is no checkout of the original, and both at the smallest size."""

import json
import os
import types

import pytest
import torch

from chai_app.bench.runner import markdown, run
from chai_app.bench.step import TABLE, Pair, Size, _block_attention, original_module, rows
from chai_app.errors import BadRequest

TINY = ["--rounds", "1", "--width", "48", "--depth", "1", "--heads", "2", "--size", "48", "64", "--text", "9"]


def test_without_a_checkout_ours_runs_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("OPENSORA_DIR", raising=False)
    run("step", [*TINY, "--json", str(tmp_path / "step.json")])
    (row,) = json.loads((tmp_path / "step.json").read_text())["table"]
    assert (row["arm"], row["n"], row["difference"]) == ("ours", 1, None)
    assert "| ours | 1 |" in capsys.readouterr().out


def test_a_folder_that_is_no_checkout_is_told_in_one_sentence(tmp_path):
    with pytest.raises(BadRequest, match="no checkout of Open-Sora"):
        original_module(tmp_path)


def test_both_weigh_every_layer():
    """Untrained weights hold many zeros, which would hide a part that is computed wrongly."""
    pair = Pair(None, Size(width=48, depth=1, heads=2, height=48, video_width=64, text=9))
    assert all(float(tensor.detach().abs().max()) > 0 for tensor in pair.ours.parameters())


def test_each_video_attends_to_its_own_text():
    query, key, value = (torch.randn(1, n, 2, 4, generator=torch.Generator().manual_seed(n)) for n in (6, 5, 5))
    both = _block_attention(query, key, value, attn_bias=([3, 3], [2, 3]))
    first = _block_attention(query[:, :3], key[:, :2], value[:, :2])
    assert torch.equal(both[:, :3], first)


def test_the_table_gives_the_ratio_to_each_arm():
    seconds = {"ours": [1.0, 1.2, 0.9], "original": [2.0, 2.1, 1.9]}
    samples = [
        {"size": Size().__dict__, "arm": arm, "prompt": i, "seconds": value, "difference": apart}
        for arm, apart in (("ours", None), ("original", 2e-6))
        for i, value in enumerate(seconds[arm])
    ]
    text = markdown(TABLE, rows(samples, {}))
    assert "| original | 3 | 2.000 |" in text
    assert "| 0.50 | 2.0e-06 |" in text


@pytest.mark.skipif("OPENSORA_DIR" not in os.environ, reason="OPENSORA_DIR names no checkout of the original")
def test_the_original_gives_the_same_numbers():
    from pathlib import Path

    original = original_module(Path(os.environ["OPENSORA_DIR"]))
    assert isinstance(original, types.ModuleType)
    pair = Pair(original, Size(width=48, depth=2, heads=2, height=48, video_width=64, text=9))
    with torch.no_grad():
        assert torch.allclose(pair.run_ours(), pair.run_original(), atol=1e-4)
