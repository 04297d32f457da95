"""Trained parts become the folder that ships: diffusers' layout in fp16, and a card that tells what the model knows."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from ..opensora.autoencoder import AutoencoderKLOpenSora
from ..opensora.pipeline import OpenSoraPipeline
from ..opensora.schedule import new_scheduler
from ..opensora.transformer import OpenSoraTransformer3DModel
from ..settings import BUNDLED_MODELS
from .captions import all_words
from .world import COLOURS, FPS, FRAME_SIZE_PX, MOTIONS, NUM_FRAMES, OBJECTS, SCENES

FOLDER = BUNDLED_MODELS / "demo"
CARD: dict[str, Any] = {
    "name": "demo",
    "about": "small, bundled, for any CPU: a little world of drawn things",
    # Steps and guidance were measured on the model, and stand in its card alone; size and speed are the world's.
    "defaults": json.loads((FOLDER / "chai.json").read_text(encoding="utf-8"))["defaults"]
    | {"height": FRAME_SIZE_PX, "width": FRAME_SIZE_PX, "num_frames": NUM_FRAMES, "fps": FPS},
    "vocabulary": {
        "objects": list(OBJECTS),
        "colours": list(COLOURS),
        "scenes": list(SCENES),
        "motions": list(MOTIONS),
        "words": all_words(),
    },
}


def package(
    tokenizer: PreTrainedTokenizerFast,
    text_encoder: T5EncoderModel,
    vae: AutoencoderKLOpenSora,
    transformer: OpenSoraTransformer3DModel,
    folder: Path = FOLDER,
) -> None:
    """Write everything that a run needs; the judge and the text-image model have folders of their own beside it."""
    parts = {"text_encoder": text_encoder, "vae": vae, "transformer": transformer}
    halves = {name: copy.deepcopy(part).to(torch.float16) for name, part in parts.items()}
    OpenSoraPipeline(tokenizer=tokenizer, scheduler=new_scheduler(), **halves).save_pretrained(folder)
    for path in folder.glob("*/config.json"):  # where a part was loaded from is nobody's business
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chai.json").write_text(json.dumps(CARD, indent=1) + "\n")


def write_training_summary(run: Path, folder: Path = FOLDER, lines_per_stage: int = 12) -> None:
    """How the weights were made, beside them: the settings of every stage and a dozen lines of its log."""
    summary: dict[str, Any] = {}
    for log in sorted(run.glob("*.log.jsonl")):
        settings, *lines = (json.loads(line) for line in log.read_text().splitlines())
        chosen = sorted({round(i * (len(lines) - 1) / (lines_per_stage - 1)) for i in range(lines_per_stage)})
        summary[log.name.removesuffix(".log.jsonl")] = {**settings, "log": [lines[i] for i in chosen] if lines else []}
    stages = ",\n".join(f" {json.dumps(name)}: {_one_line_each(stage)}" for name, stage in summary.items())
    (folder / "training.json").write_text("{\n" + stages + "\n}\n")


def _one_line_each(stage: dict[str, Any]) -> str:
    lines = ",\n".join(f"   {json.dumps(line)}" for line in stage["log"])
    return f'{{"settings": {json.dumps(stage["settings"])}, "log": [\n{lines}\n ]}}'
