"""The transformer of Open-Sora 1.2 (STDiT3): patches of latents in, velocity out.

Blocks take turns: a spatial block looks around within each frame, the temporal block after it looks along time at each
place. Both also read the prompt. Tokens stay (B, T, S, D) all the way: batch, latent frames, patches of a frame, width.

Source: https://github.com/hpcaitech/Open-Sora at v1.2.0.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention import AttentionMixin
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from . import cache_hooks
from .attention import OpenSoraCrossAttention, OpenSoraSelfAttention, RotaryEmbedding, TextKeysValues
from .checkpoint import load_strictly, load_transformer
from .embeddings import CaptionEmbedder, PatchEmbed, RotaryPositions, SinusoidEmbedder, position_embedding
from .feed_forward import OpenSoraFeedForward
from .released_layout import transformer_name
from .text_context import TextContext


class OpenSoraTransformerBlock(nn.Module):
    """Self-attention within frames or along time, cross-attention to the prompt, then a feed-forward network.

    Time enters as a shift, a scale and a gate around self-attention and the feed-forward network. Cross-attention has
    neither norm nor gate.
    """

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float, qk_norm: bool, is_temporal: bool) -> None:
        super().__init__()
        self.is_temporal = is_temporal
        self.norm1 = nn.LayerNorm(hidden_size, eps=1e-6, elementwise_affine=False)
        self.attn = OpenSoraSelfAttention(hidden_size, num_heads, qk_norm)
        self.cross_attn = OpenSoraCrossAttention(hidden_size, num_heads)
        self.norm2 = nn.LayerNorm(hidden_size, eps=1e-6, elementwise_affine=False)
        self.mlp = OpenSoraFeedForward(hidden_size, int(hidden_size * mlp_ratio))
        self.scale_shift_table = nn.Parameter(torch.randn(6, hidden_size) / hidden_size**0.5)

    @apply_forward_hook
    def attention_input(self, hidden_states: Tensor, modulation: Tensor) -> Tensor:
        """The tokens as self-attention sees them: normed and modulated, one sequence per frame or per place.

        Args:
            hidden_states: (B, T, S, D).
            modulation: (B, T or 1, 1, 6, D), from `OpenSoraTransformer3DModel.modulation`.
        Returns: (B*T, S, D) in a spatial block, (B*S, T, D) in a temporal one.
        """
        shift, scale = (self.scale_shift_table + modulation)[..., :2, :].unbind(-2)  # (B, T or 1, 1, D)
        return self._sequences(modulated(self.norm1, hidden_states, shift, scale))

    def _sequences(self, hidden_states: Tensor) -> Tensor:
        """(B, T, S, D) -> (B*T, S, D), no frame sees another; or (B*S, T, D), one place through time."""
        return (hidden_states.transpose(1, 2) if self.is_temporal else hidden_states).flatten(0, 1)

    def forward(
        self,
        hidden_states: Tensor,
        modulation: Tensor,
        text: TextKeysValues,
        text_mask: Tensor | None = None,
        image_rotary_emb: RotaryEmbedding | None = None,
    ) -> Tensor:
        """One block.

        Args:
            hidden_states: (B, T, S, D).
            modulation: (B, T or 1, 1, 6, D).
            text: keys and values of the prompt, each (B, L, heads, head width).
            text_mask: (B, L), True for the prompt's tokens; None if nothing is padded.
            image_rotary_emb: tables of the positions in time, see `rotate`; None in a spatial block.
        Returns: (B, T, S, D).
        """
        batch, frames, patches = hidden_states.shape[:3]
        table = self.scale_shift_table + modulation
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = table.unbind(-2)  # (B, T or 1, 1, D)

        attn = modulated(self.norm1, hidden_states, shift_attn, scale_attn)  # (B, T, S, D)
        attn = self.attn(self._sequences(attn), image_rotary_emb=image_rotary_emb)  # (B*T, S, D) or (B*S, T, D)
        if self.is_temporal:
            attn = attn.unflatten(0, (batch, patches)).transpose(1, 2)  # (B, T, S, D)
        else:
            attn = attn.unflatten(0, (batch, frames))  # (B, T, S, D)
        hidden_states = torch.addcmul(hidden_states, gate_attn, attn)

        cross = self.cross_attn(hidden_states.flatten(1, 2), text, text_mask)  # (B, T*S, D)
        hidden_states = hidden_states + cross.unflatten(1, (frames, patches))  # (B, T, S, D)

        mlp = self.mlp(modulated(self.norm2, hidden_states, shift_mlp, scale_mlp))
        return torch.addcmul(hidden_states, gate_mlp, mlp)


def modulated(norm: nn.LayerNorm, hidden_states: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """norm(hidden_states) * (1 + scale) + shift, in as few passes over the tokens as there can be.

    Args:
        norm: without weights of its own.
        hidden_states: (B, T, S, D).
        shift, scale: (B, T or 1, 1, D), or (1, 1, 1, D) where all tokens share them: then they are the norm's weights.
    """
    if shift.numel() == shift.shape[-1]:
        weight, bias = (1 + scale).flatten(), shift.flatten()
        return F.layer_norm(hidden_states, norm.normalized_shape, weight, bias, norm.eps)
    return torch.addcmul(shift, norm(hidden_states), 1 + scale)


class OpenSoraTransformer3DModel(ModelMixin, AttentionMixin, CacheMixin, ConfigMixin):
    """STDiT3 as a diffusers model; the defaults are the released STDiT3-XL/2.

    Args:
        hidden_size: width, a multiple of 4 and of `num_heads`.
        depth: spatial blocks, and as many temporal ones.
        num_heads: attention heads.
        caption_channels: width of the text encoder's states.
        model_max_length: tokens of a prompt, at most.
        qk_norm: whether queries and keys are normed per head.
        in_channels: channels of the latents.
        patch_size: latent frames, rows and columns per token.
        mlp_ratio: width of the feed-forward networks, in units of `hidden_size`.
        pred_sigma: whether the output has a second half of channels, which sampling does not use.
        input_sq_size: side in pixels of the square that positions are measured against.
        class_dropout_prob: share of captions that training replaces by the null caption.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["OpenSoraTransformerBlock"]
    _repeated_blocks: ClassVar[list[str]] = ["OpenSoraTransformerBlock"]
    _skip_layerwise_casting_patterns: ClassVar[list[str]] = ["rope", "norm", "scale_shift_table"]

    @register_to_config
    def __init__(
        self,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        caption_channels: int = 4096,
        model_max_length: int = 300,
        qk_norm: bool = True,
        in_channels: int = 4,
        patch_size: Sequence[int] = (1, 2, 2),
        mlp_ratio: float = 4.0,
        pred_sigma: bool = True,
        input_sq_size: int = 512,
        class_dropout_prob: float = 0.1,
    ) -> None:
        super().__init__()
        cache_hooks.register_block(OpenSoraTransformerBlock)
        self.gradient_checkpointing = False
        self.x_embedder = PatchEmbed(patch_size, in_channels, hidden_size)
        self.t_embedder = SinusoidEmbedder(hidden_size)
        self.fps_embedder = SinusoidEmbedder(hidden_size)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))
        self.y_embedder = CaptionEmbedder(caption_channels, hidden_size, model_max_length)
        self.rope = RotaryPositions(hidden_size // num_heads)
        self.transformer_blocks = nn.ModuleList(
            OpenSoraTransformerBlock(hidden_size, num_heads, mlp_ratio, qk_norm, is_temporal=i % 2 == 1)
            for i in range(2 * depth)
        )
        self.norm_out = nn.LayerNorm(hidden_size, eps=1e-6, elementwise_affine=False)
        self.scale_shift_table = nn.Parameter(torch.randn(2, hidden_size) / hidden_size**0.5)
        patch_volume = patch_size[0] * patch_size[1] * patch_size[2]
        self.proj_out = nn.Linear(hidden_size, patch_volume * in_channels * (2 if pred_sigma else 1))
        self._initialize()

    def _initialize(self) -> None:
        """The original's start: temporal blocks contribute nothing at first, nor does the frame rate."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        first, _, second = cast(Iterable[Any], self.fps_embedder.mlp)
        nn.init.normal_(first.weight, std=0.02)
        nn.init.zeros_(second.weight)
        for block in self._blocks[1::2]:
            for last_layer in (block.attn.proj, block.cross_attn.proj, cast(nn.Linear, block.mlp.net[2])):
                nn.init.zeros_(last_layer.weight)

    @property
    def dtype(self) -> torch.dtype:
        """The number format that the model computes in: that of a weight which is never stored in another. (diffusers'
        own property looks through all modules, a millisecond at each of several calls a step.)"""
        return self.scale_shift_table.dtype

    @property
    def _blocks(self) -> list[OpenSoraTransformerBlock]:
        return cast(list[OpenSoraTransformerBlock], list(self.transformer_blocks))

    # -- the parts of a step ------------------------------------------------------------------------------------------

    @apply_forward_hook
    def encode_text(self, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor | None = None) -> TextContext:
        """Work out, once per prompt, all that the blocks read of it.

        In training mode each caption gives way to the null caption with probability `class_dropout_prob`.

        Args:
            encoder_hidden_states: (B, L, `caption_channels`), states of the text encoder.
            encoder_attention_mask: (B, L), nonzero for the prompt's tokens; None if nothing is padded.
        Returns: keys and values for every block, to be given to `forward` in place of `encoder_hidden_states`.
        Raises: ValueError if a prompt has no token at all.
        """
        mask = None
        if encoder_attention_mask is not None:
            mask = encoder_attention_mask != 0
            lengths = torch.where(mask, torch.arange(1, mask.shape[1] + 1, device=mask.device), 0).amax(dim=1)
            shortest, longest = int(lengths.min()), int(lengths.max())
            if shortest == 0:
                raise ValueError("every prompt needs at least one token that its mask does not hide")
            encoder_hidden_states, mask = encoder_hidden_states[:, :longest], mask[:, :longest]
            mask = None if bool(mask.all()) else mask
        captions = encoder_hidden_states.to(self.dtype)
        if self.training and self.config.class_dropout_prob > 0:
            dropped = torch.rand(captions.shape[0], 1, 1, device=captions.device) < self.config.class_dropout_prob
            captions = torch.where(dropped, self.y_embedder.y_embedding[: captions.shape[1]], captions)
        text = self.y_embedder(captions)  # (B, L, D)
        return TextContext(tuple(block.cross_attn.keys_values(text) for block in self._blocks), mask)

    @apply_forward_hook
    def null_caption(self, length: int | None = None) -> Tensor:
        """The learnt states that stand for no prompt, (`length`, `caption_channels`)."""
        return self.y_embedder.y_embedding[:length]

    @apply_forward_hook
    def embed_latents(
        self, hidden_states: Tensor, height: float | Tensor | None = None, width: float | Tensor | None = None
    ) -> Tensor:
        """Latents to tokens with their positions.

        Args: as in `forward`.
        Returns: (B, T, S, D).
        """
        height = 8 * hidden_states.shape[3] if height is None else _number(height)
        width = 8 * hidden_states.shape[4] if width is None else _number(width)
        _, grid_height, grid_width = self.x_embedder.grid(hidden_states)
        scale = (height * width) ** 0.5 / self.config.input_sq_size
        tokens = self.x_embedder(hidden_states.to(self.dtype))  # (B, T, S, D)
        return tokens + position_embedding(
            grid_height, grid_width, self.config.hidden_size, scale, tokens.device, tokens.dtype
        )

    @apply_forward_hook
    def modulation(self, timestep: Tensor, fps: Tensor, frame_mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Time and frame rate as the blocks and the last layer want them.

        Args:
            timestep: (B,), 0 to 1000.
            fps: (B,), frames per second.
            frame_mask: (B, T), True for frames that are generated; the others are given, and count as at timestep 0.
        Returns: (B, T or 1, 1, 6, D) for the blocks; then for the last layer (B, 1, 1, D) at `timestep`, and (B, 1, 1,
            D) at timestep 0, which is the same tensor again where no frame is given. Where one number was expanded to
            all videos, as for the halves of a guidance batch, B is 1.
        """
        if timestep.stride(0) == 0 and fps.stride(0) == 0:
            timestep, fps = timestep[:1], fps[:1]
        rate = self.fps_embedder(fps, self.dtype)  # (B, D)
        time = by_frame = clean = (self.t_embedder(timestep, self.dtype) + rate)[:, None, None]  # (B, 1, 1, D)
        if frame_mask is not None:
            clean = (self.t_embedder(torch.zeros_like(timestep), self.dtype) + rate)[:, None, None]
            by_frame = torch.where(frame_mask[:, :, None, None], time, clean)  # (B, T, 1, D)
        return self.t_block(by_frame).unflatten(-1, (6, -1)), time, clean

    def attention_tokens(
        self,
        hidden_states: Tensor,
        timestep: float | Tensor,
        fps: float | Tensor = 24.0,
        height: float | Tensor | None = None,
        width: float | Tensor | None = None,
        block: int = 0,
    ) -> Tensor:
        """Latents as a spatial block's self-attention sees them: embedded, with positions, modulated.

        Args: as in `forward`.
            block: which spatial block, from 0. The tokens come straight from the latents, past the blocks before it.
        Returns: (B*T, S, D), ready to be the source of that attention's keys and values.
        """
        tokens = self.embed_latents(hidden_states, height, width)  # (B, T, S, D)
        modulation, *_ = self.modulation(_per_video(timestep, hidden_states), _per_video(fps, hidden_states))
        return self.spatial_block(block).attention_input(tokens, modulation)

    def spatial_block(self, number: int) -> OpenSoraTransformerBlock:
        """The spatial block of that number, from 0."""
        return self._blocks[2 * number]

    # -- a step -------------------------------------------------------------------------------------------------------

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor | TextContext,
        encoder_attention_mask: Tensor | None = None,
        fps: float | Tensor = 24.0,
        height: float | Tensor | None = None,
        width: float | Tensor | None = None,
        frame_mask: Tensor | None = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict the velocity.

        Args:
            hidden_states: (B, C, T, h, w), noisy latents.
            timestep: (B,) or a single number, 0 (clean) to 1000 (noise).
            encoder_hidden_states: (B, L, `caption_channels`) states of the text encoder, or what `encode_text` made of
                them: the same result, without working out the text again at every step.
            encoder_attention_mask: (B, L), nonzero for the prompt's tokens; not wanted beside a `TextContext`.
            fps: frames per second, one number or (B,); 120 for an image.
            height, width: size of the video in pixels, which one batch shares; None takes 8 pixels per latent.
            frame_mask: (B, T), True for frames that are generated, False for frames that are given.
        Returns: `sample` (B, C, T, h, w), latents per unit of flow time, from noise to data (x0 - noise).
        """
        latents = hidden_states
        timestep = _per_video(timestep, latents)
        text = encoder_hidden_states
        if not isinstance(text, TextContext):
            text = self.encode_text(text, encoder_attention_mask)

        hidden_states = self.embed_latents(latents, height, width)  # (B, T, S, D)
        modulation, time, clean = self.modulation(timestep, _per_video(fps, latents), frame_mask)
        rotary = self.rope(hidden_states.shape[1], hidden_states.dtype)

        for block, keys_values in zip(self._blocks, text.keys_values, strict=True):
            inputs = (hidden_states, modulation, keys_values, text.mask, rotary if block.is_temporal else None)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden_states = self._gradient_checkpointing_func(block, *inputs)
            else:
                hidden_states = block(*inputs)

        hidden_states = self._last_norm(hidden_states, time)
        if frame_mask is not None:
            # Given frames are normed a second time, on top of the first: so the released weights were trained. Only
            # the velocity of these frames depends on it, which sampling does not use.
            given = self._last_norm(hidden_states, clean)
            hidden_states = torch.where(frame_mask[:, :, None, None], hidden_states, given)
        velocity = self._unpatchify(self.proj_out(hidden_states), latents)
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)

    def _last_norm(self, hidden_states: Tensor, time: Tensor) -> Tensor:
        shift, scale = (self.scale_shift_table + time.unsqueeze(-2)).unbind(-2)  # (B, 1, 1, D)
        return modulated(self.norm_out, hidden_states, shift, scale)

    def _unpatchify(self, patches: Tensor, latents: Tensor) -> Tensor:
        """(B, T, S, patch * channels) -> (B, C, T, h, w), without the second half of the channels and the padding."""
        channels, frames, height, width = latents.shape[1:]
        patch_frames, patch_height, patch_width = self.x_embedder.patch_size
        _, grid_height, grid_width = self.x_embedder.grid(latents)
        patches = patches.unflatten(-1, (patch_frames, patch_height, patch_width, -1))[..., :channels]
        patches = patches.unflatten(2, (grid_height, grid_width))  # (B, T/p, h/p, w/p, p, p, p, C)
        video = patches.permute(0, 7, 1, 4, 2, 5, 3, 6)  # (B, C, T/p, p, h/p, p, w/p, p)
        video = video.flatten(6, 7).flatten(4, 5).flatten(2, 3)  # (B, C, T, h, w), with padding
        return video[:, :, :frames, :height, :width]

    # -- diffusers' caching techniques, released weights --------------------------------------------------------------

    def enable_cache(self, config: Any) -> None:
        """Turn on one of diffusers' caching techniques, by its configuration; see `cache_hooks`.

        Raises: ValueError if one is on already, or `config` is not one of diffusers'.
        """
        cache_hooks.enable(self, config, super().enable_cache)

    def set_attention_backend(self, backend: str) -> None:
        """Choose the kernel of this model's attention, by diffusers' names ("native", "flash", "xformers", ...).

        Raises: ValueError if there is no such kernel.
        """
        # diffusers makes the choice for one model that of all others too, and never takes it back.
        everyones, _ = _AttentionBackendRegistry.get_active_backend()
        super().set_attention_backend(backend)
        _AttentionBackendRegistry.set_active_backend(everyones)

    def load_released_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Take over tensors under their released names; all must be there, and no others.

        Raises: DamagedCheckpoint if a tensor is missing, unknown or of another shape.
        """
        load_strictly(self, {transformer_name(name): tensor for name, tensor in state_dict.items()})

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a folder or hub repository, in diffusers' layout or the released one; arguments as in diffusers.

        Raises: MissingWeights if there is nothing to load; DamagedCheckpoint if it is cut short or incomplete.
        """
        return load_transformer(cls, super().from_pretrained, pretrained_model_name_or_path, **kwargs)


def _per_video(value: float | Tensor, latents: Tensor) -> Tensor:
    """One number for all videos, or one for each, as (B,)."""
    return torch.as_tensor(value, device=latents.device, dtype=torch.float32).expand(latents.shape[0])


def _number(size: float | Tensor) -> float:
    return float(size.flatten()[0]) if isinstance(size, Tensor) else float(size)
