"""The small models whose outputs the original's code has recorded, and a small pipeline around them."""

import json
from pathlib import Path

import pytest
import torch
from accelerate import init_empty_weights
from safetensors.torch import load_file

from chai_app.opensora import AutoencoderKLOpenSora, OpenSoraPipeline, OpenSoraTransformer3DModel
from chai_app.opensora.schedule import new_scheduler

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
WORDS = ["a", "the", "in", "red", "sunny", "rainy", "balloon", "cat", "dog", "rises", "runs", "desert", "jungle", "day"]


def read_json(name: str):
    return json.loads((GOLDEN / name).read_text("utf-8"))


def read_tensors(name: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / name)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors gain nothing from threads, and lose much where other work wants the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_transformer():
    """Makes the small STDiT3 of the golden cases."""
    config, tensors = read_json("stdit3_config.json"), read_tensors("stdit3_weights.safetensors")

    def make(**changes) -> OpenSoraTransformer3DModel:
        model = OpenSoraTransformer3DModel(**config | changes).eval()
        model.load_released_state_dict(tensors)
        return model

    return make


@pytest.fixture(scope="session")
def vae_config() -> dict:
    """Configuration of the small autoencoder of the golden cases."""
    golden = read_json("vae_cases.json")
    return {
        "spatial": golden["spatial"],
        "temporal_filters": golden["temporal"]["filters"],
        "temporal_num_res_blocks": golden["temporal"]["num_res_blocks"],
        "temporal_downsample": golden["temporal"]["temporal_downsample"],
        "latents_mean": golden["shift"],
        "latents_std": golden["scale"],
    }


@pytest.fixture(scope="session")
def make_vae(vae_config):
    """Makes the small autoencoder of the golden cases, in fp32."""
    tensors = read_tensors("vae_weights.safetensors")

    def make() -> AutoencoderKLOpenSora:
        with init_empty_weights(include_buffers=True):
            model = AutoencoderKLOpenSora(**vae_config).eval()
        model.load_released_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return model

    return make


@pytest.fixture
def transformer(make_transformer) -> OpenSoraTransformer3DModel:
    """The small STDiT3 of the golden cases."""
    return make_transformer()


@pytest.fixture
def vae(make_vae) -> AutoencoderKLOpenSora:
    """The small autoencoder of the golden cases."""
    return make_vae()


@pytest.fixture(scope="session")
def tokenizer():
    """A tokenizer of whole words with T5's two special tokens: padding, and an end to every text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=12
    )


@pytest.fixture(scope="session")
def text_encoder(tokenizer):
    """A T5 encoder of two layers, as wide as the small transformer wants its captions."""
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config).eval()


@pytest.fixture(scope="session")
def make_pipeline(make_transformer, make_vae, tokenizer, text_encoder):
    """Makes a whole pipeline of small parts; the transformer's configuration may be changed."""

    def make(**changes) -> OpenSoraPipeline:
        pipe = OpenSoraPipeline(tokenizer, text_encoder, make_vae(), make_transformer(**changes), new_scheduler())
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return make


@pytest.fixture
def pipeline(make_pipeline) -> OpenSoraPipeline:
    """A whole pipeline of small parts."""
    return make_pipeline()


@pytest.fixture
def seeded():
    """`seeded(1, 2)`: a CPU generator for each of two videos."""
    return lambda *seeds: [torch.Generator().manual_seed(seed) for seed in seeds]
