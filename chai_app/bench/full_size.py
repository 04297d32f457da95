"""The published sizes on a CPU, with random weights: what a first and a second start take, in memory and time.

A Hugging Face cache is written as `hf download` leaves it: the transformer and the autoencoder in the released layout,
T5 as two fp32 pickles with a sentencepiece tokenizer. From it a short video is made twice, each time in a process of
its own. The published size needs 27 GB of disk, 16 GB of memory, and half an hour on two cores; --size takes less.

--layout folders writes the same files as `hf download --local-dir` does, without the checksums that the cache's names
carry, so that the first start has to work them out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ChaiError
from ..models.catalogue import RELEASED, RELEASED_PARTS
from .header import ROOT, header, printed
from .journal import write_json
from .step import SEED

if TYPE_CHECKING:
    from torch import Tensor

GB = 1e9
COMMIT = "0" * 40
PROMPT = "a red balloon rising in the desert"
SPARE_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Sizes:
    """What a model's parts are made with; an empty autoencoder is the published one."""

    transformer: Mapping[str, Any]
    text_encoder: Mapping[str, int]
    autoencoder: Mapping[str, Any] = field(default_factory=dict)


XXL = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "vocab_size": 32128}
SMALL_AUTOENCODER = {
    "spatial": {
        "block_out_channels": [8, 8, 16, 16],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 8,
        "sample_size": 64,
    },
    "temporal_filters": 8,
    "temporal_num_res_blocks": 1,
    "temporal_norm_num_groups": 8,
}
SIZES = {
    "full": Sizes({}, XXL),
    "tenth": Sizes({"depth": 3}, {**XXL, "num_layers": 2}),
    "tiny": Sizes(
        {"hidden_size": 64, "depth": 1, "num_heads": 4, "caption_channels": 64},
        {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 1100},
        SMALL_AUTOENCODER,
    ),
}


class Repository:
    """A repository of the hub on disk, file by file.

    Args:
        folder: for the cache's layout, models--owner--name; else the folder of the files themselves.
    """

    def __init__(self, folder: Path, is_hub: bool) -> None:
        self._folder, self._is_hub = folder, is_hub
        self.files = folder / "snapshots" / COMMIT if is_hub else folder
        self.files.mkdir(parents=True)
        if is_hub:
            (folder / "blobs").mkdir()
            (folder / "refs").mkdir()
            (folder / "refs" / "main").write_text(COMMIT)

    def add(self, name: str, write: Callable[[Path], None], is_large: bool = False) -> None:
        """Let `write` make a file; in the cache it is named by its content, and a link has its name."""
        if not self._is_hub:
            write(self.files / name)
            return
        path = self._folder / "blobs" / "incomplete"
        write(path)
        with path.open("rb") as file:  # git names small files by another checksum than its storage for large ones
            checksum = hashlib.file_digest(file, "sha256" if is_large else "sha1").hexdigest()
        path.rename(path.with_name(checksum))
        (self.files / name).symlink_to(Path("..", "..", "blobs", checksum))

    def add_json(self, name: str, values: Mapping[str, Any]) -> None:
        def write(path: Path) -> None:
            path.write_text(json.dumps(values))

        self.add(name, write)


def random_tensor(name: str, shape: Sequence[int]) -> Tensor:
    """Numbers of which a model makes finite ones: norms of 1, no biases, matrices that keep the size of their input."""
    import torch

    if len(shape) < 2:
        return torch.zeros(*shape) if name.endswith("bias") else torch.ones(*shape)
    return torch.randn(*shape) / math.prod(shape[1:]) ** 0.5


def released_shapes(sizes: Sizes) -> tuple[dict[str, Sequence[int]], dict[str, Sequence[int]]]:
    """Shapes of the transformer's and the autoencoder's tensors, under their released names."""
    import torch

    from ..opensora import AutoencoderKLOpenSora, OpenSoraTransformer3DModel

    with torch.device("meta"):
        transformer = OpenSoraTransformer3DModel(**sizes.transformer).state_dict()
        autoencoder = AutoencoderKLOpenSora(**sizes.autoencoder).state_dict()
    return (
        {released_transformer_name(name): tensor.shape for name, tensor in transformer.items()},
        {name.replace("spatial_vae.", "spatial_vae.module.", 1): tensor.shape for name, tensor in autoencoder.items()},
    )


def released_transformer_name(name: str) -> str:
    """The released name of one of our transformer's tensors: the way back of `released_layout.transformer_name`."""
    first, _, rest = name.partition(".")
    if first == "transformer_blocks":
        number, _, rest = rest.partition(".")
        kind = "temporal" if int(number) % 2 else "spatial"
        rest = rest.replace("mlp.net.0.proj.", "mlp.fc1.").replace("mlp.net.2.", "mlp.fc2.")
        return f"{kind}_blocks.{int(number) // 2}.{rest}"
    ends = {"proj_out": f"final_layer.linear.{rest}", "scale_shift_table": "final_layer.scale_shift_table"}
    return ends.get(first, name)


def text_shapes(sizes: Sizes) -> tuple[dict[str, Any], dict[str, Sequence[int]]]:
    """The configuration of the text encoder, and the shapes of its tensors."""
    import torch
    from transformers import T5Config, T5EncoderModel

    config = T5Config(**sizes.text_encoder, feed_forward_proj="gated-gelu")
    with torch.device("meta"):
        tensors = T5EncoderModel(config).state_dict()
    return config.to_dict(), {name: tensor.shape for name, tensor in tensors.items()}


def weights_bytes(sizes: Sizes) -> int:
    """Bytes of all weights in fp32; the text encoder's embedding counts once."""
    shapes = [*(each for part in released_shapes(sizes) for each in part.values())]
    shapes += [shape for name, shape in text_shapes(sizes)[1].items() if name != "encoder.embed_tokens.weight"]
    return 4 * sum(map(math.prod, shapes))


def write_model(folder: Path, sizes: Sizes, is_hub: bool, tell: Callable[[str], None]) -> None:
    """Write the three published repositories, with random weights.

    Args:
        folder: for the cache's layout, that of a Hugging Face cache; else a folder of models.
    """
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(SEED)
    repositories = {}
    for published in RELEASED_PARTS:
        owner, name = published.repository.split("/")
        place = folder / "hub" / f"models--{owner}--{name}" if is_hub else folder / name
        repositories[published.part] = Repository(place, is_hub)
    transformer, autoencoder = released_shapes(sizes)
    for part, model_type, shapes, config in (
        ("transformer", "STDiT3", transformer, dict(sizes.transformer)),
        ("vae", "VideoAutoencoderPipeline", autoencoder, {"micro_frame_size": 17}),
    ):
        tell(f"writing the {part}")
        repositories[part].add_json("config.json", {"model_type": model_type, **config})
        tensors = {name: random_tensor(name, shape) for name, shape in shapes.items()}
        if "rope.freqs" in tensors:
            half = tensors["rope.freqs"].shape[0]
            tensors["rope.freqs"] = 10_000.0 ** -(torch.arange(half) / half)
        repositories[part].add("model.safetensors", partial(save_file, tensors), is_large=True)
        del tensors
    _write_text_encoder(repositories["text_encoder"], sizes, tell)


def _write_text_encoder(repository: Repository, sizes: Sizes, tell: Callable[[str], None]) -> None:
    import torch

    config, shapes = text_shapes(sizes)
    repository.add_json("config.json", {**config, "architectures": ["T5EncoderModel"], "model_type": "t5"})
    total, done, halves = sum(map(math.prod, shapes.values())), 0, ({}, {})  # type: ignore[var-annotated]
    for name, shape in shapes.items():
        halves[2 * done >= total][name] = shape
        done += math.prod(shape)
    files = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
    for file, half in zip(files, halves, strict=True):
        tell(f"writing the text encoder, {file}")
        shared: dict[str, Tensor] = {}
        for name, shape in half.items():  # the embedding is there under two names, in one place
            is_again = name == "encoder.embed_tokens.weight" and "shared.weight" in shared
            shared[name] = shared["shared.weight"] if is_again else random_tensor(name, shape)
        repository.add(file, partial(torch.save, shared), is_large=True)
        del shared
    index = {name: file for file, half in zip(files, halves, strict=True) for name in half}
    repository.add_json("pytorch_model.bin.index.json", {"metadata": {}, "weight_map": index})
    repository.add("spiece.model", write_tokenizer, is_large=True)
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    repository.add_json("tokenizer_config.json", {**special, "tokenizer_class": "T5Tokenizer", "extra_ids": 100})
    repository.add_json("special_tokens_map.json", special)


def write_tokenizer(path: Path) -> None:
    """A sentencepiece model of the few words that the demo's world is described by."""
    import sentencepiece

    from ..demo.captions import all_words

    words = all_words()
    sentences = iter([" ".join(words[i : i + 12]) for i in range(0, len(words), 4)] * 20)
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences,
            model_writer=file,
            vocab_size=1000,
            hard_vocab_limit=False,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )


def resident_gb() -> float:
    """The most memory that this process has held so far, files that are mapped into it included."""
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss remembers what the process held that started this one
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line) / GB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GB


class Listener:
    """Hears all that an engine says, and how long it was silent before the weights are there."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self.silence_s, self.silent_after = 0.0, ""
        self.read: dict[str, int] = {}
        self.peak_loading_gb = 0.0
        self._last, self._word, self._shown = time.monotonic(), "start", 0.0

    def _hear(self, word: str) -> None:
        now = time.monotonic()
        if "text" not in self.stages and now - self._last > self.silence_s:
            self.silence_s, self.silent_after = now - self._last, self._word
        self._last, self._word = now, word

    def reading(self, what: str, done: int, total: int) -> None:
        self._hear(what)
        self.read[what] = max(done, self.read.get(what, 0))
        if time.monotonic() - self._shown > 1:
            self._shown = time.monotonic()
            print(f"  {what} {done / GB:.1f} of {total / GB:.1f} GB", file=sys.stderr, flush=True)

    def stage(self, name: str) -> None:
        self._hear(name)
        if name not in self.stages:
            self.stages[name] = time.monotonic()
        if name == "text":
            self.peak_loading_gb = resident_gb()
        print(f"  {name}", file=sys.stderr, flush=True)

    def step(self, done: int, total: int, _latents: Any) -> None:
        if done:
            print(f"  step {done} of {total}", file=sys.stderr, flush=True)


def start(options: argparse.Namespace) -> dict[str, Any]:
    """One start and one video, in this process."""
    from ..engine import Engine
    from ..opensora import OpenSoraPipeline  # noqa: F401  with the libraries, which are here before any weight is
    from ..request import GenerationRequest
    from ..settings import Settings

    before_gb, listener = resident_gb(), Listener()
    engine = Engine(RELEASED, "cpu", "bf16", settings=Settings.from_environment(), on_reading=listener.reading)
    height, width = options.pixels
    request = GenerationRequest(
        PROMPT, height=height, width=width, num_frames=options.frames, num_inference_steps=options.steps, seed=SEED
    )
    report = engine.generate(request, progress=listener.step, on_stage=listener.stage).report
    return {
        "seconds": report.seconds,
        "before_gb": before_gb,
        "peak_loading_gb": listener.peak_loading_gb,
        "peak_gb": resident_gb(),
        "silence_s": listener.silence_s,
        "silent_after": listener.silent_after,
        "read_bytes": listener.read,
        "latents_sha256": report.latents_sha256,
    }


def started(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """`start` in a process of its own."""
    environment = {
        **os.environ,
        "CHAI_HOME": str(folder / "home"),
        "CHAI_MODELS": str(folder / "models"),
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_CACHE": str(folder / "cache" / "hub"),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", f"{__package__}.full_size", "--start", "--pixels", *map(str, options.pixels)]
    command += ["--frames", str(options.frames), "--steps", str(options.steps)]
    told = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    values: dict[str, Any] = json.loads(told.splitlines()[-1])
    return values


def as_text(found: Mapping[str, Any]) -> str:
    """The table: a line for each start."""
    kept = found["weights_gb"] / 2
    lines = [
        f"Weights: {found['weights_gb']:.2f} GB in fp32, {kept:.2f} GB as they are kept (bf16).",
        "| start | load s | peak of loading, GB | above the libraries, over what is kept | peak of all, GB "
        "| longest silence, s | checksums of, GB |",
        "| --- |" + " --- |" * 6,
    ]
    for name, run in found["starts"].items():
        ratio = (run["peak_loading_gb"] - run["before_gb"]) / kept
        checked = run["read_bytes"].get("checking", 0) / GB
        lines.append(
            f"| {name} | {run['seconds']['load']:.1f} | {run['peak_loading_gb']:.2f} | {ratio:.2f} "
            f"| {run['peak_gb']:.2f} | {run['silence_s']:.1f}, after {run['silent_after']} | {checked:.2f} |"
        )
    return "\n".join(lines)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench full-size", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="an empty folder, or a new one, for everything")
    parser.add_argument("--size", choices=SIZES, default="full", help="tenth: some layers; tiny: to try the script")
    parser.add_argument("--layout", choices=("hub", "folders"), default="hub")
    parser.add_argument("--pixels", type=int, nargs=2, default=[144, 256], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="leave the weights there")
    parser.add_argument("--json", type=Path, help="write the raw figures here")
    parser.add_argument("--start", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _arguments(arguments)
    if options.start:
        print(json.dumps(start(options)))
        return
    sizes, folder, is_hub = SIZES[options.size], options.folder, options.layout == "hub"
    if folder is None:
        raise ChaiError("bench full-size needs --folder, a new one for the weights that it writes.")
    told = header("full-size", sys.argv[1:] if arguments is None else arguments, SEED, ("torch", "transformers"))
    print(printed(told), flush=True)
    needed = weights_bytes(sizes) + SPARE_BYTES
    _check_disk(folder, needed)
    found: dict[str, Any] = {"header": told, "weights_gb": weights_bytes(sizes) / GB, "starts": {}}
    try:
        write_model(folder / ("cache" if is_hub else "models"), sizes, is_hub, lambda line: print(line, flush=True))
        for name in ("first", "second"):
            print(f"the {name} start", flush=True)
            found["starts"][name] = started(options, folder)
            write_json(options.json, found)
    finally:
        if not options.keep:
            for each in ("cache", "models", "home"):
                shutil.rmtree(folder / each, ignore_errors=True)
    print(as_text(found))


def _check_disk(folder: Path, needed: int) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise ChaiError(f"{folder} is not empty: name a new folder for the weights.")
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    print(f"The weights need {needed / GB:.0f} GB of disk; {free / GB:.0f} GB are free at {folder}.", flush=True)
    if free < needed:
        raise ChaiError(
            f"The weights need {needed / GB:.0f} GB of disk and {folder} has {free / GB:.0f}: name another folder."
        )


if __name__ == "__main__":
    main()
