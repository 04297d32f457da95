"""The image decoder's steps to twice the size, without the work that repeats itself.

A 3 x 3 convolution over an enlarged picture, in which every pixel stands four times, multiplies the same pixel by
several of its weights. Added up beforehand, these are a 2 x 2 convolution over the small picture for each of the four
places within an old pixel: 16 products instead of 36, and no enlarged copy.
"""

from itertools import product

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn


class EnlargingConv2d(nn.Conv2d):
    """Twice the size by repeated pixels, then a 3 x 3 convolution."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', 2 h, 2 w)."""
        summed = self.weight.to(torch.promote_types(self.weight.dtype, torch.float32))  # sums are rounded once
        weight = _phases(_phases(summed)).to(self.weight.dtype)  # (C', C, 2, 2, 2, 2)
        weight = weight.permute(0, 2, 4, 1, 3, 5).reshape(-1, weight.shape[1], 2, 2)  # (C'*2*2, C, 2, 2)
        bias = None if self.bias is None else self.bias.repeat_interleave(4)
        # Each of the four places looks at another corner of its neighbourhood: one convolution over the picture and
        # its rim serves all, and each takes its part.
        parts = F.conv2d(input, weight, bias, padding=1).unflatten(1, (-1, 2, 2))  # (B, C', 2, 2, h+1, w+1)
        batch, channels, *_ = parts.shape
        height, width = input.shape[2:]
        enlarged = parts.new_empty(batch, channels, height, 2, width, 2)
        for i, j in product((0, 1), (0, 1)):
            enlarged[:, :, :, i, :, j] = parts[:, :, i, j, i : i + height, j : j + width]
        return enlarged.view(batch, channels, 2 * height, 2 * width)


class FoldedUpsample2D(nn.Module):
    """In place of diffusers' `Upsample2D`, with its child's name."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = EnlargingConv2d(conv.in_channels, conv.out_channels, 3, padding=1, bias=conv.bias is not None)
        self.conv.weight, self.conv.bias = conv.weight, conv.bias

    def forward(self, hidden_states: Tensor, output_size: int | None = None) -> Tensor:
        """(B, C, h, w) -> (B, C', 2 h, 2 w)."""
        return self.conv(hidden_states)


def _phases(weight: Tensor) -> Tensor:
    """Three weights along axis 2 -> for the first and the second place within an old pixel, the weights of the two old
    pixels it sees: (O, C, 3, ...) -> (O, C, ..., place, pixel)."""
    before, here, after = weight.unbind(2)
    first, second = torch.stack((before, here + after), dim=-1), torch.stack((before + here, after), dim=-1)
    return torch.stack((first, second), dim=-2)


def fold_upsampling(autoencoder: AutoencoderKL) -> None:
    """Let the decoder of an image autoencoder enlarge in this way."""
    for block in autoencoder.decoder.up_blocks:
        for i, upsampler in enumerate(block.upsamplers or ()):
            if type(upsampler) is Upsample2D and upsampler.use_conv and not upsampler.use_conv_transpose:
                block.upsamplers[i] = FoldedUpsample2D(upsampler.conv)
