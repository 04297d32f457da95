"""Previews of unfinished latents, on the tiny model."""

import numpy as np
import pytest
import torch

from chai_app.engine.preview import latent_preview
from chai_app.opensora import AutoencoderKLOpenSora


@pytest.fixture
def vae(tiny_model_folder):
    return AutoencoderKLOpenSora.from_pretrained(tiny_model_folder / "vae").eval()


def test_a_preview_is_one_frame_in_the_video_s_size(vae):
    picture = latent_preview(vae, torch.randn(1, 4, 5, 4, 6, generator=torch.Generator().manual_seed(1)))
    assert (picture.shape, picture.dtype) == ((32, 48, 3), np.uint8)
    assert picture.std() > 0


def test_a_preview_is_of_the_frame_in_the_middle(vae):
    latents = torch.randn(1, 4, 5, 4, 6, generator=torch.Generator().manual_seed(1))
    others, middle = latents.clone(), latents.clone()
    others[:, :, [0, 1, 3, 4]] = 0
    middle[:, :, 2] = 0
    assert np.array_equal(latent_preview(vae, latents), latent_preview(vae, others))
    assert not np.array_equal(latent_preview(vae, latents), latent_preview(vae, middle))


def test_a_preview_of_one_latent_frame_is_the_picture_it_decodes_to(vae):
    latents = torch.randn(1, 4, 1, 4, 6, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        decoded = vae.decode(latents, num_frames=1).sample[0, :, 0].permute(1, 2, 0)
    expected = ((decoded.clamp(-1, 1) + 1) * 127.5).round().numpy()
    # Two computations: their last bits differ by what a CPU can do, and a value near a half is rounded either way.
    np.testing.assert_allclose(latent_preview(vae, latents), expected, rtol=0, atol=1)


def test_a_preview_does_not_look_like_decoding_to_those_who_watch_for_it(vae):
    called = []
    for part in (vae.spatial_vae.decoder, vae.temporal_vae.decoder):
        part.register_forward_pre_hook(lambda *_: called.append(1))
    latent_preview(vae, torch.zeros(1, 4, 2, 4, 6))
    assert not called
