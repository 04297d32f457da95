"""One step of the transformer, ours against the original code: `python app.py bench step`.

`OPENSORA_DIR` names a checkout of https://github.com/hpcaitech/Open-Sora at tag v1.2.0. Its STDiT3 runs as it is, with
the same weights and inputs, in the same process, turn by turn. It needs the packages einops, timm and
rotary-embedding-torch 0.5.3; what it imports besides and does not need for a forward pass is left out, and xformers'
attention is replaced by torch's where xformers has no kernel (a CPU): the same numbers, and sooner.

A step is one call for both halves of a guidance batch, as in a run: the original works out the text in it, ours has
done so before the first step.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import types
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from ..errors import BadRequest
from .journal import Journal, Sample
from .runner import Bench, Column, Row, in_turns, note

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SEED = 11
CAPTION_CHANNELS = 4096
MOST_DIFFERENCE = 1e-4
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Size:
    """A transformer and a video: width, depth (spatial blocks), heads; frames, height and width in px, tokens of text.

    padded are the places that the original gives to a text, whatever its length.
    """

    width: int = 384
    depth: int = 8
    heads: int = 16
    num_frames: int = 17
    height: int = 240
    video_width: int = 426
    text: int = 120
    padded: int = 300

    @property
    def name(self) -> str:
        return (
            f"depth {self.depth}, width {self.width}, {self.heads} heads, {self.height} x {self.video_width}, "
            f"{self.num_frames} frames, {self.text} tokens"
        )


def original_at_hand() -> Any:
    """The original that OPENSORA_DIR names; None, and a line that says so, if it is not set."""
    folder = os.environ.get("OPENSORA_DIR")
    if folder is None:
        note("OPENSORA_DIR is not set, so that ours stands alone here.")
    return None if folder is None else original_module(Path(folder))


def original_module(folder: Path) -> Any:
    """The original's `opensora.models.stdit.stdit3`.

    Raises: BadRequest if the folder is no checkout, or a package is missing.
    """
    root = folder / "opensora"
    if not (root / "models" / "stdit" / "stdit3.py").is_file():
        raise BadRequest(f"{folder} is no checkout of Open-Sora v1.2.0: set OPENSORA_DIR to one.")
    with _stand_ins(root):
        try:
            return importlib.import_module("opensora.models.stdit.stdit3")
        except ImportError as error:
            raise BadRequest(
                f"The original code needs the package {error.name}: "
                "pip install einops timm rotary-embedding-torch==0.5.3"
            ) from error


@contextmanager
def _stand_ins(root: Path) -> Iterator[None]:
    """Within the block, packages of the original are found without running what they import."""
    from diffusers.utils import is_xformers_available

    is_xformers_available()  # looked up now: a stand-in is no package that it could ask about
    names = ["opensora", "opensora.models", "opensora.models.stdit", "opensora.models.layers", "opensora.acceleration"]
    made = {name: types.ModuleType(name) for name in [*names, "opensora.utils", "opensora.registry"]}
    for name in names:
        made[name].__path__ = [str(root.joinpath(*name.split(".")[1:]))]
    made["opensora.utils"].__path__ = []
    made["opensora.registry"].MODELS = _Registry()  # type: ignore[attr-defined]
    made["opensora.utils.ckpt_utils"] = types.ModuleType("opensora.utils.ckpt_utils")
    made["opensora.utils.ckpt_utils"].load_checkpoint = None  # type: ignore[attr-defined]
    made["xformers"], made["xformers.ops"] = types.ModuleType("xformers"), types.ModuleType("xformers.ops")
    made["xformers"].ops = made["xformers.ops"]  # type: ignore[attr-defined]
    made["xformers.ops"].memory_efficient_attention = _block_attention  # type: ignore[attr-defined]
    made["xformers.ops"].fmha = types.SimpleNamespace(BlockDiagonalMask=_Lengths)  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


class _Registry:
    def register_module(self, _name: str) -> Any:
        return lambda decorated: decorated


class _Lengths:
    """In the place of xformers' BlockDiagonalMask: the lengths it is made of."""

    @staticmethod
    def from_seqlens(of_queries: Sequence[int], of_keys: Sequence[int]) -> tuple[list[int], list[int]]:
        return list(of_queries), list(of_keys)


def _block_attention(query: Tensor, key: Tensor, value: Tensor, p: float = 0.0, attn_bias: Any = None) -> Tensor:
    """xformers' attention in the original's use of it: (1, all tokens, H, D), each video to its own text."""
    import torch

    of_queries, of_keys = attn_bias or ([query.shape[1]], [key.shape[1]])
    parts = zip(query.split(of_queries, 1), key.split(of_keys, 1), value.split(of_keys, 1), strict=True)
    return torch.cat([_sdpa(*part) for part in parts], dim=1)


def _sdpa(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(B, N, H, D) -> (B, N, H, D)."""
    from torch.nn.functional import scaled_dot_product_attention as attention

    return attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)).transpose(1, 2)


def _self_attention_by_sdpa(attn: Any, hidden_states: Tensor) -> Tensor:
    """The forward pass of the original's self-attention, with torch's kernel in the place of its own softmax."""
    query, key, value = (
        attn.qkv(hidden_states).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    )  # (B, H, N, D) each
    query, key = attn.q_norm(query), attn.k_norm(key)
    if attn.rope:
        query, key = attn.rotary_emb(query), attn.rotary_emb(key)
    out = _sdpa(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
    return attn.proj(out.flatten(2))


class Pair:
    """Both transformers with the same weights, and the same inputs for them."""

    def __init__(self, original: Any, size: Size, device: str = "cpu", dtype: torch.dtype | None = None) -> None:
        import torch

        from ..opensora import OpenSoraTransformer3DModel

        where: dict[str, Any] = {"device": device, "dtype": dtype or torch.float32}
        generator = torch.Generator(device).manual_seed(SEED)
        shape = {
            "hidden_size": size.width,
            "depth": size.depth,
            "num_heads": size.heads,
            "caption_channels": CAPTION_CHANNELS,
            "model_max_length": size.padded,
        }
        self.ours = OpenSoraTransformer3DModel(**shape).eval().to(device)
        for name, tensor in self.ours.named_parameters():
            noise = torch.randn(tensor.shape, generator=generator, device=device)
            tensor.data.copy_(tensor + 0.1 * noise if tensor.ndim < 2 else noise / tensor[0].numel() ** 0.5)
            assert torch.isfinite(tensor).all(), name
        self.original = None
        if original is not None:
            self.original = original.STDiT3(original.STDiT3Config(**shape)).eval()
            self.original.load_state_dict(_released(self.ours, self.original))
            self.original.to(**where)
        if dtype not in (None, torch.float32):
            self.ours.to(**where)
        frames = 5 * (size.num_frames // 17) or 1
        latent = (1, 4, frames, size.height // 8, size.video_width // 8)
        latents = torch.randn(latent, generator=generator, device=device)
        self.latents = latents.repeat(2, 1, 1, 1, 1).to(**where)  # the halves of a guidance batch
        states = torch.randn(2, size.padded, CAPTION_CHANNELS, generator=generator, device=device)
        self.states = states.to(**where)
        self.mask = (torch.arange(size.padded, device=device) < size.text).long().expand(2, -1)
        self.timestep, self.size = torch.tensor(700.0, device=device).expand(2), size
        self.text = self.ours.encode_text(self.states, self.mask)

    def run_ours(self) -> Tensor:
        size = {"fps": 24.0, "height": self.size.height, "width": self.size.video_width}
        sample: Tensor = self.ours(self.latents, self.timestep, self.text, **size).sample
        return sample

    def run_original(self) -> Tensor:
        import torch

        assert self.original is not None
        numbers = torch.tensor([float(self.size.height), float(self.size.video_width), 24.0], device=self.mask.device)
        height, width, fps = numbers[0:1], numbers[1:2], numbers[2:3].expand(2)
        states, mask = self.states[:, None], self.mask[:1]
        out: Tensor = self.original(self.latents, self.timestep, states, mask=mask, fps=fps, height=height, width=width)
        return out[:, : self.latents.shape[1]]


def _released(ours: Any, original: Any) -> dict[str, Tensor]:
    """The weights of our model under the names of the original's."""
    from ..opensora.released_layout import transformer_name

    mine = ours.state_dict()
    return {name: mine[transformer_name(name)] for name in original.state_dict()}


def measure(
    journal: Journal,
    original: Any,
    size: Size,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> None:
    """Both in turns, and how far their outputs lie apart."""
    import torch

    with torch.no_grad():
        pair = Pair(original, size, device, dtype)
        arms: dict[str, Callable[[], Any]] = {"ours": pair.run_ours}
        difference = None
        if pair.original is not None:
            kinds = {type(module) for module in pair.original.modules()}
            attention = next(kind for kind in kinds if kind.__name__ == "Attention")
            plain = attention.forward

            def with_forward(forward: Any) -> Tensor:
                attention.forward = forward
                try:
                    return pair.run_original()
                finally:
                    attention.forward = plain

            arms["original"] = lambda: with_forward(plain)
            arms["original, all attention by torch"] = lambda: with_forward(_self_attention_by_sdpa)
        outputs = {name: run() for name, run in arms.items()}  # warm
        if "original" in outputs:
            difference = float((outputs["ours"] - outputs["original"]).abs().max())

        def make(i: int, names: Sequence[str]) -> Iterator[Sample]:
            for name in names:
                start = clock()
                arms[name]()
                seconds = clock() - start
                apart = difference if name == "original" else None
                yield {"arm": name, "seconds": seconds, "difference": apart}

        in_turns(journal, list(arms), range(rounds), make, part="step", size=asdict(size))


def rows(samples: Sequence[Sample], _settings: Mapping[str, Any]) -> list[Row]:
    """A row for each size and arm."""
    table: list[Row] = []
    for size in _each(sample["size"] for sample in samples):
        by_arm: dict[str, list[Sample]] = {}
        for sample in samples:
            if sample["size"] == size:
                by_arm.setdefault(sample["arm"], []).append(sample)
        ours = median(sample["seconds"] for sample in by_arm["ours"])
        for arm, mine in sorted(by_arm.items(), key=lambda pair: pair[0] != "ours"):
            seconds = [sample["seconds"] for sample in mine]
            p95 = quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]
            row = {"part": "step", "size": size, "arm": arm, "n": len(seconds), "median_s": median(seconds)}
            row |= {"name": Size(**size).name, "p95_s": p95, "ratio": ours / row["median_s"]}
            table.append({**row, "difference": mine[0]["difference"]})
    return table


def _each(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--heads", type=int, nargs="+", default=[16, 6])
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--size", type=int, nargs=2, default=[240, 426], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--text", type=int, default=120, help="tokens of the prompt")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu counts the seconds of the processor alone: for one thread on a machine with other work",
    )


def settings(options: Namespace) -> dict[str, Any]:
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    return {"threads": torch.get_num_threads(), "clock": options.clock}


def run(options: Namespace, journal: Journal) -> None:
    original = original_at_hand()
    height, width = options.size
    for heads in options.heads:
        size = Size(options.width, options.depth, heads, options.frames, height, width, options.text)
        measure(journal, original, size, options.rounds, CLOCKS[options.clock])


def said(rows: Sequence[Row]) -> Iterator[str]:
    """The outputs should be the same."""
    for row in rows:
        if (row["difference"] or 0) > MOST_DIFFERENCE:
            yield f"The outputs differ by {row['difference']:.1e}, more than {MOST_DIFFERENCE:.0e}."


TABLE: dict[str, Column] = {
    "size": "{name}",
    "arm": "{arm}",
    "n": "{n}",
    "median s": "{median_s:.3f}",
    "p95 s": "{p95_s:.3f}",
    "ours / this": "{ratio:.2f}",
    "furthest output": "{difference:.1e}",
}
BENCH = Bench(
    __doc__, {"step": TABLE}, run, rows, options, settings,
    key=lambda sample: (str(sample["size"]), sample["prompt"], sample["arm"]), said=said, seed=SEED,
)  # fmt: skip
