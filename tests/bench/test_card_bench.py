"""The benchmark of the model in its full size, tried small: its arithmetic, and a run of the whole script on a CPU."""

import json

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from chai_app.bench.card import CARDS_GB, as_text, main, peak_flop_s, step_flop
from chai_app.bench.step import Pair, Size


def test_the_operations_of_a_step_are_those_that_torch_counts():
    size = Size(width=192, depth=2, heads=4, num_frames=17, height=96, video_width=128, text=20)
    pair = Pair(None, size)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        pair.run_ours()
    assert step_flop(size) == pytest.approx(counter.get_total_flops(), rel=0.03)


def test_the_peak_is_no_less_than_what_one_product_reaches():
    assert peak_flop_s("cpu", torch.float32, 128) > 1e8


def test_a_small_run_on_a_cpu_fills_every_table_but_that_of_the_cards(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("OPENSORA_DIR", raising=False)
    file = tmp_path / "card.json"
    arguments = ["--small", "--sizes", "144p", "--frames", "17", "--text", "8", "--steps", "1", "--rounds", "2"]
    main([*arguments, "--device", "cpu", "--json", str(file)])
    told = capsys.readouterr().out
    assert "OPENSORA_DIR is not set" in told and "What fits which card cannot be seen on cpu" in told
    found = json.loads(file.read_text())
    (step,), (whole,) = found["step"], found["whole"]
    assert len(step["rounds"]["ours"]) == 2 and 0 < step["share"] < 1
    assert set(whole["seconds"]) == {"text", "denoise", "decode", "mp4"} and min(whole["seconds"].values()) > 0
    assert f"| 144p | 1 | {whole['seconds']['text']:.2f} |" in told and "memory" not in found


def test_the_full_size_is_not_begun_on_a_cpu(capsys):
    with pytest.raises(SystemExit):
        main(["--device", "cpu"])
    assert "needs a CUDA device, not cpu" in capsys.readouterr().err


def test_the_tables_say_what_fits_and_what_went_wrong():
    seconds = {"text": 0.1, "denoise": 3.0, "decode": 1.0, "mp4": 0.4}
    line = {"size": "240p", "text_encoder": "int8", "offload": "model"}
    told = as_text(
        {
            "step": [{"size": "240p", "seconds": {"ours": 0.1, "original": 0.2}, "share": 0.5, "peak_flop_s": 4e14}],
            "whole": [{"size": "240p", "steps": 30, "seconds": seconds, "peak_gb": 12.3}],
            "memory": [
                {**line, "peak_gb": 9.4, "fits": list(CARDS_GB[1:]), "problem": ""},
                {**line, "peak_gb": 99.0, "fits": [], "problem": ""},
                {**line, "peak_gb": 1.0, "fits": [8], "problem": "no room"},
            ],
        }
    )
    for row in (
        "| 240p | ours | 100.0 | 1.00 | 50% of 400 TFLOP/s |",
        "| 240p | original | 200.0 | 0.50 |  |",
        "| 240p | 30 | 0.10 | 3.00 | 1.00 | 0.40 | 4.50 | 12.3 |",
        "| 240p, the original's steps | 30 | | 6.00 | | | 7.50 | |",
        "| 240p | int8 | model | 9.4 | 12, 24, 80 |",
        "| 240p | int8 | model | 99.0 | none |",
        "| 240p | int8 | model | no room |  |",
    ):
        assert row in told.splitlines(), row
