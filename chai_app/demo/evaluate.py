"""How well the demo model does what a prompt asks: `python -m chai_app.demo.evaluate`.

200 prompts whose object-colour-scene combination no training clip ever showed, judged by the judge; and the ceiling of
that, real clips merely encoded and decoded.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray

from ..opensora.pipeline import OpenSoraPipeline
from .captions import caption
from .data import specs
from .judge import HEADS, load_judge, scores
from .package import CARD, FOLDER
from .render import render
from .train_autoencoder import psnr_db, reconstruct
from .world import held_out_specs


def generate(
    pipeline: OpenSoraPipeline, prompts: list[str], seeds: list[int], steps: int, batch_size: int = 10
) -> NDArray[np.uint8]:
    """One clip per prompt with the demo's defaults, (N, T, 64, 64, 3)."""
    d = CARD["defaults"]
    videos = []
    for i in range(0, len(prompts), batch_size):
        frames, _ = pipeline(
            prompts[i : i + batch_size],
            height=d["height"],
            width=d["width"],
            num_frames=d["num_frames"],
            fps=d["fps"],
            guidance_scale=d["guidance_scale"],
            num_inference_steps=steps,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds[i : i + batch_size]],
            output_type="uint8",
            return_dict=False,
        )
        videos.append(np.asarray(frames))
    return np.concatenate(videos)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=FOLDER)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--steps", type=int, nargs="+", default=[30])
    parser.add_argument("--real", type=int, default=300, help="real held-out clips for the judge and the autoencoder")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--clips", type=Path, help="write the generated clips here, as .npy")
    arguments = parser.parse_args()

    judge, pipeline = load_judge(), OpenSoraPipeline.from_pretrained(arguments.model)
    pipeline.set_progress_bar_config(disable=True)
    figures: dict[str, dict[str, float]] = {}

    def row(name: str, values: dict[str, float]) -> None:
        figures[name] = values
        shares = "  ".join(f"{key} {100 * values[key]:5.1f}" for key in HEADS)
        more = "  ".join(f"{key} {value:.3f}" for key, value in values.items() if key not in HEADS)
        print(f"{name:32} {shares}  {more}", flush=True)

    if arguments.real:
        shown = specs("test", arguments.real)
        real = np.stack([render(spec) for spec in shown])
        row("real clips", scores(judge, real, shown))
        again = reconstruct(pipeline.vae, real)
        row("through the autoencoder", scores(judge, again, shown) | {"psnr_db": psnr_db(real, again)})
    asked = held_out_specs(arguments.prompts)
    random = Random(0)
    prompts = [caption(spec, random, complete=True) for spec in asked]
    for steps in arguments.steps if asked else []:
        start = time.perf_counter()
        made = generate(pipeline, prompts, list(range(len(prompts))), steps)
        seconds = (time.perf_counter() - start) / len(prompts)
        row(f"held-out prompts, {steps} steps", scores(judge, made, asked) | {"s_per_clip": seconds})
        if arguments.clips:
            np.save(arguments.clips, made)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
