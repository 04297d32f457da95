"""Prompts and what the demo model makes of them, in pictures: `python -m chai_app.demo.contact_sheet`.

The first seeds, nothing is picked.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..opensora.pipeline import OpenSoraPipeline
from .evaluate import generate
from .package import CARD, FOLDER

PICTURES = FOLDER.parent / "pictures"
PROMPTS = (
    "a red balloon rising in the desert",
    "a blue car moving right in the city",
    "two yellow fish moving left in a coral reef",
    "a purple rocket coming closer on the moon",
    "a green boat moving left on the ocean",
    "a yellow ball falling in the desert",
    "a white star spinning in the forest",
    "three red mushrooms rising in the woods",
)
ZOOM, GAP, TEXT_WIDTH = 2, 8, 250
BACKGROUND, INK = (250, 249, 246), (40, 38, 44)


def sheet(prompts: tuple[str, ...], clips: NDArray[np.uint8], columns: int = 5) -> Image.Image:
    """One row per prompt: its words, then frames evenly spread over the clip (N, T, H, W, 3)."""
    side = clips.shape[2] * ZOOM
    width, height = TEXT_WIDTH + columns * (side + GAP) + GAP, len(prompts) * (side + GAP) + GAP
    picture = Image.new("RGB", (width, height), BACKGROUND)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=19)
    for row, (prompt, clip) in enumerate(zip(prompts, clips, strict=True)):
        top = GAP + row * (side + GAP)
        lines = textwrap.wrap(prompt, 24)
        first = top + side / 2 - 13 * len(lines)
        for i, line in enumerate(lines):
            draw.text((2 * GAP, first + 26 * i), line, INK, font)
        for column, t in enumerate(np.linspace(0, len(clip) - 1, columns).round().astype(int)):
            picture.paste(_enlarged(clip[t], side), (TEXT_WIDTH + column * (side + GAP), top))
    return picture


def moving_picture(clips: NDArray[np.uint8], columns: int = 4) -> list[Image.Image]:
    """All clips side by side, one picture per frame."""
    side = clips.shape[2] * ZOOM
    rows = -(-len(clips) // columns)
    pictures = []
    for t in range(clips.shape[1]):
        picture = Image.new("RGB", (columns * (side + GAP) - GAP, rows * (side + GAP) - GAP), BACKGROUND)
        for i, clip in enumerate(clips):
            place = ((i % columns) * (side + GAP), (i // columns) * (side + GAP))
            picture.paste(_enlarged(clip[t], side), place)
        pictures.append(picture)
    return pictures


def _enlarged(frame: NDArray[np.uint8], side: int) -> Image.Image:
    return Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=FOLDER)
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder for contact-sheet.png and clips.gif")
    arguments = parser.parse_args()
    pipeline = OpenSoraPipeline.from_pretrained(arguments.model)
    steps = CARD["defaults"]["num_inference_steps"]
    clips = generate(pipeline, list(PROMPTS), list(range(len(PROMPTS))), steps, batch_size=len(PROMPTS))
    arguments.out.mkdir(parents=True, exist_ok=True)
    sheet(PROMPTS, clips).save(arguments.out / "contact-sheet.png", optimize=True)
    first, *others = moving_picture(clips)
    duration_ms = 1000 // CARD["defaults"]["fps"]
    first.save(arguments.out / "clips.gif", save_all=True, append_images=others, duration=duration_ms, loop=0)


if __name__ == "__main__":
    main()
