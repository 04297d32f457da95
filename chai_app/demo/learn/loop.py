"""What all parts of the training share: a seeded loop that survives interruption and writes down its losses.

On a CPU two processes of one thread train faster than one of two threads; `torchrun` starts them, and here they share
their gradients.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ...process import keep_freed_memory
from .muon import optimizers_for

Model = TypeVar("Model", bound=nn.Module)
LossOf = Callable[[torch.Generator], tuple[Tensor, Mapping[str, float]]]
"""Takes the generator of one step and draws this process's batch with it; returns the loss and figures to log."""

SAVE_EVERY_S = 120.0
LOG_EVERY = 20


@dataclass(frozen=True)
class Settings:
    """How one stage is trained. The learning rate warms up, holds, and falls along a cosine to a hundredth."""

    steps: int
    batch_size: int
    peak_lr: float
    warmup_steps: int = 100
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.0  # 0: no moving average is kept
    use_muon: bool = False  # for the inner weights; AdamW otherwise
    seed: int = 0


def learning_rate(settings: Settings, step: int) -> float:
    warm = min(1.0, (step + 1) / settings.warmup_steps)
    done = min(1.0, step / settings.steps)
    return settings.peak_lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(done * math.pi)))


def generator_for(settings: Settings, step: int) -> torch.Generator:
    """Randomness of one step, so that a resumed run draws what an uninterrupted one would have drawn; each process of
    several draws its own."""
    return torch.Generator().manual_seed((settings.seed * 1_000_003 + step) * 64 + process_rank())


def is_first_process() -> bool:
    return process_rank() == 0


@contextmanager
def first_process_first() -> Iterator[None]:
    """What the block leaves on disk, the first process makes; the others wait, and find it there."""
    if not is_first_process():
        wait_for_all_processes()
    yield
    if is_first_process():
        wait_for_all_processes()


def process_rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def process_count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def wait_for_all_processes() -> None:
    if dist.is_initialized():
        dist.barrier()


def _share_gradients(parameters: list[nn.Parameter]) -> None:
    """Every process gets the mean of all processes' gradients."""
    if not dist.is_initialized():
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    pieces = (flat / dist.get_world_size()).split([p.numel() for p in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.grad = piece.view(parameter.shape)


def take_step(
    model: nn.Module,
    parameters: list[nn.Parameter],
    optimizers: list[torch.optim.Optimizer],
    average: list[Tensor],
    settings: Settings,
    step: int,
    loss_of: LossOf,
) -> dict[str, float]:
    """One step of training, the moving average of the parameters with it, if one is kept. Returns: figures to log."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, step)
    loss, figures = loss_of(generator_for(settings, step))
    model.zero_grad(set_to_none=True)
    loss.backward()
    _share_gradients(parameters)
    norm = nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
    for optimizer in optimizers:
        optimizer.step()
    if average:
        decay = min(settings.ema_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)
    return {"loss": loss.item(), "grad_norm": norm.item(), **figures}


def train(
    name: str,
    folder: Path,
    model: Model,
    settings: Settings,
    loss_of: Callable[[torch.Generator], tuple[Tensor, Mapping[str, float]]],
) -> Model:
    """Train every parameter of `model` that requires a gradient, resuming from `folder/name.pt` if it is there.

    Args:
        loss_of: takes the step's generator and draws this process's batch with it; returns the loss (a scalar) and
            figures to log.
    Returns: the model; with `ema_decay`, holding the moving average of its weights.
    """
    keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    state_path, log_path = folder / f"{name}.pt", folder / f"{name}.log.jsonl"
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizers = optimizers_for(model, settings.use_muon, settings.peak_lr, settings.weight_decay)
    average = [p.detach().clone() for p in parameters] if settings.ema_decay else []
    start, spent_s = 0, 0.0
    if state_path.exists():
        state = torch.load(state_path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, its_state in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(its_state)
        average = state["average"]
        start, spent_s = state["step"], state["spent_s"]
        print(f"{name}: resuming at step {start} of {settings.steps}", flush=True)
    elif is_first_process():
        log_path.write_text(json.dumps({"settings": asdict(settings)}) + "\n")

    def save(step: int) -> None:
        state = {
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "average": average,
            "step": step,
            "spent_s": spent_s + time.perf_counter() - began,
        }
        torch.save(state, state_path.with_suffix(".tmp"))
        state_path.with_suffix(".tmp").replace(state_path)

    began = saved = time.perf_counter()
    recent: dict[str, list[float]] = {}
    model.train()
    for step in range(start, settings.steps):
        for key, value in take_step(model, parameters, optimizers, average, settings, step, loss_of).items():
            recent.setdefault(key, []).append(value)
        if (step + 1) % LOG_EVERY == 0:
            line = {"step": step + 1, "s": round(spent_s + time.perf_counter() - began, 1)}
            line |= {key: round(fmean(values), 5) for key, values in recent.items()}
            if is_first_process():
                with log_path.open("a") as log:
                    log.write(json.dumps(line) + "\n")
            recent = {}
        if time.perf_counter() - saved > SAVE_EVERY_S and is_first_process():
            save(step + 1)
            saved = time.perf_counter()
    if start < settings.steps:
        with first_process_first():
            if is_first_process():
                save(settings.steps)
    if average:
        with torch.no_grad():
            for parameter, mean in zip(parameters, average, strict=True):
                parameter.copy_(mean)
    return model.eval()
