"""Phrases as directions, and from where on two of them mean the same."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cache_kit import WordEmbedder, open_cache
from PIL import Image

from chai_app.cache import (
    CacheError,
    OpenClipEmbedder,
    Pair,
    Thresholds,
    calibrate,
    draw,
    save_thresholds,
    thresholds_for,
)
from chai_app.errors import DamagedCheckpoint, MissingWeights

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "assets" / "demo" / "embedder"
PAIRS = [
    Pair("object", "red tiger", "big red tiger", True),
    Pair("object", "old boat", "boat old", True),
    Pair("object", "red tiger", "red boat", False),
    Pair("object", "parrot", "tiger", False),
    Pair("scene", "dark cave", "cave dark", True),
    Pair("scene", "dark cave", "dark sea", False),
]


@pytest.fixture(scope="module")
def demo():
    return OpenClipEmbedder(f"local-dir:{FOLDER}")


def test_the_demo_models_embedder_gives_one_direction_of_length_1_for_each_text(demo):
    found = demo.embed(["ball", "the ocean", " Ball "])
    assert found.shape == (3, demo.dim) and found.dtype == np.float32 and demo.name == "demo"
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found[0], found[2])
    assert demo.embed([]).shape == (0, demo.dim)


def test_of_a_long_text_no_more_is_tokenised_than_the_model_reads(demo, monkeypatch):
    lengths, encode = [], type(demo)._encode
    monkeypatch.setattr(
        type(demo), "_encode", lambda self, texts: lengths.extend(map(len, texts)) or encode(self, texts)
    )
    text = "a red ball and a  blue boat on the moon " * 100
    np.testing.assert_array_equal(demo.embed([text])[0], encode(demo, [text])[0])
    demo.embed(["x" * 1_000_000])
    assert lengths == [2_000, 2_000]


def test_a_text_is_encoded_once_and_long_lists_in_batches(demo, monkeypatch):
    encoded = []
    encode = type(demo)._encode
    monkeypatch.setattr(type(demo), "_encode", lambda self, texts: encoded.append(len(texts)) or encode(self, texts))
    texts = [f"number {i}" for i in range(300)]
    first = demo.embed(texts)
    np.testing.assert_array_equal(demo.embed(texts[::-1]), first[::-1])
    assert encoded == [256, 44]


def test_equal_weights_have_equal_fingerprints_wherever_they_lie_and_others_do_not(demo, tmp_path):
    copy = shutil.copytree(FOLDER, tmp_path / "embedder")
    assert OpenClipEmbedder(f"local-dir:{copy}").fingerprint == demo.fingerprint
    weights = copy / "open_clip_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert OpenClipEmbedder(f"local-dir:{copy}").fingerprint != demo.fingerprint


def test_naming_an_embedder_loads_no_heavy_library():
    code = f"""
import sys
from pathlib import Path
from chai_app.cache import LatentCache, NewEntry, OpenClipEmbedder, thresholds_for
embedder = OpenClipEmbedder("local-dir:{FOLDER}")
print(embedder.fingerprint, embedder.dim, thresholds_for(embedder, Path("nowhere")))
assert not {{"torch", "open_clip", "faiss", "numpy"}} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_missing_weights_are_named_with_the_way_to_get_them(tmp_path, monkeypatch):
    with pytest.raises(MissingWeights, match=rf"open_clip_config.json is not in {tmp_path}"):
        OpenClipEmbedder(f"local-dir:{tmp_path}")
    shutil.copy(FOLDER / "open_clip_config.json", tmp_path)
    with pytest.raises(MissingWeights, match=r"open_clip_model.safetensors is not in .*: fetch"):
        OpenClipEmbedder(f"local-dir:{tmp_path}")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, name: None)
    with pytest.raises(MissingWeights, match=r"hf download laion/CLIP-ViT-L-14-laion2B-s32B-b82K "):
        OpenClipEmbedder("ViT-L-14", "laion2b_s32b_b82k")
    with pytest.raises(MissingWeights, match="choose one of its weights: openai"):
        OpenClipEmbedder("ViT-L-14", "mine")
    with pytest.raises(MissingWeights, match="knows no weights"):
        OpenClipEmbedder("ViT-none", "openai")


def test_damaged_weights_are_said_in_one_sentence(tmp_path):
    copy = shutil.copytree(FOLDER, tmp_path / "embedder")
    (copy / "open_clip_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DamagedCheckpoint, match="fetch them again"):
        OpenClipEmbedder(f"local-dir:{copy}").embed(["ball"])


def test_calibration_tells_what_should_match_from_what_should_not():
    calibration = calibrate(WordEmbedder(), PAIRS)
    for kind in ("object", "scene"):
        figures = calibration.figures[kind]
        assert (figures.precision, figures.recall, figures.balanced_accuracy) == (1, 1, 1)
        assert max(figures.different) < figures.threshold < min(figures.matching)
        assert calibration.thresholds.of(kind) == figures.threshold
    assert calibration.thresholds.prompt == Thresholds().prompt and "prompt" not in calibration.figures
    assert json.loads(json.dumps(calibration.to_json()))["object"]["pairs"] == 4


def test_precision_comes_before_accuracy():
    """A pair that should differ lies between pairs that should match."""
    pairs = [
        *(Pair("object", f"red tiger {i}", f"red tiger {i} here", True) for i in range(9)),
        Pair("object", "old brown tall dog", "old brown tall dog there now", True),
        Pair("object", "dog one two three four", "dog one two three five", False),
    ]
    strict = calibrate(WordEmbedder(), pairs, precision_floor=1.0).figures["object"]
    loose = calibrate(WordEmbedder(), pairs, precision_floor=0.5).figures["object"]
    assert strict.precision == 1 and strict.threshold >= loose.threshold
    hopeless = [Pair("object", "a b", "a b", False), Pair("object", "a b", "a c", True)]
    assert calibrate(WordEmbedder(), hopeless).figures["object"].precision == 0.5


def test_pairs_of_one_sort_teach_nothing():
    with pytest.raises(CacheError, match="give some of both"):
        calibrate(WordEmbedder(), PAIRS[:2])


def test_thresholds_belong_to_their_embedder(tmp_path):
    ours, theirs = WordEmbedder("ours"), WordEmbedder("theirs")
    save_thresholds(ours, Thresholds(object=0.7), tmp_path)
    save_thresholds(theirs, Thresholds(scene=0.6), tmp_path)
    assert thresholds_for(ours, tmp_path) == Thresholds(object=0.7)
    assert thresholds_for(theirs, tmp_path) == Thresholds(scene=0.6)
    assert thresholds_for(WordEmbedder("unknown"), tmp_path) == Thresholds()
    with open_cache(tmp_path, embedder=ours) as cache:
        assert cache.thresholds == Thresholds(object=0.7)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"fingerprint-of-words": 3}', '{"fingerprint-of-words": {"scene": "x"}}']
)
def test_thresholds_that_were_edited_into_nonsense_count_for_nothing(tmp_path, content):
    (tmp_path / "thresholds.json").write_text(content)
    assert thresholds_for(WordEmbedder(), tmp_path) == Thresholds()


def test_the_shipped_embedder_has_thresholds_of_its_own(demo, tmp_path):
    shipped = json.loads((ROOT / "chai_app" / "cache" / "thresholds.json").read_text())
    assert all(set(values) == {"embedder", "object", "scene", "prompt"} for values in shipped.values())
    assert thresholds_for(demo, tmp_path) in {Thresholds(), *(read(values) for values in shipped.values())}


def read(values):
    return Thresholds(values["object"], values["scene"], values["prompt"])


def test_a_calibration_is_drawn_with_one_band_for_each_kind(tmp_path):
    draw(calibrate(WordEmbedder(), PAIRS), tmp_path / "figures.png")
    with Image.open(tmp_path / "figures.png") as picture:
        assert picture.size == (640, 400) and len(picture.getcolors()) > 3
