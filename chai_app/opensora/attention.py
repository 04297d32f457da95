"""Attention of the transformer: what is projected, which kernel attends, and the processor that ties both together.

Queries, keys and values are (B, N, H, D) everywhere: batch, tokens, heads, head dimension.
"""

from functools import cache
from typing import Any

import torch
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry, dispatch_attention_fn
from torch import Tensor, nn

from .cpu import takes_cpu_path

# A grid of CUDA has at most this many entries where the kernels put the batch. One place of every patch of a 4k video
# is 64,800 sequences in the guidance batch, so only several such videos at once come past it.
MAX_CUDA_BATCH = 65_535

TextKeysValues = tuple[Tensor, Tensor]
RotaryEmbedding = tuple[Tensor, Tensor]


# A compiler looks past `cache`, and would trace the trial call into every block.
@torch.compiler.assume_constant_result
def attention_kernel(device_type: str, dtype: torch.dtype, head_dim: int) -> AttentionBackendName:
    """Decide, once per process, which kernel attends where no one has chosen.

    xformers' memory-efficient attention on CUDA, if a trial call comes back (a build of xformers for another torch
    imports, but has no kernels); torch's scaled-dot-product attention everywhere else.

    Args:
        device_type: "cuda", "cpu", ...
        head_dim: channels per head.
    """
    return _decided_kernel(device_type, dtype, head_dim)


@cache
def _decided_kernel(device_type: str, dtype: torch.dtype, head_dim: int) -> AttentionBackendName:
    if device_type == "cuda":
        try:
            from xformers.ops import memory_efficient_attention

            trial = torch.zeros(1, 16, 1, head_dim, device=device_type, dtype=dtype)
            memory_efficient_attention(trial, trial, trial)
            return AttentionBackendName.XFORMERS
        except (ImportError, OSError, NotImplementedError, RuntimeError, ValueError):
            pass
    return AttentionBackendName.NATIVE


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    backend: AttentionBackendName | None = None,
) -> Tensor:
    """Softmax attention.

    Args:
        query: (B, N, H, D).
        key, value: (B, M, H, D).
        attention_mask: (B, M), True where a key may be attended to; None if all may.
        backend: diffusers' name of a kernel. None takes what `diffusers.attention_backend` or the environment has
            set, and if they have not, what `attention_kernel` decides. A call with a mask goes to torch's attention
            whatever is chosen.
    Returns: (B, N, H, D).
    """
    if query.is_cuda and query.shape[0] > MAX_CUDA_BATCH:
        mask_parts = [None, None] if attention_mask is None else attention_mask.chunk(2)
        parts = zip(query.chunk(2), key.chunk(2), value.chunk(2), mask_parts, strict=True)
        return torch.cat([attend(q, k, v, mask, backend) for q, k, v, mask in parts])

    if attention_mask is not None:
        # Most kernels take no mask, and xformers' wants it written out for every head and query, which is 120 MB for
        # one prompt at 240p. Only text of several lengths in one batch needs a mask.
        backend = AttentionBackendName.NATIVE
    elif backend is None and _AttentionBackendRegistry.get_active_backend()[0] == AttentionBackendName.NATIVE:
        backend = attention_kernel(query.device.type, query.dtype, query.shape[-1])
    return dispatch_attention_fn(query, key, value, attn_mask=attention_mask, backend=backend)


class OpenSoraAttnProcessor:
    """Project, attend, project back. One class serves self- and cross-attention: the layer knows its projections."""

    _attention_backend: AttentionBackendName | None = None  # diffusers' name, set by `set_attention_backend`

    def __call__(
        self,
        attn: "OpenSoraSelfAttention | OpenSoraCrossAttention",
        hidden_states: Tensor,
        encoder_hidden_states: Any = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: RotaryEmbedding | None = None,
    ) -> Tensor:
        """Attend from `hidden_states` to `encoder_hidden_states`, or to themselves where there are none.

        Args:
            hidden_states: (B, N, width).
            encoder_hidden_states: where keys and values come from: a tensor (B, M, width), or for cross-attention the
                pair that `OpenSoraCrossAttention.keys_values` made, each (B, M, H, D).
            attention_mask: (B, M), True where a key may be attended to.
            image_rotary_emb: cosines and signed sines, each (N, D).
        Returns: (B, N, width).
        """
        query, key, value = attn.queries_keys_values(hidden_states, encoder_hidden_states, image_rotary_emb)
        out = attend(query, key, value, attention_mask, self._attention_backend)
        return attn.proj(out.flatten(2))


class HeadNorm(nn.RMSNorm):
    """The RMS norm of queries and keys, per head; on a CPU in half as many passes as torch takes."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, H, D) -> (B, N, H, D)."""
        if not takes_cpu_path(x):
            return super().forward(x)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = length.square_().div_(x.shape[-1]).add_(self.eps or 0.0).rsqrt_()
        return (x * inverse).mul_(self.weight)


class OpenSoraSelfAttention(nn.Module, AttentionModuleMixin):
    """Attention within a frame (spatial block) or along time (temporal block, with rotary position)."""

    _default_processor_cls = OpenSoraAttnProcessor
    _supports_qkv_fusion = False  # the released projections are one matrix already
    is_cross_attention = False
    processor: OpenSoraAttnProcessor

    def __init__(self, hidden_size: int, num_heads: int, qk_norm: bool = True) -> None:
        super().__init__()
        self.heads = num_heads
        head_dim = hidden_size // num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.q_norm = HeadNorm(head_dim, eps=1e-6) if qk_norm else nn.Identity()
        self.k_norm = HeadNorm(head_dim, eps=1e-6) if qk_norm else nn.Identity()
        self.proj = nn.Linear(hidden_size, hidden_size)
        self.processor = OpenSoraAttnProcessor()

    def queries_keys_values(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        image_rotary_emb: RotaryEmbedding | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of `hidden_states`; keys and values of `encoder_hidden_states`, or of `hidden_states` again.

        Args:
            hidden_states: (B, N, width).
            encoder_hidden_states: (B, M, width).
            image_rotary_emb: cosines and signed sines, each (N, D); needs M = N.
        Returns: (B, N, H, D), (B, M, H, D), (B, M, H, D).
        """
        query, key, value = self._split(self.qkv(hidden_states))
        if encoder_hidden_states is not None:
            _, key, value = self._split(self.qkv(encoder_hidden_states))
        query, key = self.q_norm(query), self.k_norm(key)
        if image_rotary_emb is not None:
            query, key = rotate(query, image_rotary_emb), rotate(key, image_rotary_emb)
        return query, key, value

    def _split(self, qkv: Tensor) -> tuple[Tensor, ...]:
        return qkv.unflatten(-1, (3, self.heads, -1)).unbind(2)  # 3 x (B, N, H, D)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        image_rotary_emb: RotaryEmbedding | None = None,
    ) -> Tensor:
        """(B, N, width) -> (B, N, width); see `OpenSoraAttnProcessor`."""
        return self.processor(self, hidden_states, encoder_hidden_states, image_rotary_emb=image_rotary_emb)


class OpenSoraCrossAttention(nn.Module, AttentionModuleMixin):
    """Attention from patches to the prompt's tokens. No norm, no rotary position."""

    _default_processor_cls = OpenSoraAttnProcessor
    _supports_qkv_fusion = False  # the released projections are one matrix already
    is_cross_attention = True
    processor: OpenSoraAttnProcessor

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.heads = num_heads
        self.q_linear = nn.Linear(hidden_size, hidden_size)
        self.kv_linear = nn.Linear(hidden_size, 2 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)
        self.processor = OpenSoraAttnProcessor()

    def keys_values(self, text: Tensor) -> TextKeysValues:
        """(B, L, width) embedded text -> keys and values, each (B, L, H, D)."""
        key, value = self.kv_linear(text).unflatten(-1, (2, self.heads, -1)).unbind(2)
        return key, value

    def queries_keys_values(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | TextKeysValues,
        image_rotary_emb: RotaryEmbedding | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As in `OpenSoraSelfAttention`, with text in the place of the other patches, projected already or not."""
        query = self.q_linear(hidden_states).unflatten(-1, (self.heads, -1))  # (B, N, H, D)
        if isinstance(encoder_hidden_states, Tensor):
            encoder_hidden_states = self.keys_values(encoder_hidden_states)
        return query, *encoder_hidden_states

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | TextKeysValues,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, N, width) -> (B, N, width); see `OpenSoraAttnProcessor`."""
        return self.processor(self, hidden_states, encoder_hidden_states, attention_mask=attention_mask)


def rotate(hidden_states: Tensor, rotary_emb: RotaryEmbedding) -> Tensor:
    """Turn neighbouring pairs of channels by an angle that grows with the position.

    Args:
        hidden_states: (B, N, H, D).
        rotary_emb: cosines and signed sines from `RotaryPositions`, each (N, D).
    Returns: (B, N, H, D).
    Source: Su et al., arXiv 2104.09864; pairs are neighbours (2 i, 2 i + 1), as in the released weights.
    """
    cos, sin = (table.unsqueeze(1) for table in rotary_emb)  # (N, 1, D)
    if takes_cpu_path(hidden_states):
        # As complex numbers it is one pass; to swap neighbours on a CPU costs more than all else here.
        turn = torch.complex(cos[..., ::2].contiguous(), sin[..., 1::2].contiguous())  # (N, 1, D / 2)
        pairs = torch.view_as_complex(hidden_states.unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * turn).flatten(-2)
    swapped = hidden_states.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)  # (B, N, H, D)
    return torch.addcmul(hidden_states * cos, swapped, sin)
