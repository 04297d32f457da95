"""Cache Attention: queries of the video being made, keys and values of an earlier one.

The donor's latents go through the model's own patch embedding, positions, norm, modulation and projections, at the
timestep of the step that asks. So a donor that equals the current latents gives plain self-attention.

Source: "Chai: CacHe Attention Inference for text2video", arXiv 2602.16132, section 3.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.hooks.hooks import CacheContext, HookRegistry, ModelHook, StateManager
from torch import Tensor

from ..opensora.attention import OpenSoraAttnProcessor, OpenSoraSelfAttention, attend
from ..opensora.transformer import OpenSoraTransformer3DModel
from .donor import Donor
from .recipe import PAPER, Recipe

_HOOK = "cache attention"


class _Place(StateManager):
    """Where the denoising loop is, as it tells all hooks by `cache_context`."""

    def __init__(self) -> None:
        self.step = 1

    def set_context(self, context: CacheContext | None) -> None:
        """Steps count from 1; a model that is called outside a loop is in its first step."""
        if context is not None and context.step_index is not None:
            self.step = context.step_index + 1


class _PlaceHook(ModelHook):
    """Hangs on the transformer for the one reason that the loop's word reaches `place`."""

    _is_stateful = True

    def __init__(self) -> None:
        super().__init__()
        self.place = _Place()

    def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
        return module


class Reuse:
    """What one run with a donor knows: which step it is in, what to attend to there, and what has been done.

    What has been done is counted where attention goes to the donor: a technique that reuses within the run may have
    skipped it in a step that the recipe meant.
    """

    def __init__(
        self,
        transformer: OpenSoraTransformer3DModel,
        donors: Sequence[Donor],
        recipe: Recipe,
        videos: int,
        first_sigma: float,
    ) -> None:
        self.recipe, self.steps_done, self._first_sigma = recipe, cast("list[int]", []), first_sigma
        self.calls = 0
        """How often attention really went to the donor, over steps and blocks."""
        self.extra_passes = 0
        """Passes through the model beyond those of the run itself, which a recipe through the blocks needs."""
        self._transformer, self._donors, self._videos = transformer, donors, videos
        self.hook = _PlaceHook()
        self._step, self._is_counted, self._noise = 0, False, cast("Tensor | None", None)
        self._tokens: dict[int, Tensor] = {}
        self._lasting: dict[int, Tensor] = {}  # of a donor that is shown the same in every step
        self._seen: Tensor | None = None
        self._asking: Tensor | None = None
        self._is_listening = False
        self._signature = inspect.signature(type(transformer).forward)

    def begin_step(self, _model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The transformer is about to run: work out what it will attend to. A forward pre-hook."""
        call = self._signature.bind(self._transformer, *args, **kwargs).arguments
        latents: Tensor = call["hidden_states"]
        timestep = torch.as_tensor(call["timestep"], dtype=torch.float32, device=latents.device)
        level = float(timestep.flatten()[0]) / 1000
        step = self.hook.place.step
        if step == 1:  # of the run, or of a loop
            self._noise, self._lasting = latents / self._first_sigma, {}
        if step != self._step:  # the halves of a guidance batch may come in one call or in two
            self._step, self._is_counted = step, False
        self._tokens = {}
        if self.recipe.applies(step, level):
            self._work_out(latents, level, call)

    def _work_out(self, latents: Tensor, level: float, call: dict[str, Any]) -> None:
        assert self._noise is not None
        rows, _, frames = latents.shape[:3]  # rows: videos, times 2 with guidance
        donor_level = self.recipe.donor_level
        if not self._lasting:
            shown_level = level * self.recipe.donor_noise if donor_level is None else donor_level
            shown = [donor.at(shown_level, self._noise) for donor in self._donors]
            tokens_of = self._through_blocks if self.recipe.through == "blocks" else self._from_embedding
            by_donor = [tokens_of(each, shown_level, call) for each in shown]
            self._tokens = {
                block: torch.cat([tokens[block] for tokens in by_donor], dim=1)  # (rows*T, donors*S, D)
                for block in self.recipe.blocks
            }
            self._lasting = {} if donor_level is None else self._tokens
        self._tokens = self._lasting or self._tokens
        self._seen = self._seen_tokens(latents) if self.recipe.masked else None
        asking = torch.ones(rows, frames, dtype=torch.bool, device=latents.device)
        if call.get("frame_mask") is not None:  # frames that are given have nothing to ask for
            asking &= call["frame_mask"]
        if self.recipe.conditional_only and rows > self._videos:
            asking[: rows - self._videos] = False
        self._asking = None if bool(asking.all()) else asking.flatten()[:, None, None, None]  # (rows*T, 1, 1, 1)

    def _seen_tokens(self, latents: Tensor) -> Tensor | None:
        """Which tokens of the donors may be looked at, (rows*T, donors*S); None for all."""
        rows, _, frames = latents.shape[:3]
        _, height, width = self._transformer.x_embedder.grid(latents)
        masks = [donor.seen_tokens(frames, height, width, rows) for donor in self._donors]
        if all(mask is None for mask in masks):
            return None
        whole = torch.ones(rows * frames, height * width, dtype=torch.bool)
        return torch.cat([whole if mask is None else mask for mask in masks], dim=1).to(latents.device)

    def _from_embedding(self, donor: Tensor, level: float, call: dict[str, Any]) -> dict[int, Tensor]:
        """Tokens (rows*T, S, D) by block, straight from latents (rows, C, T, h, w)."""
        rows, sides = donor.shape[0], donor.shape[3:]
        timestep = torch.full((rows,), 1000 * level, device=donor.device)
        fps = torch.as_tensor(call.get("fps", 24.0), dtype=torch.float32, device=donor.device).expand(rows)
        height, width = (
            8.0 * side if call.get(name) is None else float(torch.as_tensor(call[name]).flatten()[0])
            for name, side in zip(("height", "width"), sides, strict=True)
        )
        return {
            block: self._transformer.attention_tokens(donor, timestep, fps, height, width, block)
            for block in self.recipe.blocks
        }

    def _through_blocks(self, donor: Tensor, level: float, call: dict[str, Any]) -> dict[int, Tensor]:
        """As `_from_embedding`, with the donor taken through the whole model; the processors listen."""
        rest = {name: value for name, value in call.items() if name not in ("self", "frame_mask")}
        if self.recipe.donor_level is not None:
            rest["encoder_attention_mask"] = None
            rest["encoder_hidden_states"] = self._transformer.null_caption().expand(donor.shape[0], -1, -1)
        timestep = torch.full((donor.shape[0],), 1000 * level, device=donor.device)
        self._is_listening, self._tokens = True, {}
        try:  # past the hooks: for them, this is no step of the run
            self._transformer.forward(**{**rest, "hidden_states": donor, "timestep": timestep})
        finally:
            self._is_listening = False
        self.extra_passes += 1
        return self._tokens

    def tokens(self, block: int) -> Tensor | None:
        """What a block attends to at this step, (rows*T, donors*S, D); None where it keeps to itself."""
        return None if self._is_listening else self._tokens.get(block)

    @torch.compiler.disable
    def _count(self) -> None:
        self.calls += 1
        if not self._is_counted:
            self.steps_done.append(self._step)
            self._is_counted = True

    def attended(self, block: int, attn: OpenSoraSelfAttention, hidden_states: Tensor, kernel: Any) -> Tensor | None:
        """What attention to the donor gives, (B*T, S, H, head width); None where the block keeps to itself."""
        if self._is_listening:
            self._tokens[block] = hidden_states
            return None
        tokens = self._tokens.get(block)
        if tokens is None or tokens.shape[0] != hidden_states.shape[0]:
            return None
        self._count()
        query, key, value = attn.queries_keys_values(hidden_states, tokens)
        if self.recipe.own_keys == "replaced" and self._asking is None:
            return attend(query, key, value, backend=kernel)
        _, own_key, own_value = attn.queries_keys_values(hidden_states)
        own = attend(query, own_key, own_value, backend=kernel)
        mask = None
        if self.recipe.own_keys == "joined":
            key, value = torch.cat([own_key, key], dim=1), torch.cat([own_value, value], dim=1)
            if self._seen is not None:
                mask = torch.cat([self._seen.new_ones(len(own_key), own_key.shape[1]), self._seen], dim=1)
        theirs = attend(query, key, value, mask, backend=kernel)
        if self.recipe.own_keys == "blended":
            theirs = torch.lerp(own, theirs, self.recipe.weight)
        elif self.recipe.own_keys == "by likeness":
            likeness = F.cosine_similarity(own, theirs, dim=-1).clamp(min=0).unsqueeze(-1)  # (B*T, S, H, 1)
            theirs = torch.lerp(own, theirs, self.recipe.weight * likeness)
        return theirs if self._asking is None else torch.where(self._asking, theirs, own)


class CacheAttentionProcessor(OpenSoraAttnProcessor):
    """Self-attention that goes to a donor in the steps of its recipe, and is the plain one in all others."""

    def __init__(self, reuse: Reuse, block: int, plain: OpenSoraAttnProcessor) -> None:
        self.reuse, self.block = reuse, block
        self._attention_backend = plain._attention_backend

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out = self.reuse.attended(self.block, attn, hidden_states, self._attention_backend)
        if out is None:
            return super().__call__(attn, hidden_states, *args, **kwargs)
        return cast("Tensor", attn.proj(out.flatten(2)))


@contextmanager
def cache_attention(
    transformer: OpenSoraTransformer3DModel,
    donors: Donor | Sequence[Donor],
    recipe: Recipe = PAPER,
    videos: int = 1,
    first_sigma: float = 1.0,
) -> Iterator[Reuse]:
    """Within the block, the transformer attends to earlier videos; however the block ends, it is itself again.

    Args:
        donors: of several, keys and values are joined.
        videos: how many a batch holds, so that `conditional_only` can tell them from the halves of guidance.
        first_sigma: how noisy the latents are that a run begins with, 1 for noise alone.
    Raises: ValueError if there is no donor, or `recipe` names a block that the transformer has not.
    """
    donors = [donors] if isinstance(donors, Donor) else list(donors)
    depth = len(transformer.transformer_blocks) // 2
    if not donors or any(block >= depth for block in recipe.blocks):
        raise ValueError(f"{len(donors)} donors for blocks {recipe.blocks} of {depth}")
    reuse = Reuse(transformer, donors, recipe, videos, first_sigma)
    with ExitStack() as restore:
        for block in recipe.blocks:
            attn: Any = transformer.spatial_block(block).attn
            plain = attn.processor
            attn.set_processor(CacheAttentionProcessor(reuse, block, plain))
            restore.callback(attn.set_processor, plain)
        handle = transformer.register_forward_pre_hook(reuse.begin_step, with_kwargs=True)
        restore.callback(handle.remove)
        registry = HookRegistry.check_if_exists_or_initialize(transformer)
        registry.register_hook(reuse.hook, _HOOK)
        restore.callback(registry.remove_hook, _HOOK, recurse=False)
        yield reuse
