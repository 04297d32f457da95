"""How the transformer sees its inputs: patches, positions, time, frame rate, text. Child names are as released."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn

from .attention import RotaryEmbedding


class PatchEmbed(nn.Module):
    """Latents to one token per patch. Sizes that are no multiple of the patch get zeros at their far ends."""

    def __init__(self, patch_size: Sequence[int], in_channels: int, hidden_size: int) -> None:
        super().__init__()
        frames, height, width = patch_size
        self.patch_size = (frames, height, width)
        self.proj = nn.Conv3d(in_channels, hidden_size, kernel_size=self.patch_size, stride=self.patch_size)

    def grid(self, latents: Tensor) -> tuple[int, int, int]:
        """Patches along time, height and width of (B, C, T, h, w) latents."""
        frames, height, width = (
            -(-size // patch) for size, patch in zip(latents.shape[2:], self.patch_size, strict=True)
        )
        return frames, height, width

    def forward(self, latents: Tensor) -> Tensor:
        """(B, C, T, h, w) latents -> (B, T, S, D) tokens, rows of a frame one after the other."""
        padding = [
            p
            for size, patch in zip(latents.shape[:1:-1], self.patch_size[::-1], strict=True)
            for p in (0, -size % patch)
        ]
        tokens = self.proj(F.pad(latents, padding))  # (B, D, T, h / p, w / p)
        # Laid out in this order once, here: else every later tensor inherits the convolution's, and is copied again
        # and again on its way into the linear layers.
        return tokens.flatten(3).permute(0, 2, 3, 1).contiguous()  # (B, T, S, D)


class SinusoidEmbedder(nn.Module):
    """A number (timestep, frames per second) as a vector: 256 sines and cosines, then two linear layers."""

    def __init__(self, hidden_size: int, num_frequencies: int = 256) -> None:
        super().__init__()
        self.num_frequencies = num_frequencies
        self.mlp = nn.Sequential(
            nn.Linear(num_frequencies, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size)
        )

    def forward(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """(B,) numbers -> (B, D) in `dtype`. Sinusoids are taken in fp32: bf16 has no timesteps of 985 or 986."""
        sinusoids = get_timestep_embedding(values, self.num_frequencies, flip_sin_to_cos=True, downscale_freq_shift=0)
        return self.mlp(sinusoids.to(dtype))


class CaptionEmbedder(nn.Module):
    """States of the text encoder to the transformer's width, and the learnt caption that stands for no prompt."""

    y_embedding: Tensor

    def __init__(self, caption_channels: int, hidden_size: int, max_length: int) -> None:
        super().__init__()
        self.y_proj = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(caption_channels, hidden_size),
                act=nn.GELU(approximate="tanh"),
                fc2=nn.Linear(hidden_size, hidden_size),
            )
        )
        self.register_buffer("y_embedding", torch.randn(max_length, caption_channels) / caption_channels**0.5)

    def forward(self, captions: Tensor) -> Tensor:
        """(B, L, caption channels) -> (B, L, D)."""
        return self.y_proj(captions)


class RotaryPositions(nn.Module):
    """Angles for positions along time. The frequencies are a tensor of the released checkpoint, though not learnt."""

    freqs: Tensor

    def __init__(self, head_dim: int, theta: float = 10_000.0) -> None:
        super().__init__()
        self.register_buffer("freqs", theta ** -(torch.arange(0, head_dim, 2).float() / head_dim))

    def forward(self, length: int, dtype: torch.dtype) -> RotaryEmbedding:
        """Tables for `rotate`, of positions 0 to `length` - 1, taken in fp32.

        Returns: cosines, and sines that are negative for the first channel of each pair; each (length, head_dim).
        """
        positions = torch.arange(length, device=self.freqs.device, dtype=torch.float32)
        angles = torch.outer(positions, self.freqs.float())  # (T, head_dim / 2)
        cos, sin = angles.cos(), angles.sin()
        cos, sin = torch.stack((cos, cos), dim=-1), torch.stack((-sin, sin), dim=-1)  # (T, head_dim / 2, 2)
        return cos.flatten(1).to(dtype), sin.flatten(1).to(dtype)


def position_embedding(
    grid_height: int, grid_width: int, hidden_size: int, scale: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Sines and cosines of a patch's column, then of its row, so spread that a picture of any size spans one range.

    Args:
        grid_height, grid_width: patches in a frame.
        hidden_size: a multiple of 4.
        scale: side of the picture (square root of its area) in units of the side that the model was trained at.
    Returns: (S, hidden_size), rows of a frame one after the other.
    """
    base_size = round((grid_height * grid_width) ** 0.5)
    rows = torch.arange(grid_height, device=device, dtype=torch.float32) / scale * (base_size / grid_height)
    columns = torch.arange(grid_width, device=device, dtype=torch.float32) / scale * (base_size / grid_width)
    steps = torch.arange(0, hidden_size // 2, 2, device=device, dtype=torch.float32)
    frequencies = 10_000.0 ** -(steps / (hidden_size // 2))  # (D / 4,)

    def waves(positions: Tensor) -> Tensor:
        angles = torch.outer(positions, frequencies)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)  # (positions, D / 2)

    by_column = waves(columns).expand(grid_height, -1, -1)  # (h, w, D / 2)
    by_row = waves(rows).unsqueeze(1).expand(-1, grid_width, -1)  # (h, w, D / 2)
    return torch.cat([by_column, by_row], dim=-1).flatten(0, 1).to(dtype)  # (S, D)
