"""Train every part of the demo model, one after the other: `python -m chai_app.demo.train`.

Interrupt it at any time; the same command goes on where it stopped. On several cores, a process for each is faster:
`torchrun --nproc-per-node 2 -m chai_app.demo.train --threads 1`. Each part can be named alone, in the order of
`PARTS`. Losses go to FOLDER/*.log.jsonl; the finished weights go to assets/demo.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from ..opensora.autoencoder import AutoencoderKLOpenSora
from ..opensora.transformer import OpenSoraTransformer3DModel
from . import train_autoencoder, train_embedder, train_judge, train_text, train_transformer
from .data import Split, clips, specs
from .judge import WEIGHTS, save_judge
from .learn.loop import Settings, first_process_first, is_first_process, process_count
from .package import FOLDER, package, write_training_summary

TRAINING_CLIPS, JUDGE_CLIPS = 10_000, 12_000
ENCODED_CLIPS = 10_000  # of the training clips, whole: what the transformer's last stage learns from


class Training:
    """One training run: its folder, and each part as a method that picks up what earlier parts left there."""

    def __init__(self, run: Path, speed_up: int = 1, start_from: Path | None = None) -> None:
        self.run, self.data, self.speed_up, self.start_from = run, run / "clips", speed_up, start_from

    def _settings(self, settings: Settings) -> Settings:
        batch_size = -(-settings.batch_size // process_count())
        return replace(settings, steps=max(2, settings.steps // self.speed_up), batch_size=batch_size)

    def _count(self, number: int) -> int:
        return max(64, number // self.speed_up)

    def _clips(self, split: Split, number: int) -> NDArray[np.uint8]:
        with first_process_first():
            return clips(self.data, split, number)

    def _trained(self, part: str) -> Path:
        """Where a finished part lies: in this run, or in the model that it goes on from."""
        if (self.run / part).is_dir() or self.start_from is None:
            return self.run / part
        return self.start_from / part

    def judge(self) -> None:
        number = self._count(JUDGE_CLIPS)
        pixels = self._clips("judge", number)
        judge = train_judge.train_judge(pixels, specs("judge", number), self.run, self._settings(train_judge.SETTINGS))
        if is_first_process():
            save_judge(judge, WEIGHTS if self.speed_up == 1 else self.run / "judge.safetensors")

    def text_encoder(self) -> None:
        tokenizer, encoder = train_text.train_text_encoder(self.run, self._settings(train_text.SETTINGS))
        with first_process_first():
            if is_first_process():
                tokenizer.save_pretrained(self.run / "tokenizer")
                encoder.save_pretrained(self.run / "text_encoder")

    def embedder(self) -> None:
        number = self._count(JUDGE_CLIPS)
        model = train_embedder.train_embedder(
            self._clips("judge", number), specs("judge", number), self.run, self._settings(train_embedder.SETTINGS)
        )
        if is_first_process():
            train_embedder.save_embedder(model, (FOLDER if self.speed_up == 1 else self.run) / "embedder")

    def autoencoder(self) -> None:
        torch.manual_seed(train_autoencoder.FRAME_SETTINGS.seed)
        model = train_autoencoder.new_autoencoder()
        if self.start_from is not None:
            shipped = AutoencoderKLOpenSora.from_pretrained(self.start_from / "vae", torch_dtype=torch.float32)
            weights = train_autoencoder.widened(shipped.state_dict(), model.state_dict())
            model.load_state_dict(train_autoencoder.without_normalisation(weights))
        train_autoencoder.begin_with_little_noise(model)
        pixels = self._clips("train", self._count(TRAINING_CLIPS))
        train_autoencoder.train_frames(model, pixels, self.run, self._settings(train_autoencoder.FRAME_SETTINGS))
        train_autoencoder.train_latents(model, pixels, self.run, self._settings(train_autoencoder.LATENT_SETTINGS))
        train_autoencoder.train_clips(model, pixels, self.run, self._settings(train_autoencoder.CLIP_SETTINGS))
        with first_process_first():
            saved, trained = self.run / "vae" / "config.json", self.run / "autoencoder_clips.pt"
            is_saved = saved.exists() and saved.stat().st_mtime >= trained.stat().st_mtime
            if is_first_process() and not is_saved:
                train_autoencoder.measure_latents(model.eval(), pixels)
                model.save_pretrained(self.run / "vae")
                for stale in (*self.run.glob("transformer_*.f16"), *self.run.glob("transformer_*.done")):
                    stale.unlink()  # latents of another autoencoder

    def transformer(self) -> None:
        torch.manual_seed(train_transformer.FRAME_SETTINGS.seed)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(self._trained("tokenizer"))
        encoder = T5EncoderModel.from_pretrained(self._trained("text_encoder"), dtype=torch.float32).eval()
        vae = AutoencoderKLOpenSora.from_pretrained(self._trained("vae"), torch_dtype=torch.float32).eval()
        number = self._count(TRAINING_CLIPS)
        pixels, described = self._clips("train", number), specs("train", number)
        weight = train_autoencoder.importance(vae, pixels)
        model = train_transformer.new_transformer()
        if self.start_from is not None:
            shipped = OpenSoraTransformer3DModel.from_pretrained(
                self.start_from / "transformer", torch_dtype=torch.float32
            )
            model.load_state_dict(shipped.state_dict())
        for name, frames, used, settings in (
            ("transformer_frames", True, number, train_transformer.FRAME_SETTINGS),
            ("transformer_clips", False, self._count(ENCODED_CLIPS), train_transformer.CLIP_SETTINGS),
        ):
            latents = train_transformer.encode_clips(vae, pixels[:used], self.run / f"{name}.f16", frames)
            train_transformer.train_transformer(
                name, model, tokenizer, encoder, latents, described[:used], weight, self.run, self._settings(settings)
            )
        if is_first_process():
            model.save_pretrained(self.run / "transformer")
            self._package()

    def decoders(self) -> None:
        """Last, because it may come at any time: latents stay what they are, so the transformer need not follow."""
        vae = AutoencoderKLOpenSora.from_pretrained(self._trained("vae"), torch_dtype=torch.float32)
        pixels = self._clips("train", self._count(TRAINING_CLIPS))
        settings = self._settings(train_autoencoder.DECODER_SETTINGS)
        train_autoencoder.train_clips(vae, pixels, self.run, settings, "autoencoder_decoders", with_encoder=False)
        if is_first_process():
            vae.save_pretrained(self.run / "vae")
            self._package()

    def _package(self) -> None:
        folder = FOLDER if self.speed_up == 1 else self.run / "packaged"
        package(
            PreTrainedTokenizerFast.from_pretrained(self._trained("tokenizer")),
            T5EncoderModel.from_pretrained(self._trained("text_encoder")),
            AutoencoderKLOpenSora.from_pretrained(self._trained("vae")),
            OpenSoraTransformer3DModel.from_pretrained(self._trained("transformer")),
            folder,
        )
        write_training_summary(self.run, folder)


PARTS: dict[str, Callable[[Training], None]] = {
    "judge": Training.judge,
    "text_encoder": Training.text_encoder,
    "embedder": Training.embedder,
    "autoencoder": Training.autoencoder,
    "transformer": Training.transformer,
    "decoders": Training.decoders,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
