"""Growth and profile: what the model of growth is fitted to, which operators count as what, and tiny runs."""

import json

from chai_app.bench import growth, profile
from chai_app.bench.runner import run


def test_the_model_finds_what_the_times_were_made_of():
    lines = [
        {"tokens": tokens, "patches": patches, "seconds": 2e-5 * tokens + 3e-8 * tokens * patches, "is_measured": True}
        for tokens, patches in ((1000, 100), (4000, 100), (4000, 400), (9000, 900))
    ]
    linear, square = growth.fitted([*lines, {"is_measured": False}])
    assert abs(linear / 2e-5 - 1) < 1e-6
    assert abs(square / 3e-8 - 1) < 1e-6


def test_sizes_count_as_the_transformer_counts_them():
    assert growth.tokens_of(51, 240, 426) == (405, 12_150)


def test_only_what_was_measured_is_said_to_be(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(growth, "SIZES", {"tiny": (32, 48), "huge": (4096, 4096)})
    monkeypatch.setattr(growth, "FRAMES", (17, 34))
    monkeypatch.setattr(growth, "FACES", {"nothing": ["-c", "pass"]})
    results = tmp_path / "growth.json"
    command = ["--most-tokens", "1000", "--width", "24", "--depth", "1", "--heads", "2", "--repeats", "1"]
    run("growth", [*command, "--json", str(results), "--plot", str(tmp_path / "growth.png")])
    lines = [line for line in json.loads(results.read_text())["table"] if line["part"] == "step"]
    assert [line["is_measured"] for line in lines] == [True, True, False, False]
    assert "| huge | 17 |" in capsys.readouterr().out
    assert (tmp_path / "growth.png").is_file()


def test_operators_have_kinds():
    names = {
        "aten::addmm": "matrix products",
        "aten::mkldnn_convolution": "convolutions",
        "aten::_scaled_dot_product_flash_attention_for_cpu": "attention",
        "aten::native_layer_norm": "norms",
        "aten::add_": "arithmetic",
        "aten::copy_": "copies and layout",
        "cudaLaunch": "all else",
    }
    assert {name: profile.kind_of(name) for name in names} == names


def test_a_profile_names_the_largest_costs(tmp_path, capsys):
    run("profile", ["--full-steps", "2", "--steps", "2", "--plot", str(tmp_path / "profile.png")])
    out = capsys.readouterr().out
    assert "| 2 steps, full run |" in out
    assert "convolutions" in out
    assert (tmp_path / "profile.png").is_file()
