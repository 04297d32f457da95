"""Cache Attention: queries of the video being made, keys and values of an earlier one.

Where: the self-attention of the first spatial block. When: in steps 2, 3 and 4; in step 1 queries are still noise.
Q: the current latents, embedded and modulated as usual. K, V: the latents of the earlier video at the noise level of
the step, through the same embedding, positions, modulation and projections. So a donor that equals the current latents
gives plain self-attention.

A `Recipe` says where, when and which keys. Beyond the paper it knows deeper blocks, the video's own keys beside the
donor's, masks, and a donor that is shown at one noise level in all steps.

Source: "Chai: CacHe Attention Inference for text2video", arXiv 2602.16132, section 3.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from diffusers.hooks.hooks import BaseState, CacheContext, HookRegistry, ModelHook, StateManager
from torch import Tensor

from ..opensora.attention import OpenSoraAttnProcessor, attend
from ..opensora.cache_hooks import past_techniques
from ..opensora.transformer import OpenSoraTransformer3DModel
from .donor import Donor

KeysValues = tuple[Tensor, Tensor]
_HOOK = "cache attention"


@dataclass(frozen=True)
class Recipe:
    """How an earlier video is attended to.

    Args:
        steps: of the run, counted from 1; None for all.
        blocks: spatial blocks, counted from 0; None for all.
        own_keys: whether the donor's keys and values replace the video's own, or join them, so that queries choose.
        through: how the donor's latents come to a block: straight from the embedding, which is all that the first block
            would see anyway; or through the blocks before it, under the prompt at hand, at the price of another pass
            through the model in each such step.
        donor_level: how noisy the donor is shown in all steps, 0 clean to 1 noise; None is as noisy as the step. What
            blocks hear of it is then the same in every step, and worked out once for the whole run, under no prompt.
        masked: only those of a donor's tokens are seen that its mask names, such as those of the thing that two prompts
            share. Own keys have to be joined: a frame in which the mask names nothing has to look somewhere.
    Raises: ValueError for a level outside 0 to 1, a step before 1, a block before 0, or a mask without own keys.
    """

    steps: tuple[int, ...] | None = (2, 3, 4)
    blocks: tuple[int, ...] | None = (0,)
    own_keys: Literal["replaced", "joined"] = "replaced"
    through: Literal["embedding", "blocks"] = "embedding"
    donor_level: float | None = None
    masked: bool = False

    def __post_init__(self) -> None:
        if self.donor_level is not None and not 0 <= self.donor_level <= 1:
            raise ValueError(f"donor level {self.donor_level} must lie within 0 to 1")
        if self.masked and self.own_keys != "joined":
            raise ValueError(f"a mask needs own keys that are joined, not {self.own_keys}")
        if any(step < 1 for step in self.steps or ()) or any(block < 0 for block in self.blocks or ()):
            raise ValueError(f"steps {self.steps} count from 1, blocks {self.blocks} from 0")

    def is_due(self, step: int) -> bool:
        """Whether a step, counted from 1, attends to donors."""
        return self.steps is None or step in self.steps

    def blocks_of(self, depth: int) -> tuple[int, ...]:
        """The blocks that do, in a model of so many spatial blocks."""
        return tuple(range(depth)) if self.blocks is None else self.blocks


PAPER = Recipe()
"""arXiv 2602.16132, section 3: steps 2 to 4, the first spatial block, keys and values replaced, in both halves."""

TRAINED = Recipe(steps=None, blocks=None, own_keys="joined", through="blocks", donor_level=0.1)
"""For a model that learnt with donors (`demo.learn.partners`): every block sees them, in every step."""


class CacheAttentionProcessor(OpenSoraAttnProcessor):
    """Self-attention of one block: to the donor in the steps of the recipe, the plain one in all others."""

    def __init__(self, reuse: Attending, block: int, plain: OpenSoraAttnProcessor) -> None:
        self.reuse, self.block = reuse, block
        self._attention_backend = plain._attention_backend

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(B*T, S, D) -> (B*T, S, D)."""
        self.reuse.hear(self.block, hidden_states)
        donors = self.reuse.shown(self.block)  # (B*T, donors*S, D)
        if donors is None or donors.shape[0] != hidden_states.shape[0]:
            return super().__call__(attn, hidden_states, *args, **kwargs)
        query, own_key, own_value = attn.queries_keys_values(hidden_states)  # (B*T, S, H, head width) each
        _, key, value = attn.queries_keys_values(donors)  # (B*T, donors*S, H, head width) each
        out = self.answer(query, (own_key, own_value), (key, value))
        if self.reuse.given is not None:  # frames that are given have nothing to ask for
            out = torch.where(self.reuse.given, self.attend(query, (own_key, own_value)), out)
        self.reuse.count()
        return cast("Tensor", attn.proj(out.flatten(2)))

    def answer(self, query: Tensor, own: KeysValues, theirs: KeysValues) -> Tensor:
        """What the queries find, (B*T, S, H, head width)."""
        if self.reuse.recipe.own_keys == "replaced":
            return self.attend(query, theirs)
        seen = self.reuse.seen
        mask = None if seen is None else torch.cat([seen.new_ones(own[0].shape[:2]), seen], dim=1)
        both = torch.cat([own[0], theirs[0]], dim=1), torch.cat([own[1], theirs[1]], dim=1)
        return self.attend(query, both, mask)

    def attend(self, query: Tensor, keys_values: KeysValues, mask: Tensor | None = None) -> Tensor:
        """Softmax attention by the kernel that this block is set to."""
        return attend(query, *keys_values, mask, self._attention_backend)


class Loop(StateManager):
    """Where the denoising loop is: it tells all hooks by `cache_context`."""

    def __init__(self) -> None:
        super().__init__(BaseState)
        self.step = 1
        """Counted from 1; a model that is called outside a loop is in its first step."""
        self.is_told = False
        """Whether the loop said so: many pipelines name their calls and do not count them."""
        self.call: str | None = None
        """What it calls this call of the model, such as a half of guidance; none is there twice in a step."""

    def set_context(self, context: CacheContext | None) -> None:
        index = None if context is None else context.step_index
        self.step, self.is_told = 1 + (index or 0), index is not None
        self.call = None if context is None else context.name


class Attending(ModelHook):
    """What one run with donors knows: the step it is in, what blocks are shown there, and what has been done.

    What has been done is counted where attention goes to a donor: a technique that reuses within the run may have
    skipped it in a step that the recipe meant.
    """

    _is_stateful = True

    def __init__(self, donors: Sequence[Donor], recipe: Recipe, blocks: Sequence[int], first_sigma: float) -> None:
        super().__init__()
        self.recipe, self._donors, self._blocks, self._first_sigma = recipe, donors, blocks, first_sigma
        self.steps_done = cast("list[int]", [])
        """Steps in which attention went to a donor, one run of the loop after the other."""
        self.calls = 0
        """How often it did, over steps and blocks."""
        self.extra_passes = 0
        """Passes through the model beyond those of the run itself, which a recipe through the blocks needs."""
        self.seen: Tensor | None = None
        """Tokens of the donors that may be looked at, (B*T, donors*S); None for all."""
        self.given: Tensor | None = None
        """Frames that are given, (B*T, 1, 1, 1); None for none."""
        self._loop = Loop()
        self._step, self._is_counted = 0, False
        self._noise: Tensor | None = None
        self._tokens: Mapping[int, Tensor] = {}
        self._lasting: Mapping[int, Tensor] = {}  # of donors that are shown the same in every step
        self._heard: dict[int, Tensor] | None = None

    def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
        """Nothing is kept beyond a run, which step 1 tells."""
        return module

    # -- before a step of the transformer -----------------------------------------------------------------------------

    def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Work out what the blocks are shown in this step."""
        call = dict(inspect.signature(type(module).forward).bind(module, *args, **kwargs).arguments)
        if self._loop.step == 1:  # of a run, or of the next loop
            self._noise, self._lasting = call["hidden_states"] / self._first_sigma, {}
        if self._loop.step != self._step:  # the halves of a guidance batch may come in one call or in two
            self._step, self._is_counted = self._loop.step, False
        self._tokens = {}
        if self.recipe.is_due(self._step):
            self._tokens = self._lasting or self._tokens_of_donors(module, call)
            self.seen = self._seen_tokens(module, call["hidden_states"]) if self.recipe.masked else None
            moving = call.get("frame_mask")
            self.given = None if moving is None or moving.all() else ~moving.flatten()[:, None, None, None]
        return args, kwargs

    def _tokens_of_donors(self, model: OpenSoraTransformer3DModel, call: Mapping[str, Any]) -> Mapping[int, Tensor]:
        """What each block of the recipe is shown, (B*T, donors*S, D)."""
        level = self.recipe.donor_level
        if level is None:
            level = float(torch.as_tensor(call["timestep"]).flatten()[0]) / 1000
        assert self._noise is not None
        noise, rows = self._noise, len(self._noise)
        has_one_donor_each = all(len(donor.clean) == 1 for donor in self._donors)
        if self.recipe.donor_level is not None and has_one_donor_each and torch.equal(noise[1:], noise[:-1]):
            noise = noise[:1]  # one video, there for each half of guidance; a donor that hears no prompt is there once
        tokens_of = self._through_blocks if self.recipe.through == "blocks" else self._from_embedding
        by_donor = [tokens_of(model, donor.at(level, noise), level, call) for donor in self._donors]
        tokens = {block: torch.cat([each[block] for each in by_donor], dim=1) for block in self._blocks}
        if len(noise) < rows:
            tokens = {block: each.repeat(rows, 1, 1) for block, each in tokens.items()}
        if self.recipe.donor_level is not None:
            self._lasting = tokens
        return tokens

    def _from_embedding(
        self, model: OpenSoraTransformer3DModel, latents: Tensor, level: float, call: Mapping[str, Any]
    ) -> Mapping[int, Tensor]:
        """Tokens (B*T, S, D) by block, straight from a donor's latents (B, C, T, h, w)."""
        size = {name: call[name] for name in ("fps", "height", "width") if name in call}
        return {block: model.attention_tokens(latents, 1000 * level, block=block, **size) for block in self._blocks}

    def _through_blocks(
        self, model: OpenSoraTransformer3DModel, latents: Tensor, level: float, call: Mapping[str, Any]
    ) -> Mapping[int, Tensor]:
        """The same, with the donor taken through the whole model, whose processors listen."""
        inputs = {name: value for name, value in call.items() if name not in ("self", "frame_mask")}
        inputs |= {"hidden_states": latents, "timestep": 1000 * level}
        if self.recipe.donor_level is not None:
            inputs["encoder_hidden_states"] = model.null_caption().expand(latents.shape[0], -1, -1)
            inputs["encoder_attention_mask"] = None
        heard: dict[int, Tensor] = {}
        self._heard = heard
        try:
            with past_techniques(model):  # for them, this is no step of the run
                model(**inputs)
        finally:
            self._heard = None
        self.extra_passes += 1
        return heard

    def _seen_tokens(self, model: OpenSoraTransformer3DModel, latents: Tensor) -> Tensor | None:
        rows, _, frames = latents.shape[:3]
        _, height, width = model.x_embedder.grid(latents)
        masks = [donor.seen_tokens(frames, height, width, rows) for donor in self._donors]
        if all(mask is None for mask in masks):
            return None
        whole = torch.ones(rows * frames, height * width, dtype=torch.bool)
        return torch.cat([whole if mask is None else mask for mask in masks], dim=1).to(latents.device)

    # -- within it, told by the processors ----------------------------------------------------------------------------

    def shown(self, block: int) -> Tensor | None:
        """What a block attends to in this step, (B*T, donors*S, D); None where it keeps to itself."""
        return self._tokens.get(block)

    def hear(self, block: int, hidden_states: Tensor) -> None:
        """A block's attention is about to run; if it is the donor's turn, this is what will be shown of it."""
        if self._heard is not None:
            self._heard[block] = hidden_states

    @torch.compiler.disable
    def count(self) -> None:
        """Attention went to the donors."""
        self.calls += 1
        if not self._is_counted:
            self.steps_done.append(self._step)
            self._is_counted = True


@contextmanager
def cache_attention(
    transformer: OpenSoraTransformer3DModel,
    donors: Donor | Sequence[Donor],
    recipe: Recipe = PAPER,
    first_sigma: float = 1.0,
    processor: type[CacheAttentionProcessor] = CacheAttentionProcessor,
) -> Iterator[Attending]:
    """Within the block, the transformer attends to earlier videos; however the block ends, it is itself again.

    Args:
        donors: of several, keys and values are joined.
        first_sigma: how noisy the latents are that a run begins with, 1 for noise alone.
        processor: what attends; another one is for experiments.
    Raises: ValueError if there is no donor, or `recipe` names a block that the transformer has not.
    """
    donors = [donors] if isinstance(donors, Donor) else list(donors)
    depth = len(transformer.transformer_blocks) // 2
    blocks = recipe.blocks_of(depth)
    if not donors or any(block >= depth for block in blocks):
        raise ValueError(f"{len(donors)} donors for blocks {blocks} of {depth}")
    reuse = Attending(donors, recipe, blocks, first_sigma)
    with ExitStack() as restore:
        for block in blocks:
            attn: Any = transformer.spatial_block(block).attn
            plain = attn.processor
            attn.set_processor(processor(reuse, block, plain))
            restore.callback(attn.set_processor, plain)
        registry = HookRegistry.check_if_exists_or_initialize(transformer)
        registry.register_hook(reuse, _HOOK)
        restore.callback(registry.remove_hook, _HOOK, recurse=False)
        yield reuse
