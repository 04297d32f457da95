"""The layout in which Open-Sora 1.2 was published: names of tensors and fields of configurations, in our words."""

import re
from collections.abc import Callable, Mapping
from itertools import count, takewhile
from typing import Any

from torch import Tensor

TRANSFORMER_RENAMES: tuple[tuple[str, Callable[[re.Match[str]], str] | str], ...] = (
    (r"^spatial_blocks\.(\d+)\.", lambda match: f"transformer_blocks.{2 * int(match[1])}."),
    (r"^temporal_blocks\.(\d+)\.", lambda match: f"transformer_blocks.{2 * int(match[1]) + 1}."),
    (r"\.mlp\.fc1\.", ".mlp.net.0.proj."),
    (r"\.mlp\.fc2\.", ".mlp.net.2."),
    (r"^final_layer\.linear\.", "proj_out."),
    (r"^final_layer\.scale_shift_table$", "scale_shift_table"),
)
TRANSFORMER_FIELDS = (
    *("hidden_size", "depth", "num_heads", "caption_channels", "model_max_length", "qk_norm", "in_channels"),
    *("patch_size", "mlp_ratio", "pred_sigma", "input_sq_size", "class_dropout_prob"),
)


def transformer_name(released_name: str) -> str:
    """The name here of a tensor of the released transformer."""
    for pattern, name in TRANSFORMER_RENAMES:
        released_name = re.sub(pattern, name, released_name)
    return released_name


def autoencoder_name(released_name: str) -> str:
    """The name here of a tensor of the released autoencoder."""
    return re.sub(r"^spatial_vae\.module\.", "spatial_vae.", released_name)


def transformer_config(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Our configuration from the released transformer's: the fields that shape the network, by the same names."""
    return {name: config[name] for name in TRANSFORMER_FIELDS if name in config}


def autoencoder_config(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Our configuration from the released autoencoder's.

    The released file names its two parts, but not their sizes: those are read off the tensors. Norms have 32 groups,
    or one per channel where there are fewer channels.
    """

    def levels(pattern: str) -> range:
        return range(len(list(takewhile(lambda i: pattern.format(i) in tensors, count()))))

    down = "spatial_vae.encoder.down_blocks.{}.resnets.0.conv1.weight"
    widths = [tensors[down.format(i)].shape[0] for i in levels(down)]
    filters = tensors["temporal_vae.encoder.conv_in.conv.weight"].shape[0]
    stages = "temporal_vae.encoder.block_res_blocks.{}.0.conv1.conv.weight"
    return {
        "spatial": {
            "block_out_channels": widths,
            "down_block_types": ["DownEncoderBlock2D"] * len(widths),
            "up_block_types": ["UpDecoderBlock2D"] * len(widths),
            "layers_per_block": len(levels("spatial_vae.encoder.down_blocks.0.resnets.{}.conv1.weight")),
            "latent_channels": tensors["spatial_vae.decoder.conv_in.weight"].shape[1],
            "norm_num_groups": min(32, *widths),
            "sample_size": 512,
        },
        "temporal_filters": filters,
        "temporal_num_res_blocks": len(levels("temporal_vae.encoder.block_res_blocks.0.{}.conv1.conv.weight")),
        "temporal_channel_multipliers": [tensors[stages.format(i)].shape[0] // filters for i in levels(stages)],
        "temporal_downsample": [
            f"temporal_vae.encoder.conv_blocks.{i}.conv.weight" in tensors for i in levels(stages)[:-1]
        ],
        "temporal_norm_num_groups": min(32, filters),
        "micro_frame_size": config.get("micro_frame_size") or 17,
        "latents_mean": tensors["shift"].flatten().tolist(),
        "latents_std": tensors["scale"].flatten().tolist(),
    }
