"""How fast a lookup is, how large an entry, and from where on two phrases mean the same.

Run it as `python app.py bench cache`. Three tables:
lookup: a cache of made-up phrases, asked for three at a time; its index is compared with a search through everything.
storage: latents of the demo model's autoencoder through every way of storing them, and what changes in the pixels.
thresholds: the demo model's embedder, calibrated on the words of its world; then, what it takes words for that it never
saw.
"""

from __future__ import annotations

import tempfile
import time
import zlib
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache import (
    Entity,
    LatentCache,
    NewEntry,
    OpenClipEmbedder,
    Pair,
    Schedule,
    Shape,
    calibrate,
    draw,
    save_thresholds,
)
from ..cache.codec import decode, encode
from ..models import DEMO, find_model
from ..settings import BUNDLED_MODELS, Settings
from .journal import Journal, Sample
from .plots import BLUE, GREY, RED, figure
from .runner import Bench, Columns, Row

PARTS = ("lookup", "storage", "thresholds")
SEED = 17
LOOKUPS = 1_000
ROUND = 100  # lookups; the quietest round tells what other work on the machine adds to the rest
RECALL_QUERIES = 200
ENTITIES_A_LOOKUP = 3
MEANINGS = 48
MOST_ENTRIES = 100_000  # beyond that, entries have more entities instead
SHAPE_240P = Shape((4, 15, 30, 53), num_frames=51, height=240, width=426, fps=24)
TINY = Shape((1, 1, 1, 1), num_frames=1, height=8, width=8, fps=1)
MODEL = "model"
STRANGERS = ("tiger", "dog", "cup", "guitar", "grandmother", "bridge", "apple", "clock", "train", "robot")

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


class MadeUpEmbedder:
    """Phrases, called by their number, of a noun (which has a category), an attribute and a little of their own.

    As in real embeddings, all share one direction, and meanings vary in far fewer ways than there are numbers.
    """

    name = fingerprint = "made up"

    def __init__(self, dim: int) -> None:
        self.dim = dim
        random = np.random.default_rng(SEED)
        categories, nouns, attributes = (random.standard_normal((n, MEANINGS)) for n in (60, 2_000, 500))
        self._nouns = categories[random.integers(60, size=2_000)] + nouns
        self._attributes = 0.7 * attributes
        self._directions = random.standard_normal((MEANINGS, dim)) / dim**0.5
        self._common = 5 * random.standard_normal(dim) / dim**0.5

    def embed(self, texts: Sequence[str]) -> Floats:
        numbers = np.array([int(text) for text in texts])
        random = np.random.default_rng([SEED, *numbers[:1]])
        meanings = self._nouns[numbers % 2_000] + self._attributes[numbers // 2_000 % 500]
        meanings += 0.3 * random.standard_normal((len(numbers), MEANINGS))
        return _normalised((meanings @ self._directions + self._common).astype(np.float32))


def lookup_figures(entities: int, dim: int, folder: Path) -> dict[str, Any]:
    """Fill a cache, open it anew, and ask it."""
    embedder = MadeUpEmbedder(dim)
    embeddings = embedder.embed([str(i) for i in range(entities)])
    with LatentCache(folder, embedder) as cache:
        _fill(cache, embeddings)
        fill_s = _seconds(lambda: _look(cache, embeddings[:1]))
        settle_s = _seconds(cache.shelves.settle)
        cache.shelves.save_all()
    start = time.perf_counter()
    cache = LatentCache(folder, embedder)
    open_s = time.perf_counter() - start
    first_s = _seconds(lambda: _look(cache, embeddings[:1]))
    with cache:
        random = np.random.default_rng(SEED)
        noise = random.standard_normal((LOOKUPS * ENTITIES_A_LOOKUP, dim)).astype(np.float32) / dim**0.5
        near = _normalised(embeddings[random.integers(entities, size=len(noise))] + 0.3 * noise)
        wall, cpu, hits = [], [], 0
        for queries in near.reshape(LOOKUPS, ENTITIES_A_LOOKUP, dim):
            wanted = [Entity("object", "wanted", "wanted", None, query) for query in queries]
            begin, begin_cpu = time.perf_counter(), time.thread_time()
            hits += cache.lookup(wanted, MODEL, TINY).is_hit
            wall.append((time.perf_counter() - begin) * 1e3)
            cpu.append((time.thread_time() - begin_cpu) * 1e3)
        rounds = [wall[i : i + ROUND] for i in range(0, LOOKUPS, ROUND)]
        shelf = next(iter(cache.shelves._loaded.values()))
        rounded = embeddings.astype(np.float16).astype(np.float32)
        recall = {k: _recall(partial(_places, shelf), rounded, near[:RECALL_QUERIES], k) for k in (1, 10)}
        return {
            "entities": entities,
            "entries": cache.stats().entries,
            "dim": dim,
            "index": "HNSW" if shelf.is_graph else "flat",
            "lookups": LOOKUPS,
            "hits": hits,
            "wall_ms": {"p50": _percentile(wall, 50), "p99": _percentile(wall, 99)},
            "quietest_ms": min(
                ({f"p{p}": _percentile(r, p) for p in (50, 99)} for r in rounds), key=lambda r: r["p99"]
            ),
            "cpu_ms": {"p50": _percentile(cpu, 50), "p99": _percentile(cpu, 99)},
            "recall_at_1": recall[1],
            "recall_at_10": recall[10],
            "open_s": open_s,
            "first_lookup_s": first_s,
            "read_from_rows_s": fill_s,
            "build_graph_s": settle_s,
            "database_bytes": (folder / "cache.sqlite3").stat().st_size,
            "index_bytes": sum(path.stat().st_size for path in (folder / "index").iterdir()),
            "raw_wall_ms": wall,
        }


def draw_lookups(rows: list[Row], _samples: Sequence[Sample], path: Path) -> None:
    """Milliseconds of a lookup, and of opening the cache, against its entities."""
    lines = [row for row in rows if row["part"] == "lookup"]
    entities = [line["entities"] for line in lines]
    with figure(path, figsize=(7, 4)) as (_, axes):
        for label, mark, colour, values in (
            ("lookup, median", "-o", BLUE, [line["wall_ms"]["p50"] for line in lines]),
            ("lookup, 99th percentile", "-s", RED, [line["wall_ms"]["p99"] for line in lines]),
            ("opening the cache", "-^", GREY, [1e3 * line["open_s"] for line in lines]),
        ):
            axes.plot(entities, values, mark, color=colour, label=label)
        axes.set(xscale="log", yscale="log", xlabel="entities in the cache", ylabel="milliseconds")
        axes.set(title="What the cache costs as it grows")
        axes.legend(loc="upper left")


def _fill(cache: LatentCache, embeddings: Floats) -> None:
    """Rows and files as inserts would leave them, in one transaction: 100,000 times fsync would measure the disk."""
    from ..cache import rows

    content = encode({"clean": np.zeros(TINY.latent, np.float32)})
    schedule = Schedule(30, 7.0, {"clean": 0.0})
    per_entry = max(1, len(embeddings) // MOST_ENTRIES)
    cache.home.joinpath("latents").mkdir()
    with cache._database.writing() as connection:
        for i in range(0, len(embeddings), per_entry):
            entities = [Entity("object", str(i + j), "", None, e) for j, e in enumerate(embeddings[i : i + per_entry])]
            tensors = {"clean": np.zeros(TINY.latent, np.float32)}
            new = NewEntry(MODEL, TINY, f"prompt {i}", i, schedule, entities, tensors, 1.0)
            row = cache._store.new_row(new, content)
            cache._files.latents_of(row).write_bytes(content)
            rows.add_entry(connection, row, [(cache.embedder.fingerprint, entity) for entity in entities])


def _look(cache: LatentCache, queries: Floats) -> None:
    cache.lookup([Entity("object", "wanted", "wanted", None, query) for query in queries], MODEL, TINY)


def _places(shelf: Any, query: Floats, k: int) -> list[int]:
    places, _ = shelf.search(query[None], 16)
    return list(places[0, :k].tolist())


def _recall(search: Callable[[Floats, int], list[int]], embeddings: Floats, queries: Floats, k: int) -> float:
    """Share of the true k nearest that are among the k found."""
    found = 0
    for query in queries:
        cosines = embeddings @ query
        exact = np.argpartition(cosines, -k)[-k:]
        found += len(set(exact.tolist()) & set(search(query, k)))
    return found / (k * len(queries))


def demo_latents(clips: int) -> tuple[Floats, Callable[[Floats], Pixels]]:
    """(N, C, T, h, w) latents of rendered clips by the demo model's autoencoder, and what turns latents into pixels."""
    import torch

    from ..demo.render import render
    from ..demo.world import held_out_specs
    from ..opensora import AutoencoderKLOpenSora

    vae = AutoencoderKLOpenSora.from_pretrained(BUNDLED_MODELS / "demo" / "vae", torch_dtype=torch.float32)
    frames = np.stack([render(spec) for spec in held_out_specs(clips)])  # (N, T, H, W, 3)
    video = torch.from_numpy(frames).movedim(-1, 1).float() / 127.5 - 1

    def pixels(latents: Floats) -> Pixels:
        with torch.inference_mode():
            y = vae.decode(torch.from_numpy(latents), num_frames=frames.shape[1]).sample
        return np.asarray(((y.clamp(-1, 1) + 1) * 127.5 + 0.5).byte().numpy())

    with torch.inference_mode():
        return vae.encode(video).latent_dist.mode().numpy(), pixels


def storage_figures(latents: Floats, pixels: Callable[[Floats], Pixels]) -> list[dict[str, Any]]:
    """Every way of storing; bytes are those of one latent of 240p, 51 frames."""
    reference = pixels(latents)
    # The numbers of the real thing in its size, for counting bytes.
    large = np.random.default_rng(SEED).choice(latents.ravel(), SHAPE_240P.latent).astype(np.float32)
    lines = []
    for name, there_and_back, size in _codecs():
        restored = np.stack([there_and_back(latent) for latent in latents])
        difference = np.abs(pixels(restored).astype(np.int16) - reference)
        lines.append(
            {
                "storage": name,
                "bytes": size(large),
                "bytes_of_three": 3 * size(large),
                "relative_error": float(np.sqrt(((restored - latents) ** 2).mean() / (latents**2).mean())),
                "changed_pixel_values": float((difference > 0).mean()),
                "largest_change": int(difference.max()),
                "psnr_db": _psnr_db(difference),
            }
        )
    return lines


def _codecs() -> Iterator[tuple[str, Callable[[Floats], Floats], Callable[[Floats], int]]]:
    def own(storage: Any) -> tuple[Callable[[Floats], Floats], Callable[[Floats], int]]:
        return (lambda x: decode(encode({"x": x}, storage))["x"]), (lambda x: len(encode({"x": x}, storage)))

    for storage in ("fp32", "fp16", "int8"):
        yield storage, *own(storage)
    yield "bf16", _through_bf16, lambda x: len(encode({"x": x}, "fp16"))
    for storage in ("fp16", "int8"):
        back, _ = own(storage)
        yield f"{storage}, zlib 6", back, lambda x, s=storage: len(zlib.compress(encode({"x": x}, s), 6))  # type: ignore[misc]


def _through_bf16(x: Floats) -> Floats:
    bits = np.ascontiguousarray(x).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def threshold_figures(picture: Path | None, ship: bool) -> dict[str, Any]:
    """The demo model's embedder on pairs of phrases that mean the same, or not.

    `strangers`: the share of pairs with a word of no meaning to it that would pass for the same all the same, and how
    many such words the engine looks up, which asks the model's vocabulary first.
    """
    from ..demo.pairs import coloured_things, demo_pairs

    model = find_model(DEMO, Settings.from_environment())
    embedder = OpenClipEmbedder(f"local-dir:{BUNDLED_MODELS / 'demo' / 'embedder'}")
    calibration = calibrate(embedder, [Pair(*pair) for pair in demo_pairs()])
    if picture is not None:
        draw(calibration, picture)
    if ship:
        save_thresholds(embedder, calibration.thresholds, Path(__file__).parents[1] / "cache")
    known = embedder.embed([phrases[0] for phrases in coloured_things().values()])
    strange = embedder.embed(STRANGERS)
    cosines = np.concatenate([(strange @ known.T).ravel(), (strange @ strange.T)[np.triu_indices(len(strange), 1)]])
    taken = float((cosines >= calibration.thresholds.object).mean())
    assert model.vocabulary is not None
    looked_up = [word for word in STRANGERS if not model.vocabulary.unknown_words(word)]
    return {
        **calibration.to_json(),
        "strangers": {
            "pairs": len(cosines),
            "taken_for_the_same": taken,
            "words": len(STRANGERS),
            "looked_up": len(looked_up),
        },
    }


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--entities", type=int, nargs="+", default=[100_000], help="sizes of caches, one by one")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--clips", type=int, default=16, help="rendered clips for storage")
    parser.add_argument("--ship", action="store_true", help="make the thresholds those that are shipped")


def run(options: Namespace, journal: Journal) -> None:
    journal.clear()  # the three parts take minutes
    if "lookup" in options.parts:
        for entities in options.entities:
            with tempfile.TemporaryDirectory() as folder:
                figures = lookup_figures(entities, options.dim, Path(folder) / "home")
            journal.add({"part": "lookup", "name": str(entities), **figures})
    if "storage" in options.parts:
        for line in storage_figures(*demo_latents(options.clips)):
            journal.add({"part": "storage", "name": line["storage"], **line})
    if "thresholds" in options.parts:
        picture = options.plot if options.parts == ["thresholds"] else None
        for kind, values in threshold_figures(picture, options.ship).items():
            journal.add({"part": "strangers" if kind == "strangers" else "thresholds", "name": kind, **values})


def plot(rows: list[Row], samples: Sequence[Sample], path: Path) -> None:
    if any(row["part"] == "lookup" for row in rows):
        draw_lookups(rows, samples, path)


def _ms(what: str, percent: str) -> str:
    return f"{{{what}[{percent}]:.2f}}"


TABLES: dict[str, Columns] = {
    "lookup": {  # milliseconds of a lookup of three entities: by the clock, of the quietest hundred, of the processor
        "entities": "{entities:,}",
        "entries": "{entries:,}",
        "width": "{dim}",
        "index": "{index}",
        "p50 ms": _ms("wall_ms", "p50"),
        "p99 ms": _ms("wall_ms", "p99"),
        "quietest p99": _ms("quietest_ms", "p99"),
        "CPU p99": _ms("cpu_ms", "p99"),
        "recall@1": "{recall_at_1:.3f}",
        "recall@10": "{recall_at_10:.3f}",
        "open s": "{open_s:.2f}",
        "first lookup s": "{first_lookup_s:.2f}",
        "build s": "{build_graph_s:.1f}",
        "index MB": lambda row: f"{row['index_bytes'] / 1e6:.1f}",
    },
    "storage": {
        "storage": "{storage}",
        "bytes": "{bytes:,}",
        "three latents": "{bytes_of_three:,}",
        "relative error": "{relative_error:.2e}",
        "pixel values changed": "{changed_pixel_values:.2%}",
        "by at most": "{largest_change}",
        "PSNR dB": "{psnr_db:.1f}",
    },
    "thresholds": {
        "kind": "{name}",
        "threshold": "{threshold:.4g}",
        "precision": "{precision:.4g}",
        "recall": "{recall:.4g}",
        "balanced accuracy": "{balanced_accuracy:.4g}",
        "pairs": "{pairs}",
    },
    "strangers": {
        "pairs with an unknown word": "{pairs}",
        "would pass for the same": "{taken_for_the_same:.1%}",
        "unknown words": "{words}",
        "looked up": "{looked_up}",
    },
}
BENCH = Bench(
    __doc__, TABLES, run, lambda samples, _: list(samples), options, lambda options: {"dim": options.dim},
    key=lambda sample: (sample["part"], sample["name"]), draw=plot, seed=SEED,
    libraries=("faiss-cpu", "numpy", "safetensors"),
)  # fmt: skip


def _normalised(values: Floats) -> Floats:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _percentile(values: list[float], percent: float) -> float:
    return float(np.percentile(values, percent))


def _psnr_db(difference: NDArray[np.int16]) -> float:
    error = float((difference.astype(np.float64) ** 2).mean())
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))
