"""diffusers' caching techniques for one run, by name, each set as this model wants it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pipeline import OpenSoraPipeline

FIRST_BLOCK_THRESHOLD = 0.15  # relative change of the first block's output below which the other blocks are skipped
MAGCACHE_THRESHOLD, MAGCACHE_MOST_SKIPPED = 0.12, 3  # of the error that adds up; steps in a row


def configuration(name: str, pipeline: OpenSoraPipeline, steps: int = 30, mag_ratios: Sequence[float] = ()) -> Any:
    """What diffusers' `enable_cache` takes for the technique called `name` in `presets.ACCELERATIONS`.

    Args:
        steps: of the run; mag_ratios: of the model (`chai_app.models.mag_ratios`). MagCache wants both.
    Raises: ValueError for another name, or for MagCache without ratios.
    """
    import diffusers
    import torch

    def timestep() -> float:
        return pipeline.current_timestep or 0.0

    if name == "first-block":
        return diffusers.FirstBlockCacheConfig(threshold=FIRST_BLOCK_THRESHOLD)
    if name == "taylorseer":
        return diffusers.TaylorSeerCacheConfig(
            cache_interval=2, disable_cache_before_step=3, taylor_factors_dtype=torch.float32
        )
    if name == "pab":
        return diffusers.PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2,
            temporal_attention_block_skip_range=4,
            cross_attention_block_skip_range=6,
            spatial_attention_timestep_skip_range=(100, 800),
            temporal_attention_timestep_skip_range=(100, 800),
            cross_attention_timestep_skip_range=(100, 800),
            current_timestep_callback=timestep,
        )
    if name == "fastercache":
        return diffusers.FasterCacheConfig(
            spatial_attention_block_skip_range=2,
            temporal_attention_block_skip_range=2,
            spatial_attention_timestep_skip_range=(-1, 681),
            temporal_attention_timestep_skip_range=(-1, 681),
            unconditional_batch_skip_range=3,
            unconditional_batch_timestep_skip_range=(-1, 641),
            attention_weight_callback=lambda _module: 0.3,
            current_timestep_callback=timestep,
            tensor_format="BCFHW",
        )
    if name == "magcache":
        return diffusers.MagCacheConfig(
            threshold=MAGCACHE_THRESHOLD,
            max_skip_steps=MAGCACHE_MOST_SKIPPED,
            num_inference_steps=steps,
            mag_ratios=list(mag_ratios) or None,
        )
    if name == "text-kv":
        return diffusers.TextKVCacheConfig()
    raise ValueError(f"there is no technique {name!r}")


@contextmanager
def accelerated(
    pipeline: OpenSoraPipeline, name: str | None, steps: int = 30, mag_ratios: Sequence[float] = ()
) -> Iterator[None]:
    """Within the block a technique is on; however the block ends, it is off again. None and "none" do nothing.

    Args: as in `configuration`.
    """
    if name in (None, "none"):
        yield
        return
    pipeline.transformer.enable_cache(configuration(str(name), pipeline, steps, mag_ratios))
    try:
        yield
    finally:
        pipeline.transformer.disable_cache()
