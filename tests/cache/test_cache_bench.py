"""The benchmark runs, at tiny size, and says what it did."""

import json

import numpy as np
from PIL import Image

from chai_app.bench import cache as bench
from chai_app.bench.runner import run


def test_lookups_in_caches_of_several_sizes_fill_a_table_and_a_plot(tmp_path, capsys):
    file, plot = tmp_path / "figures.json", tmp_path / "plot.png"
    arguments = [
        "--parts",
        "lookup",
        "--entities",
        "10",
        "300",
        "--dim",
        "16",
        "--json",
        str(file),
        "--plot",
        str(plot),
    ]
    run("cache", arguments)
    figures = json.loads(file.read_text())
    small, line = figures["table"]
    assert small["entities"] == 10
    assert (line["entities"], line["entries"], line["index"], line["hits"]) == (300, 300, "flat", bench.LOOKUPS)
    assert line["recall_at_1"] == line["recall_at_10"] == 1
    assert len(line["raw_wall_ms"]) == bench.LOOKUPS and line["wall_ms"]["p50"] <= line["wall_ms"]["p99"]
    assert {"command", "commit", "seed", "device", "versions"} <= set(figures["header"])
    rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith("| 300 |")]
    assert len(rows) == 1 and f"| {line['wall_ms']['p99']:.2f} |" in rows[0]
    with Image.open(plot) as picture:
        assert picture.width > 300


def test_fp16_halves_an_entry_and_hardly_a_pixel_changes():
    latents = np.random.default_rng(0).standard_normal((2, 4, 5, 8, 8)).astype(np.float32)
    figures = bench.storage_figures(latents, lambda z: ((z / 5).clip(-1, 1) * 127.5 + 128).astype(np.uint8))
    lines = {line["storage"]: line for line in figures}
    assert lines["fp32"]["psnr_db"] == 99 and lines["fp16"]["psnr_db"] > 65
    assert lines["fp16"]["bytes"] < 0.51 * lines["fp32"]["bytes"] < 200_000
    assert lines["fp16"]["relative_error"] < lines["bf16"]["relative_error"] < lines["int8"]["relative_error"]
    assert lines["int8"]["bytes_of_three"] < 450_000


def test_the_thresholds_of_the_demo_embedder_tell_its_words_apart(tmp_path):
    figures = bench.threshold_figures(tmp_path / "figures.png", ship=False)
    assert (tmp_path / "figures.png").is_file()
    for kind in ("object", "scene", "prompt"):
        assert figures[kind]["precision"] >= 0.9 and figures[kind]["recall"] >= 0.5
