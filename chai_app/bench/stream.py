"""What reuse is worth in a stream of prompts: `python app.py bench stream`.

The paper's protocol: a cache that holds 100 videos meets 1,000 prompts of a skewed stream, and may grow to a tenth of
what all of them would leave behind; the least recently used leave. Three arms: matching by entities, matching whole
prompts (which entries may be reused is decided as NIRVANA does; what is done with them is the same), and no cache. A
hit takes the few steps, a miss the full run, which enters the cache.

Three modes. The real one makes every video, arms in turn, and judges it. --replay makes the decisions alone, on the
same caches with zeros for latents, and adds up seconds that were measured elsewhere, one figure for all hits and one
for all full runs (--hit-seconds, --full-seconds, or --times JSON of bench reuse): hit rates are real, seconds are not.
--prompt-file FILE replays real prompts, each once and in the order of the file, for hit rates only; phrases are
compared as bags of words unless --clip names a text-image model that is on this machine. A stream that was interrupted
begins anew, for what its caches held is gone.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ..cache import LatentCache, OpenClipEmbedder, Shape
from ..cache.thresholds import Embedder
from ..engine import Engine
from ..engine.donors import embedder_for, shape_of
from ..errors import BadRequest
from ..models import DEMO, find_model
from ..request import GenerationRequest
from ..settings import Settings
from .journal import Journal, Sample
from .matching import By, Matcher, WordEmbedder
from .measures import Pixels, difference
from .plots import draw_stream
from .runner import Bench, Column, Row, by_arm, in_turns, interval, note, points
from .warm import demo_engine, fingerprint, judged, timed
from .worlds import SEED, stream_specs, words

WAYS: tuple[By, ...] = ("entities", "whole prompt")
NO_CACHE = "no cache"
SHARE = 0.1
TINY = Shape((1, 1, 1, 1), num_frames=1, height=8, width=8, fps=1)


def budget_bytes(entry_bytes: int, prompts: int) -> int:
    """A tenth of what all prompts would leave behind, in whole entries, at least one."""
    return max(1, round(SHARE * prompts)) * entry_bytes


def replayed(
    by: By,
    embedder: Embedder,
    prompts: Sequence[str],
    warm: int,
    seconds: tuple[float, float] | None,
    threshold: float | None,
) -> Iterator[Sample]:
    """Decisions on `prompts[warm:]` by a cache that the first `warm` have filled.

    Args: seconds: of a hit and of a full run, measured elsewhere; None leaves them out.
    """
    with tempfile.TemporaryDirectory() as folder:
        matcher = Matcher(Path(folder) / "home", embedder, by, "model", TINY, threshold)
        first = matcher.keep(prompts[0])
        matcher.cache.set_budget(budget_bytes(first.bytes, len(prompts)))
        for prompt in prompts[1:warm]:
            matcher.keep(prompt)
        for i, prompt in enumerate(prompts[warm:]):
            entry, phrase = matcher.find(prompt)
            if entry is None:
                matcher.cache.count_miss()
                matcher.keep(prompt)
            else:
                matcher.cache.touch(entry)
            sample: Sample = {"prompt": i, "arm": by, "is_hit": entry is not None, "found_by": phrase}
            if seconds is not None:
                sample["seconds"] = seconds[0] if entry is not None else seconds[1]
            yield sample
        matcher.cache.close()


class Runs:
    """The demo model's engine over three folders: two caches, and one that stays empty."""

    def __init__(self, folder: Path, fast_steps: int | None, full_steps: int | None) -> None:
        self._fast, self._full = fast_steps, full_steps
        self._folder = folder
        self._engines: dict[str, Engine] = {}
        self._matcher: Matcher | None = None

    def warm(self, prompts: Sequence[str], total: int) -> None:
        """Make the first videos, once, and let both caches begin with them."""
        engine = self._engine("warm")
        for i, prompt in enumerate(prompts):
            reuse = engine.generate(self._request(prompt, 50_000 + i, "full")).report.reuse
            if i == 0 and reuse is not None:
                engine.close()
                with LatentCache(self._folder / "warm") as cache:
                    cache.set_budget(budget_bytes(reuse.bytes_written, total))
        note(f"{len(prompts)} videos to begin with")
        engine.close()
        for by in WAYS:
            shutil.copytree(self._folder / "warm", self._folder / by)
        model = find_model(DEMO, Settings.from_environment())
        shape = shape_of(self._request("x", 0, "full").resolved(model.defaults), model)
        assert shape is not None
        self._matcher = Matcher(self._folder / WAYS[1], embedder_for(model), WAYS[1], fingerprint(), shape)
        for name in (*WAYS, NO_CACHE):
            self._engine(name).generate(self._request(prompts[0], 0, "fast"))  # what a process does only once

    def make(self, arm: str, prompt: str, seed: int) -> tuple[Pixels, Sample]:
        """One video as a person would get it, and its part of a sample."""
        assert self._matcher is not None
        reuse = {WAYS[0]: "auto", NO_CACHE: "full"}.get(arm)
        if reuse is None:
            entry, _ = self._matcher.find(prompt)
            reuse = "full" if entry is None else entry.id
        request = self._request(prompt, seed, reuse, is_private=arm == NO_CACHE)
        generation, told = timed(self._engine(arm), request)
        phrase = generation.report.reuse.wanted if generation.report.reuse else None
        return generation.frames, {**told, "is_hit": told["outcome"] == "hit", "found_by": phrase}

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
        if self._matcher is not None:
            self._matcher.cache.close()

    def _engine(self, name: str) -> Engine:
        if name not in self._engines:
            self._engines[name] = demo_engine(self._folder / name, self._full)
        return self._engines[name]

    def _request(self, prompt: str, seed: int, reuse: str, is_private: bool = False) -> GenerationRequest:
        return GenerationRequest(
            prompt, seed=seed, reuse=reuse, is_private=is_private, fast_steps=self._fast,
            num_inference_steps=self._full, acceleration="none",
        )  # fmt: skip


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--prompts", type=int, help="of the stream (default: 1000, or all of the file)")
    parser.add_argument("--warm", type=int, default=100, help="videos that the cache begins with")
    parser.add_argument("--skew", type=float, default=1.0, help="exponent of Zipf's law")
    parser.add_argument("--fast-steps", type=int, help="of a hit")
    parser.add_argument("--full-steps", type=int, help="of a miss")
    parser.add_argument("--replay", action="store_true", help="decisions alone; seconds as given, or none")
    parser.add_argument("--hit-seconds", type=float)
    parser.add_argument("--full-seconds", type=float)
    parser.add_argument("--times", type=Path, metavar="JSON", help="of bench reuse: seconds of a hit and a full run")
    parser.add_argument("--prompt-file", type=Path, help="real prompts, one a line, in place of the demo's stream")
    parser.add_argument("--clip", metavar="MODEL/WEIGHTS", help="open_clip's, as ViT-L-14/openai; with --prompt-file")
    parser.add_argument("--prompt-threshold", type=float, help="cosine from which two whole prompts match")


def settings(options: Namespace) -> dict[str, Any]:
    if options.prompt_file is not None:
        _prompts_in(options)
    return {"mode": "replay" if options.replay or options.prompt_file else "real"}


def run(options: Namespace, journal: Journal) -> None:
    journal.clear()
    if journal.settings["mode"] == "replay":
        for by in WAYS:
            prompts, embedder = _prompts(options)
            limit = options.prompt_threshold if by == "whole prompt" else None
            for sample in replayed(by, embedder, prompts, options.warm, _seconds(options), limit):
                journal.add(sample)
            note(f"{by}: done")
        return
    warm, total = options.warm, options.prompts or 1_000
    specs = stream_specs(warm + total, exponent=options.skew)
    prompts = [words(spec, i, "stream") for i, spec in enumerate(specs)]
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Runs(Path(folder), options.fast_steps, options.full_steps)) as runs,
    ):
        runs.warm(prompts[:warm], len(prompts))

        def make(i: int, arms: Sequence[str]) -> list[Sample]:
            made = {arm: runs.make(arm, prompts[warm + i], i) for arm in arms}
            return judged(specs[warm + i], made, NO_CACHE)

        in_turns(journal, (NO_CACHE, *WAYS), range(total), make)


def rows(samples: Sequence[Sample], settings: Mapping[str, Any]) -> list[Row]:
    """A row for each arm, with what the plot needs; differences are to the arm without a cache."""
    found = by_arm(samples)
    plain = found.get(NO_CACHE)
    table = []
    for name in (NO_CACHE, *WAYS):
        mine = found.get(name, [])
        if not mine:
            continue
        hits = np.array([sample["is_hit"] for sample in mine])
        so_far = np.arange(1, len(mine) + 1)
        phrases = Counter(sample["found_by"] for sample in mine if sample.get("found_by"))
        row: Row = {"arm": name, "n": len(mine), "hit_rate": float(hits.mean()), "most_found": phrases.most_common(8)}
        row |= {"mode": settings["mode"], "running_hit_rate": (hits.cumsum() / so_far).tolist()}
        if "seconds" in mine[0]:
            seconds = np.array([sample["seconds"] for sample in mine])
            row |= {"mean_s": float(seconds.mean()), "p95_s": float(np.percentile(seconds, 95))}
            row["running_seconds"] = (seconds.cumsum() / so_far).tolist()
            for what, some in (("hit_s", seconds[hits]), ("full_s", seconds[~hits])):
                row[what] = float(some.mean()) if len(some) else None
            if plain:
                row["faster"] = float(np.mean([sample["seconds"] for sample in plain])) / row["mean_s"]
        if "score" in mine[0]:
            row["score"] = float(np.mean([sample["score"] for sample in mine]))
            if plain:
                row["difference"] = difference([s["score"] for s in mine], [s["score"] for s in plain])
        table.append(row)
    return table


def said(table: list[Row]) -> Iterator[str]:
    if table[0]["mode"] == "replay":
        yield "Replayed: decisions are real, seconds are sums of those that were given."
    for row in table:
        if row["arm"] == "entities" and row["most_found"]:
            found = ", ".join(f"{phrase} ({times})" for phrase, times in row["most_found"])
            yield f"entities that found most: {found}"


def _prompts(options: Namespace) -> tuple[list[str], Embedder]:
    """All prompts of a replay, those to begin with first, and what compares them."""
    if options.prompt_file is None:
        specs = stream_specs(options.warm + (options.prompts or 1_000), exponent=options.skew)
        demo = find_model(DEMO, Settings.from_environment())
        return [words(spec, i, "stream") for i, spec in enumerate(specs)], embedder_for(demo)
    if not options.clip:
        return _prompts_in(options), WordEmbedder()
    name, _, weights = options.clip.partition("/")
    return _prompts_in(options), OpenClipEmbedder(name, weights or None)


def _prompts_in(options: Namespace) -> list[str]:
    file = options.prompt_file
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{file} cannot be read: give a text file with one prompt a line.") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if options.prompts:
        prompts = prompts[: options.warm + options.prompts]
    if len(prompts) <= options.warm:
        raise BadRequest(f"{file} has {len(prompts)} prompts: more than --warm {options.warm} are needed.")
    return prompts


def _seconds(options: Namespace) -> tuple[float, float] | None:
    if options.times:
        table = json.loads(options.times.read_text(encoding="utf-8"))["table"]
        steps = options.fast_steps or max(row["steps"] for row in table if row["reuse"] == "auto")
        hit = [row["median_s"] for row in table if row["reuse"] == "auto" and row["steps"] == steps]
        if not hit:
            raise BadRequest(f"{options.times} has no hit of {steps} steps: name another number with --fast-steps.")
        return hit[0], table[0]["median_s"]
    if options.hit_seconds is None or options.full_seconds is None:
        return None
    return options.hit_seconds, options.full_seconds


TABLE: dict[str, Column] = {
    "matching": "{arm}",
    "n": "{n}",
    "hits": lambda row: f"{row['hit_rate']:.1%}",
    "mean s": "{mean_s:.2f}",
    "p95 s": "{p95_s:.2f}",
    "hit s": "{hit_s:.2f}",
    "full s": "{full_s:.2f}",
    "faster": "{faster:.2f}x",
    "score": points("score"),
    "difference to no cache, 95 %": interval("difference"),
}
BENCH = Bench(
    __doc__, {"": TABLE}, run, rows, options, settings, said=said,
    draw=lambda rows, _samples, path: draw_stream(rows, path), seed=SEED, libraries=("torch", "faiss-cpu"),
)  # fmt: skip
