"""Train the demo model's transformer for as long as there is time, from latents that were made beforehand.

The recipe is `chai_app.demo.learn.transformer`'s: its loss, its settings, its stores of latents. What differs is the
loop, which knows a clock: it measures a step, and takes as many as fit, so that the learning rate comes down within the
time. Batches are put together on the CPU and the network alone is on the card, whose share of a step is the larger one.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ...files import whole_file
from ...settings import BUNDLED_MODELS
from .kit import Kit, Lack

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ...demo.learn.latents import Latents
    from ...demo.learn.loop import Settings
    from ...demo.learn.transformer import Probed

NEXT = BUNDLED_MODELS / "demo-next"
STANDS_ON = ("text_encoder", "tokenizer", "vae")  # those of its parts that the transformer is trained over
SAVE_EVERY_S = 45.0
SAMPLES_S = 25.0  # what the sheet at the end takes
WARM_STEPS, MEASURED_STEPS = 2, 25  # the pace is that of so many steps, measured again and again
SHARES = {"frames": 0.2, "clips": 0.55, "donors": 0.25}  # of the time
SHARD = "14MB"  # a file, where what comes back is limited


def steps(latents: Path | None) -> list[tuple[str, float, Callable[[Kit], dict[str, Any]]]]:
    """One step, with all the time that is left."""
    return [("train", 3600, lambda kit: train(kit, latents))]


class OnDevice:
    """`Probed` on a card, for a loss that has all else on the CPU.

    bf16 by autocast on CUDA. Its kernels want one number format for queries, keys and values, and autocast gives
    torch's own that: so that one attends.
    """

    def __init__(self, model: Probed, device: str) -> None:
        self.model, self._device = model.to(device), device
        self._is_half = device.startswith("cuda")
        model.transformer.set_attention_backend("native")

    @property
    def transformer(self) -> OnDevice:
        """What else the loss asks the transformer."""
        return self

    def null_caption(self, length: int) -> Tensor:
        """As the transformer's."""
        return self.model.transformer.null_caption(length).cpu()

    def __call__(self, *inputs: Any) -> tuple[Tensor, ...]:
        import torch

        there = [each.to(self._device) if isinstance(each, torch.Tensor) else each for each in inputs]
        with torch.autocast("cuda", torch.bfloat16) if self._is_half else nullcontext():
            outputs = self.model(*there)
        return tuple(each.float().cpu() for each in outputs)


class TextOnDevice:
    """The text encoder on a card, likewise."""

    def __init__(self, encoder: Any, device: str) -> None:
        self._encoder, self._device = encoder.to(device), device

    def __call__(self, ids: Tensor, mask: Tensor) -> Any:
        states = self._encoder(ids.to(self._device), mask.to(self._device)).last_hidden_state
        return SimpleNamespace(last_hidden_state=states.cpu())


def train(kit: Kit, folder: Path | None) -> dict[str, Any]:
    """All stages of the recipe that there are latents for, then a sheet of samples."""
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerFast, T5EncoderModel

    from ...demo.drawn.data import specs
    from ...demo.learn import transformer as recipe
    from ...demo.learn.autoencoder import importance
    from ...demo.learn.latents import draw
    from ...demo.learn.partners import partners
    from ...opensora import AutoencoderKLOpenSora

    if not (NEXT / "vae").is_dir():
        raise Lack(f"{NEXT} is not here, with the text encoder and the autoencoder")
    vae = AutoencoderKLOpenSora.from_pretrained(NEXT / "vae", torch_dtype=torch.float32).eval()
    stores = {kind: store for kind in SHARES if (store := _store(kit, vae, folder, kind)) is not None}
    if not stores:
        raise Lack("there are no latents: --latents names the folder with train-clips.latents")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(NEXT / "tokenizer")
    encoder: Any = T5EncoderModel.from_pretrained(NEXT / "text_encoder", dtype=torch.float32).eval()
    model = recipe.Probed(recipe.new_transformer())
    begun = kit.out / "transformer"
    if begun.is_dir() and not (kit.out / "state").is_dir():  # weights alone came back from an earlier machine
        earlier = type(model.transformer).from_pretrained(begun, torch_dtype=torch.float32)
        model.transformer.load_state_dict(earlier.state_dict())
    drawn = np.stack([draw(spec, False).frames for spec in specs("train", 1 if kit.is_small else 3)])
    weight = importance(vae, drawn)
    network, text = OnDevice(model, kit.device), TextOnDevice(encoder, kit.device)
    figures: dict[str, Any] = {"parameters": sum(p.numel() for p in model.transformer.parameters())}
    share_left = sum(SHARES[kind] for kind in stores)
    settings_of = {"frames": recipe.FRAMES, "clips": recipe.CLIPS, "donors": recipe.DONORS}
    for kind, store in stores.items():
        time_s = (kit.left_s - SAMPLES_S) * SHARES[kind] / share_left
        share_left -= SHARES[kind]
        settings = settings_of[kind]
        if kit.is_small:
            settings = replace(settings, steps=2, batch_size=4)
        described = specs("train", len(store.latents))
        with partners(model.transformer) if kind == "donors" else nullcontext() as known:
            arguments: Any = (network, tokenizer, text, store, described, weight, settings, known)
            loss_of = recipe.flow_loss(*arguments)
            figures[kind] = learn(kit, kind, model, settings, loss_of, time_s, partial(_write, begun, model))
        kit.so_far(**figures)
    sheet_of(kit, model.transformer, vae, encoder, tokenizer)
    return {**figures, "samples": "samples.png"}


def _store(kit: Kit, vae: Any, folder: Path | None, kind: str) -> Latents | None:
    """The latents of a kind, in whole blocks, as `demo.learn.latents.encode` left them; small, made here."""
    from ...demo.learn.latents import BLOCK, encode

    if folder is None and kit.is_small:
        return encode(vae, kit.out / "latents", "train", BLOCK, kind == "frames")
    file = f"train-{'frames' if kind == 'frames' else 'clips'}.json"
    if folder is None or not (folder / file).is_file():
        return None
    return encode(vae, folder, "train", 0, kind == "frames")  # none more than there are


def learn(
    kit: Kit,
    name: str,
    model: Probed,
    settings: Settings,
    loss_of: Callable[[torch.Generator], tuple[Tensor, Any]],
    time_s: float,
    write: Callable[[list[Tensor]], None],
) -> dict[str, Any]:
    """One stage: as many steps as fit into `time_s`, and no more than `settings.steps`; resumed where a state is left.

    The model ends with the moving average of its weights.

    Args:
        write: is given that average now and then, and at the end.
    """
    import torch

    from ...demo.learn.loop import take_step
    from ...demo.learn.muon import optimizers_for

    end = time.monotonic() + time_s
    state_path = kit.out / "state" / f"{name}.pt"
    state_path.parent.mkdir(parents=True, exist_ok=True)
    weights = list(model.parameters())
    optimizers = optimizers_for(model, settings.use_muon, settings.peak_lr, settings.weight_decay)
    average = [weight.detach().clone() for weight in weights]
    step, most = 0, settings.steps
    if state_path.is_file():
        state = torch.load(state_path, map_location=kit.device, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, its_state in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(its_state)
        average, step = state["average"], state["step"]
        settings = replace(settings, steps=state["steps"])

    def save() -> None:
        with whole_file(state_path) as temporary:
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                    "average": average,
                    "step": step,
                    "steps": settings.steps,
                },
                temporary,
            )
        write(average)

    first, pace, began, saved = step, 0.0, time.monotonic(), time.monotonic()
    recent: list[float] = []
    log: list[tuple[int, float]] = []
    model.train()
    while step < settings.steps and time.monotonic() < end:
        if (step - first) % MEASURED_STEPS == WARM_STEPS:
            if step - first > WARM_STEPS:
                pace = (time.monotonic() - began) / MEASURED_STEPS
                fits = step + math.floor((end - time.monotonic()) / pace)
                settings = replace(settings, steps=min(most, fits))
            began = time.monotonic()
        figures = take_step(model, weights, optimizers, average, settings, step, loss_of)
        step += 1
        recent.append(figures["loss"])
        if step % 20 == 0:
            log.append((step, round(fmean(recent[-20:]), 5)))
        if time.monotonic() - saved > SAVE_EVERY_S:
            save()
            saved = time.monotonic()
            kit.so_far(**{name: {"step": step, "of": settings.steps, "loss": fmean(recent[-20:]), "log": log}})
    save()
    with torch.no_grad():
        for weight, mean in zip(weights, average, strict=True):
            weight.copy_(mean)
    model.eval()
    told = {"step": step, "of": settings.steps, "ms": 1000 * pace, "settings": asdict(settings), "log": log}
    return {**told, "loss": fmean(recent[-100:]) if recent else None}


def _write(folder: Path, model: Probed, average: list[Tensor]) -> None:
    """Write the transformer with these weights, in fp16, in files small enough to come back one by one."""
    import torch

    of = dict(zip(map(id, model.parameters()), average, strict=True))
    half = type(model.transformer).from_config(model.transformer.config)
    half.load_state_dict(model.transformer.state_dict())
    with torch.no_grad():
        for weight, trained in zip(half.parameters(), model.transformer.parameters(), strict=True):
            weight.copy_(of[id(trained)])
    fresh = folder.with_name(f"{folder.name}.new")
    half.half().save_pretrained(fresh, max_shard_size=SHARD)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def sheet_of(kit: Kit, transformer: Any, vae: Any, encoder: Any, tokenizer: Any) -> None:
    """samples.png: a row for each of a few held-out prompts."""
    from random import Random

    import numpy as np
    import torch

    from ...demo.contact_sheet import sheet
    from ...demo.drawn.captions import caption
    from ...demo.drawn.data import specs
    from ...demo.drawn.spec import FPS, FRAME_SIZE_PX, NUM_FRAMES
    from ...opensora import OpenSoraPipeline
    from ...opensora.schedule import new_scheduler

    pipeline = OpenSoraPipeline(tokenizer, encoder, vae, transformer, new_scheduler()).to(kit.device)
    pipeline.runs_on = torch.device(kit.device)
    pipeline.set_progress_bar_config(disable=True)
    random = Random(0)
    prompts = tuple(caption(spec, random) for spec in specs("test", 2 if kit.is_small else 8))
    frames = pipeline(
        list(prompts),
        height=FRAME_SIZE_PX,
        width=FRAME_SIZE_PX,
        num_frames=NUM_FRAMES,
        fps=FPS,
        guidance_scale=4.0,
        num_inference_steps=2 if kit.is_small else 30,
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(prompts))],
        output_type="uint8",
    ).frames
    sheet(prompts, np.asarray(frames)).save(kit.out / "samples.png", optimize=True)


def rows(found: dict[str, Any]) -> Iterator[str]:
    """Lines of the table."""
    result = found.get("train", {})
    for kind in SHARES:
        if kind in result:
            line = result[kind]
            loss = "" if line.get("loss") is None else f"{line['loss']:.4f}"
            ms = f"{line['ms']:.1f}" if "ms" in line else ""
            yield f"| {kind} | {line['step']} of {line['of']} | {ms} | {loss} |"
