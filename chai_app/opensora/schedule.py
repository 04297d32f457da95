"""How the steps of a run are spread over time: evenly, then shifted toward the noise for large and long videos."""

import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

NUM_TIMESTEPS = 1000


def new_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """The scheduler that the released weights are sampled with."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=NUM_TIMESTEPS, use_dynamic_shifting=True, time_shift_type="linear"
    )


def timestep_shift(height: int, width: int, num_frames: int, num_latent_frames: int, base_size: int = 512) -> float:
    """How much more of the run is spent on the noise, the larger and longer the video.

    Args:
        height, width: size of the video in pixels.
        num_frames: frames of the video; 1 is an image.
        num_latent_frames: of the same video; counts only for clips shorter than a chunk.
        base_size: side in pixels of the square with shift 1.
    Returns: r, no unit; times become t' = r t / (1 + (r - 1) t).
    Source: Open-Sora v1.2.0, `timestep_transform`; the idea is Esser et al., arXiv 2403.03206.
    """
    # The original counts whole chunks only, which leaves a clip of 2 to 16 frames with no length at all, and with it no
    # way from noise to data. Its real latent frames continue the rule.
    length = 1 if num_frames == 1 else num_frames // 17 * 5 or num_latent_frames
    # In fp32 and in this order, as in the original: see `set_timesteps`.
    area = torch.tensor(height * width, dtype=torch.float32) / base_size**2
    return float(area.sqrt() * torch.tensor(length, dtype=torch.float32).sqrt())


def set_timesteps(
    scheduler: FlowMatchEulerDiscreteScheduler,
    num_inference_steps: int,
    shift: float,
    device: torch.device | str = "cpu",
    first_sigma: float = 1.0,
) -> None:
    """Give a scheduler the steps of a run: t = 1 - i / N, then t' = r t / (1 + (r - 1) t), in 1000ths.

    Args:
        shift: r, from `timestep_shift`.
        first_sigma: noise of the latents that the run begins with, above 0 (clean) to 1 (noise); below 1, the N steps
            are spread over what is left of the way.
    """
    even = [1 - i / num_inference_steps for i in range(num_inference_steps)]
    if first_sigma < 1:
        before_shift = first_sigma / (shift - (shift - 1) * first_sigma)
        even = [before_shift * t for t in even]
    # The scheduler shifts `sigmas` by the same rule, but rounds otherwise than the original did: timesteps differ by up
    # to 0.0001, which guidance carries to 0.00014 in the latents of a short run. In the original's order, by 0.
    times = torch.tensor([NUM_TIMESTEPS * t for t in even], dtype=torch.float32) / NUM_TIMESTEPS
    r = torch.tensor(shift, dtype=torch.float32)
    shifted = r * times / (1 + (r - 1) * times) * NUM_TIMESTEPS
    scheduler.set_timesteps(sigmas=even, timesteps=shifted.tolist(), mu=shift, device=device)
    scheduler.set_begin_index(0)
