"""The image autoencoder's residual blocks with fewer passes over memory.

At the size of a video's frames, what an element-wise pass costs is reading and writing. On a CPU, SiLU therefore works
in place on what the norm before it made, and the sum in place on what the convolution before it made; nothing is
divided by a scale of 1.
"""

import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from .cpu import takes_cpu_path


class LeanResnetBlock2D(ResnetBlock2D):
    """A `ResnetBlock2D` as autoencoders have it, without time embedding and change of size."""

    def forward(self, input_tensor: Tensor, temb: Tensor | None, *args: object, **kwargs: object) -> Tensor:
        """(B, C, h, w) -> (B, C', h, w)."""
        if not takes_cpu_path(input_tensor) or self.training:
            return super().forward(input_tensor, temb, *args, **kwargs)
        hidden_states = self.conv1(F.silu(self.norm1(input_tensor), inplace=True))
        hidden_states = self.conv2(F.silu(self.norm2(hidden_states), inplace=True))
        if self.conv_shortcut is not None:
            input_tensor = self.conv_shortcut(input_tensor)
        hidden_states += input_tensor
        return hidden_states if self.output_scale_factor == 1 else hidden_states.div_(self.output_scale_factor)


def make_lean(autoencoder: AutoencoderKL) -> None:
    """Let all residual blocks of an image autoencoder that can work in this way."""
    for block in autoencoder.modules():
        if type(block) is ResnetBlock2D and _is_plain(block):
            block.__class__ = LeanResnetBlock2D


def _is_plain(block: ResnetBlock2D) -> bool:
    changes_size = block.upsample is not None or block.downsample is not None
    has_time = block.time_emb_proj is not None or block.time_embedding_norm == "scale_shift"
    return not changes_size and not has_time and isinstance(block.nonlinearity, nn.SiLU)
