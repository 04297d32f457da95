"""What tests of the cache share: an embedder without weights, tiny entries, and what other processes do to a cache."""

import hashlib
import random
from pathlib import Path

import numpy as np

from chai_app.cache import LatentCache, NewEntry, Phrase, Schedule, Shape

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
    return LatentCache(home, options.pop("embedder", WordEmbedder()), clock=options.pop("clock", Clock()), **options)


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
    folders = (home / "latents", home / "previews")
    return {path.name.split(".")[0] or path.name for f in folders if f.is_dir() for path in f.iterdir()}


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
