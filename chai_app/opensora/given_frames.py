"""Frames that are given and not generated: the first picture, the end of the clip before, a part to be kept or edited.

Given frames lie in the latents clean, and the transformer is told so by a mask over frames. A frame with an edit ratio
joins in late: it stays as given until the noise of the run has come down to that ratio, is noised to it, and is from
then on generated like the rest.

Source: Open-Sora v1.2.0, `apply_mask_strategy` and `RFLOW.sample`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadRequest


@dataclass(frozen=True)
class FrameCondition:
    """Some frames of a video, given.

    Attributes:
        frames: (B, 3, T, H, W), pixels in -1..1 of the video's size; or (B, C, t, h, w), normalised latents. B is that
            of the run, or 1 for all videos alike.
        target_start: the latent frame where they go, from 0; negative from the end.
        source_start: the first latent frame that is taken of them; negative from the end.
        length: how many latent frames are taken, fewer if there are not so many; None takes all.
        edit_ratio: 0 keeps them as they are, 1 generates them anew; between, the share of the run that changes them.
        align: both starts are moved to a multiple of this near by. Chunks of the autoencoder begin at multiples of 5,
            and what was encoded at the beginning of a chunk belongs at the beginning of one; 1 leaves starts alone.
        loop: the loop of the run that they are for.
    """

    frames: Tensor
    target_start: int = 0
    source_start: int = 0
    length: int | None = None
    edit_ratio: float = 0.0
    align: int = 5
    loop: int = 0

    def __post_init__(self) -> None:
        if self.frames.ndim != 5:
            raise BadRequest(f"Given frames need five axes (B, C, T, H, W), but these have {self.frames.ndim}.")
        if not 0 <= self.edit_ratio <= 1:
            raise BadRequest(f"An edit ratio lies between 0 (keep) and 1 (make anew), but this is {self.edit_ratio}.")
        if self.align < 1:
            raise BadRequest(f"Starts are aligned to a multiple of 1 or more, but this is {self.align}.")

    @property
    def is_latent(self) -> bool:
        """Whether the frames are latents and not pixels."""
        return self.frames.shape[1] != 3


def nearest_start(start: int, align: int, num_frames: int) -> int:
    """The multiple of `align` nearest to `start`, though no later than where the last full group begins."""
    group, rest = divmod(start, align)
    if rest > align / 2 and group < num_frames // align - 1:
        group += 1
    return group * align


def place(latents: Tensor, given: Tensor, condition: FrameCondition) -> tuple[Tensor, slice]:
    """Put given latent frames in their place.

    Args:
        latents: (B, C, T, h, w), pure noise or what other conditions have made of it.
        given: (B or 1, C, t, h, w), the condition's frames, as latents.
    Returns: the latents with the frames in place, and which frames these are.
    Raises: BadRequest if the frames are of another size, or nothing of them comes to lie within the video.
    """
    if given.shape[0] not in (1, latents.shape[0]):
        raise BadRequest(f"Given frames are for {given.shape[0]} videos, but {latents.shape[0]} are made.")
    if given.shape[3:] != latents.shape[3:] or given.shape[1] != latents.shape[1]:
        raise BadRequest(
            f"Given frames are {given.shape[4]} x {given.shape[3]} latents in size, but the video has "
            f"{latents.shape[4]} x {latents.shape[3]}: give frames of the video's own width and height."
        )
    total, available = latents.shape[2], given.shape[2]
    source = nearest_start(
        condition.source_start + available * (condition.source_start < 0), condition.align, available
    )
    target = nearest_start(condition.target_start + total * (condition.target_start < 0), condition.align, total)
    length = min(total - target, available - source, available if condition.length is None else condition.length)
    if length < 1 or source < 0 or target < 0:
        raise BadRequest(
            f"None of the given frames would be inside the video: it has {total} latent frames, and of {available} "
            f"given ones, those from {condition.source_start} on would begin at {condition.target_start}."
        )
    where = slice(target, target + length)
    latents = latents.clone()
    latents[:, :, where] = given[:, :, source : source + length].to(latents)
    return latents, where


class GivenFrames:
    """What a run knows of its given frames, step by step.

    Args:
        ratios: per latent frame, 0 if it is given, 1 if it is generated, between if it joins in late; the same for
            all videos of the run.
        noise: (B, C, T, h, w), for the frames that join in late.
    """

    def __init__(self, ratios: Sequence[float], noise: Tensor) -> None:
        self._ratios = torch.tensor(ratios, dtype=torch.float64)
        self._noise = noise
        self._generated = self._ratios == 1  # frames that hold noise already

    def enter(self, latents: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Before a step at noise `sigma` (0 to 1): noise the frames that join in now.

        Returns: the latents, and a mask (B, T), True for the frames that this step generates.
        """
        generated = self._ratios >= sigma
        joining = generated & ~self._generated
        self._generated = generated
        if joining.any():  # told here and not on the GPU, which would have to wait
            noised = (1 - sigma) * latents + sigma * self._noise
            latents = torch.where(joining.to(latents.device)[None, None, :, None, None], noised, latents)
        return latents, generated.to(latents.device).expand(latents.shape[0], -1)
