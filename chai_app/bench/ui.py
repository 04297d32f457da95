"""Many people at one browser UI: do errors appear, is a video lost, does memory grow?

It starts a server of its own with empty folders, lets clients read and generate at random through the same calls as
pages and programs, and tells, for each kind of call, how many there were, how many failed and how long they took; then
what became of every video that was asked for, and the server's memory over time.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..models import DEMO
from .header import APP, ROOT
from .journal import Journal, Sample
from .runner import Bench, Column, Row

_START_S, _DRAIN_S, _CALL_S = 600, 1_800, 600
_MEMORY_EVERY_S = 5.0
_WARM_UP = 0.2  # share of the time after which memory should stay as it is
COLOURS = ("red", "blue", "green", "yellow", "purple", "orange")
THINGS = ("balloon", "star", "boat", "car", "fish", "rocket")
PLACES = ("in the desert", "on the moon", "on the ocean", "in the city")


@dataclass
class Calls:
    """What the clients saw; seconds of each call by its kind, and every error in words."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def timed(self, kind: str, call: Callable[[], Any]) -> Any:
        """What `call` gives, None if it fails; either is written down."""
        started = time.perf_counter()
        try:
            answer = call()
        except Exception as error:
            with self.lock:
                self.errors.append(f"{kind}: {type(error).__name__}: {error}")
            return None
        with self.lock:
            self.seconds.setdefault(kind, []).append(time.perf_counter() - started)
        return answer


class Site:
    """A browser UI in another process, as pages and programs call it."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        config = json.loads(self._get("/config"))
        self._bridge = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "c-bridge")

    def ask(self, function: str, message: dict[str, Any]) -> dict[str, Any]:
        """What the page's script asks. Raises: RuntimeError for an answer that tells of a problem."""
        body = {"session_hash": "bench", "component_id": self._bridge, "fn_name": function, "data": message}
        request = urllib.request.Request(
            f"{self.url}/gradio_api/component_server",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_CALL_S) as answer:
            values: dict[str, Any] = json.loads(answer.read())
        if values.get("problem"):
            raise RuntimeError(values["problem"])
        return values

    def page(self) -> bytes:
        """The page as a browser first gets it."""
        return self._get("/")

    def file(self, path: str) -> bytes:
        """A file that the server gives out."""
        return self._get(f"/gradio_api/file={quote(path)}")

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=_CALL_S) as answer:
            content: bytes = answer.read()
            return content


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--model", default=DEMO)
    parser.add_argument(
        "--steps", type=int, help="denoising steps of a full run, a hit takes half; left out: the model's"
    )
    parser.add_argument("--pause", type=float, default=2.0, help="seconds that a client rests between two calls")
    parser.add_argument("--share", type=float, default=0.02, help="of calls that ask for a video")
    parser.add_argument("--seed", type=int, default=17)


def run(options: Namespace, journal: Journal) -> None:
    """Start a server, let the clients loose, wait for the last video, count."""
    journal.clear()
    with (
        tempfile.TemporaryDirectory(prefix="chai-bench-ui-") as folder,
        served(Path(folder), options.model) as (url, pid),
    ):
        site, calls = Site(url), Calls()
        _load(options, site, pid, calls)
        outcome = _settle(site, calls, options)
    for kind, seconds in sorted(calls.seconds.items()):
        journal.add({"part": "calls", "kind": kind, "seconds": seconds})
    told = {"errors": calls.errors, "memory": calls.memory}
    journal.add({"part": "outcome", "kind": "all", **outcome, **told})


@contextmanager
def served(folder: Path, model: str = DEMO) -> Iterator[tuple[str, int]]:
    """A browser UI with all that it keeps in `folder`: its address, and its process."""
    environment = {**os.environ, "CHAI_HOME": str(folder / "home"), "CHAI_OUTPUT": str(folder / "videos")}
    command = [sys.executable, *APP, "ui", "--no-browser", "-m", model]
    with (folder / "log").open("w+") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            yield _url(server, folder / "log"), server.pid
        finally:
            server.terminate()
            server.wait(60)


def _url(server: subprocess.Popen[bytes], log: Path) -> str:
    """Where the server says that it is."""
    end = time.monotonic() + _START_S
    while time.monotonic() < end and server.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("CHAI is at "):
                return line.split()[3]
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")


def _load(options: Namespace, site: Site, pid: int, calls: Calls) -> None:
    started = time.monotonic()
    end = started + 60 * options.minutes
    threads = [threading.Thread(target=_client, args=(options, site, calls, i, end)) for i in range(options.clients)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        memory = _memory_bytes(pid)
        if memory is not None:
            calls.memory.append((time.monotonic() - started, memory))
        time.sleep(min(_MEMORY_EVERY_S, max(end - time.monotonic(), 0)))
    for thread in threads:
        thread.join()


def _client(options: Namespace, site: Site, calls: Calls, i: int, end: float) -> None:
    """One person: looks at pages, follows the queue, now and then asks for a video."""
    chance = random.Random(options.seed * 1_000 + i)
    calls.timed("page", site.page)
    while time.monotonic() < end:
        if chance.random() < options.share:
            prompt = f"a {chance.choice(COLOURS)} {chance.choice(THINGS)} {chance.choice(PLACES)}"
            _submit(options, site, calls, prompt, chance.randrange(2**31))
        else:
            kind = chance.choice(("poll", "poll", "poll", "view_cache", "view_gallery", "page", "view_system"))
            if kind == "poll":
                calls.timed("poll", lambda: site.ask("poll", {"version": ""}))
            elif kind == "page":
                calls.timed("page", site.page)
            else:
                calls.timed(kind, partial(site.ask, "act", {"act": kind, "args": {}}))
        time.sleep(options.pause * chance.uniform(0.5, 1.5))


def _submit(options: Namespace, site: Site, calls: Calls, prompt: str, seed: int) -> None:
    from gradio_client import Client

    settings = {"seed": seed}
    if options.steps is not None:
        settings |= {"num_inference_steps": options.steps, "fast_steps": max(1, options.steps // 2)}

    def call() -> str:
        client = Client(site.url, verbose=False)
        return str(client.predict(prompt, settings, api_name="/submit"))

    job = calls.timed("submit", call)
    if job is not None:
        with calls.lock:
            calls.jobs.append(job)


def _settle(site: Site, calls: Calls, options: Namespace) -> dict[str, Any]:
    """Wait until the queue is empty; then every video that was asked for has to be there, and play."""
    from gradio_client import Client

    client = Client(site.url, verbose=False)
    end = time.monotonic() + _DRAIN_S
    while True:
        jobs = {job["id"]: job for job in client.predict(api_name="/queue")}
        waiting = [job for job in jobs.values() if job["state"] in ("queued", "running")]
        if not waiting or time.monotonic() > end:
            break
        time.sleep(1)
    lost, hits = [], 0
    for id in calls.jobs:
        job = jobs.get(id)
        if job is None or job["state"] != "done":
            lost.append(f"{id}: {'not on the list' if job is None else job['error'] or job['state']}")
        elif len(site.file(job["file"])) < 100:
            lost.append(f"{id}: its file is empty")
        else:
            hits += job["report"]["reuse"]["outcome"] == "hit"
    after = options.minutes * 60 * _WARM_UP
    later = [memory for at, memory in calls.memory if at >= after]
    third = max(len(later) // 3, 1)
    memory = (statistics.median(later[:third]), statistics.median(later[-third:])) if later else None
    return {"asked": len(calls.jobs), "lost": lost, "hits": hits, "memory_bytes": memory}


def _memory_bytes(pid: int) -> int | None:
    """What a process has in memory; None where the system does not tell in this way."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def rows(samples: Sequence[Sample], _settings: Mapping[str, Any]) -> list[Row]:
    """A row for each kind of call, and what became of the videos."""
    table = []
    for sample in samples:
        row = {**sample}
        if sample["part"] == "calls":
            ordered = sorted(1000 * seconds for seconds in row.pop("seconds"))
            p95 = ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)]
            row |= {"n": len(ordered), "median_ms": statistics.median(ordered), "p95_ms": p95, "most_ms": ordered[-1]}
        table.append(row)
    return table


def said(rows: list[Row]) -> Iterator[str]:
    found = rows[-1]
    yield f"\nerrors: {len(found['errors'])}"
    yield from (f"  {error}" for error in found["errors"][:20])
    yield f"videos: {found['asked']} asked for, {found['hits']} of them hits, {len(found['lost'])} lost"
    yield from (f"  {line}" for line in found["lost"][:20])
    if found["memory_bytes"]:
        before, after = found["memory_bytes"]
        yield f"memory of the server: {before / 1e6:.0f} MB after warm-up, {after / 1e6:.0f} MB at the end"


def finish(_options: Namespace, rows: list[Row]) -> None:
    if rows[-1]["errors"] or rows[-1]["lost"]:
        sys.exit(1)


TABLE: dict[str, Column] = {
    "call": "{kind}",
    "n": "{n}",
    "median": "{median_ms:.0f} ms",
    "p95": "{p95_ms:.0f} ms",
    "most": "{most_ms:.0f} ms",
}
BENCH = Bench(
    __doc__, {"calls": TABLE}, run, rows, options, key=lambda sample: (sample["part"], sample["kind"]), said=said,
    finish=finish, seed=17, libraries=("gradio", "torch"),
)  # fmt: skip
