"""Weights files, read tensor by tensor: what comes out, and how little memory it takes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from chai_app.errors import DamagedCheckpoint
from chai_app.opensora.checkpoint import load_text_encoder
from chai_app.opensora.weight_files import tensors_in

SUFFIXES = (".safetensors", ".bin")


def written(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".bin":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tensors_come_in_the_format_asked_for_and_whole_numbers_stay(tmp_path, suffix):
    tensors = {"a": torch.randn(30, 70), "b": torch.arange(5), "left": torch.zeros(3), "c": torch.randn(5000)}
    path = written(tmp_path / f"model{suffix}", tensors)
    read = []
    found = dict(tensors_in(path, lambda name: None if name == "left" else torch.bfloat16, read.append))
    assert found.keys() == {"a", "b", "c"}
    assert torch.equal(found["a"], tensors["a"].bfloat16()) and torch.equal(found["c"], tensors["c"].bfloat16())
    assert torch.equal(found["b"], tensors["b"])
    assert sum(read) == sum(tensor.nbytes for tensor in tensors.values())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tensors_do_not_change_with_the_file_that_they_came_from(tmp_path, suffix):
    values = torch.randn(64, 4096)
    path = written(tmp_path / f"model{suffix}", {"a": values.clone()})
    found = dict(tensors_in(path, lambda _name: torch.float32))
    with path.open("r+b") as file:  # in place, as a program may that downloads it again
        file.write(b"\0" * path.stat().st_size)
    assert torch.equal(found["a"], values)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells memory as Linux does")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_reading_takes_what_the_weights_take_and_one_tensor_more(tmp_path, suffix):
    path = written(tmp_path / f"model{suffix}", {f"layer.{i}": torch.randn(1000, 1000) for i in range(25)})  # 100 MB
    before = resident_mb()
    found, most = {}, 0.0
    for name, tensor in tensors_in(path, lambda _name: torch.bfloat16):
        found[name] = tensor
        most = max(most, resident_mb() - before)
    assert len(found) == 25
    assert most < 50 + 4 + 10  # what is kept, one tensor of the file, and the reading itself; 150 with all of the file


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


# -- the text encoder, as it was published: two pickles and a list of them --------------------------------------------


@pytest.fixture
def shards(text_encoder, tmp_path) -> Path:
    text_encoder.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    tensors = {**text_encoder.state_dict(), "decoder.final_layer_norm.weight": torch.ones(3)}
    names = sorted(tensors)
    halves = {f"pytorch_model-0000{i + 1}-of-00002.bin": names[i::2] for i in range(2)}
    for file, half in halves.items():
        torch.save({name: tensors[name] for name in half}, tmp_path / file)
    index = {"metadata": {}, "weight_map": {name: file for file, half in halves.items() for name in half}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return tmp_path


def states_of(encoder) -> torch.Tensor:
    with torch.no_grad():
        return encoder(input_ids=torch.tensor([[3, 4, 5, 1]])).last_hidden_state


def test_shards_of_pickles_make_the_text_encoder_that_was_saved(shards, text_encoder):
    read = []
    loaded = load_text_encoder(shards, on_bytes=read.append)
    assert torch.equal(states_of(loaded), states_of(text_encoder))
    assert loaded.shared.weight is loaded.encoder.embed_tokens.weight
    assert not any(weight.is_meta for weight in loaded.parameters())
    assert sum(read) > sum(weight.nbytes for weight in text_encoder.parameters())


def test_a_shard_that_lacks_a_tensor_is_told(shards):
    file = shards / "pytorch_model-00001-of-00002.bin"
    tensors = torch.load(file, weights_only=True)
    tensors.pop(next(name for name in tensors if name.startswith("encoder.block")))
    torch.save(tensors, file)
    with pytest.raises(DamagedCheckpoint, match="1 missing"):
        load_text_encoder(shards)


def test_weights_that_overflow_in_fp16_stay_in_fp32(shards):
    loaded = load_text_encoder(shards, torch.float16)
    of = {name.split(".")[-2]: weight.dtype for name, weight in loaded.named_parameters()}
    assert (of["wo"], of["wi_0"], of["q"]) == (torch.float32, torch.float16, torch.float16)
    assert states_of(loaded).isfinite().all()


def test_a_variant_alone_is_what_there_is(text_encoder, tmp_path):
    text_encoder.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model.fp16.safetensors")
    assert torch.equal(states_of(load_text_encoder(tmp_path)), states_of(text_encoder))
