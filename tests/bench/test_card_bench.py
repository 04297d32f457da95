"""The benchmark of the model in its full size, tried small: its arithmetic, and a run of the whole script on a CPU."""

import json
from dataclasses import asdict

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from chai_app.bench.card import TABLES, peak_flop_s, rows, step_flop
from chai_app.bench.runner import markdown, run
from chai_app.bench.step import Pair, Size
from chai_app.errors import BadRequest


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
    run("card", [*arguments, "--device", "cpu", "--json", str(file)])
    told, noted = capsys.readouterr()
    assert "OPENSORA_DIR is not set" in noted and "What fits which card cannot be seen on cpu" in noted
    found = json.loads(file.read_text())
    step, whole = found["table"]
    assert (step["part"], step["n"]) == ("step", 2) and 0 < step["share"] < 1
    assert set(whole["stages_s"]) == {"text", "denoise", "decode", "mp4"} and min(whole["stages_s"].values()) > 0
    assert f"| 144p | 1 | {whole['stages_s']['text']:.2f} |" in told


def test_the_full_size_is_not_begun_on_a_cpu():
    with pytest.raises(BadRequest, match="needs a CUDA device, not cpu"):
        run("card", ["--device", "cpu"])


def test_the_tables_say_what_fits_and_what_went_wrong():
    size = asdict(Size(width=1152, depth=28, heads=16, num_frames=51))
    line = {"part": "memory", "size": "240p", "text_encoder": "int8", "offload": "model"}
    stages = {"text": 0.1, "denoise": 3.0, "decode": 1.0, "mp4": 0.4}
    samples = [
        {"part": "step", "size": size, "arm": "ours", "prompt": 0, "seconds": 0.1, "difference": None},
        {"part": "step", "size": size, "arm": "original", "prompt": 0, "seconds": 0.2, "difference": 1e-5},
        {"part": "peak", "size": "", "arm": "", "prompt": 0, "flop_s": 2 * step_flop(Size(**size)) / 0.1},
        {"part": "whole", "size": "240p", "steps": 30, "stages_s": stages, "peak_gb": 12.3},
        {**line, "peak_gb": 9.4, "problem": ""},
        {**line, "peak_gb": 99.0, "problem": ""},
        {**line, "peak_gb": 1.0, "problem": "no room"},
    ]
    table = rows(samples, {"is_small": False})
    told = [
        row
        for part, columns in TABLES.items()
        for row in markdown(columns, [line for line in table if line["part"] == part]).splitlines()
    ]
    peak = 2 * step_flop(Size(**size)) / 0.1 / 1e12
    for row in (
        f"| 240p | ours | 100.0 | 1.00 | 50% of {peak:.3g} TFLOP/s |",
        "| 240p | original | 200.0 | 0.50 |  |",
        "| 240p | 30 | 0.10 | 3.00 | 1.00 | 0.40 | 4.50 | 12.3 |",
        "| 240p, the original's steps | 30 |  | 6.00 |  |  | 7.50 |  |",
        "| 240p | int8 | model | 9.4 | 12, 24, 80 |",
        "| 240p | int8 | model | 99.0 | none |",
        "| 240p | int8 | model | no room |  |",
    ):
        assert row in told, row
