"""The autoencoder of Open-Sora 1.2: pixels to latents, 8 x smaller in space and 4 x shorter in time.

Every frame goes through an image autoencoder, then chunks of 17 frames through a temporal one, which makes 5 latent
frames of each. Chunks do not see each other, so a long video is decoded one chunk after the other.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention import AttentionMixin
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor

from .checkpoint import load_autoencoder, load_strictly
from .cpu import takes_cpu_path
from .lean_resnet import make_lean
from .released_layout import autoencoder_name
from .temporal_autoencoder import TemporalAutoencoder
from .upsampling import fold_upsampling

# The image autoencoder of SDXL's family, as Open-Sora 1.2 uses it.
SDXL_SPATIAL: dict[str, Any] = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 512,
}


class AutoencoderKLOpenSora(ModelMixin, AttentionMixin, AutoencoderMixin, ConfigMixin):
    """Pixels in -1..1 to normalised latents and back.

    Args:
        spatial: configuration of the image autoencoder, a diffusers `AutoencoderKL`.
        spatial_scaling_factor: factor on the image autoencoder's latents. (SDXL's own is 0.13025; Open-Sora trained
            with 0.18215.)
        temporal_filters: width of the temporal part at its outermost level.
        temporal_num_res_blocks: residual blocks per level of the temporal part.
        temporal_channel_multipliers: width per level, in units of `temporal_filters`.
        temporal_downsample: whether time is halved after level i.
        temporal_norm_num_groups: groups of the temporal part's norms.
        micro_frame_size: frames per chunk.
        micro_batch_size: frames the image autoencoder takes at once; bounds its memory, changes no number.
        latents_mean, latents_std: normalised latents are (z - mean) / std, per channel. Only the values of a new model:
            a checkpoint brings its own, under the released names `shift` and `scale`.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["ResnetBlock2D", "ResBlock"]

    @register_to_config
    def __init__(
        self,
        spatial: Mapping[str, Any] = SDXL_SPATIAL,
        spatial_scaling_factor: float = 0.18215,
        temporal_filters: int = 128,
        temporal_num_res_blocks: int = 4,
        temporal_channel_multipliers: Sequence[int] = (1, 2, 2, 4),
        temporal_downsample: Sequence[bool] = (False, True, True),
        temporal_norm_num_groups: int = 32,
        micro_frame_size: int = 17,
        micro_batch_size: int = 4,
        latents_mean: Sequence[float] = (-0.10, 0.34, 0.27, 0.98),
        latents_std: Sequence[float] = (3.85, 2.32, 2.33, 3.06),
    ) -> None:
        super().__init__()
        self.spatial_vae = AutoencoderKL(**spatial)
        fold_upsampling(self.spatial_vae)
        make_lean(self.spatial_vae)
        self.temporal_vae = TemporalAutoencoder(
            latent_channels=self.spatial_vae.config.latent_channels,
            filters=temporal_filters,
            num_res_blocks=temporal_num_res_blocks,
            channel_multipliers=temporal_channel_multipliers,
            temporal_downsample=temporal_downsample,
            norm_num_groups=temporal_norm_num_groups,
        )
        self.register_buffer("shift", torch.tensor(latents_mean).view(1, -1, 1, 1, 1))
        self.register_buffer("scale", torch.tensor(latents_std).view(1, -1, 1, 1, 1))
        self.spatial_compression_ratio = 2 ** (len(self.spatial_vae.config.block_out_channels) - 1)
        self.use_slicing = False

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self.spatial_vae.config.latent_channels)

    def num_latent_frames(self, num_frames: int) -> int:
        """The latent frames of a video: 5 for each full chunk of 17 frames, a quarter (rounded up) of what is left."""
        chunks, rest = divmod(num_frames, self.config.micro_frame_size)
        return chunks * self._latent_frames_per_chunk + self.temporal_vae.num_latent_frames(rest)

    def num_frames(self, num_latent_frames: int) -> int:
        """The frames of a video with so many latent frames; where several lengths fit, the longest, but 1 for 1."""
        if num_latent_frames == 1:
            return 1
        chunks, rest = divmod(num_latent_frames, self._latent_frames_per_chunk)
        return chunks * self.config.micro_frame_size + rest * self.temporal_vae.temporal_stride

    def leading_frames(self, num_latent_frames: int, num_frames: int) -> int:
        """How many frames the first latent frames of a video stand for: 1 + 4 + 4 + 4 + 4 in a chunk of 17.

        Args:
            num_latent_frames: that many of its latent frames, from the first.
            num_frames: frames of the whole video.
        """
        chunks, rest = divmod(num_latent_frames, self._latent_frames_per_chunk)
        frames = chunks * self.config.micro_frame_size
        if rest:
            chunk = min(self.config.micro_frame_size, num_frames - frames)
            frames += rest * self.temporal_vae.temporal_stride - self.temporal_vae.front_padding(chunk)
        return frames

    @property
    def _latent_frames_per_chunk(self) -> int:
        return self.temporal_vae.num_latent_frames(self.config.micro_frame_size)

    def enable_tiling(self, tile_sample_min_size: int | None = None, tile_overlap_factor: float | None = None) -> None:
        """Let the image autoencoder work in overlapping tiles.

        Memory then no longer grows with the frame's size; tiles have norms of their own, so colours may differ a
        little from one tile to the next.

        Args:
            tile_sample_min_size: side of a tile in pixels, a multiple of 8.
            tile_overlap_factor: share of a tile that overlaps with its neighbour, 0 to 1.
        """
        self.spatial_vae.enable_tiling()
        if tile_sample_min_size is not None:
            self.spatial_vae.tile_sample_min_size = tile_sample_min_size
            self.spatial_vae.tile_latent_min_size = tile_sample_min_size // self.spatial_compression_ratio
        if tile_overlap_factor is not None:
            self.spatial_vae.tile_overlap_factor = tile_overlap_factor

    def disable_tiling(self) -> None:
        """Whole frames again."""
        self.spatial_vae.disable_tiling()

    @apply_forward_hook
    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """Encode videos.

        The image autoencoder contributes the mean of its posterior: its spread is far below that of the temporal
        part, whose posterior is what is returned.

        Args:
            x: (B, 3, T, H, W), pixels in -1..1; H and W are cut down to multiples of 8.
        Returns: `latent_dist`, the posterior of normalised latents (B, C, `num_latent_frames(T)`, H // 8, W // 8).
        """
        videos = x.split(1) if self.use_slicing else (x,)
        posterior = DiagonalGaussianDistribution(torch.cat([self._encode_moments(video) for video in videos]))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def _encode_moments(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> mean and log-variance of normalised latents, (B, 2 C, t, h, w)."""
        moments = []
        for chunk in x.split(self.config.micro_frame_size, dim=2):
            posterior = self.temporal_vae.encode(self._encode_frames(chunk))
            mean = (posterior.mean - self.shift) / self.scale
            moments.append(torch.cat([mean, posterior.logvar - 2 * self.scale.log()], dim=1))
        return torch.cat(moments, dim=2)

    def _encode_frames(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, C, T, h, w), every frame for itself."""
        frames = x.transpose(1, 2).flatten(0, 1)  # (B*T, 3, H, W)
        latents = torch.cat(
            [self.spatial_vae.encode(few).latent_dist.mode() for few in frames.split(self.config.micro_batch_size)]
        )
        latents = latents.unflatten(0, (x.shape[0], -1)).transpose(1, 2)  # (B, C, T, h, w)
        return latents * self.config.spatial_scaling_factor

    @apply_forward_hook
    def decode(
        self, z: Tensor, num_frames: int | None = None, return_dict: bool = True
    ) -> DecoderOutput | tuple[Tensor]:
        """Decode latents into videos.

        Args:
            z: (B, C, t, h, w), normalised latents.
            num_frames: the video's frames; None takes the length that `num_frames()` names for t.
        Returns: `sample` (B, 3, num_frames, 8 h, 8 w), pixels around -1..1, not clipped.
        Raises: ValueError if so many frames do not have t latent frames.
        """
        x = torch.cat(list(self._decode_chunks(z, num_frames)), dim=2)
        return DecoderOutput(sample=x) if return_dict else (x,)

    @apply_forward_hook
    def decode_chunks(self, z: Tensor, num_frames: int | None = None) -> Iterator[Tensor]:
        """Decode latents one chunk of 17 frames at a time.

        What a caller has taken and turned into bytes need not be held any longer at full precision, so that memory
        does not grow with the length of the video.

        Args: as `decode`.
        Yields: (B, 3, 17 or fewer, 8 h, 8 w), pixels around -1..1, not clipped.
        Raises: ValueError if so many frames do not have t latent frames.
        """
        return self._decode_chunks(z, num_frames)

    def _decode_chunks(self, z: Tensor, num_frames: int | None) -> Iterator[Tensor]:
        num_frames = self.num_frames(z.shape[2]) if num_frames is None else num_frames
        if self.num_latent_frames(num_frames) != z.shape[2]:
            raise ValueError(
                f"{num_frames} frames have {self.num_latent_frames(num_frames)} latent frames, but z has {z.shape[2]}"
            )
        for i, chunk in enumerate(z.split(self._latent_frames_per_chunk, dim=2)):
            length = min(self.config.micro_frame_size, num_frames - i * self.config.micro_frame_size)
            if self.use_slicing:
                yield torch.cat([self._decode_chunk(video, length) for video in chunk.split(1)])
            else:
                yield self._decode_chunk(chunk, length)

    def _decode_chunk(self, z: Tensor, num_frames: int) -> Tensor:
        """Normalised latents of one chunk -> (B, 3, num_frames, H, W)."""
        z = z * self.scale.to(z.dtype) + self.shift.to(z.dtype)
        return self._decode_frames(self.temporal_vae.decode(z, num_frames=num_frames))

    def _decode_frames(self, frame_latents: Tensor) -> Tensor:
        """(B, C, T, h, w) -> (B, 3, T, H, W), every frame for itself."""
        batch = frame_latents.shape[0]
        frames = frame_latents.transpose(1, 2).flatten(0, 1) / self.config.spatial_scaling_factor  # (B*T, C, h, w)
        if takes_cpu_path(frames):  # on a CPU convolutions are a quarter quicker with the channels innermost
            frames = frames.contiguous(memory_format=torch.channels_last)
        x = torch.cat([self.spatial_vae.decode(few).sample for few in frames.split(self.config.micro_batch_size)])
        return x.unflatten(0, (batch, -1)).transpose(1, 2)  # (B, 3, T, H, W)

    def load_released_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Take over tensors under their released names; all must be there, and no others.

        Raises: DamagedCheckpoint if a tensor is missing, unknown or of another shape.
        """
        load_strictly(self, {autoencoder_name(name): tensor for name, tensor in state_dict.items()})

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a folder or hub repository, in diffusers' layout or the released one; arguments as in diffusers.

        Raises: MissingWeights if there is nothing to load; DamagedCheckpoint if it is cut short or incomplete.
        """
        return load_autoencoder(cls, super().from_pretrained, pretrained_model_name_or_path, **kwargs)

    def forward(
        self, sample: Tensor, sample_posterior: bool = False, generator: torch.Generator | None = None
    ) -> DecoderOutput:
        """Encode and decode (B, 3, T, H, W) pixels; `sample_posterior` draws latents instead of taking the mean."""
        posterior = self.encode(sample).latent_dist
        z = posterior.sample(generator) if sample_posterior else posterior.mode()
        return self.decode(z, num_frames=sample.shape[2])
