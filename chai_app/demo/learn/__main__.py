"""Train every part of the demo model, one after the other: `python -m chai_app.demo.learn`.

Interrupt it at any time; the same command goes on where it stopped. On several cores, a process for each is faster:
`torchrun --nproc-per-node 2 -m chai_app.demo.learn --threads 1`. Each part can be named alone, in the order of
`PARTS`. Losses go to FOLDER/*.log.jsonl, finished parts to FOLDER.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from ...opensora.autoencoder import AutoencoderKLOpenSora
from ...opensora.transformer import OpenSoraTransformer3DModel
from ..drawn.data import Split, clips, specs
from ..measure.features import WEIGHTS as FEATURES
from ..measure.features import save_features
from ..measure.judge import WEIGHTS as JUDGE
from ..measure.judge import save_judge
from . import autoencoder, features, judge, text, transformer
from .latents import BLOCK, encode
from .loop import Settings, first_process_first, is_first_process, process_count, train
from .partners import partners

TRAINING_FRAMES, TRAINING_CLIPS, JUDGE_CLIPS = 36_000, 5_120, 6_000
ENCODED_FRAMES, ENCODED_CLIPS = 40_000, 12_000  # what the transformer learns from


class Training:
    """One training run: its folder, and each part as a method that picks up what earlier parts left there."""

    def __init__(self, run: Path, speed_up: int = 1, start_from: Path | None = None) -> None:
        self.run, self.data, self.speed_up, self.start_from = run, run / "data", speed_up, start_from

    def _settings(self, settings: Settings) -> Settings:
        batch_size = -(-settings.batch_size // process_count())
        return replace(settings, steps=max(2, settings.steps // self.speed_up), batch_size=batch_size)

    def _count(self, number: int) -> int:
        return -(-max(32, number // self.speed_up) // BLOCK) * BLOCK

    def _clips(self, split: Split, number: int, still: bool = False) -> NDArray[np.uint8]:
        with first_process_first():
            return clips(self.data, split, number, still=still)

    def _trained(self, part: str) -> Path:
        """Where a finished part lies: in this run, or in the model that it goes on from."""
        if (self.run / part).is_dir() or self.start_from is None:
            return self.run / part
        return self.start_from / part

    def judge(self) -> None:
        number = self._count(JUDGE_CLIPS)
        with first_process_first():
            drawn = judge.draw(self.data, "judge", number)
        settings = (self._settings(judge.FRAMES), self._settings(judge.MOTION))
        model = judge.train_judge(drawn, specs("judge", number), self.run, *settings)
        if is_first_process():
            save_judge(model, JUDGE if self.speed_up == 1 else self.run / "judge.safetensors")

    def features(self) -> None:
        with first_process_first():
            drawn = judge.draw(self.data, "judge", self._count(JUDGE_CLIPS))
        model = features.train_features(drawn.frames, self.run, self._settings(features.SETTINGS))
        if is_first_process():
            save_features(model, FEATURES if self.speed_up == 1 else self.run / "features.safetensors")

    def text_encoder(self) -> None:
        tokenizer, encoder = text.train_text_encoder(self.run, self._settings(text.SETTINGS))
        with first_process_first():
            if is_first_process():
                tokenizer.save_pretrained(self.run / "tokenizer")
                encoder.save_pretrained(self.run / "text_encoder")

    def autoencoder(self) -> None:
        model = autoencoder.new_autoencoder()
        if self.start_from is not None:
            begun = AutoencoderKLOpenSora.from_pretrained(self.start_from / "vae", torch_dtype=torch.float32)
            model.load_state_dict(begun.state_dict())
            model.shift.zero_()  # latents are measured again when the training is done
            model.scale.fill_(1)
        frames = self._clips("train", self._count(TRAINING_FRAMES), still=True)
        settings = self._settings(autoencoder.FRAMES)
        train(
            "autoencoder_frames", self.run, model.spatial_vae, settings,
            autoencoder.frame_loss(model, frames, settings),
        )  # fmt: skip
        pixels = self._clips("train", self._count(TRAINING_CLIPS))
        settings = self._settings(autoencoder.LATENTS)
        train(
            "autoencoder_latents", self.run, model.temporal_vae, settings,
            autoencoder.latent_loss(model, pixels, self.run, settings),
        )  # fmt: skip
        settings = self._settings(autoencoder.CLIPS)
        train("autoencoder_clips", self.run, model, settings, autoencoder.clip_loss(model, pixels, settings))
        with first_process_first():
            saved, trained = self.run / "vae" / "config.json", self.run / "autoencoder_clips.pt"
            is_saved = saved.exists() and saved.stat().st_mtime >= trained.stat().st_mtime
            if is_first_process() and not is_saved:
                autoencoder.measure_latents(model.eval(), pixels)
                model.save_pretrained(self.run / "vae")

    def decoders(self) -> None:
        """May come at any time: latents stay what they are, so the transformer need not follow."""
        begun = AutoencoderKLOpenSora.from_pretrained(self._trained("vae"), torch_dtype=torch.float32)
        model = autoencoder.new_autoencoder()  # its config will not say where the other lay
        model.load_state_dict(begun.state_dict())
        pixels = self._clips("train", self._count(TRAINING_CLIPS))
        settings = self._settings(autoencoder.DECODERS)
        loss_of = autoencoder.clip_loss(model, pixels, settings, with_encoder=False)
        train("autoencoder_decoders", self.run, model, settings, loss_of)
        if is_first_process():
            model.save_pretrained(self.run / "vae")

    def transformer(self) -> None:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(self._trained("tokenizer"))
        encoder = T5EncoderModel.from_pretrained(self._trained("text_encoder"), dtype=torch.float32).eval()
        vae = AutoencoderKLOpenSora.from_pretrained(self._trained("vae"), torch_dtype=torch.float32).eval()
        weight = autoencoder.importance(vae, self._clips("train", BLOCK))
        model = transformer.Probed(transformer.new_transformer())
        if self.start_from is not None and (self.start_from / "transformer").is_dir():
            shipped = OpenSoraTransformer3DModel.from_pretrained(self.start_from / "transformer", dtype=torch.float32)
            model.transformer.load_state_dict(shipped.state_dict())
        stages = (
            ("transformer_frames", True, ENCODED_FRAMES, transformer.FRAMES, False),
            ("transformer_clips", False, ENCODED_CLIPS, transformer.CLIPS, False),
            ("transformer_donors", False, ENCODED_CLIPS, transformer.DONORS, True),
        )
        for name, still, number, settings, has_donors in stages:
            settings = self._settings(settings)
            with first_process_first():
                store = encode(vae, self.run / "latents", "train", self._count(number), still)
            described = specs("train", len(store.latents))
            with partners(model.transformer) if has_donors else nullcontext() as known:
                loss_of = transformer.flow_loss(
                    model, tokenizer, encoder, store, described, weight, settings, known
                )  # fmt: skip
                train(name, self.run, model, settings, loss_of)
        if is_first_process():
            model.transformer.save_pretrained(self.run / "transformer")


PARTS: dict[str, Callable[[Training], None]] = {
    "judge": Training.judge,
    "features": Training.features,
    "text_encoder": Training.text_encoder,
    "autoencoder": Training.autoencoder,
    "transformer": Training.transformer,
    "decoders": Training.decoders,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m chai_app.demo.learn",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them if none is named")
    parser.add_argument("--folder", type=Path, default=Path("demo-training"), help="for clips, checkpoints, losses")
    parser.add_argument("--start-from", type=Path, help="model folder to go on from, as assets/demo")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--speed-up", type=int, default=1, help="divide clips and steps: a rehearsal, ships nothing")
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}: choose from {', '.join(PARTS)}")
    torch.set_num_threads(arguments.threads)
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo", timeout=timedelta(hours=6))
    training = Training(arguments.folder, arguments.speed_up, arguments.start_from)
    for part in arguments.parts or PARTS:
        PARTS[part](training)


if __name__ == "__main__":
    main()
