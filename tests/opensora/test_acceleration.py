"""diffusers' techniques by name: each runs, saves work where it says so, and is off again afterwards."""

import pytest
import torch

from chai_app.opensora.acceleration import accelerated
from chai_app.presets import ACCELERATIONS

STEPS = 10


@pytest.fixture(scope="module")
def pipeline(make_pipeline):
    return make_pipeline(input_sq_size=64)


def run(pipeline, name: str | None) -> tuple[torch.Tensor, int]:
    """The latents of a run, and how many projections of its attention were worked out."""
    count = 0

    def counted(*_) -> None:
        nonlocal count
        count += 1

    layers = [layer for block in pipeline.transformer.transformer_blocks for layer in (block.attn.qkv,)]
    handles = [layer.register_forward_hook(counted) for layer in layers]
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(1, 7, 32, generator=generator)
    size = {"height": 64, "width": 96, "num_frames": 17, "num_inference_steps": STEPS, "guidance_scale": 4.0}
    with accelerated(pipeline, name, STEPS, [1.0] * STEPS):
        latents = pipeline(prompt_embeds=states, generator=generator, output_type="latent", **size).latents
    for handle in handles:
        handle.remove()
    return latents, count


@pytest.mark.parametrize("name", ACCELERATIONS)
def test_a_technique_stays_near_the_plain_run_and_leaves_no_trace(pipeline, name):
    plain, all_of_them = run(pipeline, None)
    latents, done = run(pipeline, name)
    again, done_again = run(pipeline, None)
    assert torch.equal(again, plain)
    assert done_again == all_of_them
    assert not pipeline.transformer.is_cache_enabled
    assert float((latents - plain).norm() / plain.norm()) < 0.3
    if name in ("none", "text-kv"):
        assert torch.equal(latents, plain)
    elif name in (
        "taylorseer",
        "pab",
        "fastercache",
        "magcache",
    ):  # how often the first block lets go depends on the video
        assert done < all_of_them


def test_it_is_off_again_after_an_error(pipeline):
    with pytest.raises(RuntimeError), accelerated(pipeline, "first-block"):
        raise RuntimeError
    assert not pipeline.transformer.is_cache_enabled


def test_magcache_without_ratios_is_refused(pipeline):
    with pytest.raises(ValueError, match="mag_ratios"), accelerated(pipeline, "magcache", STEPS):
        pass


def test_another_name_is_refused(pipeline):
    with pytest.raises(ValueError, match="warp"), accelerated(pipeline, "warp"):
        pass
