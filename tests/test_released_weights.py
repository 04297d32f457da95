"""`--model opensora-1.2` from three published folders, with the small recorded weights in their place."""

import json
import shutil
from pathlib import Path

import pytest

from chai_app.engine import Engine
from chai_app.errors import DamagedCheckpoint, MissingWeights
from chai_app.request import GenerationRequest
from chai_app.settings import Settings

GOLDEN = Path(__file__).parent / "data" / "golden"


@pytest.fixture
def settings(tmp_path, monkeypatch, write_text_encoder) -> Settings:
    """A models folder laid out as `hf download --local-dir` would leave it, all parts small."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    models = tmp_path / "models"
    parts = {"OpenSora-STDiT-v3": "stdit3_weights.safetensors", "OpenSora-VAE-v1.2": "vae_weights.safetensors"}
    for name, weights in parts.items():
        (models / name).mkdir(parents=True)
        shutil.copy(GOLDEN / weights, models / name / "model.safetensors")
    config = json.loads((GOLDEN / "stdit3_config.json").read_text())
    (models / "OpenSora-STDiT-v3" / "config.json").write_text(json.dumps({**config, "model_type": "STDiT3"}))
    vae_config = {"model_type": "VideoAutoencoderPipeline", "micro_frame_size": 17}
    (models / "OpenSora-VAE-v1.2" / "config.json").write_text(json.dumps(vae_config))
    write_text_encoder(models / "t5-v1_1-xxl", models / "t5-v1_1-xxl", config["caption_channels"])
    return Settings(tmp_path / "home", models, tmp_path / "videos")


def test_published_parts_make_a_video(settings):
    request = GenerationRequest("a red ball", height=32, width=32, num_frames=5, num_inference_steps=1, seed=7)
    engine = Engine("opensora-1.2", settings=settings)
    generation = engine.generate(request)
    assert generation.frames.shape == (5, 32, 32, 3) and generation.frames.std() > 1
    assert (generation.report.model, generation.request.guidance_scale) == ("opensora-1.2", 7.0)
    assert engine.generate(request).report.latents_sha256 == generation.report.latents_sha256


def test_a_prompt_over_the_limit_is_told_once_the_tokenizer_is_there(settings, monkeypatch):
    monkeypatch.setattr("chai_app.models.catalogue.Model.tokenizer_file", None)
    long = "a red ball and a blue ball and a green ball and two star over the moon"
    request = GenerationRequest(long, height=32, width=32, num_frames=1, num_inference_steps=1)
    engine = Engine("opensora-1.2", settings=settings)
    assert engine.plan(request).notes == ()
    cut_off, _ = engine.generate(request).report.notes
    assert (
        cut_off == "The prompt has more tokens than the model reads, so this is cut off: 'and two star over the moon'."
    )


def test_without_the_published_embedder_the_video_is_made_and_the_way_to_reuse_is_told(settings):
    request = GenerationRequest("a red ball", height=32, width=32, num_frames=1, num_inference_steps=1)
    report = Engine("opensora-1.2", settings=settings).generate(request).report
    (note,) = report.notes
    assert note.startswith("This video was not kept for reuse: The weights of the embedder ViT-L-14/openai are not on")
    assert "fetch them with hf download " in note


def test_a_part_that_is_missing_or_damaged_is_named(settings):
    weights = settings.models_folder / "OpenSora-VAE-v1.2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    engine, request = Engine("opensora-1.2", settings=settings), GenerationRequest("a red ball")
    with pytest.raises(DamagedCheckpoint, match=r"OpenSora-VAE-v1\.2/model\.safetensors has .* so it is damaged"):
        engine.plan(request)
    shutil.rmtree(weights.parent)
    with pytest.raises(MissingWeights, match=r"missing here: hpcai-tech/OpenSora-VAE-v1\.2 \(1\.6 GB\), timm"):
        engine.plan(request)
