"""Two ways to find an earlier video for a prompt: by what it names, or by the prompt as a whole (NIRVANA's way)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..cache import LatentCache, NewEntry, Phrase, Schedule, Shape
from ..cache.entries import Entity, Entry
from ..cache.thresholds import Embedder
from ..prompts import extract

By = Literal["entities", "whole prompt"]

_SMALL_WORDS = {
    "a", "an", "the", "of", "in", "on", "at", "to", "and", "with", "is", "are", "by", "for", "from", "over", "into",
    "its", "their", "his", "her",
}  # fmt: skip


class WordEmbedder:
    """Texts as bags of words: the cosine of two is what they share. It knows no synonyms, so that with strict
    thresholds the same words must be there, and hit rates are the least that a real text-image model would give."""

    dim = 512
    name = fingerprint = "bag of words"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, 512), of length 1."""
        return np.stack([self._embedded(text) for text in texts])

    def _embedded(self, text: str) -> NDArray[np.float32]:
        words = re.findall(r"\w+", text.lower())
        words = sorted({word for word in words if word not in _SMALL_WORDS} or set(words) or {""})
        total = np.sum([_direction(word, self.dim) for word in words], axis=0)
        return (total / np.linalg.norm(total)).astype(np.float32)


def _direction(word: str, dim: int) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
    values = np.random.default_rng(seed).standard_normal(dim)
    return values / np.linalg.norm(values)


class Matcher:
    """A cache asked one way. Latents of `shape` are zeros where it keeps something itself: see `keep`."""

    def __init__(
        self, home: Path, embedder: Embedder, by: By, fingerprint: str, shape: Shape, threshold: float | None = None
    ) -> None:
        self.cache = LatentCache(home, embedder)
        self.by, self._fingerprint, self._shape = by, fingerprint, shape
        self._thresholds = self.cache.thresholds
        if threshold is not None:
            self._thresholds = replace(self._thresholds, prompt=threshold)

    def wanted(self, prompt: str) -> list[Entity]:
        """What the prompt is looked for by."""
        if self.by == "whole prompt":
            return self.cache.embed([Phrase("prompt", prompt, prompt, None)])
        named = extract(prompt)
        phrases = [Phrase("object", each.phrase, each.head, each.count) for each in named.objects]
        phrases += [Phrase("scene", each.phrase, each.head, each.count) for each in named.scenes]
        return self.cache.embed(phrases) if phrases else []

    def find(self, prompt: str) -> tuple[Entry | None, str | None]:
        """The entry to reuse and the phrase that found it, or None twice for a miss. Changes nothing."""
        wanted = self.wanted(prompt)
        if not wanted:
            return None, None
        decision = self.cache.lookup(wanted, self._fingerprint, self._shape, thresholds=self._thresholds)
        return decision.entry, decision.chosen.wanted if decision.chosen else None

    def keep(self, prompt: str) -> Entry:
        """File latents under the prompt as a full run would."""
        clean = np.zeros(self._shape.latent, np.float32)
        return self.cache.insert(
            NewEntry(
                fingerprint=self._fingerprint,
                shape=self._shape,
                prompt=prompt,
                seed=0,
                schedule=Schedule(30, 1.0, {"clean": 0.0}),
                entities=self.wanted(prompt) or self.cache.embed([Phrase("prompt", prompt, prompt, None)]),
                tensors={"clean": clean},
                compute_seconds=1.0,
            )
        )
