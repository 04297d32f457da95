"""What the queries attend to: `python app.py bench attention`.

In each reuse step of a fast run with Cache Attention, the softmax of a spatial block over the donor's tokens:
how much of it lies on the same place, how much on the donor's object where the query is on the object of the video
being made, and how sharp it is; beside it the video's own self-attention at the same step. The plot shows the maps of
one prompt: for each query a small picture, at its place, of what it attends to in the donor's frame.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..attention import PAPER, Donor, Recipe, Reuse, cache_attention
from ..demo.objects import PAINT
from ..demo.world import ClipSpec
from ..opensora.attention import OpenSoraSelfAttention
from .header import header
from .header import printed as printed_header
from .journal import write_json
from .measures import Pixels
from .studio import Studio
from .worlds import SEED, Shared, asked_specs, donor_spec, words

SHARED: tuple[Shared, ...] = ("object", "scene", "both", "nothing")
NEAR = 0.25  # of a colour, in units of the way from black to white
COVERED = 0.15  # share of a cell's pixels that make it a cell of the object


@contextmanager
def weights_of(reuse: Reuse, attn: OpenSoraSelfAttention, block: int = 0) -> Iterator[list[tuple[Tensor, Tensor]]]:
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


def run(studio: Studio, prompts: int, steps: int, full_steps: int, recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Maps and figures of each prompt, kind of donor and reuse step; `weights` and `frames` are arrays."""
    transformer = studio.pipeline.transformer
    block = recipe.blocks[0]
    attn: Any = transformer.spatial_block(block).attn
    for i, spec in enumerate(asked_specs(prompts)):
        task = studio.task([words(spec, i)], [i])
        full = studio.make(task, full_steps)
        picture = studio.frames(full.latents)[0]
        for share in SHARED:
            donor = donor_spec(spec, Random(f"{SEED} {share} {i}"), share)
            there = studio.make(studio.task([words(donor, i, share)], [10_000 + i]), full_steps)
            shown = studio.frames(there.latents)[0]
            with cache_attention(transformer, Donor(clean=there.latents), recipe) as reuse:
                with weights_of(reuse, attn, block) as noted:
                    studio.make(task, steps)
                done = list(reuse.steps_done)
            yield from _figures(studio, spec, donor, (i, share), done, noted, (picture, shown), steps)
        print(f"{i + 1} of {prompts} prompts", file=sys.stderr, flush=True)


def _figures(
    studio: Studio,
    spec: ClipSpec,
    donor: ClipSpec,
    which: tuple[int, str],
    done: list[int],
    noted: list[tuple[Tensor, Tensor]],
    frames: tuple[Pixels, Pixels],
    steps: int,
) -> Iterator[dict[str, Any]]:
    levels, latent_frames = studio.levels(steps), studio.pipeline.vae.num_latent_frames(studio.defaults.num_frames)
    patch = studio.pipeline.transformer.config.patch_size
    ratio = studio.pipeline.vae.spatial_compression_ratio
    grid = (studio.defaults.height // ratio // patch[1], studio.defaults.width // ratio // patch[2])
    mine = object_cells(frames[0], spec.things[0].colour, latent_frames, grid)
    theirs = object_cells(frames[1], donor.things[0].colour, latent_frames, grid)
    for step, pair in zip(done, noted, strict=True):
        # The second half of the guidance batch is the one that has read the prompt.
        to_donor, to_self = (each[-latent_frames:].double().numpy() for each in pair)
        yield {
            "prompt": which[0],
            "shares": which[1],
            "step": step,
            "level": levels[step - 1],
            "donor": shares(to_donor, mine, theirs),
            "own": shares(to_self, mine, mine),
            "weights": to_donor,
            "frames": frames,
            "grid": grid,
        }


def rows(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over prompts: a line for each kind of donor and step, with the self-attention of the step beside it."""
    lines = []
    for share, step in dict.fromkeys((each["shares"], each["step"]) for each in found):
        some = [each for each in found if (each["shares"], each["step"]) == (share, step)]
        line: dict[str, Any] = {"shares": share, "step": step, "level": some[0]["level"], "n": len(some)}
        for who in ("donor", "own"):
            for key in some[0][who]:
                values = np.array([each[who][key] for each in some])
                seen = values[~np.isnan(values)]
                line[f"{who}_{key}"] = float(seen.mean()) if len(seen) else None
        lines.append(line)
    return lines


def printed(table: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| donor shares | step | noise level | n | on the same place, times chance: donor | own "
        "| object's queries on the object, times chance: donor | own | other queries on the object: donor "
        "| entropy: donor | own |",
        "| --- |" + " --- |" * 10,
    ]
    names = [
        "donor_same_place_over_chance", "own_same_place_over_chance", "donor_object_to_object",
        "own_object_to_object", "donor_elsewhere_to_object", "donor_entropy", "own_entropy",
    ]  # fmt: skip
    for row in table:
        values = ("" if row[name] is None else f"{row[name]:.2f}" for name in names)
        lines.append(
            f"| {row['shares']} | {row['step']} | {row['level']:.2f} | {row['n']} | " + " | ".join(values) + " |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="bench attention", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--steps", type=int, default=8, help="of the fast run")
    parser.add_argument("--full-steps", type=int, default=30)
    parser.add_argument("--block", type=int, default=0, choices=range(4), help="spatial block that attends")
    parser.add_argument("--json", type=Path, help="write the table here")
    parser.add_argument("--plot", type=Path, help="draw the maps of one prompt here")
    parser.add_argument("--show", type=int, default=0, metavar="PROMPT", help="which one, from 0")
    chosen = parser.parse_args(arguments)
    told = header("attention", sys.argv[1:] if arguments is None else arguments, SEED, ("torch", "diffusers"))
    print(printed_header(told), flush=True)
    # A deeper block would not know what to do with tokens that come straight from the embedding.
    recipe = replace(PAPER, blocks=(chosen.block,), through="blocks" if chosen.block else "embedding")
    found = list(run(Studio(), chosen.prompts, chosen.steps, chosen.full_steps, recipe))
    table = rows(found)
    print(printed(table))
    write_json(chosen.json, {"header": told, "table": table})
    if chosen.plot:
        from .map_plots import draw_maps

        draw_maps([each for each in found if each["prompt"] == chosen.show], chosen.plot)


if __name__ == "__main__":
    main()
