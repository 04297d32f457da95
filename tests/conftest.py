"""What tests share: a tiny model of the real classes with random weights, in the layout of a shipped model."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # small tensors gain nothing from threads, and lose much on busy cores

TINY_WORDS = ["a", "and", "in", "on", "over", "the", "two", "red", "blue", "green", "ball", "star", "boat"]
TINY_WORDS += ["desert", "ocean", "moon", "rising", "falling", "bouncing"]
TINY_DEFAULTS = {
    "height": 32,
    "width": 48,
    "num_frames": 17,
    "fps": 8,
    "num_inference_steps": 3,
    "guidance_scale": 4.0,
}


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model folder (diffusers' layout and chai.json) that makes noise at 32 x 48 in a fraction of a second.

    Tests of damage copy it first: it is shared by all tests of a session.
    """
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def write_text_encoder() -> Callable[[Path, Path, int], None]:
    """`write_text_encoder(encoder_folder, tokenizer_folder, width)`: a tiny T5 encoder and its tokenizer."""
    return _write_text_encoder


@pytest.fixture(autouse=True)
def a_plain_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests find the same CPU everywhere: one without matrix units."""
    monkeypatch.setattr("torch.cpu.get_capabilities", dict, raising=False)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the folders of the person who runs it."""
    monkeypatch.setenv("CHAI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CHAI_OUTPUT", str(tmp_path / "videos"))
    monkeypatch.delenv("CHAI_MODELS", raising=False)


def write_tiny_model(folder: Path) -> None:
    """Save a model of a few thousand random weights, seeded, under `folder`."""
    import torch

    from chai_app.opensora import AutoencoderKLOpenSora, OpenSoraTransformer3DModel
    from chai_app.opensora.schedule import new_scheduler

    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = OpenSoraTransformer3DModel(
            hidden_size=32, depth=1, num_heads=4, caption_channels=16, model_max_length=12, input_sq_size=64
        )
        for parameter in transformer.parameters():  # the original's start lets the prompt and time change nothing
            if parameter.abs().max() == 0:
                torch.nn.init.normal_(parameter, std=0.05)
        vae = AutoencoderKLOpenSora(
            spatial={
                "block_out_channels": [8, 8, 16, 16],
                "down_block_types": ["DownEncoderBlock2D"] * 4,
                "up_block_types": ["UpDecoderBlock2D"] * 4,
                "layers_per_block": 1,
                "latent_channels": 4,
                "norm_num_groups": 4,
                "sample_size": 64,
            },
            temporal_filters=8,
            temporal_num_res_blocks=1,
            temporal_norm_num_groups=4,
        )
    _write_text_encoder(folder / "text_encoder", folder / "tokenizer", width=16)
    for part, name in ((transformer, "transformer"), (vae, "vae"), (new_scheduler(), "scheduler")):
        part.save_pretrained(folder / name)
    vocabulary = {
        "objects": ["ball", "star", "boat"],
        "colours": ["red", "blue", "green"],
        "scenes": ["desert", "ocean", "moon"],
        "motions": ["rising", "falling", "bouncing"],
        "words": TINY_WORDS,
    }
    card = {"name": "tiny", "about": "random weights, for tests", "defaults": TINY_DEFAULTS, "vocabulary": vocabulary}
    (folder / "chai.json").write_text(json.dumps(card))


def _write_text_encoder(encoder_folder: Path, tokenizer_folder: Path, width: int) -> None:
    """Save a T5 encoder of one layer with states of `width`, and a tokenizer of whole words for it."""
    import torch
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    config = T5Config(vocab_size=64, d_model=width, d_kv=4, d_ff=32, num_layers=1, num_heads=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        T5EncoderModel(config).save_pretrained(encoder_folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_word_tokenizer(), pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(tokenizer_folder)


def _word_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *TINY_WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer
