"""diffusers' caching techniques on this transformer: first-block cache, TaylorSeer, PAB, text K/V and the rest.

diffusers finds the parts of a model by their names, and where a name does not fit it does nothing, without a word.
Three things therefore need saying for this model: which class is a block, which attention is spatial and which temporal
(they take turns in one list), and how the keys and values of the prompt are kept.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, cast

import torch
from diffusers.hooks import (
    FasterCacheConfig,
    HookRegistry,
    ModelHook,
    PyramidAttentionBroadcastConfig,
    SeaCacheConfig,
    TextKVCacheConfig,
)
from diffusers.hooks._helpers import (
    AttentionProcessorMetadata,
    AttentionProcessorRegistry,
    TransformerBlockMetadata,
    TransformerBlockRegistry,
)
from diffusers.hooks.text_kv_cache import _TEXT_KV_CACHE_TRANSFORMER_HOOK
from torch import Tensor, nn

from .attention import OpenSoraAttnProcessor
from .text_context import ReadsText, TextContext

SPATIAL_ATTENTION = (r"^transformer_blocks\.\d*[02468]\.attn$",)
TEMPORAL_ATTENTION = (r"^transformer_blocks\.\d*[13579]\.attn$",)
CROSS_ATTENTION = (r"^transformer_blocks\.\d+\.cross_attn$",)


def register_block(block_class: type[nn.Module]) -> None:
    """Tell diffusers' hooks what a block of this model takes and returns, and what its attention does when skipped."""
    # Straight into the registries: their `register` first imports every transformer that diffusers has (1.6 s).
    TransformerBlockRegistry._registry.setdefault(
        block_class, TransformerBlockMetadata(return_hidden_states_index=0, _cls=block_class)
    )
    AttentionProcessorRegistry._registry.setdefault(
        OpenSoraAttnProcessor, AttentionProcessorMetadata(skip_processor_output_fn=_skipped_attention)
    )


def _skipped_attention(attn: nn.Module, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return hidden_states


def enable(model: Any, config: Any, enable_as_diffusers_does: Callable[[Any], None]) -> None:
    """Turn a technique on, with what `config` leaves at its defaults fitted to this model.

    Args: model: an `OpenSoraTransformer3DModel`.
    """
    if isinstance(config, TextKVCacheConfig):
        # diffusers' own hook looks for blocks of one other model, and takes the address of a tensor for its content.
        if model.is_cache_enabled:
            raise ValueError(f"caching with {type(model._cache_config).__name__} is on: disable it first")
        registry = HookRegistry.check_if_exists_or_initialize(model)
        registry.register_hook(TextContextHook(), _TEXT_KV_CACHE_TRANSFORMER_HOOK)
        registry.invalidate_child_registries_cache()
        model._cache_config = config
    else:
        enable_as_diffusers_does(fitted(config))


def fitted(config: Any) -> Any:
    """The configuration with this model's names in the place of diffusers' default ones."""
    if isinstance(config, PyramidAttentionBroadcastConfig | FasterCacheConfig):
        ours = {
            "spatial_attention_block_identifiers": SPATIAL_ATTENTION,
            "temporal_attention_block_identifiers": TEMPORAL_ATTENTION,
            "cross_attention_block_identifiers": CROSS_ATTENTION,
        }
        defaults = {field.name: field.default for field in fields(config)}
        config = replace(
            config,
            **{name: ids for name, ids in ours.items() if name in defaults and getattr(config, name) == defaults[name]},
        )
    if isinstance(config, FasterCacheConfig):
        # Given frames come as a guidance batch too.
        names = (*config._unconditional_conditional_input_kwargs_identifiers, "frame_mask")
        config = replace(config, _unconditional_conditional_input_kwargs_identifiers=names)
    if isinstance(config, SeaCacheConfig) and config.raw_vision_callback is None:
        config = replace(config, raw_vision_callback=_latents_of)
    return config


def _latents_of(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The latents of each video in the call, (C, T, h, w) each."""
    return list(_arguments(model, args, kwargs)["hidden_states"].unbind(0))


def _arguments(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return dict(inspect.signature(type(model).forward).bind(model, *args, **kwargs).arguments)


@contextmanager
def past_techniques(model: nn.Module) -> Iterator[None]:
    """Within the block the model computes everything, and what is on to skip work hears nothing of it."""
    registries: list[Any] = [module._diffusers_hook for module in model.modules() if hasattr(module, "_diffusers_hook")]
    hooks = [hook for registry in registries for hook in registry.hooks.values()]
    # What keeps the model on its device or in its number format neither remembers anything nor computes in its place.
    parts = [hook.fn_ref for hook in hooks if hook._is_stateful or hook.fn_ref.original_forward is not None]
    before = [(part.pre_forward, part.forward, part.post_forward) for part in parts]
    for part in parts:
        part.pre_forward = lambda _module, *args, **kwargs: (args, kwargs)
        part.forward = part.original_forward or part.forward
        part.post_forward = lambda _module, output: output
    try:
        yield
    finally:
        for part, functions in zip(parts, before, strict=True):
            part.pre_forward, part.forward, part.post_forward = functions


class TextContextHook(ModelHook):
    """Keeps what `encode_text` made of the last few prompts, and hands it to calls that bring the same prompts again.

    Prompts are compared by content. A run that hands `encode_text`'s result along itself, as the pipeline does, has
    nothing left to save here.
    """

    _is_stateful = True
    capacity = 4  # the halves of a guidance batch called apart, for two prompts

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[tuple[Tensor, Tensor | None, TextContext]] = []

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Replace the text encoder's states by their context, then run the model."""
        arguments = _arguments(module, args, kwargs)
        arguments.pop("self", None)
        states, mask = arguments["encoder_hidden_states"], arguments.get("encoder_attention_mask")
        if isinstance(states, Tensor) and not torch.is_grad_enabled():
            arguments["encoder_hidden_states"] = self._context(cast(ReadsText, module), states, mask)
            arguments["encoder_attention_mask"] = None
        return self.fn_ref.original_forward(**arguments)

    def _context(self, module: ReadsText, states: Tensor, mask: Tensor | None) -> TextContext:
        for kept_states, kept_mask, context in self._kept:
            if _same(states, kept_states) and _same(mask, kept_mask):
                return context
        context = module.encode_text(states, mask)
        copies = (states.clone(), None if mask is None else mask.clone())
        self._kept = [(*copies, context), *self._kept][: self.capacity]
        return context

    def reset_state(self, module: nn.Module) -> nn.Module:
        """Forget all prompts."""
        self._kept.clear()
        return module


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
