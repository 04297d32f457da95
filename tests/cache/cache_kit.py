"""What tests of the cache share: an embedder without weights, tiny entries, and what other processes do to a cache."""

import hashlib
import random
from pathlib import Path

import numpy as np

try:
    import psycopg
except ImportError:  # the tests of shared caches are skipped
    psycopg = None

from chai_app.cache import Entry, LatentCache, NewEntry, Phrase, Schedule, Shape
from chai_app.settings import SharedCache

TINY = Shape((4, 2, 3, 4), num_frames=17, height=24, width=32, fps=8)
LARGER = Shape((4, 2, 6, 8), num_frames=17, height=48, width=64, fps=8)
MODEL = "model-a"
TINY_ENTRY_BYTES = 344
NAMES = ("cave", "desert", "reef", "jungle", "moon", "harbour", "meadow", "city")


class WordEmbedder:
    """Each word has a direction of its own, so phrases are as alike as the words that they share."""

    dim = 48

    def __init__(self, name: str = "words") -> None:
        self.name = name
        self.fingerprint = f"fingerprint-of-{name}"

    def embed(self, texts):
        rows = [sum(self._direction(word) for word in text.lower().split()) for text in texts]
        values = np.array(rows, np.float32).reshape(-1, self.dim)
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    def _direction(self, word):
        seed = hashlib.sha256(f"{self.name} {word}".encode()).digest()
        values = np.random.default_rng(list(seed)).standard_normal(self.dim)
        return values / np.linalg.norm(values)


class Clock:
    """Time that passes one second at each look."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        self.now += 1
        return self.now


def open_cache(home: Path, **options) -> LatentCache:
    options = {"embedder": WordEmbedder(), "clock": Clock(), "shared": shared_of(home), **options}
    return LatentCache(home, **options)


def note_of(folder: Path) -> Path:
    """A file beside a test's folder that says that its caches are shared ones, and on which server; for every process
    that the test starts."""
    return folder.with_name(f"{folder.name}.fleet")


def is_shared(home: Path) -> bool:
    return note_of(home.parent).is_file()


def shared_of(home: Path) -> SharedCache | None:
    """Where the cache of a folder is, if its test is about shared ones: a database and a bucket of its own."""
    if not is_shared(home):
        return None
    server, name = note_of(home.parent).read_text(), f"chai_{home.name}"
    with psycopg.connect(server, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            connection.execute(f"CREATE DATABASE {name}")
    return SharedCache(server.replace("/postgres?", f"/{name}?"), _blobs_of(home).as_uri())


def drop_shared(server: str) -> None:
    """Empty every database that `shared_of` made."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'chai%'")
        names = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'chai%'").fetchall()
    for (name,) in names:
        with psycopg.connect(server.replace("/postgres?", f"/{name}?"), autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS chai CASCADE")


def _blobs_of(home: Path) -> Path:
    return note_of(home.parent).with_suffix(".blobs") / home.name


def file_of(home: Path, entry: Entry) -> Path:
    """Where the latents of an entry are, in a folder or in the folder that stands for a bucket."""
    if is_shared(home):
        return _blobs_of(home) / "latents" / entry.checksum / entry.file
    return home / "latents" / entry.file


def index_of(home: Path) -> Path:
    """The folder of indexes, which every machine has for itself."""
    return next((home / "shared").glob("*/index")) if is_shared(home) else home / "index"


def folder_of(home: Path, name: str) -> Path:
    """The folder of latents, previews or what was set aside."""
    return (_blobs_of(home) if is_shared(home) else home) / name


def phrase(text, kind="object", count=None):
    return Phrase(kind, text, text.split()[-1], count)


def tiny_entry(cache, name, *phrases, seed=0, shape=TINY, fingerprint=MODEL, tensors=None, **more) -> NewEntry:
    """An entry whose prompt is `name`, found by `phrases`, or else by the scene `name`."""
    if tensors is None:
        noise = np.random.default_rng([seed, *name.encode()]).standard_normal(shape.latent)
        tensors = {"clean": noise.astype(np.float32)}
    entities = cache.embed(phrases or [phrase(name, "scene")])
    schedule = Schedule(30, 7.0, dict.fromkeys(tensors, 0.0))
    values = {"compute_seconds": 2.0, **more}
    return NewEntry(fingerprint, shape, name, seed, schedule, entities, tensors, **values)


def look(cache, *phrases, fingerprint=MODEL, shape=TINY, **options):
    return cache.lookup(cache.embed(phrases), fingerprint, shape, **options)


def prompts(cache) -> list[str]:
    return sorted(entry.prompt for entry in cache.entries())


def files_of(home: Path) -> set[str]:
    """Everything in the folders of entries, by its name without its suffix."""
    files = [path for name in ("latents", "previews") for path in folder_of(home, name).rglob("*") if path.is_file()]
    return {path.name.split(".")[0] or path.name for path in files}


def insert_and_evict_until_killed(home: str, seed: int, ready) -> None:
    chance = random.Random(seed)
    with open_cache(Path(home)) as cache:
        cache.set_budget(4 * TINY_ENTRY_BYTES)
        cache.insert(tiny_entry(cache, "warm"))
        ready.set()
        while True:
            preview = b"picture" if chance.random() < 0.5 else None
            cache.insert(tiny_entry(cache, chance.choice(NAMES), seed=chance.randrange(2**31), preview=preview))


def mix_operations(home: str, seed: int, operations: int, results) -> None:
    """Insert, look up, load, touch, pin and remove at random; report what this process added and did not remove."""
    chance, own, problem = random.Random(seed), {}, None
    try:
        with open_cache(Path(home)) as cache:
            for _ in range(operations):
                name = chance.choice(NAMES)
                match chance.choice(("insert", "insert", "lookup", "touch", "pin", "remove")):
                    case "insert":
                        entry = cache.insert(tiny_entry(cache, name, seed=chance.randrange(2**31)))
                        own[entry.id] = entry
                    case "lookup":
                        decision = look(cache, phrase(name, "scene"))
                        if decision.entry:
                            cache.load(decision.entry)
                            cache.touch(decision.entry)
                    case "touch" if own:
                        cache.touch(chance.choice(list(own.values())))
                    case "pin" if own:
                        entry = chance.choice(list(own.values()))
                        (cache.pin if chance.random() < 0.5 else cache.unpin)(entry)
                    case "remove" if own:
                        cache.remove(own.pop(chance.choice(list(own))))
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    results.put((set(own), problem))
