"""The temporal half of the autoencoder: latents of single frames in, latents four times shorter out.

A stack of causal 3-D convolutions: every frame sees itself and what came before it, never what comes after. Child names
are those of the released checkpoint, so that its tensors load without a rename table.

Source: Open-Sora 1.2, after MAGVIT-v2 (Yu et al., arXiv 2310.05737).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .cpu import takes_cpu_path


class PaddedConv3d(nn.Conv3d):
    """A 3-D convolution that pads its input as it is told.

    Args:
        pad: of the last axis in front and behind, and so on, as for `torch.nn.functional.pad`; height and width
            have the same on all sides, time none behind.
    """

    def __init__(self, *args: Any, pad: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pad = pad

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, T, h, w) -> (B, C', T / time stride, h, w)."""
        if not takes_cpu_path(input):
            return super().forward(F.pad(input, self.pad))
        # As a convolution of pictures: frames that are seen together lie side by side as channels. For small sizes
        # torch has no quick 3-D convolution on a CPU.
        around, *_, front, _ = self.pad
        size, time_stride = self.kernel_size[0], self.stride[0]
        frames = F.pad(input.transpose(1, 2), (0, 0, 0, 0, 0, 0, front, 0))  # (B, front + T, C, h, w)
        count = (frames.shape[1] - size) // time_stride + 1
        seen = [frames[:, i : i + (count - 1) * time_stride + 1 : time_stride] for i in range(size)]
        frames = torch.cat(seen, dim=2).flatten(0, 1)  # (B*T, size*C, h, w)
        frames = F.conv2d(frames, self.weight.transpose(1, 2).flatten(1, 2), self.bias, padding=around)
        return frames.unflatten(0, (-1, count)).transpose(1, 2)  # (B, C', T, h, w)


class CausalConv3d(nn.Module):
    """A 3-D convolution which sees no frame after the one it writes: all of its padding in time lies in front."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, time_stride: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        around = kernel_size // 2
        front = (kernel_size - 1) + (1 - time_stride)
        pad = (around, around, around, around, front, 0)
        self.conv = PaddedConv3d(in_channels, out_channels, kernel_size, stride=(time_stride, 1, 1), bias=bias, pad=pad)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.conv(hidden_states)


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice over, added to the input (which is projected if the channels change)."""

    def __init__(self, in_channels: int, out_channels: int, norm_num_groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_num_groups, in_channels)
        self.conv1 = CausalConv3d(in_channels, out_channels, 3, bias=False)
        self.norm2 = nn.GroupNorm(norm_num_groups, out_channels)
        self.conv2 = CausalConv3d(out_channels, out_channels, 3, bias=False)
        self.conv3 = CausalConv3d(in_channels, out_channels, 1, bias=False) if in_channels != out_channels else None

    def forward(self, hidden_states: Tensor) -> Tensor:
        residual = hidden_states if self.conv3 is None else self.conv3(hidden_states)
        hidden_states = self.conv1(F.silu(self.norm1(hidden_states)))
        hidden_states = self.conv2(F.silu(self.norm2(hidden_states)))
        return hidden_states + residual


def _res_blocks(count: int, in_channels: int, out_channels: int, norm_num_groups: int) -> nn.ModuleList:
    widths = [in_channels] + [out_channels] * count
    return nn.ModuleList(ResBlock(widths[i], widths[i + 1], norm_num_groups) for i in range(count))


class TemporalEncoder(nn.Module):
    """(B, C, T, h, w) -> (B, moments, T / 4, h, w). T is a multiple of the total stride."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        filters: int,
        num_res_blocks: int,
        channel_multipliers: Sequence[int],
        temporal_downsample: Sequence[bool],
        norm_num_groups: int,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.conv_in = CausalConv3d(in_channels, filters, 3, bias=False)
        self.block_res_blocks = nn.ModuleList()
        self.conv_blocks = nn.ModuleList()
        width = filters
        for i, multiplier in enumerate(channel_multipliers):
            self.block_res_blocks.append(_res_blocks(num_res_blocks, width, filters * multiplier, norm_num_groups))
            width = filters * multiplier
            if i < len(channel_multipliers) - 1:
                halves = temporal_downsample[i]
                self.conv_blocks.append(CausalConv3d(width, width, 3, time_stride=2) if halves else nn.Identity())
        self.res_blocks = _res_blocks(num_res_blocks, width, width, norm_num_groups)
        self.norm1 = nn.GroupNorm(norm_num_groups, width)
        self.conv2 = CausalConv3d(width, out_channels, 1)

    def forward(self, hidden_states: Tensor) -> Tensor:
        hidden_states = self.conv_in(hidden_states)
        for i, blocks in enumerate(self.block_res_blocks):
            hidden_states = _run(blocks.children(), hidden_states, self.gradient_checkpointing)
            if i < len(self.conv_blocks):
                hidden_states = self.conv_blocks[i](hidden_states)  # (B, C, T / 2, h, w) where it halves
        hidden_states = _run(self.res_blocks, hidden_states, self.gradient_checkpointing)
        return self.conv2(F.silu(self.norm1(hidden_states)))


class TemporalDecoder(nn.Module):
    """(B, latents, T / 4, h, w) -> (B, C, T, h, w), the encoder's way back."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        filters: int,
        num_res_blocks: int,
        channel_multipliers: Sequence[int],
        temporal_downsample: Sequence[bool],
        norm_num_groups: int,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        width = filters * channel_multipliers[-1]
        self.conv1 = CausalConv3d(in_channels, width, 3)
        self.res_blocks = _res_blocks(num_res_blocks, width, width, norm_num_groups)

        # Built from the deepest level up, kept from the first one down: the order of the released names.
        levels: list[nn.ModuleList] = []
        conv_blocks: list[nn.Module] = []
        for i in reversed(range(len(channel_multipliers))):
            levels.insert(0, _res_blocks(num_res_blocks, width, filters * channel_multipliers[i], norm_num_groups))
            width = filters * channel_multipliers[i]
            if i > 0:
                conv_blocks.insert(
                    0, CausalConv3d(width, 2 * width, 3) if temporal_downsample[i - 1] else nn.Identity()
                )
        self.block_res_blocks = nn.ModuleList(levels)
        self.conv_blocks = nn.ModuleList(conv_blocks)
        self.norm1 = nn.GroupNorm(norm_num_groups, width)
        self.conv_out = CausalConv3d(width, out_channels, 3)

    def forward(self, hidden_states: Tensor) -> Tensor:
        hidden_states = self.conv1(hidden_states)
        hidden_states = _run(self.res_blocks, hidden_states, self.gradient_checkpointing)
        for i in reversed(range(len(self.block_res_blocks))):
            hidden_states = _run(self.block_res_blocks[i].children(), hidden_states, self.gradient_checkpointing)
            if i > 0 and isinstance(self.conv_blocks[i - 1], CausalConv3d):
                hidden_states = self.conv_blocks[i - 1](hidden_states)  # (B, 2 C, T, h, w)
                hidden_states = hidden_states.unflatten(1, (-1, 2))  # (B, C, 2, T, h, w)
                hidden_states = hidden_states.transpose(2, 3).flatten(2, 3)  # (B, C, 2 T, h, w)
        return self.conv_out(F.silu(self.norm1(hidden_states)))


def _run(blocks: Iterable[nn.Module], hidden_states: Tensor, gradient_checkpointing: bool) -> Tensor:
    for block in blocks:
        if gradient_checkpointing and torch.is_grad_enabled():
            hidden_states = checkpoint(block, hidden_states, use_reentrant=False)
        else:
            hidden_states = block(hidden_states)
    return hidden_states


class TemporalAutoencoder(nn.Module):
    """A chunk of frame latents, four times shorter and back.

    A chunk whose length is no multiple of the stride gets zero frames in front (17 frames become 20, then 5 latent
    frames); decoding cuts off what came from them.
    """

    def __init__(
        self,
        latent_channels: int = 4,
        filters: int = 128,
        num_res_blocks: int = 4,
        channel_multipliers: Sequence[int] = (1, 2, 2, 4),
        temporal_downsample: Sequence[bool] = (False, True, True),
        norm_num_groups: int = 32,
    ) -> None:
        super().__init__()
        self.temporal_stride = 2 ** sum(temporal_downsample)
        shape = (filters, num_res_blocks, channel_multipliers, temporal_downsample, norm_num_groups)
        self.encoder = TemporalEncoder(latent_channels, 2 * latent_channels, *shape)
        self.quant_conv = CausalConv3d(2 * latent_channels, 2 * latent_channels, 1)
        self.post_quant_conv = CausalConv3d(latent_channels, latent_channels, 1)
        self.decoder = TemporalDecoder(latent_channels, latent_channels, *shape)

    def front_padding(self, num_frames: int) -> int:
        """The zero frames that go in front of a chunk of `num_frames` frames."""
        return -num_frames % self.temporal_stride

    def num_latent_frames(self, num_frames: int) -> int:
        """The latent frames of one chunk of `num_frames` frames."""
        return (num_frames + self.front_padding(num_frames)) // self.temporal_stride

    def encode(self, frame_latents: Tensor) -> DiagonalGaussianDistribution:
        """Compress one chunk in time.

        Args:
            frame_latents: (B, C, T, h, w), latents of single frames times the spatial scaling factor.
        Returns: the posterior of latents (B, C, ceil(T / 4), h, w), before normalisation.
        """
        padding = self.front_padding(frame_latents.shape[2])
        frame_latents = F.pad(frame_latents, (0, 0, 0, 0, padding, 0))  # (B, C, T + padding, h, w)
        return DiagonalGaussianDistribution(self.quant_conv(self.encoder(frame_latents)))

    def decode(self, latents: Tensor, num_frames: int) -> Tensor:
        """Expand one chunk in time.

        Args:
            latents: (B, C, T / 4, h, w), not normalised.
            num_frames: how many frames the chunk had before it was encoded.
        Returns: (B, C, num_frames, h, w), latents of single frames times the spatial scaling factor.
        """
        frame_latents = self.decoder(self.post_quant_conv(latents))  # (B, C, T + padding, h, w)
        return frame_latents[:, :, self.front_padding(num_frames) :]
