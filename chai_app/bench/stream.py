"""What reuse is worth in a stream of prompts: `python app.py bench stream`.

The paper's protocol: a cache that holds 100 videos meets 1,000 prompts of a skewed stream, and may grow to a tenth of
what all of them would leave behind; the least recently used leave. Three arms: matching by entities, matching whole
prompts (which entries may be reused is decided as NIRVANA does; what is done with them is the same), and no cache. A
hit takes the few steps, a miss the full run, which enters the cache.

Three modes. The real one makes every video, arms in turn, and judges it. --replay makes the decisions alone, on the
same caches with zeros for latents, and adds up seconds that were measured elsewhere, one figure for all hits and one
for all full runs (--hit-seconds, --full-seconds, or --times JSON of bench reuse): hit rates are real, seconds are not.
--prompt-file FILE replays real prompts, each once and in the order of the file, for hit rates only; phrases are
compared as bags of words unless --clip names a text-image model that is on this machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ..cache import LatentCache, OpenClipEmbedder, Shape
from ..cache.thresholds import Embedder
from ..demo.judge import load_judge
from ..demo.world import ClipSpec
from ..engine import Engine
from ..engine.donors import embedder_for, shape_of
from ..errors import BadRequest
from ..models import DEMO, find_model
from ..request import GenerationRequest
from ..settings import Settings
from .header import header
from .header import printed as printed_header
from .journal import write_json
from .matching import By, Matcher, WordEmbedder
from .measures import Pixels, difference, measured
from .worlds import SEED, stream_specs, words

WAYS: tuple[By, ...] = ("entities", "whole prompt")
NO_CACHE = "no cache"
SHARE = 0.1
TINY = Shape((1, 1, 1, 1), num_frames=1, height=8, width=8, fps=1)
EVERY = 20  # prompts between two looks at how far it is


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
) -> Iterator[dict[str, Any]]:
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
            sample: dict[str, Any] = {"prompt": i, "arm": by, "is_hit": entry is not None, "found_by": phrase}
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
            if (i + 1) % EVERY == 0:
                print(f"{i + 1} of {len(prompts)} videos to begin with", file=sys.stderr, flush=True)
        engine.close()
        for by in WAYS:
            shutil.copytree(self._folder / "warm", self._folder / by)
        model = find_model(DEMO, Settings.from_environment())
        shape = shape_of(self._request("x", 0, "full").resolved(model.defaults), model)
        assert shape is not None
        fingerprint = model.fingerprint(Settings.from_environment())
        self._matcher = Matcher(self._folder / WAYS[1], embedder_for(model), WAYS[1], fingerprint, shape)
        for name in (*WAYS, NO_CACHE):
            self._engine(name).generate(self._request(prompts[0], 0, "fast"))  # what a process does only once

    def make(self, arm: str, prompt: str, seed: int) -> tuple[Pixels, dict[str, Any]]:
        """One video as a person would get it, and its part of a sample; seconds from asking to frames."""
        assert self._matcher is not None
        start = time.perf_counter()
        reuse = {WAYS[0]: "auto", NO_CACHE: "full"}.get(arm)
        if reuse is None:
            entry, _ = self._matcher.find(prompt)
            reuse = "full" if entry is None else entry.id
        request = self._request(prompt, seed, reuse, is_private=arm == NO_CACHE)
        generation = self._engine(arm).generate(request)
        seconds = time.perf_counter() - start
        told = generation.report.reuse
        is_hit = told is not None and told.outcome == "hit"
        phrase = told.wanted if told is not None else None
        return generation.frames, {"arm": arm, "is_hit": is_hit, "found_by": phrase, "seconds": seconds}

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
        if self._matcher is not None:
            self._matcher.cache.close()

    def _engine(self, name: str) -> Engine:
        if name not in self._engines:
            home = self._folder / name
            self._engines[name] = Engine(settings=Settings(home, home / "models", home, full_steps=self._full))
        return self._engines[name]

    def _request(self, prompt: str, seed: int, reuse: str, is_private: bool = False) -> GenerationRequest:
        return GenerationRequest(
            prompt, seed=seed, reuse=reuse, is_private=is_private, fast_steps=self._fast,
            num_inference_steps=self._full, acceleration="none",
        )  # fmt: skip


def real(
    specs: Sequence[ClipSpec], warm: int, fast_steps: int | None, full_steps: int | None
) -> Iterator[list[dict[str, Any]]]:
    """For each prompt behind the first `warm`, a sample of each arm."""
    judge, arms = load_judge(), (NO_CACHE, *WAYS)
    prompts = [words(spec, i, "stream") for i, spec in enumerate(specs)]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        runs = Runs(Path(folder), fast_steps, full_steps)
        stack.callback(runs.close)
        runs.warm(prompts[:warm], len(prompts))
        for i, (prompt, spec) in enumerate(zip(prompts[warm:], specs[warm:], strict=True)):
            start = i % len(arms)
            made = {arm: runs.make(arm, prompt, i) for arm in (*arms[start:], *arms[:start])}
            clips = np.stack([made[arm][0] for arm in arms])
            found = measured(judge, [spec] * len(arms), clips, np.stack([clips[0]] * len(arms)))
            yield [
                {"prompt": i, **made[arm][1], "right": each.right, "score": each.score, "psnr_db": each.psnr_db}
                for arm, each in zip(arms, found, strict=True)
            ]


def summary(samples: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """One line of the table for each arm, with what the plot needs; differences are to the arm without a cache."""
    by_arm: dict[str, list[dict[str, Any]]] = {}
    for sample in samples:
        by_arm.setdefault(sample["arm"], []).append(sample)
    plain = by_arm.get(NO_CACHE)
    lines = {}
    for name, mine in by_arm.items():
        hits = np.array([sample["is_hit"] for sample in mine])
        so_far = np.arange(1, len(mine) + 1)
        line: dict[str, Any] = {"n": len(mine), "hit_rate": float(hits.mean())}
        phrases = Counter(sample["found_by"] for sample in mine if sample.get("found_by"))
        line["most_found"] = phrases.most_common(8)
        line["running_hit_rate"] = (hits.cumsum() / so_far).tolist()
        if "seconds" in mine[0]:
            seconds = np.array([sample["seconds"] for sample in mine])
            line |= {"mean_s": float(seconds.mean()), "p95_s": float(np.percentile(seconds, 95))}
            line["running_seconds"] = (seconds.cumsum() / so_far).tolist()
            for what, some in (("hit_s", seconds[hits]), ("full_s", seconds[~hits])):
                line[what] = float(some.mean()) if len(some) else None
            if plain:
                line["times_faster"] = float(np.mean([sample["seconds"] for sample in plain])) / line["mean_s"]
        if "score" in mine[0]:
            line["score"] = float(np.mean([sample["score"] for sample in mine]))
            if plain:
                line["score_difference"] = difference([s["score"] for s in mine], [s["score"] for s in plain])
        lines[name] = line
    return lines


def printed(lines: dict[str, dict[str, Any]], is_replay: bool) -> str:
    note = " (replayed)" if is_replay else ""
    text = [
        f"| matching | n | hits | mean s{note} | p95 s{note} | hit s | full s | faster | score "
        "| difference to no cache, 95 % |",
        "| --- |" + " --- |" * 9,
    ]
    for name, line in lines.items():
        cells = [name, str(line["n"]), f"{100 * line['hit_rate']:.1f} %"]
        cells += [_number(line.get(key)) for key in ("mean_s", "p95_s", "hit_s", "full_s")]
        cells.append(_number(line.get("times_faster")) + ("x" if line.get("times_faster") else ""))
        cells.append(f"{100 * line['score']:.1f}" if "score" in line else "")
        mean, low, high = (100 * value for value in line.get("score_difference", (0, 0, 0)))
        cells.append(f"{mean:+.1f} ({low:+.1f} to {high:+.1f})" if "score_difference" in line else "")
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="bench stream", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    parser.add_argument("--json", type=Path, help="write table and samples here, also while it runs")
    parser.add_argument("--plot", type=Path, help="draw hit rate and seconds along the stream here")
    chosen = parser.parse_args(arguments)
    told = header("stream", sys.argv[1:] if arguments is None else arguments, SEED, ("torch", "faiss-cpu"))
    print(printed_header(told), flush=True)
    is_replay = bool(chosen.replay or chosen.prompt_file)
    mode = "replay" if is_replay else "real"
    samples: list[dict[str, Any]] = []

    def write() -> dict[str, dict[str, Any]]:
        lines = summary(samples)
        write_json(chosen.json, {"header": told, "mode": mode, "table": lines, "samples": samples})
        return lines

    if is_replay:
        for by in WAYS:
            prompts, embedder = _prompts(chosen)
            limit = chosen.prompt_threshold if by == "whole prompt" else None
            samples += replayed(by, embedder, prompts, chosen.warm, _seconds(chosen), limit)
            print(f"{by}: done", file=sys.stderr, flush=True)
    else:
        start, total = time.monotonic(), chosen.prompts or 1_000
        specs = stream_specs(chosen.warm + total, exponent=chosen.skew)
        for done, some in enumerate(real(specs, chosen.warm, chosen.fast_steps, chosen.full_steps), 1):
            samples += some
            if done % EVERY == 0:
                write()
                minutes = (time.monotonic() - start) / 60
                left = f"{minutes:.1f} min, about {minutes / done * (total - done):.0f} min left"
                print(f"{done} of {total} prompts, {left}", file=sys.stderr, flush=True)
    lines = write()
    print(printed(lines, is_replay))
    found = lines.get("entities", {}).get("most_found")
    if found:
        print("entities that found most:", ", ".join(f"{phrase} ({times})" for phrase, times in found))
    if chosen.plot:
        from .plots import draw_stream

        draw_stream(lines, chosen.plot)


def _prompts(chosen: argparse.Namespace) -> tuple[list[str], Embedder]:
    """All prompts of a replay, those to begin with first, and what compares them."""
    if chosen.prompt_file is None:
        specs = stream_specs(chosen.warm + (chosen.prompts or 1_000), exponent=chosen.skew)
        demo = find_model(DEMO, Settings.from_environment())
        return [words(spec, i, "stream") for i, spec in enumerate(specs)], embedder_for(demo)
    try:
        lines = chosen.prompt_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{chosen.prompt_file} cannot be read: give a text file with one prompt a line.") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if chosen.prompts:
        prompts = prompts[: chosen.warm + chosen.prompts]
    if len(prompts) <= chosen.warm:
        raise BadRequest(f"{chosen.prompt_file} has {len(prompts)} prompts: more than --warm {chosen.warm} are needed.")
    if not chosen.clip:
        return prompts, WordEmbedder()
    name, _, weights = chosen.clip.partition("/")
    return prompts, OpenClipEmbedder(name, weights or None)


def _seconds(chosen: argparse.Namespace) -> tuple[float, float] | None:
    if chosen.times:
        table = json.loads(chosen.times.read_text(encoding="utf-8"))["table"]
        steps = chosen.fast_steps or max(line["steps"] for line in table if line["reuse"] == "auto")
        hit = [line["median_s"] for line in table if line["reuse"] == "auto" and line["steps"] == steps]
        if not hit:
            raise BadRequest(f"{chosen.times} has no hit of {steps} steps: name another number with --fast-steps.")
        return hit[0], table[0]["median_s"]
    if chosen.hit_seconds is None or chosen.full_seconds is None:
        return None
    return chosen.hit_seconds, chosen.full_seconds


if __name__ == "__main__":
    main()
