"""What the queries attend to: `python app.py bench attention`.

In each reuse step of a fast run with Cache Attention, the softmax of a spatial block over the donor's tokens:
how much of it lies on the same place, how much on the donor's object where the query is on the object of the video
being made, and how sharp it is; beside it the video's own self-attention at the same step. The plot shows the maps of
one prompt in the middle of the clip: for each query a small picture, at its place, of what it attends to in the
donor's frame.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..attention import PAPER, Attending, Donor, cache_attention
from ..demo.objects import PAINT
from ..opensora.attention import OpenSoraSelfAttention
from .journal import Journal, Sample
from .measures import Pixels
from .plots import figure
from .runner import Bench, Column, Row, in_turns
from .studio import Studio
from .warm import fingerprint
from .worlds import SEED, Shared, asked_specs, donor_spec, words

NEAR = 0.25  # of a colour, in units of the way from black to white
COVERED = 0.15  # share of a cell's pixels that make it a cell of the object


@contextmanager
def weights_of(reuse: Attending, attn: OpenSoraSelfAttention, block: int = 0) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Within the block, note for each call of `reuse` the softmax over the donor's tokens, and over the own ones.

    Yields: a list that grows by (theirs (B*T, S, M), own (B*T, S, S)), means over the heads.
    """
    noted: list[tuple[Tensor, Tensor]] = []

    def note(_module: Any, arguments: tuple[Tensor, ...]) -> None:
        hidden_states, tokens = arguments[0], reuse.shown(block)
        if tokens is not None:
            query, key, _ = attn.queries_keys_values(hidden_states, tokens)
            _, own, _ = attn.queries_keys_values(hidden_states)
            noted.append((_softmax(query, key), _softmax(query, own)))

    handle = attn.register_forward_pre_hook(note)
    try:
        yield noted
    finally:
        handle.remove()


def _softmax(query: Tensor, key: Tensor) -> Tensor:
    """(B, N, H, D), (B, M, H, D) -> (B, N, M)."""
    scores = torch.einsum("bnhd,bmhd->bhnm", query, key) / query.shape[-1] ** 0.5
    return scores.softmax(-1).mean(1)


def object_cells(frames: Pixels, colour: str, latent_frames: int, grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Which tokens show the thing, told by its colour.

    Args: frames: (T, H, W, 3).
    Returns: (latent_frames, S).
    """
    picked = frames[np.linspace(0, len(frames) - 1, latent_frames).round().astype(int)]
    wanted = np.asarray(PAINT[colour])
    near = np.abs(picked / 255.0 - wanted).max(-1) < NEAR  # (t, H, W)
    rows, columns = grid
    cells = near.reshape(latent_frames, rows, near.shape[1] // rows, columns, near.shape[2] // columns)
    return cells.mean((2, 4)).reshape(latent_frames, -1) > COVERED


def shares(weights: NDArray[np.float64], mine: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> dict[str, float]:
    """Where attention lies.

    Args:
        weights: (T, S, M) with M = S, each query's sum is 1.
        mine, theirs: (T, S), which queries and which keys are of the object.
    Returns: share on the same place; entropy, 1 for all keys alike and 0 for a single one; what queries of the object
        give to the donor's object, and queries elsewhere to it, both over the object's share of the keys (1 is chance).
        The last two are NaN where there is no such query or key.
    """
    places = weights.shape[-1]
    same = float(np.diagonal(weights, axis1=1, axis2=2).mean())
    entropy = float(-(weights * np.log(np.maximum(weights, 1e-12))).sum(-1).mean() / np.log(places))
    found = {"same_place": same, "same_place_over_chance": same * places, "entropy": entropy}
    to_object = np.einsum("tsm,tm->ts", weights, theirs.astype(np.float64))
    chance = np.broadcast_to(theirs.mean(1, keepdims=True), to_object.shape)
    for name, queries in (("object_to_object", mine), ("elsewhere_to_object", ~mine)):
        queries = queries & (chance > 0)
        found[name] = float((to_object[queries] / chance[queries]).mean()) if queries.any() else float("nan")
    return found


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--steps", type=int, default=8, help="of the fast run")
    parser.add_argument("--full-steps", type=int, default=30)
    parser.add_argument("--block", type=int, default=0, choices=range(4), help="spatial block that attends")
    parser.add_argument("--show", type=int, default=0, metavar="PROMPT", help="which one the plot shows, from 0")


def settings(options: Namespace) -> dict[str, Any]:
    names = ("steps", "full_steps", "block", "show")
    return {"model": fingerprint(), **{name: getattr(options, name) for name in names}}


def run(options: Namespace, journal: Journal) -> None:
    """An arm is what the donor shares; a sample holds all reuse steps."""
    studio, specs, block = Studio(), asked_specs(options.prompts), options.block
    transformer, d = studio.pipeline.transformer, studio.defaults
    # A deeper block would not know what to do with tokens that come straight from the embedding.
    recipe = replace(PAPER, blocks=(block,), through="blocks" if block else "embedding")
    attn: Any = transformer.spatial_block(block).attn
    latent_frames = studio.pipeline.vae.num_latent_frames(d.num_frames)
    cell = studio.pipeline.vae.spatial_compression_ratio * transformer.config.patch_size[1]
    grid, levels = (d.height // cell, d.width // cell), studio.levels(options.steps)

    def make(i: int, arms: Sequence[Shared]) -> Iterator[Sample]:
        spec, task = specs[i], studio.task([words(specs[i], i)], [i])
        picture = studio.frames(studio.make(task, options.full_steps).latents)[0]
        mine = object_cells(picture, spec.things[0].colour, latent_frames, grid)
        for share in arms:
            donor = donor_spec(spec, Random(f"{SEED} {share} {i}"), share)
            there = studio.make(studio.task([words(donor, i, share)], [10_000 + i]), options.full_steps)
            shown = studio.frames(there.latents)[0]
            theirs = object_cells(shown, donor.things[0].colour, latent_frames, grid)
            with (
                cache_attention(transformer, Donor(there.latents), recipe) as reuse,
                weights_of(reuse, attn, block) as noted,
            ):
                studio.make(task, options.steps)
            steps = []
            for step, pair in zip(reuse.steps_done, noted, strict=True):
                # The second half of the guidance batch is the one that has read the prompt.
                to_donor, to_self = (each[-latent_frames:].double().numpy() for each in pair)
                found = {"donor": shares(to_donor, mine, theirs), "own": shares(to_self, mine, mine)}
                maps = {"map": to_donor[latent_frames // 2].round(5).tolist()} if i == options.show else {}
                steps.append({"step": step, "level": levels[step - 1], **found, **maps})
            middle = len(picture) // 2
            pictures = {"pictures": [picture[middle].tolist(), shown[middle].tolist()]} if i == options.show else {}
            yield {"arm": share, "steps": steps, "grid": grid, **pictures}

    in_turns(journal, get_args(Shared), range(options.prompts), make)


def rows(samples: Sequence[Sample], _settings: Mapping[str, Any]) -> list[Row]:
    """Means over prompts: a row for each kind of donor and step, with the self-attention of the step beside it."""
    found = [{"shares": sample["arm"], **step} for sample in samples for step in sample["steps"]]
    table = []
    for share in get_args(Shared):
        for step in dict.fromkeys(each["step"] for each in found):
            some = [each for each in found if (each["shares"], each["step"]) == (share, step)]
            row: Row = {"shares": share, "step": step, "level": some[0]["level"], "n": len(some)}
            for who in ("donor", "own"):
                for key in some[0][who]:
                    values = np.array([each[who][key] for each in some])
                    seen = values[~np.isnan(values)]
                    row[f"{who}_{key}"] = float(seen.mean()) if len(seen) else None
            table.append(row)
    return table


def draw(_rows: list[Row], samples: Sequence[Sample], path: Path) -> None:
    """A row for each kind of donor: the video, the donor, then for each reuse step a mosaic in which every cell is a
    query's map over the donor's cells."""
    shown = {sample["arm"]: sample for sample in samples if "pictures" in sample}
    steps = next(iter(shown.values()))["steps"]
    most = max(np.max(step["map"]) for sample in shown.values() for step in sample["steps"])
    shape = (len(shown), 2 + len(steps))
    with figure(path, *shape, figsize=(2.2 * shape[1], 2.3 * shape[0]), squeeze=False) as (drawing, axes):
        for line, (share, sample) in zip(axes, shown.items(), strict=True):
            for axis, picture in zip(line, sample["pictures"], strict=False):
                axis.imshow(np.array(picture, np.uint8))
            line[0].set_ylabel(f"shares {share}")
            for axis, step in zip(line[2:], sample["steps"], strict=True):
                image = axis.imshow(mosaic(np.array(step["map"]), sample["grid"]), cmap="cividis", vmin=0, vmax=most)
        titles = ["this video", "the donor"] + [f"step {step['step']}, level {step['level']:.2f}" for step in steps]
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title, fontsize=9)
        for axis in axes.flat:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.grid(visible=False)
            axis.spines[:].set_visible(False)
        drawing.colorbar(image, ax=axes[:, -1], shrink=0.5, label="weight")
        drawing.supxlabel("each small square: one query's map over the donor's places", fontsize=9)


def mosaic(weights: NDArray[np.float64], grid: tuple[int, int]) -> NDArray[np.float64]:
    """(S, S) -> a picture in which the map of each query stands at the query's place, with lines between them.

    Args: grid: rows and columns of tokens, S in all.
    Returns: (rows * (rows + 1) - 1, columns * (columns + 1) - 1); NaN on the lines.
    """
    rows, columns = grid
    picture = np.full((rows * (rows + 1), columns * (columns + 1)), np.nan)
    for query, each in enumerate(weights):
        top, left = query // columns * (rows + 1), query % columns * (columns + 1)
        picture[top : top + rows, left : left + columns] = each.reshape(rows, columns)
    return picture[:-1, :-1]


TABLE: dict[str, Column] = {
    "donor shares": "{shares}",
    "step": "{step}",
    "noise level": "{level:.2f}",
    "n": "{n}",
    "on the same place, times chance: donor": "{donor_same_place_over_chance:.2f}",
    "own": "{own_same_place_over_chance:.2f}",
    "object's queries on the object, times chance: donor": "{donor_object_to_object:.2f}",
    "the own ones": "{own_object_to_object:.2f}",
    "other queries on the object: donor": "{donor_elsewhere_to_object:.2f}",
    "entropy: donor": "{donor_entropy:.2f}",
    "own entropy": "{own_entropy:.2f}",
}
BENCH = Bench(__doc__, {"": TABLE}, run, rows, options, settings, draw=draw, seed=SEED)
