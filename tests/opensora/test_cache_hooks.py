"""diffusers' caching techniques: each must skip work, stay near the plain run, and leave no trace when turned off.

What is skipped is counted where the work is done, at the linear layers. The bounds on the error are those of the small
model with random weights, whose features change more from step to step than those of a trained one.
"""

from collections import Counter

import pytest
import torch
from diffusers import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    LayerSkipConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    SeaCacheConfig,
    TaylorSeerCacheConfig,
    TextKVCacheConfig,
)
from diffusers.hooks import HookRegistry, apply_first_block_cache, apply_layer_skip

STEPS = 20
ALL = 4 * STEPS  # four blocks


class Work:
    """Runs of a pipeline, and what they computed."""

    def __init__(self, pipeline) -> None:
        self.pipeline, self.counts = pipeline, Counter()
        generator = torch.Generator().manual_seed(0)
        self.states = torch.randn(1, 7, 32, generator=generator)
        for i, block in enumerate(pipeline.transformer.transformer_blocks):
            layers = {
                "spatial attention" if i % 2 == 0 else "temporal attention": block.attn.qkv,
                "cross attention": block.cross_attn.q_linear,
                "feed forward": block.mlp.net[2],
                "text": block.cross_attn.kv_linear,
            }
            for what, layer in layers.items():
                layer.register_forward_hook(lambda *_, what=what, i=i: self.counts.update([what, (what, i)]))
        embedder = pipeline.transformer.x_embedder.proj
        embedder.register_forward_hook(lambda _, args, out: self.counts.update({"videos": len(out)}))

    def run(self, **kwargs) -> torch.Tensor:
        """The latents of a run of 20 steps with guidance."""
        self.counts.clear()
        settings = {"height": 64, "width": 96, "num_frames": 17, "num_inference_steps": STEPS, "guidance_scale": 4.0}
        generator = torch.Generator().manual_seed(1)
        states = {"prompt_embeds": self.states, "generator": generator, "output_type": "latent"}
        return self.pipeline(**(settings | states | kwargs)).latents

    @property
    def blocks(self) -> int:
        """How many blocks ran their feed-forward network."""
        return self.counts["feed forward"]


@pytest.fixture(scope="module")
def work(make_pipeline):
    return Work(make_pipeline(input_sq_size=64))  # so that the small size has steps like those of a usual one


def error(latents: torch.Tensor, plain: torch.Tensor) -> float:
    return float((latents - plain).norm() / plain.norm())


def attention_count(work: Work) -> tuple[int, int, int]:
    return tuple(work.counts[f"{kind} attention"] for kind in ("spatial", "temporal", "cross"))


@pytest.fixture(scope="module")
def plain(work):
    latents = work.run()
    assert attention_count(work) == (ALL / 2, ALL / 2, ALL)
    assert work.blocks == ALL
    assert work.counts["videos"] == 2 * STEPS
    return latents


@pytest.fixture
def enabled(work, plain):
    """`enabled(config)` turns a technique on and runs, twice, since a run must leave nothing to the next; in the end
    the technique is turned off, and the plain run must come out bit for bit, with all its work done."""
    transformer = work.pipeline.transformer

    def run(config, **kwargs) -> torch.Tensor:
        transformer.enable_cache(config)
        assert transformer.is_cache_enabled
        latents = work.run(**kwargs)
        assert torch.equal(work.run(**kwargs), latents)
        return latents

    yield run
    transformer.disable_cache()
    assert torch.equal(work.run(), plain)
    assert work.blocks == ALL


@pytest.mark.parametrize(("threshold", "blocks", "bound"), [(0.5, 60, 0.06), (0.6, 44, 0.14)])
def test_first_block_cache_skips_the_other_blocks(work, plain, enabled, threshold, blocks, bound):
    latents = enabled(FirstBlockCacheConfig(threshold=threshold))
    assert work.counts["feed forward", 0] == STEPS
    assert work.blocks <= blocks
    assert 0 < error(latents, plain) < bound


def test_first_block_cache_skips_nothing_where_everything_changes(work, plain, enabled):
    assert torch.equal(enabled(FirstBlockCacheConfig(threshold=0.0)), plain)
    assert work.blocks == ALL


def test_first_block_cache_can_be_applied_as_diffusers_applies_it(work, plain):
    apply_first_block_cache(work.pipeline.transformer, FirstBlockCacheConfig(threshold=0.6))
    work.run()
    assert work.blocks <= 44
    registry = HookRegistry.check_if_exists_or_initialize(work.pipeline.transformer)
    for name in ("fbc_leader_block_hook", "fbc_block_hook"):
        registry.remove_hook(name, recurse=True)
    registry.invalidate_child_registries_cache()
    assert torch.equal(work.run(), plain)


def test_taylorseer_predicts_attention(work, plain, enabled):
    config = TaylorSeerCacheConfig(cache_interval=2, disable_cache_before_step=3, taylor_factors_dtype=torch.float32)
    latents = enabled(config)
    assert attention_count(work) == (22, 22, 44)  # 3 steps to warm up, then every other one: 11 of 20
    assert work.blocks == ALL
    assert 0 < error(latents, plain) < 0.08


def test_taylorseer_lite_predicts_the_last_layer_alone(work, plain, enabled):
    config = TaylorSeerCacheConfig(
        cache_interval=2, disable_cache_before_step=3, taylor_factors_dtype=torch.float32, use_lite_mode=True
    )
    latents = enabled(config)
    assert work.blocks == 44
    assert attention_count(work) == (22, 22, 44)
    assert 0 < error(latents, plain) < 0.2


def pyramid(pipeline, **ranges) -> PyramidAttentionBroadcastConfig:
    timesteps = {f"{kind}_attention_timestep_skip_range": (100, 950) for kind in ("spatial", "temporal", "cross")}
    return PyramidAttentionBroadcastConfig(
        **{f"{kind}_attention_block_skip_range": n for kind, n in ranges.items()},
        **timesteps,
        current_timestep_callback=lambda: pipeline.current_timestep,
    )


@pytest.mark.parametrize(
    ("ranges", "expected", "bound"),
    [
        ({"spatial": 2}, (22, 40, 80), 0.04),
        ({"temporal": 2}, (40, 22, 80), 0.04),
        ({"cross": 2}, (40, 40, 44), 0.04),
        ({"spatial": 2, "temporal": 3, "cross": 4}, (22, 18, 28), 0.12),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_pyramid_attention_broadcast_tells_the_kinds_of_attention_apart(work, plain, enabled, ranges, expected, bound):
    latents = enabled(pyramid(work.pipeline, **ranges))
    assert attention_count(work) == expected
    assert 0 < error(latents, plain) < bound


def test_faster_cache_leaves_out_the_unconditional_half(work, plain, enabled):
    config = FasterCacheConfig(
        temporal_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 900),
        temporal_attention_timestep_skip_range=(-1, 900),
        unconditional_batch_skip_range=3,
        unconditional_batch_timestep_skip_range=(-1, 900),
        attention_weight_callback=lambda _: 0.3,
        current_timestep_callback=lambda: work.pipeline.current_timestep,
    )
    latents = enabled(config)
    assert work.counts["videos"] == 30
    assert attention_count(work) == (28, 28, 80)
    assert 0 < error(latents, plain) < 0.2


def test_faster_cache_works_beside_given_frames(work, enabled):
    from chai_app.opensora import FrameCondition

    config = FasterCacheConfig(
        unconditional_batch_skip_range=3,
        unconditional_batch_timestep_skip_range=(-1, 900),
        attention_weight_callback=lambda _: 0.3,
        current_timestep_callback=lambda: work.pipeline.current_timestep,
    )
    given = torch.randn(1, 4, 1, 8, 12, generator=torch.Generator().manual_seed(2))
    latents = enabled(config, conditions=[FrameCondition(given)])
    assert work.counts["videos"] == 30
    assert torch.equal(latents[:, :, :1], given)


def test_mag_cache_skips_whole_steps(work, plain, enabled):
    config = MagCacheConfig(mag_ratios=[1.0] * STEPS, num_inference_steps=STEPS, max_skip_steps=2)
    latents = enabled(config)
    assert work.blocks == 36
    assert 0 < error(latents, plain) < 0.15


def test_sea_cache_skips_whole_steps(work, plain, enabled):
    latents = enabled(SeaCacheConfig(threshold=0.5))
    assert work.blocks == 36
    assert 0 < error(latents, plain) < 0.15


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, {"spatial attention": 20, "temporal attention": 40, "cross attention": 60, "feed forward": 60}),
        (
            {"skip_ff": False},
            {"spatial attention": 20, "temporal attention": 40, "cross attention": 80, "feed forward": 80},
        ),
        ({"skip_attention": False}, {"spatial attention": 40, "temporal attention": 40, "feed forward": 60}),
    ],
    ids=["block", "attention", "feed forward"],
)
def test_layers_can_be_skipped(work, plain, kwargs, expected):
    apply_layer_skip(work.pipeline.transformer, LayerSkipConfig(indices=[2], **kwargs))
    latents = work.run()
    assert {what: work.counts[what] for what in expected} == expected
    assert not torch.equal(latents, plain)
    HookRegistry.check_if_exists_or_initialize(work.pipeline.transformer).remove_hook("layer_skip_hook", recurse=True)
    assert torch.equal(work.run(), plain)


# -- text keys and values ---------------------------------------------------------------------------------------------


@pytest.fixture
def transformer(work):
    """The transformer, with nothing counted yet; a technique that a test turns on is turned off after it."""
    work.counts.clear()
    yield work.pipeline.transformer
    if work.pipeline.transformer.is_cache_enabled:
        work.pipeline.transformer.disable_cache()


def velocity(transformer, states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """A call that brings the text encoder's states each time, as other pipelines do."""
    latents = torch.randn(1, 4, 5, 6, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return transformer(latents, torch.tensor([500.0]), states, mask, height=48, width=64).sample


def test_text_keys_and_values_are_kept_between_calls(work, transformer):
    states, other, mask = work.states, work.states + 1, torch.ones(1, 7)
    plain, plain_other = velocity(transformer, states, mask), velocity(transformer, other, mask)
    transformer.enable_cache(TextKVCacheConfig())
    work.counts.clear()
    for _ in range(3):
        assert torch.equal(velocity(transformer, states, mask), plain)
        assert torch.equal(velocity(transformer, other, mask), plain_other)
    assert work.counts["text"] == 2 * 4  # each prompt once in each block
    transformer._reset_stateful_cache()
    assert torch.equal(velocity(transformer, states, mask), plain)
    assert work.counts["text"] == 3 * 4
    transformer.disable_cache()
    assert torch.equal(velocity(transformer, states, mask), plain)
    assert work.counts["text"] == 4 * 4


def test_text_is_told_apart_by_content_and_not_by_its_place_in_memory(work, transformer):
    states = work.states.clone()
    transformer.enable_cache(TextKVCacheConfig())
    before = velocity(transformer, states)
    states += 1  # the same tensor, another prompt
    after = velocity(transformer, states)
    transformer.disable_cache()
    assert not torch.equal(after, before)
    assert torch.equal(velocity(transformer, states), after)


def test_text_is_not_kept_while_gradients_are_taken(work, transformer):
    transformer.enable_cache(TextKVCacheConfig())
    for _ in range(2):
        transformer(torch.ones(1, 4, 1, 6, 8), torch.tensor([500.0]), work.states).sample.mean().backward()
    assert transformer.transformer_blocks[0].cross_attn.kv_linear.weight.grad is not None
    assert work.counts["text"] == 2 * 4


def test_the_pipeline_works_out_the_text_once_without_any_cache(work, plain):
    work.run()
    assert work.counts["text"] == 4


def test_one_technique_at_a_time(transformer):
    transformer.enable_cache(TextKVCacheConfig())
    for config in (TextKVCacheConfig(), FirstBlockCacheConfig()):
        with pytest.raises(ValueError, match="disable"):
            transformer.enable_cache(config)
    transformer.disable_cache()
    with pytest.raises(ValueError, match="not supported"):
        transformer.enable_cache("first block, please")
