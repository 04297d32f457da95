"""The image decoder's steps to twice the size, without the work that repeats itself.

A 3 x 3 convolution over an enlarged picture, in which every pixel stands four times, multiplies the same pixel by
several of its weights. Added up beforehand, these are the 4 x 4 kernel of a transposed convolution over the small
picture: 16 products instead of 36, and no enlarged copy.
"""

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from .cpu import takes_cpu_path

# Row i: to which of the four places of the wider kernel weight i of three goes. (A transposed convolution runs through
# its kernel backwards, so the first weight comes last.)
_WIDER = ((0.0, 0.0, 1.0, 1.0), (0.0, 1.0, 1.0, 0.0), (1.0, 1.0, 0.0, 0.0))


class EnlargingConv2d(nn.Conv2d):
    """Twice the size by repeated pixels, then a 3 x 3 convolution."""

    _kept: tuple[tuple[int, int], Tensor] | None = None  # on a CPU, where memory is cheap: of which weight, its kernel

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', 2 h, 2 w)."""
        return F.conv_transpose2d(input, self._kernel(input), self.bias, stride=2, padding=1)

    def _kernel(self, input: Tensor) -> Tensor:
        """(C, C', 4, 4)."""
        if not takes_cpu_path(input) or self.weight.is_inference():  # which does not tell whether it has changed
            return self._widened()
        state = (self.weight.data_ptr(), self.weight._version)
        if self._kept is None or self._kept[0] != state:
            self._kept = (state, self._widened())
        return self._kept[1]

    def _widened(self) -> Tensor:
        weight = self.weight.to(torch.promote_types(self.weight.dtype, torch.float32))  # sums are rounded once
        wider = torch.tensor(_WIDER, dtype=weight.dtype, device=weight.device)
        return torch.einsum("oiab,ak,bl->iokl", weight, wider, wider).to(self.weight.dtype)


class FoldedUpsample2D(nn.Module):
    """In place of diffusers' `Upsample2D`, with its child's name."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = EnlargingConv2d(conv.in_channels, conv.out_channels, 3, padding=1, bias=conv.bias is not None)
        self.conv.weight, self.conv.bias = conv.weight, conv.bias

    def forward(self, hidden_states: Tensor, output_size: int | None = None) -> Tensor:
        """(B, C, h, w) -> (B, C', 2 h, 2 w)."""
        return self.conv(hidden_states)


def fold_upsampling(autoencoder: AutoencoderKL) -> None:
    """Let the decoder of an image autoencoder enlarge in this way."""
    for block in autoencoder.decoder.up_blocks:
        for i, upsampler in enumerate(block.upsamplers or ()):
            if type(upsampler) is Upsample2D and upsampler.use_conv and not upsampler.use_conv_transpose:
                block.upsamplers[i] = FoldedUpsample2D(upsampler.conv)
