"""Cache Attention on any family, by two moves and no subclass.

Capture: the model's own `forward` runs on the donor's latents at the noise level of the step, and stops at the first
self-attention, with the tokens that it was about to see. Use: hooks on `to_k` and `to_v` put these tokens in the place
of the own ones; norms and rotary positions follow in the model's own processor.

One donor, its keys replaced: to join own and donor's keys, positions would have to be told apart behind the projection.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from diffusers.hooks.hooks import HookRegistry, ModelHook
from torch import Tensor, nn

from ..attention import PAPER, Donor, Recipe
from ..attention.cache_attention import Loop
from ..errors import BadRequest
from .base import Family
from .find import family_of

_HOOK = "cache attention of families"


class FamilyReuse:
    """What one run with a donor knows, over all experts of a model: the step it is in, and what has been done."""

    def __init__(self, family: Family, donor: Donor, recipe: Recipe, scheduler: Any) -> None:
        self.family, self.donor, self.recipe, self.scheduler = family, donor, recipe, scheduler
        self.steps_done = cast("list[int]", [])
        """Steps in which attention went to the donor."""
        self.calls = 0
        """How often it did: the halves of guidance may come in one call or in two."""
        self.tokens: Tensor | None = None
        """Of the donor, for the call at hand; None where it keeps to itself."""
        self._step, self._timestep, self._names = 0, cast("float | None", None), cast("set[str | None]", set())
        self._noise: Tensor | None = None

    def begin(self, loop: Loop, timestep: float, latents: Tensor) -> bool:
        """A call begins; whether it attends to the donor.

        Where a pipeline does not count its steps, another begins with another timestep, or with a call of a name that
        this step has had: in bfloat16, timesteps of HunyuanVideo's first steps may be the same.
        """
        if loop.is_told:
            self._step = loop.step
        elif timestep != self._timestep or loop.call in self._names:
            self._step, self._timestep, self._names = self._step + 1, timestep, set()
        if loop.call is not None:
            self._names.add(loop.call)
        if self._step == 1:
            self._noise = latents
        return self.recipe.is_due(self._step)

    def noisy_donor(self, timestep: float, latents: Tensor) -> Tensor:
        """The donor's latents as noisy as the call's, and of their shape.

        Raises: BadRequest for donors that do not go evenly into the batch.
        """
        assert self._noise is not None
        rows = len(latents)
        noise = self._noise.repeat(-(-rows // len(self._noise)), 1, 1, 1, 1)[:rows]  # further guidance calls have less
        clean, noisy = self.family.shares(timestep, self.scheduler)
        try:
            donor = self.donor.at(noisy / (clean + noisy), noise)
        except ValueError as error:
            raise BadRequest(f"{error}: give one donor, or one for each video.") from error
        return donor * (clean + noisy)  # shares of a flow sum up to 1, those of a diffusion do not

    def count(self) -> None:
        """Attention goes to the donor."""
        self.calls += 1
        if self._step not in self.steps_done:
            self.steps_done.append(self._step)


class _Stopped(Exception):
    """The tokens have been seen; nothing after them is of use."""


class _Capture(ModelHook):
    """Before a call of one transformer: what its first self-attention would see of the donor."""

    _is_stateful = True

    def __init__(self, reuse: FamilyReuse) -> None:
        super().__init__()
        self._reuse, self._loop = reuse, Loop()

    def reset_state(self, module: nn.Module) -> nn.Module:
        """Nothing is kept beyond a run."""
        return module

    def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Take the donor's tokens in the steps of the recipe."""
        reuse, family = self._reuse, self._reuse.family
        call = dict(inspect.signature(type(module).forward).bind(module, *args, **kwargs).arguments)
        del call["self"]
        latents = family.latents(call, family.num_channels(module))
        levels = torch.as_tensor(call["timestep"])
        timestep = float(levels.max())
        reuse.tokens = None
        if reuse.begin(self._loop, timestep, latents):
            donor = reuse.noisy_donor(timestep, latents)
            given = family.given(levels, latents)
            donor = donor if given is None else torch.where(given, latents, donor)
            reuse.tokens = self._tokens(module, family.with_latents(call, donor))
        return args, kwargs

    def _tokens(self, module: Any, call: dict[str, Any]) -> Tensor:
        """(B, tokens, D), or whatever batch the model's first self-attention works on."""
        seen: list[Tensor] = []

        def stop(_attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.append(args[0] if args else kwargs["hidden_states"])
            raise _Stopped

        attention = self._reuse.family.first_attention(module)
        handle = attention.register_forward_pre_hook(stop, with_kwargs=True, prepend=True)
        try:
            self.fn_ref.forward(**call)
        except _Stopped:
            pass
        finally:
            handle.remove()
        return seen[0]

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        """The call is over."""
        self._reuse.tokens = None
        return output


@contextmanager
def family_cache_attention(
    transformer: nn.Module | Sequence[nn.Module],
    donor: Donor,
    steps: tuple[int, ...] | None = PAPER.steps,
    scheduler: Any = None,
) -> Iterator[FamilyReuse]:
    """Within the block, a run of the transformer attends to an earlier video; afterwards it is itself again.

    Args:
        transformer: of any family in `FAMILIES`; several are the experts of one model, as Wan 2.2 has them.
        donor: its latents as the transformer sees latents (normalised), of any number of frames, rows and columns.
        steps: of the run, counted from 1; None for all.
        scheduler: the pipeline's; only models that are no flow ask for it (CogVideoX, Latte, Allegro).
    Raises: BadRequest for a transformer of no family, or one whose first block is out of sight (compiled, fused, spread
        over devices, skipped by a cache), and for a donor of another model.
    """
    experts: Sequence[Any] = transformer if isinstance(transformer, Sequence) else [transformer]
    family = family_of(experts[0])
    if family.noise == "diffusion" and not hasattr(scheduler, "alphas_cumprod"):
        raise BadRequest(f"{family.name} asks its scheduler how noisy a step is: give the pipeline's scheduler too.")
    for expert in experts:
        if family_of(expert) is not family:
            raise BadRequest(f"Experts of one model are of one family, not {family.name} and {family_of(expert).name}.")
        family.refuse_what_hides(expert)
        channels = family.num_channels(expert)
        if donor.clean.shape[1] != channels:
            raise BadRequest(
                f"A donor with {donor.clean.shape[1]} channels is of another model: this {family.name} transformer "
                f"makes latents of {channels}."
            )
    reuse = FamilyReuse(family, donor, Recipe(steps=steps), scheduler)

    def donors_instead(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        tokens = reuse.tokens
        if tokens is None:
            return None
        if family.text == "first":
            tokens = torch.cat([args[0][:, : -tokens.shape[1]], tokens], dim=1)
        return tokens, *args[1:]

    def count(module: nn.Module, args: tuple[Any, ...]) -> None:
        if reuse.tokens is not None:
            reuse.count()

    with ExitStack() as restore:
        for expert in experts:
            attention = family.first_attention(expert)
            for hooked, hook in (
                (attention.to_k, donors_instead),
                (attention.to_v, donors_instead),
                (attention, count),
            ):
                restore.callback(hooked.register_forward_pre_hook(hook).remove)
            registry = HookRegistry.check_if_exists_or_initialize(expert)
            registry.register_hook(_Capture(reuse), _HOOK)
            restore.callback(registry.remove_hook, _HOOK, recurse=False)
        yield reuse
