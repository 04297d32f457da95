"""Every family as a tiny transformer of its real class, and a loop that calls it as its pipeline does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers import CogVideoXDDIMScheduler, DDIMScheduler, EulerAncestralDiscreteScheduler
from diffusers.models.embeddings import get_3d_rotary_pos_embed_allegro

from chai_app.attention import Donor
from chai_app.families import Family
from chai_app.families.known import ALLEGRO, COGVIDEOX, HUNYUAN, LATTE, LTX, LTX2, MOCHI, SKYREELS, WAN

FRAMES, ROWS, COLUMNS, CHANNELS = 3, 4, 6, 4
STEPS = 5


def noise(seed, videos=1, frames=FRAMES, rows=ROWS, columns=COLUMNS, channels=CHANNELS):
    return torch.randn(videos, channels, frames, rows, columns, generator=torch.Generator().manual_seed(seed))


def some(*shape, seed=99):
    """The same for every video of a batch, so that videos can be called apart."""
    return torch.randn(1, *shape[1:], generator=torch.Generator().manual_seed(seed)).expand(shape)


def packed(latents):
    return latents.flatten(2).transpose(1, 2)


def image(videos, channels):
    return some(videos, channels, FRAMES, ROWS, COLUMNS, seed=7)


def first_frame_given(latents):
    """Latents whose first frame is an image, and which of them are to be made, (1, 1, T, H, W)."""
    moving = torch.ones(1, 1, FRAMES, ROWS, COLUMNS)
    moving[:, :, 0] = 0
    return torch.where(moving > 0, latents, image(len(latents), CHANNELS)), moving


def wan(latents, t):
    return {"hidden_states": latents, "timestep": t, "encoder_hidden_states": some(len(latents), 5, 16)}


def wan_image(latents, t):
    return wan(torch.cat([latents, image(len(latents), 5)], dim=1), t)


def wan_first_frame(latents, t):
    """Wan 2.2 5B: a level for each token."""
    latents, moving = first_frame_given(latents)
    return wan(latents, moving[:, 0, :, ::2, ::2].flatten(1) * t[:, None])


def ltx(latents, t):
    videos, size = len(latents), dict(zip(("num_frames", "height", "width"), latents.shape[2:], strict=True))
    text = {"encoder_hidden_states": some(videos, 5, 16), "encoder_attention_mask": torch.ones(videos, 5)}
    return {"hidden_states": packed(latents), "timestep": t, **text, **size}


def ltx_first_frame(latents, t):
    latents, moving = first_frame_given(latents)
    return ltx(latents, packed(moving)[..., 0] * t[:, None])


def ltx2(latents, t):
    videos = len(latents)
    sound = {"audio_hidden_states": some(videos, 4, 8, seed=3), "audio_encoder_hidden_states": some(videos, 5, 16)}
    levels = {"sigma": t, "audio_timestep": t, "audio_num_frames": 4, "fps": 24.0}
    return {**ltx(latents, t), "audio_encoder_attention_mask": torch.ones(videos, 5), **sound, **levels}


def ltx2_first_frame(latents, t):
    latents, moving = first_frame_given(latents)
    return {**ltx2(latents, t), "timestep": packed(moving)[..., 0] * t[:, None]}


def cogvideox(latents, t):
    tokens = FRAMES * latents.shape[3] * latents.shape[4] // 4
    turns = some(1, tokens, 16, seed=5)[0]
    text = some(len(latents), 6, 16)
    hidden_states = latents.transpose(1, 2)
    positions = (turns.cos(), turns.sin())
    return {"hidden_states": hidden_states, "timestep": t, "encoder_hidden_states": text, "image_rotary_emb": positions}


def cogvideox_image(latents, t):
    return cogvideox(torch.cat([latents, image(len(latents), CHANNELS)], dim=1), t)


def hunyuan(latents, t, seen=0):
    videos = len(latents)
    return {
        "hidden_states": torch.cat([latents, seen * image(videos, CHANNELS + 1)], dim=1),
        "timestep": t,
        "encoder_hidden_states": some(videos, 5, 16),
        "encoder_attention_mask": torch.ones(videos, 5),
        "encoder_hidden_states_2": some(videos, 4, 8),
        "encoder_attention_mask_2": torch.ones(videos, 4),
        "image_embeds": seen * some(videos, 3, 8),
    }


def hunyuan_image(latents, t):
    return hunyuan(latents, t, seen=1)


def mochi(latents, t):
    mask = torch.ones(len(latents), 5, dtype=torch.bool)
    return {**wan(latents, t), "encoder_attention_mask": mask}


def allegro(latents, t):
    *turns, frames, rows, columns = get_3d_rotary_pos_embed_allegro(
        24, ((0, 0), (ROWS // 2, COLUMNS // 2)), (ROWS // 2, COLUMNS // 2), FRAMES
    )
    places = torch.cartesian_prod(frames.long(), rows.long(), columns.long()).T.unsqueeze(1)
    mask = torch.ones(len(latents), 5)
    return {**wan(latents, t), "encoder_attention_mask": mask, "image_rotary_emb": (turns, tuple(places))}


@dataclass(frozen=True)
class Case:
    """A family in one of its uses: the transformer's size, and a call as the pipeline makes it."""

    family: Family
    call: Callable[[torch.Tensor, torch.Tensor], dict[str, Any]]
    config: dict[str, Any]
    scheduler: Any = None

    def transformer(self, seed=0):
        torch.manual_seed(seed)
        model = getattr(diffusers, self.family.transformer)(**self.config).eval()
        for parameter in model.parameters():  # also those that begin at zero
            torch.nn.init.normal_(parameter, std=0.2)
        return model

    @property
    def timesteps(self):
        """Of a run of five steps; diffusions count timesteps in whole numbers."""
        times = [999, 800, 600, 400, 200] if self.scheduler else [1000.0, 812.5, 625.0, 437.5, 250.0]
        return [1000 - t for t in times] if self.family is MOCHI else times

    def velocity(self, model, latents, timestep):
        """What one call makes of latents (B, C, T, H, W), in the same layout."""
        call = self.call(latents, torch.tensor([timestep]).expand(len(latents)))
        out = model(**call, return_dict=False)[0]
        if self.family.layout == "packed":
            return out.transpose(1, 2).unflatten(2, latents.shape[2:])
        return (out.transpose(1, 2) if self.family.layout == "BTCHW" else out)[:, : latents.shape[1]]


WAN_SIZE = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 16,
    "num_layers": 2,
    "rope_max_seq_len": 32,
}
LTX_SIZE = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 16,
    "num_layers": 2,
    "caption_channels": 16,
}
LTX2_SIZE = LTX_SIZE | {
    "audio_in_channels": 8,
    "audio_out_channels": 8,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 8,
    "audio_cross_attention_dim": 16,
}
COGVIDEOX_SIZE = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 8,
    "text_embed_dim": 16,
    "num_layers": 2,
    "sample_width": COLUMNS,
    "sample_height": ROWS,
    "sample_frames": 9,
    "max_text_seq_length": 6,
    "use_rotary_positional_embeddings": True,
}
HUNYUAN_SIZE = {
    "in_channels": 9,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 2,
    "num_refiner_layers": 1,
    "text_embed_dim": 16,
    "text_embed_2_dim": 8,
    "image_embed_dim": 8,
    "rope_axes_dim": (4, 6, 6),
}
MOCHI_SIZE = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "num_layers": 2,
    "pooled_projection_dim": 16,
    "in_channels": 4,
    "text_embed_dim": 16,
    "time_embed_dim": 8,
}
LATTE_SIZE = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 2,
    "cross_attention_dim": 16,
    "attention_bias": True,
    "sample_size": 8,
    "patch_size": 2,
    "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": 1000,
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "caption_channels": 16,
    "video_length": FRAMES,
}
ALLEGRO_SIZE = {
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "num_layers": 2,
    "cross_attention_dim": 48,
    "sample_height": ROWS,
    "sample_width": COLUMNS,
    "sample_frames": FRAMES,
    "caption_channels": 16,
}

CASES = {
    "wan": Case(WAN, wan, WAN_SIZE),
    "wan-image": Case(WAN, wan_image, WAN_SIZE | {"in_channels": 9}),
    "wan-first-frame": Case(WAN, wan_first_frame, WAN_SIZE),
    "skyreels": Case(SKYREELS, wan, WAN_SIZE),
    "skyreels-image": Case(SKYREELS, wan_image, WAN_SIZE | {"in_channels": 9}),
    "ltx": Case(LTX, ltx, LTX_SIZE),
    "ltx-first-frame": Case(LTX, ltx_first_frame, LTX_SIZE),
    "ltx2": Case(LTX2, ltx2, LTX2_SIZE),
    "ltx2-first-frame": Case(LTX2, ltx2_first_frame, LTX2_SIZE),
    "cogvideox": Case(COGVIDEOX, cogvideox, COGVIDEOX_SIZE, CogVideoXDDIMScheduler(rescale_betas_zero_snr=True)),
    "cogvideox-image": Case(COGVIDEOX, cogvideox_image, COGVIDEOX_SIZE | {"in_channels": 8}, CogVideoXDDIMScheduler()),
    "hunyuan": Case(HUNYUAN, hunyuan, HUNYUAN_SIZE),
    "hunyuan-image": Case(HUNYUAN, hunyuan_image, HUNYUAN_SIZE),
    "mochi": Case(MOCHI, mochi, MOCHI_SIZE),
    "latte": Case(LATTE, wan, LATTE_SIZE, DDIMScheduler()),
    "allegro": Case(ALLEGRO, allegro, ALLEGRO_SIZE, EulerAncestralDiscreteScheduler()),
}


@torch.no_grad()
def run(case, models, start):
    """The velocities of five steps; of several models, each takes a part of them, as the experts of Wan 2.2 do."""
    models = models if isinstance(models, list) else [models]
    found = []
    for i, timestep in enumerate(case.timesteps):
        velocity = case.velocity(models[i * len(models) // len(case.timesteps)], start, timestep)
        found.append(velocity)
        start = start + 0.2 * velocity
    return found


class Mirror(Donor):
    """A donor that shows each call its own latents."""

    def __init__(self, case):
        super().__init__(clean=noise(0))
        object.__setattr__(self, "case", case)

    def show_itself(self, model):
        def remember(_model, _args, kwargs):
            family = self.case.family
            shares = family.shares(float(kwargs["timestep"].max()), self.case.scheduler)
            object.__setattr__(self, "current", family.latents(kwargs, CHANNELS) / sum(shares))

        return model.register_forward_pre_hook(remember, with_kwargs=True, prepend=True)

    def at(self, noise_level, noise):
        return self.current
