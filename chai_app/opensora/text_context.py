"""What the transformer needs to know of a prompt, worked out once and handed to every step."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .attention import TextKeysValues


@dataclass(frozen=True)
class TextContext:
    """Keys and values of a batch of prompts for the cross-attention of every block.

    They do not depend on the latents or the timestep, so one `OpenSoraTransformer3DModel.encode_text` serves a whole
    run. Padding is cut to the longest prompt of the batch; what is left of it is masked.

    Attributes:
        keys_values: one pair per block, each (B, L, H, D).
        mask: (B, L), True for the tokens of a prompt; None if nothing is padded.
    """

    keys_values: tuple[TextKeysValues, ...]
    mask: Tensor | None

    def chunk(self, chunks: int, dim: int = 0) -> tuple["TextContext", ...]:
        """Split along the batch as `Tensor.chunk` does: diffusers' FasterCache takes one half of a guidance batch."""
        if dim != 0:
            raise ValueError(f"a text context is split along its batch (dim 0), not along dim {dim}")
        keys = [key.chunk(chunks) for key, _ in self.keys_values]  # per block, per part
        values = [value.chunk(chunks) for _, value in self.keys_values]
        masks = [None] * chunks if self.mask is None else self.mask.chunk(chunks)
        return tuple(
            TextContext(tuple((key[i], value[i]) for key, value in zip(keys, values, strict=True)), masks[i])
            for i in range(len(keys[0]))
        )


class ReadsText(Protocol):
    """What is wanted of the transformer here: see `OpenSoraTransformer3DModel`."""

    def encode_text(self, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor | None) -> TextContext: ...

    def null_caption(self, length: int | None = None) -> Tensor: ...


def guidance_context(
    transformer: ReadsText,
    states: Tensor,
    mask: Tensor | None,
    negative_states: Tensor | None,
    negative_mask: Tensor | None,
    is_guided: bool,
) -> TextContext:
    """The context of a batch of prompts, preceded by their counterparts if there is guidance.

    Args:
        states: (B, L, D), states of the text encoder.
        mask: (B, L), nonzero for the tokens of a prompt; None if nothing is padded.
        negative_states: (B, M, D), the same of the negative prompts; None takes the learnt null caption.
        negative_mask: (B, M).
    Returns: the context of 2 B prompts, the negative ones first; of B without guidance.
    """
    mask = states.new_ones(states.shape[:2]) if mask is None else mask
    if not is_guided:
        return transformer.encode_text(states, mask)
    if negative_states is None:
        # The null caption takes the prompt's mask, as it did in training.
        null = transformer.null_caption(states.shape[1]).to(states)
        negative_states, negative_mask = null.expand(states.shape[0], -1, -1), mask
    elif negative_mask is None:
        negative_mask = negative_states.new_ones(negative_states.shape[:2])
    length = max(states.shape[1], negative_states.shape[1])
    both_states = [_padded(each.to(states), length) for each in (negative_states, states)]
    both_masks = [_padded(each.to(mask), length) for each in (negative_mask, mask)]
    return transformer.encode_text(torch.cat(both_states), torch.cat(both_masks))


def _padded(tensor: Tensor, length: int) -> Tensor:
    """(B, L, ...) -> (B, length, ...), with zeros at the end."""
    padding = tensor.new_zeros(tensor.shape[0], length - tensor.shape[1], *tensor.shape[2:])
    return torch.cat([tensor, padding], dim=1)
