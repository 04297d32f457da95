import numpy as np
import pytest
import torch

from chai_app.demo.drawn.data import specs
from chai_app.demo.drawn.looks import THING_TRAITS
from chai_app.demo.drawn.render import render
from chai_app.demo.learn.__main__ import Training
from chai_app.demo.learn.latents import covered, encode
from chai_app.demo.learn.partners import partners
from chai_app.demo.learn.transformer import OF_A_PICTURE, OF_A_TOKEN, labels_of, probe_loss
from chai_app.opensora import AutoencoderKLOpenSora, OpenSoraTransformer3DModel


@pytest.fixture
def transformer():
    torch.manual_seed(0)
    model = OpenSoraTransformer3DModel(
        hidden_size=32, depth=2, num_heads=2, in_channels=4, caption_channels=8, model_max_length=6, pred_sigma=False
    ).eval()
    for parameter in model.parameters():  # the original's start leaves temporal blocks without an effect
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def velocities(model, latents):
    torch.manual_seed(1)
    text = torch.randn(len(latents), 6, 8)
    with torch.no_grad():
        return model(latents, torch.full((len(latents),), 400.0), text, fps=8.0, height=32, width=32).sample


def test_clips_with_a_donor_attend_to_it_and_all_others_do_not(transformer):
    latents = torch.randn(5, 4, 2, 4, 4)
    plain = velocities(transformer, latents)
    with partners(transformer) as known:
        torch.testing.assert_close(velocities(transformer, latents), plain, rtol=0, atol=0)
        known.pairs, known.batch_size = 2, 5
        with_donors = velocities(transformer, latents)
        other = latents.clone()
        other[0] = torch.randn_like(other[0])
        with_another = velocities(transformer, other)
    for alone in (0, 1, 4):
        torch.testing.assert_close(with_donors[alone], plain[alone], rtol=1e-5, atol=1e-5)
    for taker in (2, 3):
        assert (with_donors[taker] - plain[taker]).abs().max() > 1e-3
    assert (with_another[2] - with_donors[2]).abs().max() > 1e-3  # its own donor
    torch.testing.assert_close(with_another[3], with_donors[3], rtol=1e-5, atol=1e-5)  # another clip's
    torch.testing.assert_close(velocities(transformer, latents), plain, rtol=0, atol=0)  # itself again


def test_the_probe_learns_what_is_there_and_is_asked_less_where_noise_hides_it():
    shown = specs("train", 4)
    labels = labels_of(shown)
    assert set(labels) == {*OF_A_TOKEN, *OF_A_PICTURE}
    assert all((labels[name] < len(THING_TRAITS[name])).all() for name in THING_TRAITS)
    coverage = torch.zeros(4, 1, 36)
    coverage[:, :, 14] = 1
    token = torch.zeros(4, 1, 36, 1 + sum(OF_A_TOKEN.values()))
    picture = torch.zeros(4, 1, sum(OF_A_PICTURE.values()))
    clean, noise = torch.zeros(4), torch.full((4,), 0.9)
    ignorant = probe_loss(token, picture, coverage, labels, clean)
    knowing = token.clone()
    knowing[..., 0] = 20 * coverage - 10
    assert probe_loss(knowing, picture, coverage, labels, clean) < ignorant
    torch.testing.assert_close(probe_loss(token, picture, coverage, labels, noise), 0.1 * ignorant)


def test_tokens_are_covered_where_the_thing_is():
    drawn = render(specs("test", 1)[0])
    shares = covered(drawn.mask).reshape(5, 6, 6) / 255
    assert shares.max() > 0.9
    assert shares[:, 0, 0].max() < 0.5
    np.testing.assert_allclose(shares[0].mean(), drawn.mask[0].mean(), atol=0.01)


def test_the_whole_training_can_be_rehearsed_and_its_stores_grow(tmp_path):
    """Every part once, a few steps each: what `python -m chai_app.demo.learn` does, cut short."""
    training = Training(tmp_path, speed_up=3000)
    training.judge()
    training.features()
    training.text_encoder()
    training.autoencoder()
    training.transformer()
    training.decoders()
    vae = AutoencoderKLOpenSora.from_pretrained(tmp_path / "vae")
    before = encode(vae, tmp_path / "latents", "train", 64, still=True)
    after = encode(vae, tmp_path / "latents", "train", 96, still=True)
    assert len(before.latents) == 64 and after.latents.shape == (96, 12, 1, 12, 12)
    np.testing.assert_array_equal(after.latents[:64], before.latents)
    transformer = OpenSoraTransformer3DModel.from_pretrained(tmp_path / "transformer")
    assert transformer.config.in_channels == 12
