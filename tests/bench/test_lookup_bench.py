"""The benchmark of the cache, at sizes that take no time: its table, its plot and its figures in JSON."""

import json

from PIL import Image

from chai_app.bench.cache import LOOKUPS, main


def test_lookups_in_caches_of_several_sizes_fill_a_table_and_a_plot(tmp_path, capsys):
    file, plot = tmp_path / "cache.json", tmp_path / "cache.png"
    arguments = ["--parts", "lookup", "--entities", "10", "60", "--dim", "16", "--json", str(file), "--plot", str(plot)]
    main(arguments)
    told = capsys.readouterr().out.splitlines()
    figures = json.loads(file.read_text())
    small, large = figures["lookup"]
    assert (small["entities"], large["entities"], small["index"]) == (10, 60, "flat")
    assert small["hits"] == large["hits"] == LOOKUPS
    assert small["recall_at_1"] == large["recall_at_10"] == 1  # a flat index finds what there is
    rows = [line for line in told if line.startswith(("| 10 |", "| 60 |"))]
    assert len(rows) == 2 and f"| {large['wall_ms']['p99']:.2f} |" in rows[1]
    with Image.open(plot) as picture:
        assert picture.width > 300
