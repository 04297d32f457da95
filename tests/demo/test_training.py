import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from chai_app.demo.data import specs
from chai_app.demo.judge import HEADS, Judge, targets
from chai_app.demo.learn.loop import Settings, learning_rate, train
from chai_app.demo.package import FOLDER
from chai_app.demo.train import Training
from chai_app.demo.train_autoencoder import LATENT_CHANNELS, new_autoencoder, widened

SETTINGS = Settings(steps=40, batch_size=4, peak_lr=1e-2, warmup_steps=4, ema_decay=0.9, seed=7)


def _regression(model):
    def loss_of(generator):
        x = torch.randn(SETTINGS.batch_size, 3, generator=generator)
        return (model(x) - x.sum(1, keepdim=True)).square().mean(), {}

    return loss_of


class Interrupted(Exception):
    pass


def test_an_interrupted_training_ends_with_the_very_weights_of_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr("chai_app.demo.learn.loop.SAVE_EVERY_S", 0.0)
    torch.manual_seed(0)
    first = nn.Linear(3, 1)
    second, third = nn.Linear(3, 1), nn.Linear(3, 1)
    for other in (second, third):
        other.load_state_dict(first.state_dict())
    train("whole", tmp_path, first, SETTINGS, _regression(first))

    steps = 0
    loss_of = _regression(second)

    def stops_after_25(generator):
        nonlocal steps
        steps += 1
        if steps > 25:
            raise Interrupted
        return loss_of(generator)

    with pytest.raises(Interrupted):
        train("broken", tmp_path, second, SETTINGS, stops_after_25)
    train("broken", tmp_path, third, SETTINGS, _regression(third))
    torch.testing.assert_close(third.weight, first.weight, rtol=0, atol=0)


def test_losses_are_written_down_with_the_settings(tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    train("log", tmp_path, model, replace(SETTINGS, peak_lr=0.1), _regression(model))
    lines = [json.loads(line) for line in (tmp_path / "log.log.jsonl").read_text().splitlines()]
    assert lines[0]["settings"]["peak_lr"] == 0.1
    assert [line["step"] for line in lines[1:]] == [20, 40]
    assert lines[2]["loss"] < lines[1]["loss"]


def test_the_learning_rate_warms_up_and_falls():
    rates = [learning_rate(SETTINGS, step) for step in range(SETTINGS.steps)]
    assert rates[0] < rates[3] > rates[20] > rates[39]


def test_the_judge_answers_every_question_for_every_clip():
    shown = specs("test", 3)
    judge = Judge().eval()
    logits, features = judge(torch.zeros(3, 17, 3, 64, 64))
    assert {name: tuple(answer.shape) for name, answer in logits.items()} == {n: (3, s) for n, s in HEADS.items()}
    assert features.shape == (3, 9, 128)
    verdicts = judge.verdicts(torch.zeros(3, 17, 3, 64, 64), [len(spec.things) for spec in shown])
    assert [len(verdict.objects) for verdict in verdicts] == [len(spec.things) for spec in shown]
    assert targets(shown)["object"].sum(1).tolist() == [len(spec.things) for spec in shown]


def test_the_whole_training_can_be_rehearsed(tmp_path, monkeypatch):
    """Every part once, a few steps each: what `python -m chai_app.demo.train` does, cut short."""
    from chai_app.opensora import OpenSoraPipeline

    training = Training(tmp_path, speed_up=2000)
    training.judge()
    training.text_encoder()
    training.embedder()
    training.autoencoder()
    training.transformer()
    training.decoders()
    pipeline = OpenSoraPipeline.from_pretrained(tmp_path / "packaged")
    output = pipeline(
        "a red ball", height=64, width=64, num_frames=17, fps=8, num_inference_steps=2, output_type="uint8"
    )
    assert output.frames.shape == (1, 17, 64, 64, 3)


def test_a_part_goes_on_from_a_finished_model(tmp_path):
    """Its other parts are taken as they are; here the transformer goes on from the shipped one."""
    from chai_app.opensora import OpenSoraTransformer3DModel

    training = Training(tmp_path, speed_up=2000, start_from=FOLDER)
    training.transformer()
    shipped = OpenSoraTransformer3DModel.from_pretrained(FOLDER / "transformer", torch_dtype=torch.float32)
    trained = OpenSoraTransformer3DModel.from_pretrained(tmp_path / "packaged" / "transformer", dtype=torch.float32)
    changes = [(a - b).abs().max() for a, b in zip(trained.parameters(), shipped.parameters(), strict=True)]
    assert 0 < max(changes) < 0.05  # two steps away, and not somewhere else
    assert (tmp_path / "packaged" / "vae" / "config.json").is_file()
    assert not (tmp_path / "vae").exists()


def test_a_wider_autoencoder_keeps_what_the_narrow_one_has_learnt():
    torch.manual_seed(0)
    wide = new_autoencoder()
    state = wide.state_dict()
    half = LATENT_CHANNELS // 2

    def narrowed(tensor):
        for axis, size in enumerate(tensor.shape[:2]):
            if size == 2 * LATENT_CHANNELS:
                kept = torch.tensor([*range(half), *range(LATENT_CHANNELS, LATENT_CHANNELS + half)])
                tensor = tensor.index_select(axis, kept)
            elif size == LATENT_CHANNELS:
                tensor = tensor.narrow(axis, 0, half)
        return tensor

    edges = ("spatial_vae.encoder.conv_out", "spatial_vae.decoder.conv_in", "quant_conv", "shift", "scale")
    edges += tuple(
        f"temporal_vae.{edge}." for edge in ("encoder.conv_in", "encoder.conv2", "decoder.conv1", "decoder.conv_out")
    )
    narrow = {
        name: narrowed(tensor) if any(edge in name for edge in edges) else tensor for name, tensor in state.items()
    }
    again = widened(narrow, new_autoencoder().state_dict())
    assert all(again[name].shape == tensor.shape for name, tensor in state.items())
    for name, tensor in again.items():
        torch.testing.assert_close(narrowed(tensor) if tensor.shape != narrow[name].shape else tensor, narrow[name])
