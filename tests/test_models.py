"""Models are found by name or folder, and what is missing or broken is said before anything is loaded."""

import json
import os
import shutil
from pathlib import Path

import pytest

from chai_app.errors import BadRequest, DamagedCheckpoint, MissingWeights
from chai_app.models import RELEASED_EMBEDDER, RELEASED_PARTS, find_model, list_models
from chai_app.models import catalogue as models
from chai_app.models.fingerprint import fingerprint, unread_bytes
from chai_app.models.vocabulary import Vocabulary
from chai_app.request import RequestDefaults
from chai_app.settings import Settings


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    """Empty folders of our own, and an empty Hugging Face cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "models").mkdir()
    return Settings(tmp_path / "home", tmp_path / "models", tmp_path / "videos")


@pytest.fixture
def own_copy(tiny_model_folder, settings) -> Path:
    return shutil.copytree(tiny_model_folder, settings.models_folder / "mine")


def hub_snapshot(hub: Path, repository: str, files: dict[str, bytes]) -> Path:
    """Lay out a repository as the Hugging Face cache does."""
    root = hub / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc")
    for name, content in files.items():
        (snapshot / name).write_bytes(content)
    return snapshot


def safetensors_bytes(num_bytes: int = 4) -> bytes:
    header = json.dumps({"x": {"dtype": "U8", "shape": [num_bytes], "data_offsets": [0, num_bytes]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(num_bytes)


def test_a_folder_is_a_model_by_path_or_by_name(own_copy, settings):
    by_path, by_name = find_model(str(own_copy), settings), find_model("mine", settings)
    assert by_path == by_name
    assert by_path.name == "tiny"
    assert by_path.defaults == RequestDefaults(32, 48, 17, 8, 3, 4.0)
    assert by_path.vocabulary.objects == ("ball", "star", "boat")
    assert by_path.size_bytes > 1_000_000


def test_a_folder_without_a_card_has_the_defaults_of_open_sora(own_copy, settings):
    (own_copy / "chai.json").unlink()
    model = find_model("mine", settings)
    assert (model.name, model.defaults, model.vocabulary) == ("mine", RequestDefaults(), None)


def test_an_unknown_name_is_answered_with_the_known_ones(own_copy, settings):
    with pytest.raises(BadRequest, match=r"no model 'sora': choose one of demo, opensora-1\.2, mine, or give the path"):
        find_model("sora", settings)


def test_a_folder_that_is_no_model_is_told_what_is_missing(own_copy, settings):
    (own_copy / "vae" / "config.json").unlink()
    with pytest.raises(DamagedCheckpoint, match=r"is no model folder, because vae/config\.json is missing"):
        find_model("mine", settings)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_weights_cut_short_are_found_out_without_loading_them(own_copy, settings, part):
    (weights,) = (own_copy / part).glob("*.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    with pytest.raises(DamagedCheckpoint, match=r"has [\d,]+ bytes of [\d,]+, so it is damaged: fetch the model again"):
        find_model("mine", settings)
    for broken in (b"", content[:5], b"\xff" * 300):
        weights.write_bytes(broken)
        with pytest.raises(DamagedCheckpoint, match="is damaged: fetch the model again"):
            find_model("mine", settings)
    weights.unlink()
    with pytest.raises(MissingWeights, match=f"Weights are missing in .*{part}"):
        find_model("mine", settings)


@pytest.mark.parametrize("card", ["{", '{"vocabulary": {"objects": []}}', '{"defaults": 3}'])
def test_a_damaged_card_is_named(own_copy, settings, card):
    (own_copy / "chai.json").write_text(card)
    with pytest.raises(DamagedCheckpoint, match=r"chai\.json"):
        find_model("mine", settings)


def test_published_weights_that_are_not_here_are_named_with_size_and_command(settings):
    with pytest.raises(MissingWeights) as caught:
        find_model("opensora-1.2", settings)
    sentence = str(caught.value)
    for part in (*RELEASED_PARTS, RELEASED_EMBEDDER):
        assert f"{part.repository} ({part.size_gb:g} GB)" in sentence
        assert part.command in sentence
    assert "\n" not in sentence


def test_published_weights_are_found_in_the_hub_cache_and_in_the_models_folder(settings, tmp_path, monkeypatch):
    files = {"config.json": b"{}", "model.safetensors": safetensors_bytes()}
    for part in RELEASED_PARTS[:2]:
        hub_snapshot(tmp_path / "hub", part.repository, files)
    with pytest.raises(
        MissingWeights, match=r"missing here: DeepFloyd/t5-v1_1-xxl \(19.1 GB\), timm.*fetch them with: hf"
    ):
        find_model("opensora-1.2", settings)
    folder = settings.models_folder / "t5-v1_1-xxl"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    model = find_model("opensora-1.2", settings)
    assert model.parts["text_encoder"] == folder
    assert model.parts["vae"].name == "abc"
    ready = list_models(settings)[1]
    assert ready.model == model and RELEASED_EMBEDDER.command in ready.problem  # it makes videos, and reuses none
    hub_snapshot(tmp_path / "hub", RELEASED_EMBEDDER.repository, {RELEASED_EMBEDDER.file: safetensors_bytes()})
    assert list_models(settings)[1].problem is None
    assert model.defaults == RequestDefaults()


def test_a_shard_that_has_not_come_is_named(settings):
    folder = settings.models_folder / "t5-v1_1-xxl"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    shards = {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": shards}))
    (folder / shards["a"]).write_bytes(b"x")
    with pytest.raises(MissingWeights, match=r"pytorch_model-00002-of-00002\.bin is not there"):
        models.check_weights(folder)


def test_the_list_tells_what_is_ready_and_what_to_do_for_the_rest(own_copy, settings):
    mine = {status.name: status for status in list_models(settings)}
    assert list(mine) == ["demo", "opensora-1.2", "mine"]
    assert mine["mine"].model is not None and mine["mine"].about == "random weights, for tests"
    assert "hf download" in mine["opensora-1.2"].problem
    assert json.dumps([status.to_json() for status in mine.values()])


def test_a_fingerprint_is_made_of_content_and_not_of_place(own_copy, tiny_model_folder, settings):
    same = find_model(str(tiny_model_folder), settings).fingerprint(settings)
    assert find_model("mine", settings).fingerprint(settings) == same
    (weights,) = (own_copy / "transformer").glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert find_model("mine", settings).fingerprint(settings) != same


def test_checksums_of_large_files_are_remembered_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setattr("chai_app.models.fingerprint._REMEMBERED_BYTES", 10)
    memory, folder = tmp_path / "home" / "fingerprints.json", tmp_path / "part"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"0" * 100)
    first = fingerprint([("vae", folder)], memory)
    (key, checksum), *others = json.loads(memory.read_text()).items()
    assert str(folder) in key and not others
    memory.write_text(json.dumps({key: "f" * 64}))
    assert fingerprint([("vae", folder)], memory) != first, "the memory was asked, not the file"
    memory.write_text("damaged")
    assert fingerprint([("vae", folder)], memory) == first
    (folder / "model.safetensors").write_bytes(b"1" * 101)
    assert fingerprint([("vae", folder)], memory) != first
    assert checksum in json.loads(memory.read_text()).values()


def test_large_files_are_read_once_and_that_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("chai_app.models.fingerprint._REMEMBERED_BYTES", 10)
    memory, folder = tmp_path / "home" / "fingerprints.json", tmp_path / "part"
    folder.mkdir()
    weights = folder / "model.safetensors"
    weights.write_bytes(b"0" * 3_000_000)
    (folder / "config.json").write_text("{}")
    parts, read = [("vae", folder)], []
    assert unread_bytes(parts, memory) == 3_000_000
    first = fingerprint(parts, memory, read.append)
    assert sum(read) == 3_000_002 and len(read) > 3
    assert unread_bytes(parts, memory) == 0
    assert fingerprint(parts, memory, read.append) == first
    assert sum(read) == 3_000_004  # small files are not remembered
    times = weights.stat()
    other = folder / "other"
    other.write_bytes(b"1" * 3_000_000)
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(weights)  # the same name, size and time of writing: another file
    assert unread_bytes(parts, memory) == 3_000_000
    assert fingerprint(parts, memory) != first


def test_what_was_read_is_remembered_file_by_file(tmp_path, monkeypatch):
    monkeypatch.setattr("chai_app.models.fingerprint._REMEMBERED_BYTES", 10)
    memory, folder = tmp_path / "home" / "fingerprints.json", tmp_path / "part"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.safetensors").write_bytes(b"0" * 100)

    read = []

    def stop_at_the_second(count):
        read.append(count)
        if len(read) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fingerprint([("vae", folder)], memory, stop_at_the_second)
    assert unread_bytes([("vae", folder)], memory) == 100


def test_a_home_that_cannot_be_written_only_means_nothing_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr("chai_app.models.fingerprint._REMEMBERED_BYTES", 10)
    (tmp_path / "home").write_text("a file where the folder should be")
    folder = tmp_path / "part"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"0" * 100)
    assert len(fingerprint([("vae", folder)], tmp_path / "home" / "fingerprints.json")) == 16


def test_large_files_of_the_hub_cache_are_not_read_again(tmp_path):
    blob = tmp_path / "blobs" / ("a" * 64)
    blob.parent.mkdir()
    blob.write_bytes(b"weights")
    snapshot, copy = tmp_path / "snapshot", tmp_path / "copy"
    snapshot.mkdir()
    (snapshot / "model.safetensors").symlink_to(blob)
    first = fingerprint([("vae", snapshot)], tmp_path / "memory.json")
    blob.write_bytes(b"weights of the same name")  # cannot happen to a blob: its name is its checksum
    assert fingerprint([("vae", snapshot)], tmp_path / "memory.json") == first
    copy.mkdir()
    (copy / "model.safetensors").write_bytes(b"weights")
    assert fingerprint([("vae", copy)], tmp_path / "memory.json") != first


WORLD = Vocabulary.from_json(
    {
        "objects": ["ball", "boat"],
        "colours": ["red"],
        "scenes": ["desert"],
        "motions": ["moving up"],
        "words": ["a", "in", "the", "sailboat", "happily"],
    }
)


def test_words_never_seen_are_named_with_the_way_to_the_real_weights():
    note = WORLD.note("A red Tiger, with a ball in the jungle; tiger!", "demo")
    assert note == (
        "The demo model knows 2 objects (ball, boat), 1 colour (red), 1 scene (desert), 1 motion (moving up); "
        "it has never seen: tiger, jungle. For anything else use the real weights, the model opensora-1.2."
    )


def test_a_prompt_of_known_words_needs_no_note():
    assert WORLD.note("A red sailboat moving up happily, over the desert", "demo") is None


def test_a_prompt_without_any_known_thing_is_told_so():
    assert "No object or scene that it knows is left" in WORLD.note("a red tiger moving up", "demo")
    assert "No object or scene" not in WORLD.note("a sailboat and a tiger", "demo")
