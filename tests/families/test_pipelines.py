"""diffusers' own pipelines at tiny sizes: what they tell of their steps, and that a run of them attends to a donor."""

import diffusers
import pytest
import torch
from families_kit import CASES, noise, some

from chai_app.attention import Donor
from chai_app.families.reuse import family_cache_attention

PROMPTS = {"prompt_embeds": some(1, 5, 16, seed=1), "negative_prompt_embeds": some(1, 5, 16, seed=2)}
RUN = {"num_inference_steps": 5, "guidance_scale": 3.0, "output_type": "latent", **PROMPTS}
NOTHING = {"tokenizer": None, "text_encoder": None, "vae": None}


def wan():
    """Wan 2.2: it counts its steps, calls the halves of guidance apart, and has two experts."""
    experts = [CASES["wan"].transformer(seed) for seed in (1, 2)]
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    parts = {"transformer": experts[0], "transformer_2": experts[1], "scheduler": scheduler, "boundary_ratio": 0.875}
    pipeline = diffusers.WanPipeline(**NOTHING, **parts)
    return pipeline, experts, {"height": 32, "width": 48, "num_frames": 9}, 6


def ltx():
    """LTX: it names its one call for both halves and does not count steps."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    model = CASES["ltx"].transformer()
    pipeline = diffusers.LTXPipeline(**NOTHING, transformer=model, scheduler=scheduler)
    masks = {name: torch.ones(1, 5) for name in ("prompt_attention_mask", "negative_prompt_attention_mask")}
    return pipeline, model, {"height": 128, "width": 192, "num_frames": 17, **masks}, 3


def cogvideox():
    """CogVideoX: frames before channels, and noise as its scheduler says."""
    scheduler = CASES["cogvideox"].scheduler
    model = CASES["cogvideox"].transformer()
    pipeline = diffusers.CogVideoXPipeline(**NOTHING, transformer=model, scheduler=scheduler)
    prompts = {name: some(1, 6, 16, seed=i) for i, name in enumerate(PROMPTS)}
    return pipeline, model, {"height": 32, "width": 48, "num_frames": 9, **prompts}, 3


@pytest.mark.parametrize("make", [wan, ltx, cogvideox])
def test_a_pipeline_attends_to_a_donor_in_steps_2_to_4(make):
    pipeline, model, size, calls = make()
    pipeline.set_progress_bar_config(disable=True)

    def frames():
        left = []
        result = pipeline(
            **RUN | size,
            generator=torch.Generator().manual_seed(3),
            callback_on_step_end=lambda _pipeline, _i, _t, kwargs: left.append(kwargs["latents"].clone()) or {},
        )
        return result.frames, left

    plain, after_plain = frames()
    with family_cache_attention(model, Donor(clean=noise(2)), scheduler=pipeline.scheduler) as reuse:
        reused, after_reused = frames()
    assert reuse.steps_done == [2, 3, 4] and reuse.calls == calls
    assert torch.equal(after_reused[0], after_plain[0])
    assert not torch.equal(after_reused[1], after_plain[1]) and not torch.equal(reused, plain)
    assert reused.isfinite().all()
    assert torch.equal(frames()[0], plain)
