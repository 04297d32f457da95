"""A model folder is data. Each attack here runs code, or opens what is outside, where a gate is missing."""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest

from chai_app.cache.embedder import OpenClipEmbedder
from chai_app.checks.only_data import check_only_data
from chai_app.engine import Engine
from chai_app.enhance import Enhancer
from chai_app.errors import ChaiError
from chai_app.models import find_model
from chai_app.opensora import OpenSoraPipeline
from chai_app.request import GenerationRequest
from chai_app.settings import BUNDLED_MODELS, Settings

CODE = "import pathlib; pathlib.Path({mark!r}).touch()\n"
REMOTE = {"AutoConfig": "code.Config", "AutoTokenizer": ["code.Tokenizer", None], "AutoModelForCausalLM": "code.Model"}


@pytest.fixture
def mark(tmp_path) -> Path:
    """A file that code would leave."""
    return tmp_path / "it-ran"


@pytest.fixture
def model(tiny_model_folder, tmp_path, mark) -> Path:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    shutil.copytree(BUNDLED_MODELS / "demo" / "embedder", folder / "embedder")
    for place in (folder, *(part for part in folder.iterdir() if part.is_dir())):
        (place / "code.py").write_text(CODE.format(mark=str(mark)))
    return folder


def change(path: Path, **values) -> None:
    """Put values into a JSON file, a dotted name further in."""
    config = json.loads(path.read_text()) if path.is_file() else {}
    for name, value in values.items():
        *outer, last = name.split("__")
        inner = config
        for each in outer:
            inner = inner.setdefault(each, {})
        inner[last] = value
    path.write_text(json.dumps(config))


class Runs:
    """A pickle that leaves the mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def pickled(path: Path, mark: Path) -> None:
    """A weights file as torch writes it, with code in it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Runs(mark), protocol=2))
        archive.writestr("archive/version", "3\n")


def only_pickled(part: Path, mark: Path, name: str) -> None:
    for weights in part.glob("*.safetensors"):
        weights.unlink()
    pickled(part / name, mark)


def sharded(part: Path, shard: str) -> None:
    (weights,) = part.glob("*.safetensors")
    shutil.move(weights, part.parent.parent / "outside.safetensors")
    index = {"metadata": {}, "weight_map": {"shared.weight": shard}}
    (part / "model.safetensors.index.json").write_text(json.dumps(index))


def linked(path: Path) -> None:
    outside = path.parents[2] / f"outside-{path.name}"
    shutil.move(path, outside)
    path.symlink_to(outside)


ATTACKS = {
    "embedder: a tokenizer with code": lambda m, mark: change(
        m / "embedder" / "open_clip_config.json",
        model_cfg__text_cfg__hf_tokenizer_name="x",
        model_cfg__text_cfg__tokenizer_kwargs={"trust_remote_code": True},
    )
    or change(m / "embedder" / "tokenizer_config.json", auto_map=REMOTE, tokenizer_class="Tokenizer"),
    "embedder: a tower from elsewhere": lambda m, mark: change(
        m / "embedder" / "open_clip_config.json", model_cfg__text_cfg__hf_model_name="evil/model"
    ),
    "embedder: a timm model": lambda m, mark: change(
        m / "embedder" / "open_clip_config.json", model_cfg__vision_cfg__timm_model_name="hf-hub:evil/model"
    ),
    "embedder: a pickle": lambda m, mark: only_pickled(m / "embedder", mark, "open_clip_pytorch_model.bin"),
    "text encoder: remote code": lambda m, mark: change(m / "text_encoder" / "config.json", auto_map=REMOTE),
    "text encoder: trust": lambda m, mark: change(m / "text_encoder" / "config.json", trust_remote_code=True),
    "text encoder: kernels of the hub": lambda m, mark: change(
        m / "text_encoder" / "config.json", attn_implementation="evil/kernel"
    ),
    "text encoder: a quantiser": lambda m, mark: change(
        m / "text_encoder" / "config.json", quantization_config={"quant_method": "mxfp4"}
    ),
    "text encoder: an adapter": lambda m, mark: change(
        m / "text_encoder" / "adapter_config.json", base_model_name_or_path="evil/model"
    ),
    "text encoder: a pickle": lambda m, mark: only_pickled(m / "text_encoder", mark, "pytorch_model.bin"),
    "text encoder: an old pickle": lambda m, mark: (m / "text_encoder" / "pytorch_model.bin").write_bytes(
        pickle.dumps(Runs(mark))
    ),
    "transformer: a pickle beside": lambda m, mark: pickled(
        m / "transformer" / "diffusion_pytorch_model.bin", mark
    ),
    "transformer: another class": lambda m, mark: change(m / "transformer" / "config.json", _class_name="Evil"),
    "vae: remote code": lambda m, mark: change(m / "vae" / "config.json", auto_map={"AutoModel": "code.Model"}),
    "tokenizer: remote code": lambda m, mark: change(
        m / "tokenizer" / "tokenizer_config.json", auto_map=REMOTE, tokenizer_class="Tokenizer"
    ),
    "tokenizer: a config with remote code": lambda m, mark: change(
        m / "tokenizer" / "config.json", auto_map=REMOTE, model_type="evil"
    ),
    "scheduler: a foreign class": lambda m, mark: change(
        m / "scheduler" / "scheduler_config.json", _class_name="code.Scheduler"
    ),
    "index: custom modules": lambda m, mark: change(m / "model_index.json", unet=["code", "Model"]),
    "index: a custom pipeline": lambda m, mark: change(m / "model_index.json", _class_name=["code", "Pipeline"]),
    "shards elsewhere": lambda m, mark: sharded(m / "text_encoder", "../../outside.safetensors"),
    "shards anywhere": lambda m, mark: sharded(m / "text_encoder", str(m.parent / "outside.safetensors")),
    "a link out": lambda m, mark: linked(m / "text_encoder" / "config.json"),
    "linked weights": lambda m, mark: linked(m / "embedder" / "open_clip_model.safetensors"),
    "settings without end": lambda m, mark: (m / "vae" / "more_config.json").write_text("[" * 200_000),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_in_a_model_folder_runs_and_the_person_is_told(attack, model, mark, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # a library that asks the person is told yes
    ATTACKS[attack](model, mark)
    settings = Settings(tmp_path / "home", tmp_path / "models", tmp_path / "videos")
    with pytest.raises(ChaiError) as told:
        find_model(str(model), settings)
    assert str(model) in str(told.value) and "\n" not in str(told.value)
    engine = Engine(str(model), device="cpu", settings=settings)
    for ask in (engine.plan, engine.generate):
        with pytest.raises(ChaiError):
            ask(GenerationRequest("a red ball", num_inference_steps=1))
    if attack.startswith("embedder") or attack == "linked weights":
        with pytest.raises(ChaiError):
            OpenClipEmbedder(f"local-dir:{model / 'embedder'}").embed(["a"])
    elif not attack.startswith("index"):
        with pytest.raises(ChaiError):
            OpenSoraPipeline.from_pretrained(model)
            check_only_data(model)  # what the pipeline never reads
    assert not mark.exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_an_enhancer_is_data_too(file, tmp_path, mark):
    folder = shutil.copytree(BUNDLED_MODELS / "enhancer", tmp_path / "enhancer")
    (folder / "code.py").write_text(CODE.format(mark=str(mark)))
    change(folder / file, auto_map=REMOTE)
    with pytest.raises(ChaiError, match="a model folder may hold nothing but data"):
        Enhancer.load(str(folder), "cpu")
    assert not mark.exists()


def test_what_is_shipped_and_what_the_hub_lays_out_is_let_through(tiny_model_folder, tmp_path):
    for folder in (BUNDLED_MODELS / "demo", BUNDLED_MODELS / "enhancer", tiny_model_folder):
        check_only_data(folder)
    snapshot, blobs = tmp_path / "models--x" / "snapshots" / "abc", tmp_path / "models--x" / "blobs"
    shutil.copytree(tiny_model_folder, blobs / "kept")
    snapshot.mkdir(parents=True)
    for part in ("transformer", "vae"):
        (snapshot / part).mkdir()
        for file in (blobs / "kept" / part).iterdir():
            (snapshot / part / file.name).symlink_to(file)
    check_only_data(snapshot)
    check_only_data(snapshot / "vae")
    link = tmp_path / "a link of the person's own"
    link.symlink_to(tiny_model_folder)
    check_only_data(link)


def test_weights_of_tensors_alone_may_be_a_bin(tmp_path):
    import torch

    torch.save({"a": torch.zeros(2), "b": torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16))}, tmp_path / "x.bin")
    check_only_data(tmp_path)
