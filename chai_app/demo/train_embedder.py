"""Training the text-image model: a small CLIP that puts "red ball" near pictures of red balls.

The cache files videos under the phrases that a prompt names, so the text side sees bare phrases as often as whole
captions. Several pictures of a batch can fit one phrase; every fitting pair counts as a match.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from .captions import COLOUR_WORDS, COUNT_WORDS, NOUNS, SCENE_PHRASES, caption
from .learn.loop import Settings, train
from .world import FRAME_SIZE_PX, ClipSpec

MODEL_CFG: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": FRAME_SIZE_PX, "layers": 3, "width": 96, "head_width": 32, "patch_size": 8},
    # The tokenizer is open_clip's own, so that words outside the demo's world stay apart from each other.
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 3},
}
PREPROCESS_CFG = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "squash"}
SETTINGS = Settings(steps=4000, batch_size=80, peak_lr=1.5e-3, seed=41)


@dataclass(frozen=True)
class Claim:
    """What a text says; None for what it leaves open."""

    object: str | None = None
    colour: str | None = None
    count: int | None = None
    scene: str | None = None

    def fits(self, spec: ClipSpec) -> bool:
        if self.scene is not None and self.scene != spec.scene:
            return False
        if self.count is not None and (self.count != spec.count or len(spec.things) > 1):
            return False
        return self.object is None or any(
            thing.object == self.object and self.colour in (None, thing.colour) for thing in spec.things
        )


def phrase(spec: ClipSpec, random: Random) -> tuple[str, Claim]:
    """A short text that fits `spec`, as the cache will see it: an object or a scene."""
    if random.random() < 0.4:
        words = random.choice(SCENE_PHRASES[spec.scene]).split()
        start = 1 if words[0] in ("in", "on", "over", "at", "among", "under") and len(words) > 1 else 0
        start += 1 if len(words) > start + 1 and words[start] in ("a", "the") and random.random() < 0.7 else 0
        return " ".join(words[start:] if random.random() < 0.8 else words), Claim(scene=spec.scene)
    thing = random.choice(spec.things)
    several = spec.count > 1 and len(spec.things) == 1
    noun = random.choice(NOUNS[thing.object])[1 if several else 0]
    colour = thing.colour if random.random() < 0.6 else None
    text = f"{random.choice(COLOUR_WORDS[colour])} {noun}" if colour else noun
    if several and random.random() < 0.6:
        return f"{random.choice(COUNT_WORDS[spec.count])} {text}", Claim(thing.object, colour, spec.count)
    return random.choice(("", "", "a ", "the ")) + text, Claim(thing.object, colour)


def whole_caption(spec: ClipSpec, random: Random) -> tuple[str, Claim]:
    thing = spec.things[0]
    count = spec.count if len(spec.things) == 1 else None
    return caption(spec, random, complete=True), Claim(thing.object, thing.colour, count, spec.scene)


def train_embedder(
    clips: NDArray[np.uint8], specs: Sequence[ClipSpec], folder: Path, settings: Settings = SETTINGS
) -> open_clip.CLIP:
    """Train on single frames of (N, T, H, W, 3) clips."""
    torch.manual_seed(settings.seed)
    model = open_clip.CLIP(**MODEL_CFG)
    tokenizer = open_clip.SimpleTokenizer(context_length=MODEL_CFG["text_cfg"]["context_length"])

    def loss_of(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        random = Random(int(torch.randint(2**31, (), generator=generator)))
        rows = torch.randint(len(clips), (settings.batch_size,), generator=generator).numpy()
        times = torch.randint(4, clips.shape[1] - 4, (settings.batch_size,), generator=generator).numpy()
        shown = [specs[row] for row in rows]
        images = torch.from_numpy(clips[rows, times]).movedim(-1, -3).float() / 127.5 - 1
        texts, claims = zip(
            *((phrase if random.random() < 0.6 else whole_caption)(spec, random) for spec in shown), strict=True
        )
        image_features, text_features, scale = model(images, tokenizer(list(texts)))[:3]
        logits = scale * image_features @ text_features.T  # (images, texts)
        fits = torch.tensor([[claim.fits(spec) for claim in claims] for spec in shown]).float()
        to_text = -(F.log_softmax(logits, dim=1) * fits).sum(1) / fits.sum(1)
        to_image = -(F.log_softmax(logits, dim=0) * fits).sum(0) / fits.sum(0)
        right = fits[logits.argmax(0), torch.arange(len(shown))].mean().item()
        return (to_text.mean() + to_image.mean()) / 2, {"right_image": right, "scale": scale.item()}

    train("embedder", folder, model, settings, loss_of)
    return model


def save_embedder(model: open_clip.CLIP, folder: Path) -> None:
    """Write the folder that open_clip reads as `local-dir:FOLDER`, fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": MODEL_CFG, "preprocess_cfg": PREPROCESS_CFG}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
