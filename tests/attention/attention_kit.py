"""A small transformer, and runs of it with and without donors."""

import torch

from chai_app.attention import Donor
from chai_app.opensora import OpenSoraTransformer3DModel

LEVELS = (1.0, 0.8, 0.6, 0.4, 0.2)
SIZE = {"fps": 8.0, "height": 48, "width": 64}


def new_model():
    torch.manual_seed(0)
    model = OpenSoraTransformer3DModel(
        hidden_size=32, depth=2, num_heads=2, caption_channels=16, model_max_length=8, input_sq_size=64
    ).eval()
    for parameter in model.parameters():  # also those that begin at zero
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def latents(seed, videos=1, frames=3):
    return torch.randn(videos, 4, frames, 6, 8, generator=torch.Generator().manual_seed(seed))


def text(videos=1):
    return torch.randn(videos, 5, 16, generator=torch.Generator().manual_seed(99))


@torch.no_grad()
def run(model, start, **call):
    """The velocities of five steps; latents move along, so that each step's input is known."""
    found, states = [], call.pop("states", text(start.shape[0]))
    for i, level in enumerate(LEVELS):
        with model.cache_context("cond_uncond", step_index=i):
            velocity = model(start, 1000 * level, states, **SIZE, **call).sample
        found.append(velocity)
        start = start + 0.2 * velocity
    return found


def difference(a, b):
    """The largest between two velocities."""
    return float((a - b).abs().max())


class Mirror(Donor):
    """A donor that shows a step its own latents."""

    def __init__(self):
        super().__init__(clean=latents(0))

    def at(self, noise_level, noise):
        return self.current


def show_itself(model, mirror):
    def remember(_model, _args, kwargs, mirror=mirror):
        mirror.current = kwargs["hidden_states"]

    return model.register_forward_pre_hook(remember, with_kwargs=True, prepend=True)
