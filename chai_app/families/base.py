"""A family: what Cache Attention has to know of one kind of video transformer.

Embedding, norm, modulation and positions are not here: a donor goes through the model's own `forward` (`reuse.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..errors import BadRequest

if TYPE_CHECKING:
    from torch import Tensor, nn

Call = Mapping[str, Any]
"""What a pipeline hands the transformer, by the names of its `forward`."""


@dataclass(frozen=True)
class Family:
    """One kind of video transformer.

    Args:
        name: as people say it.
        transformer: its class in diffusers.
        pipelines: classes that make a video of noise with it; others change what its calls hold.
        attention: path of the first self-attention.
        channels: what its configuration calls the number of channels of latents. Channels of a call beyond them are an
            image to begin with.
        layout: of latents in a call; "packed" is (B, T*H*W, C), with `num_frames`, `height` and `width` beside it.
        noise: how a timestep mixes clean latents and noise. In a flow it is 1000 times the share of noise, in a
            reversed flow of what is clean; a diffusion asks the scheduler's `alphas_cumprod`.
        text: where the text's tokens are at the keys and values: with projections of their own, or first in the same.
    """

    name: str
    transformer: str
    pipelines: tuple[str, ...]
    attention: str = "transformer_blocks.0.attn1"
    channels: str = "out_channels"
    layout: Literal["BCTHW", "BTCHW", "packed"] = "BCTHW"
    noise: Literal["flow", "reversed flow", "diffusion"] = "flow"
    text: Literal["apart", "first"] = "apart"

    def first_attention(self, transformer: nn.Module) -> Any:
        """The module whose keys and values are replaced."""
        return transformer.get_submodule(self.attention)

    def num_channels(self, transformer: Any) -> int:
        """Channels of latents alone."""
        return getattr(transformer.config, self.channels) or transformer.config.in_channels

    def refuse_what_hides(self, transformer: Any) -> None:
        """Raises: BadRequest where tokens cannot be seen or keys not be replaced as the transformer is set."""
        names = self.attention.split(".")
        on_the_way = [transformer.get_submodule(".".join(names[:i])) for i in range(len(names) + 1)]
        attention = on_the_way[-1]
        why = None
        if any(hasattr(part, "_orig_mod") or part._compiled_call_impl is not None for part in on_the_way):
            why = "is compiled: load it without torch.compile, or compile all blocks but the first"
        # A flag that is up is not enough: CogVideoX leaves it so when projections are apart again.
        elif "Fused" in type(attention.processor).__name__ or (
            getattr(attention, "fused_projections", False) and hasattr(attention, "unfuse_projections")
        ):
            why = "has fused projections: call its unfuse_qkv_projections() first"
        elif getattr(transformer, "_parallel_config", None) is not None:
            why = "is spread over several devices, each with a part of the tokens: load it without enable_parallelism"
        elif getattr(transformer, "is_cache_enabled", False):
            why = "has a caching technique on that may skip its first block: call its disable_cache() first"
        if why:
            raise BadRequest(f"Cache Attention cannot look into this {self.name} transformer, which {why}.")

    def latents(self, call: Call, channels: int) -> Tensor:
        """Latents of a call, (B, C, T, H, W), without an image to begin with."""
        return self._unpacked(call)[:, :channels]

    def with_latents(self, call: Call, latents: Tensor) -> dict[str, Any]:
        """The call with other latents, (B, C, T, H, W), and the same image to begin with."""
        import torch

        beyond = self._unpacked(call)[:, latents.shape[1] :]
        hidden_states = torch.cat([latents, beyond], dim=1)
        if self.layout == "packed":
            hidden_states = hidden_states.flatten(2).transpose(1, 2)  # (B, T*H*W, C)
        elif self.layout == "BTCHW":
            hidden_states = hidden_states.transpose(1, 2)  # (B, T, C, H, W)
        return {**call, "hidden_states": hidden_states.contiguous()}

    def _unpacked(self, call: Call) -> Tensor:
        hidden_states: Tensor = call["hidden_states"]
        if self.layout == "BTCHW":
            return hidden_states.transpose(1, 2)
        if self.layout == "BCTHW":
            return hidden_states
        frames, rows, columns = (call.get(name) or 0 for name in ("num_frames", "height", "width"))
        if frames * rows * columns != hidden_states.shape[1]:
            raise BadRequest(
                f"Cache Attention finds {hidden_states.shape[1]} tokens for {frames} frames of {rows} x {columns} in a "
                f"call of {self.name}: run it with {' or '.join(self.pipelines[:2])}, without further conditions."
            )
        return hidden_states.unflatten(1, (frames, rows, columns)).movedim(-1, 1)  # (B, C, T, H, W)

    def shares(self, timestep: float, scheduler: Any = None) -> tuple[float, float]:
        """How much of clean latents and how much of noise there is at a timestep."""
        if self.noise == "flow":
            return 1 - timestep / 1000, timestep / 1000
        if self.noise == "reversed flow":
            return timestep / 1000, 1 - timestep / 1000
        clean = float(scheduler.alphas_cumprod[round(timestep)])
        return clean**0.5, (1 - clean) ** 0.5

    def given(self, timestep: Tensor, latents: Tensor) -> Tensor | None:
        """Where a call's latents are an image to begin with, (B, 1, T, H, W); None for nowhere.

        Args:
            timestep: (B,), or (B, tokens): what is given is less noisy than the rest.
            latents: (B, C, T, H, W)
        Raises: BadRequest for levels of whole frames.
        """
        is_given = timestep < timestep.max()
        if timestep.ndim < 2 or not is_given.any():
            return None
        frames, rows, columns = latents.shape[2:]
        levels = timestep.shape[1]
        patch = round((frames * rows * columns / levels) ** 0.5)
        if levels == frames or levels != frames * (rows // patch) * (columns // patch):
            raise BadRequest(
                f"Cache Attention cannot tell what is given of a {self.name} video with {levels} noise levels for "
                f"{frames} frames of {rows} x {columns}: run it without diffusion forcing."
            )
        is_given = is_given.unflatten(1, (1, frames, rows // patch, columns // patch))
        return is_given.repeat_interleave(patch, 3).repeat_interleave(patch, 4)
