"""Loading: the released layout, diffusers' layout, what is missing, and what is damaged."""

import importlib
import json
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from chai_app.errors import ChaiError, DamagedCheckpoint, MissingWeights
from chai_app.opensora import AutoencoderKLOpenSora, OpenSoraPipeline, OpenSoraTransformer3DModel

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
TOLERANCE = 1e-4


@pytest.fixture
def released_transformer(tmp_path) -> Path:
    """A folder as the transformer was published, small."""
    folder = tmp_path / "OpenSora-STDiT-v3"
    folder.mkdir()
    config = json.loads((GOLDEN / "stdit3_config.json").read_text())
    # The published file has fields of the original's training and kernels too, and of transformers.
    others = {"drop_path": 0.0, "enable_flash_attn": True, "input_size": [None, None, None], "torch_dtype": "float32"}
    published = {"architectures": ["STDiT3"], "model_type": "STDiT3", "transformers_version": "4.36.2"}
    (folder / "config.json").write_text(json.dumps(config | others | published))
    shutil.copy(GOLDEN / "stdit3_weights.safetensors", folder / "model.safetensors")
    return folder


@pytest.fixture
def released_vae(tmp_path) -> Path:
    """A folder as the autoencoder was published, small."""
    folder = tmp_path / "OpenSora-VAE-v1.2"
    folder.mkdir()
    config = {
        "architectures": ["VideoAutoencoderPipeline"],
        "model_type": "VideoAutoencoderPipeline",
        "micro_frame_size": 17,
        "shift": [-0.1, 0.34, 0.27, 0.98],
        "scale": [3.85, 2.32, 2.33, 3.06],
        "vae_2d": {"type": "VideoAutoencoderKL", "from_pretrained": "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers"},
        "vae_temporal": {"type": "VAE_Temporal_SD", "from_pretrained": None},
    }
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(GOLDEN / "vae_weights.safetensors", folder / "model.safetensors")
    return folder


def check_transformer(transformer) -> None:
    recorded, name = load_file(GOLDEN / "stdit3_cases.safetensors"), "even"
    case = json.loads((GOLDEN / "stdit3_cases.json").read_text())[name]
    with torch.no_grad():
        velocity = transformer(
            recorded[f"{name}.x"],
            torch.full((2,), case["timestep"]),
            recorded[f"{name}.y"].squeeze(1),
            recorded[f"{name}.mask"],
            fps=case["fps"],
            height=case["height"],
            width=case["width"],
        ).sample
    torch.testing.assert_close(velocity, recorded[f"{name}.out"][:, :4], atol=TOLERANCE, rtol=0)


def check_vae(vae) -> None:
    recorded = load_file(GOLDEN / "vae_cases.safetensors")
    with torch.no_grad():
        latents = vae.encode(recorded["one_block.x"].float()).latent_dist.mode()
        pixels = vae.decode(recorded["ragged.z"], num_frames=42).sample
    torch.testing.assert_close(latents, recorded["one_block.z"], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(pixels, recorded["ragged.y"], atol=TOLERANCE, rtol=0)


# -- the released layout ----------------------------------------------------------------------------------------------


def test_released_transformer_loads_through_the_usual_call(released_transformer):
    transformer = OpenSoraTransformer3DModel.from_pretrained(str(released_transformer))
    assert not transformer.training
    assert transformer.dtype == torch.float32
    check_transformer(transformer)


def test_released_autoencoder_loads_through_the_usual_call(released_vae, vae_config):
    vae = AutoencoderKLOpenSora.from_pretrained(str(released_vae))
    assert not vae.training
    assert vae.config.temporal_filters == vae_config["temporal_filters"]
    assert vae.config.spatial["norm_num_groups"] == vae_config["spatial"]["norm_num_groups"]
    check_vae(vae)


def test_sizes_of_the_published_autoencoder_are_read_off_its_tensors():
    from chai_app.opensora.released_layout import autoencoder_config, autoencoder_name

    shapes = json.loads((GOLDEN / "vae_v1_2_state_dict.json").read_text())
    tensors = {autoencoder_name(name): torch.empty(shape, device="meta") for name, shape in shapes.items()}
    tensors |= {"shift": torch.zeros(4), "scale": torch.ones(4)}
    config = autoencoder_config({"micro_frame_size": 17}, tensors)
    assert config["spatial"]["block_out_channels"] == [128, 256, 512, 512]
    assert config["spatial"]["layers_per_block"] == 2
    assert config["spatial"]["norm_num_groups"] == 32
    assert config["temporal_channel_multipliers"] == [1, 2, 2, 4]
    assert config["temporal_downsample"] == [False, True, True]
    assert (config["temporal_filters"], config["temporal_num_res_blocks"]) == (128, 4)


@pytest.mark.parametrize("as_string", [True, False])
def test_subfolder_and_dtype_are_honoured(released_transformer, released_vae, as_string):
    parent = released_transformer.parent
    source = str(parent) if as_string else parent
    options = {"subfolder": released_transformer.name, "torch_dtype": torch.bfloat16, "local_files_only": True}
    transformer = OpenSoraTransformer3DModel.from_pretrained(source, **options)
    assert {tensor.dtype for tensor in transformer.state_dict().values()} == {torch.bfloat16}
    vae = AutoencoderKLOpenSora.from_pretrained(source, subfolder=released_vae.name, torch_dtype=torch.float16)
    assert {tensor.dtype for tensor in vae.state_dict().values()} == {torch.float16}


def test_a_repository_in_the_hubs_cache_is_found_there(released_transformer, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--hpcai-tech--OpenSora-STDiT-v3"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(released_transformer, repository / "snapshots" / commit)
    options = {"cache_dir": tmp_path / "hub", "local_files_only": True}
    check_transformer(OpenSoraTransformer3DModel.from_pretrained("hpcai-tech/OpenSora-STDiT-v3", **options))
    check_transformer(
        OpenSoraTransformer3DModel.from_pretrained("hpcai-tech/OpenSora-STDiT-v3", revision=commit, **options)
    )


def test_released_weights_are_saved_in_diffusers_layout(released_transformer, released_vae, tmp_path):
    OpenSoraTransformer3DModel.from_pretrained(released_transformer).save_pretrained(tmp_path / "transformer")
    AutoencoderKLOpenSora.from_pretrained(released_vae).save_pretrained(tmp_path / "vae")
    check_transformer(OpenSoraTransformer3DModel.from_pretrained(tmp_path / "transformer"))
    check_vae(AutoencoderKLOpenSora.from_pretrained(tmp_path / "vae"))


def test_half_precision_files_are_worked_with_in_fp32_unless_asked_otherwise(transformer, tmp_path):
    transformer.half().save_pretrained(tmp_path)
    assert OpenSoraTransformer3DModel.from_pretrained(tmp_path).dtype == torch.float32
    assert OpenSoraTransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.float16).dtype == torch.float16


def test_three_released_parts_make_a_pipeline(released_transformer, released_vae, text_encoder, tokenizer, tmp_path):
    text_encoder.save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    folders = {"transformer": released_transformer, "vae": released_vae, "text_encoder": tmp_path / "t5"}
    pipe = OpenSoraPipeline.from_released(**folders, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    frames = pipe("a red cat", height=16, width=16, num_frames=1, num_inference_steps=1, output_type="pt").frames
    assert frames.shape == (1, 1, 3, 16, 16)
    half = OpenSoraPipeline.from_released(**folders, torch_dtype=torch.float16)
    assert (half.transformer.dtype, half.text_encoder.dtype, half.vae.dtype) == (
        torch.float16,
        torch.float16,
        torch.float32,
    )


# -- the whole pipeline -----------------------------------------------------------------------------------------------

RUN = {"height": 16, "width": 24, "num_frames": 17, "num_inference_steps": 2}


@pytest.fixture
def saved(pipeline, tmp_path) -> Path:
    pipeline.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def latents_of(pipe) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    return pipe("a red cat", generator=torch.Generator().manual_seed(0), **RUN).latents


def test_a_saved_pipeline_makes_the_same_video(pipeline, saved):
    assert torch.equal(latents_of(OpenSoraPipeline.from_pretrained(saved)), latents_of(pipeline))


def test_parts_that_are_here_already_are_not_loaded(pipeline, saved):
    shutil.rmtree(saved / "vae")
    pipe = OpenSoraPipeline.from_pretrained(str(saved), vae=pipeline.vae)
    assert pipe.vae is pipeline.vae
    assert torch.equal(latents_of(pipe), latents_of(pipeline))


@pytest.fixture
def renamed_package():
    """The package as a host imports it that gives the repository a name of its own."""
    host = types.ModuleType("a_host_of_nodes")
    host.__path__ = [str(Path(__file__).parents[2])]
    sys.modules["a_host_of_nodes"] = host
    yield importlib.import_module("a_host_of_nodes.chai_app.opensora")
    for name in [name for name in sys.modules if name.split(".")[0] == "a_host_of_nodes"]:
        del sys.modules[name]


def test_a_pipeline_loads_under_another_package_name(pipeline, saved, renamed_package, tmp_path):
    renamed = renamed_package.OpenSoraPipeline.from_pretrained(saved)
    assert type(renamed.transformer) is renamed_package.OpenSoraTransformer3DModel
    assert type(renamed.transformer) is not OpenSoraTransformer3DModel
    assert torch.equal(latents_of(renamed), latents_of(pipeline))
    renamed.save_pretrained(tmp_path / "again")  # names modules that only the host knows
    assert torch.equal(latents_of(OpenSoraPipeline.from_pretrained(tmp_path / "again")), latents_of(pipeline))


# -- missing and damaged ----------------------------------------------------------------------------------------------


def one_sentence(error: pytest.ExceptionInfo) -> bool:
    text = str(error.value)
    return "\n" not in text and text.endswith(".") and len(text) < 500


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    tensors.pop(sorted(tensors)[len(tensors) // 2])
    save_file(tensors, path)


def of_another_shape(path: Path) -> None:
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if len(tensors[name]) > 1)
    save_file(tensors | {name: tensors[name][:1].contiguous()}, path)


def no_tensors_at_all(path: Path) -> None:
    path.write_bytes(b"<html>404</html>")


DAMAGES = [cut_short, without_a_tensor, of_another_shape, no_tensors_at_all]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_released_weights_are_told_in_one_sentence(released_transformer, released_vae, damage):
    for folder, model in ((released_transformer, OpenSoraTransformer3DModel), (released_vae, AutoencoderKLOpenSora)):
        damage(folder / "model.safetensors")
        with pytest.raises(DamagedCheckpoint, match=str(folder)) as error:
            model.from_pretrained(folder)
        assert one_sentence(error)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_damaged_saved_weights_are_told_in_one_sentence(saved, part, damage):
    (weights,) = (saved / part).glob("*.safetensors")
    damage(weights)
    with pytest.raises(DamagedCheckpoint, match=str(saved / part)) as error:
        OpenSoraPipeline.from_pretrained(saved)
    assert one_sentence(error)


def test_a_config_that_is_no_json_is_told_in_one_sentence(released_transformer, saved):
    for folder, load in ((released_transformer, OpenSoraTransformer3DModel), (saved / "vae", AutoencoderKLOpenSora)):
        (folder / "config.json").write_text("{")
        with pytest.raises(DamagedCheckpoint, match=str(folder)) as error:
            load.from_pretrained(folder)
        assert one_sentence(error)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_told_in_one_sentence(saved, part):
    shutil.rmtree(saved / part)
    with pytest.raises(MissingWeights, match=part) as error:
        OpenSoraPipeline.from_pretrained(saved)
    assert one_sentence(error)


def test_a_missing_file_of_weights_is_told_in_one_sentence(released_vae, saved):
    (released_vae / "model.safetensors").unlink()
    (saved / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    for folder, model in ((released_vae, AutoencoderKLOpenSora), (saved / "transformer", OpenSoraTransformer3DModel)):
        with pytest.raises(ChaiError, match=str(folder)) as error:
            model.from_pretrained(folder)
        assert one_sentence(error)


def test_weights_that_are_nowhere_are_told_with_the_command_that_fetches_them(tmp_path):
    options = {"cache_dir": tmp_path, "local_files_only": True}
    for load in (OpenSoraTransformer3DModel.from_pretrained, AutoencoderKLOpenSora.from_pretrained):
        with pytest.raises(MissingWeights, match="fetch it with `hf download hpcai-tech/nothing`") as error:
            load("hpcai-tech/nothing", **options)
        assert one_sentence(error)
    with pytest.raises(MissingWeights, match="hf download") as error:
        OpenSoraPipeline.from_released(**options)
    assert one_sentence(error)
