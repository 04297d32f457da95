"""Training with donors: in a share of each batch the spatial attention also sees another clip with the same thing.

A batch begins with `pairs` donors, then come the `pairs` clips that attend to them, frame by frame, each to its own;
whatever follows stands alone, and so do the donors themselves. So one set of weights learns to serve with a donor and
without, and no pass through the model is spent on donors alone: they are samples of the batch like all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from ...opensora.attention import OpenSoraAttnProcessor, attend
from ...opensora.transformer import OpenSoraTransformer3DModel


class PartnerProcessor(OpenSoraAttnProcessor):
    """Self-attention within frames, in which clips of a batch see the frames of their donors as well."""

    def __init__(self, partners: Partners) -> None:
        super().__init__()
        self._partners = partners

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        pairs = self._partners.pairs
        if not pairs:
            return super().__call__(attn, hidden_states, *args, **kwargs)
        query, key, value = attn.queries_keys_values(hidden_states)  # (B*T, S, H, D)
        n = pairs * (hidden_states.shape[0] // self._partners.batch_size)
        donors, takers, others = slice(0, n), slice(n, 2 * n), slice(2 * n, None)
        seen_key = torch.cat([key[takers], key[donors]], dim=1)  # (pairs*T, 2 S, H, D)
        seen_value = torch.cat([value[takers], value[donors]], dim=1)
        alone = [attend(query[rows], key[rows], value[rows]) for rows in (donors, others) if len(query[rows])]
        out = torch.cat([alone[0], attend(query[takers], seen_key, seen_value), *alone[1:]])
        return cast("Tensor", attn.proj(out.flatten(2)))


class Partners:
    """How many of the coming batch are donors."""

    pairs = 0
    batch_size = 1


@contextmanager
def partners(transformer: OpenSoraTransformer3DModel) -> Iterator[Partners]:
    """Within the block, spatial blocks attend as `Partners` says; after it, the model is itself again."""
    known = Partners()
    with ExitStack() as restore:
        for number in range(len(transformer.transformer_blocks) // 2):
            attn: Any = transformer.spatial_block(number).attn
            restore.callback(attn.set_processor, attn.processor)
            attn.set_processor(PartnerProcessor(known))
        yield known
