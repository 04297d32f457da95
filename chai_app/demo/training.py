"""What all parts of the training share: a seeded loop that survives interruption and writes down its losses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from .muon import optimizers_for

Model = TypeVar("Model", bound=nn.Module)

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
    return settings.peak_lr * warm * (0.01 + 0.99 * 0.5 * (1 + torch.cos(torch.tensor(done * torch.pi)).item()))


def generator_for(settings: Settings, step: int) -> torch.Generator:
    """Randomness of one step, so that a resumed run draws what an uninterrupted one would have drawn."""
    return torch.Generator().manual_seed(settings.seed * 1_000_003 + step)


def train(
    name: str,
    folder: Path,
    model: Model,
    settings: Settings,
    loss_of: Callable[[torch.Generator], tuple[Tensor, Mapping[str, float]]],
) -> Model:
    """Train every parameter of `model` that requires a gradient, resuming from `folder/name.pt` if it is there.

    Args:
        loss_of: takes the step's generator; returns the loss (a scalar) and figures to log.
    Returns: the model; with `ema_decay`, holding the moving average of its weights.
    """
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
    else:
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
    sums: dict[str, float] = {}
    model.train()
    for step in range(start, settings.steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, step)
        loss, figures = loss_of(generator_for(settings, step))
        model.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
        if average:
            decay = min(settings.ema_decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)
        for key, value in {"loss": loss.item(), "grad_norm": norm.item(), **figures}.items():
            sums[key] = sums.get(key, 0.0) + value / LOG_EVERY
        if (step + 1) % LOG_EVERY == 0:
            line = {"step": step + 1, "s": round(spent_s + time.perf_counter() - began, 1)}
            line |= {key: round(value, 5) for key, value in sums.items()}
            with log_path.open("a") as log:
                log.write(json.dumps(line) + "\n")
            sums = {}
        if time.perf_counter() - saved > SAVE_EVERY_S:
            save(step + 1)
            saved = time.perf_counter()
    if start < settings.steps:
        save(settings.steps)
    if average:
        with torch.no_grad():
            for parameter, mean in zip(parameters, average, strict=True):
                parameter.copy_(mean)
    return model.eval()
