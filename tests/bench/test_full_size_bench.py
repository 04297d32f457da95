"""The published layout in small: what is written is what loads, twice, and only what has to be read is read."""

import json

import pytest

from chai_app.bench import full_size
from chai_app.bench.full_size import SIZES, Sizes, main, released_shapes, weights_bytes
from chai_app.errors import ChaiError
from chai_app.opensora.released_layout import autoencoder_name, transformer_name


def test_the_full_size_is_the_published_one():
    shapes = json.loads((full_size.ROOT / "tests/data/golden/stdit3_xl2_state_dict.json").read_text())
    transformer, autoencoder = released_shapes(SIZES["full"])
    assert {name: list(shape) for name, shape in transformer.items()} == shapes
    shapes = json.loads((full_size.ROOT / "tests/data/golden/vae_v1_2_state_dict.json").read_text())
    assert {name: list(shape) for name, shape in autoencoder.items()} == shapes
    assert weights_bytes(SIZES["full"]) == pytest.approx(25.4e9, rel=0.01)


def test_names_go_there_and_back():
    transformer, autoencoder = released_shapes(SIZES["tiny"])
    assert len({transformer_name(name) for name in transformer}) == len(transformer)
    assert len({autoencoder_name(name) for name in autoencoder}) == len(autoencoder)


@pytest.mark.parametrize(("layout", "checked"), [("hub", 0), ("folders", None)])
def test_a_cache_is_written_and_a_video_made_from_it_twice(tmp_path, capsys, monkeypatch, layout, checked):
    # One layer, and embeddings of 70 MB, which are remembered: the rest of a model that fits into a test.
    wide = {**SIZES["tiny"].text_encoder, "num_layers": 1, "vocab_size": 280_000}
    monkeypatch.setitem(SIZES, "tiny", Sizes(SIZES["tiny"].transformer, wide, SIZES["tiny"].autoencoder))
    arguments = ["--folder", str(tmp_path / "new"), "--size", "tiny", "--layout", layout, "--pixels", "32", "32"]
    main([*arguments, "--frames", "1", "--steps", "1", "--json", str(tmp_path / "figures.json")])
    starts = json.loads((tmp_path / "figures.json").read_text())["starts"]
    assert starts["first"]["latents_sha256"] == starts["second"]["latents_sha256"]
    read = [starts[name]["read_bytes"].get("checking", 0) for name in ("first", "second")]
    assert read[1] == 0 and (read[0] == 0 if checked == 0 else read[0] > 70e6)
    assert starts["first"]["read_bytes"]["loading"] > 70e6
    assert "| second |" in capsys.readouterr().out
    assert not list((tmp_path / "new").iterdir())


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(full_size, "SPARE_BYTES", 10**18)
    with pytest.raises(ChaiError, match="need 1000000000 GB of disk"):
        main(["--folder", str(tmp_path / "new"), "--size", "tiny"])
    assert not list((tmp_path / "new").iterdir())


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ChaiError, match="is not empty"):
        main(["--folder", str(tmp_path), "--size", "tiny"])
