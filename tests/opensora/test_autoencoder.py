"""The autoencoder, against the original's recorded outputs and against itself."""

import json
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload, init_empty_weights
from safetensors.torch import load_file

from chai_app.errors import DamagedCheckpoint
from chai_app.opensora import AutoencoderKLOpenSora
from chai_app.opensora.temporal_autoencoder import CausalConv3d
from chai_app.opensora.upsampling import FoldedUpsample2D

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = json.loads((GOLDEN / "vae_cases.json").read_text())["cases"]
TOLERANCE = 1e-4  # fp32, two orders of the same sums; the largest measured is 0.00002


@pytest.fixture(scope="module")
def recorded():
    return {name: tensor.float() for name, tensor in load_file(GOLDEN / "vae_cases.safetensors").items()}


@pytest.mark.parametrize("name", CASES)
def test_latents_are_those_of_the_original(vae, recorded, name):
    with torch.no_grad():
        latents = vae.encode(recorded[f"{name}.x"]).latent_dist.mode()
    assert list(latents.shape) == CASES[name]["latent_shape"]
    torch.testing.assert_close(latents, recorded[f"{name}.z"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_decoded_pixels_are_those_of_the_original(vae, recorded, name):
    with torch.no_grad():
        pixels = vae.decode(recorded[f"{name}.z"], num_frames=CASES[name]["num_frames"]).sample
    torch.testing.assert_close(pixels, recorded[f"{name}.y"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_latent_frames_are_counted_as_by_the_original(vae, name):
    assert vae.num_latent_frames(CASES[name]["num_frames"]) == CASES[name]["latent_size"][0]


def test_a_length_and_its_latent_length_agree(vae):
    for num_latent_frames in range(1, 40):
        assert vae.num_latent_frames(vae.num_frames(num_latent_frames)) == num_latent_frames
    assert vae.num_frames(15) == 51


def test_first_latent_frames_stand_for_one_and_then_four_frames_each(vae):
    assert [vae.leading_frames(n, 51) for n in range(1, 8)] == [1, 5, 9, 13, 17, 18, 22]
    assert [vae.leading_frames(n, 8) for n in (1, 2)] == [4, 8]  # two whole groups: no frame is padded


def test_beginning_of_a_chunk_can_be_encoded_alone(vae, recorded):
    # What a loop relies on: 5 frames taken alone give the first 2 latent frames of the whole clip. Exactly so without
    # the norms, which look at all frames of a chunk at once.
    for block in vae.temporal_vae.encoder.modules():
        for name, _ in list(block.named_children()):
            if name in ("norm1", "norm2"):
                setattr(block, name, torch.nn.Identity())
    video = recorded["one_block.x"]
    with torch.no_grad():
        whole = vae.encode(video).latent_dist.mode()[:, :, :2]
        torch.testing.assert_close(vae.encode(video[:, :, :5]).latent_dist.mode(), whole, atol=1e-5, rtol=1e-5)
        assert (vae.encode(video[:, :, :6]).latent_dist.mode() - whole).abs().max() > 1e-3


def test_all_released_names_load():
    with init_empty_weights(include_buffers=True):
        vae = AutoencoderKLOpenSora()
    shapes = json.loads((GOLDEN / "vae_v1_2_state_dict.json").read_text())
    vae.load_released_state_dict({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors: tensors.pop("scale"), "missing"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "unknown"),
        (lambda tensors: tensors.update(shift=torch.zeros(3)), "of another shape"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_in_one_sentence(vae, change, complaint):
    tensors = load_file(GOLDEN / "vae_weights.safetensors")
    change(tensors)
    with pytest.raises(DamagedCheckpoint, match=rf"^[^\n]*1 {complaint}[^\n]*fetch it again\.$"):
        vae.load_released_state_dict(tensors)


def test_posterior_is_normalised_in_mean_and_spread(vae, recorded):
    with torch.no_grad():
        posterior = vae.encode(recorded["one_block.x"]).latent_dist
        raw = vae.temporal_vae.encode(vae._encode_frames(recorded["one_block.x"]))
    torch.testing.assert_close(posterior.mean, (raw.mean - vae.shift) / vae.scale)
    torch.testing.assert_close(posterior.std, raw.std / vae.scale)


def test_chunks_are_the_decoded_video_piece_by_piece(vae, recorded):
    with torch.no_grad():
        whole = vae.decode(recorded["ragged.z"], num_frames=42).sample
        chunks = list(vae.decode_chunks(recorded["ragged.z"], num_frames=42))
    assert [chunk.shape[2] for chunk in chunks] == [17, 17, 8]
    assert torch.equal(torch.cat(chunks, dim=2), whole)


def test_a_chunk_is_decoded_only_when_it_is_asked_for(vae, recorded):
    decoded = []
    vae.temporal_vae.decoder.register_forward_hook(lambda *_: decoded.append(1))
    with torch.no_grad():
        chunks = vae.decode_chunks(recorded["three_blocks.z"], num_frames=51)
        assert len(decoded) == 0
        next(chunks)
    assert len(decoded) == 1


def test_a_length_that_does_not_fit_the_latents_is_refused(vae, recorded):
    with pytest.raises(ValueError, match="34 frames have 10 latent frames, but z has 15"):
        vae.decode(recorded["three_blocks.z"], num_frames=34)


def test_slicing_changes_nothing(vae, recorded):
    videos = torch.cat([recorded["one_block.x"], recorded["one_block.x"].flip(2)])
    with torch.no_grad():
        latents = vae.encode(videos).latent_dist.mode()
        pixels = vae.decode(latents).sample
        vae.enable_slicing()
        torch.testing.assert_close(vae.encode(videos).latent_dist.mode(), latents, atol=1e-5, rtol=0)
        torch.testing.assert_close(vae.decode(latents).sample, pixels, atol=TOLERANCE, rtol=0)
        vae.disable_slicing()


def test_tiling_stays_near_the_plain_result(vae):
    # A tile has norms and an attention of its own, and zeros beyond its edges. With weights made at random and tiles of
    # 8 or 12 latents, that is at its worst: measured 0.28 and 0.16 of the picture's spread in the mean.
    latents = torch.randn(1, 4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = vae.decode(latents).sample
        for tile_size, overlap, bound in ((64, 0.25, 0.35), (96, 0.5, 0.2)):
            vae.enable_tiling(tile_size, overlap)
            tiled = vae.decode(latents).sample
            assert tiled.shape == plain.shape
            assert 0 < (tiled - plain).abs().mean() < bound * plain.std()
        vae.disable_tiling()
        assert torch.equal(vae.decode(latents).sample, plain)


def test_tiling_bounds_what_the_decoder_sees_at_once(vae):
    sizes = []
    vae.spatial_vae.decoder.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[-2:]))
    vae.enable_tiling(64, 0.25)
    with torch.no_grad():
        vae.decode(torch.zeros(1, 4, 1, 16, 16))
    assert max(sizes) == (8, 8)


def test_every_weight_learns(vae, recorded):
    vae.train()
    posterior = vae.encode(recorded["one_block.x"]).latent_dist
    pixels = vae.decode(posterior.sample(torch.Generator().manual_seed(0))).sample
    (pixels.square().mean() + posterior.kl().mean()).backward()
    assert [name for name, weight in vae.named_parameters() if weight.grad is None] == []


def test_gradient_checkpointing_gives_the_same_gradients(vae, recorded):
    def gradients() -> list[torch.Tensor]:
        vae.zero_grad()
        vae(recorded["one_block.x"][:, :, :5]).sample.square().mean().backward()
        return [weight.grad.clone() for weight in vae.parameters()]

    vae.train()
    plain = gradients()
    vae.enable_gradient_checkpointing()
    for a, b in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_half_precision_stays_near_fp32(vae_config, recorded, dtype, bound):
    half = AutoencoderKLOpenSora(**vae_config).to(dtype).eval()
    half.load_released_state_dict(load_file(GOLDEN / "vae_weights.safetensors"))
    with torch.no_grad():
        pixels = half.decode(recorded["one_block.z"].to(dtype)).sample
    assert pixels.dtype == dtype
    assert (pixels.float() - recorded["one_block.y"]).abs().mean() < bound * recorded["one_block.y"].std()


def test_saved_and_loaded_again_it_is_the_same(vae, recorded, tmp_path):
    vae.save_pretrained(tmp_path)
    again = AutoencoderKLOpenSora.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again.decode(recorded["image.z"]).sample, vae.decode(recorded["image.z"]).sample)


def test_weights_may_wait_in_another_place_until_they_are_used(vae, recorded):
    with torch.no_grad():
        latents = vae.encode(recorded["one_block.x"]).latent_dist.mode()
        pixels = vae.decode(latents).sample
        cpu_offload(vae, execution_device=torch.device("cpu"))
        assert all(weight.is_meta for weight in vae.parameters())
        assert torch.equal(vae.encode(recorded["one_block.x"]).latent_dist.mode(), latents)
        assert torch.equal(vae.decode(latents).sample, pixels)


def test_enlarging_first_and_folding_the_weights_are_the_same():
    generator = torch.Generator().manual_seed(0)
    conv = torch.nn.Conv2d(6, 5, 3, padding=1).double()
    pictures = torch.randn(2, 6, 7, 9, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        enlarged = conv(torch.nn.functional.interpolate(pictures, scale_factor=2.0, mode="nearest"))
        assert torch.allclose(FoldedUpsample2D(conv)(pictures), enlarged, atol=1e-12)


@pytest.mark.parametrize(("size", "time_stride"), [(3, 1), (3, 2), (1, 1)])
def test_a_convolution_through_time_is_one_of_pictures_on_a_cpu(size, time_stride):
    conv = CausalConv3d(6, 5, size, time_stride)
    frames = torch.randn(2, 6, 8, 4, 5, generator=torch.Generator().manual_seed(0))
    plain = conv(frames).detach()  # with gradients it is torch's own
    with torch.no_grad():
        assert torch.allclose(conv(frames), plain, atol=1e-5)
