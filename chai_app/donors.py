"""The engine's way to the cache: find a donor for a prompt, read its latents, keep what a full run has made.

Nothing that goes wrong here costs the person a video: whatever is in doubt is a miss with a note.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cache import LatentCache, NewEntry, OpenClipEmbedder, Phrase, Schedule, Shape, UnknownEntry
from .errors import BadRequest, ChaiError
from .models import Model
from .opensora.sizes import latent_size
from .pictures import small_moving_picture
from .prompts import extract
from .request import GenerationRequest, Reuse

if TYPE_CHECKING:
    from .attention import Donor
    from .cache import Decision, Entity
    from .run import Generation

CLEAN = "clean"  # the name of the finished latents in an entry


class Donors:
    """The cache in `home` as one model sees it: its embedder, its fingerprint, its shapes."""

    def __init__(self, home: Path, model: Model, fingerprint: str) -> None:
        self._home, self._model, self._fingerprint = home, model, fingerprint
        self._embedder: OpenClipEmbedder | None = None
        self._cache: LatentCache | None = None

    def close(self) -> None:
        """Save what speeds up the next start."""
        if self._cache is not None:
            self._cache.close()
            self._cache = None

    @property
    def _has_embedder(self) -> bool:
        return self._model.folder is None or (self._model.folder / "embedder").is_dir()

    def find(self, request: GenerationRequest) -> Reuse:
        """Decide for a resolved request. Reads, and writes nothing.

        Raises: BadRequest if it names an entry that is not there or does not fit.
        """
        assert request.num_inference_steps and request.fast_steps, "not resolved"
        full, fast = request.num_inference_steps, min(request.fast_steps, request.num_inference_steps)
        mode = request.reuse or "auto"
        if mode == "full":
            return Reuse("full", full, why=("Reuse was switched off.",))
        if mode == "fast":
            return Reuse("fast", fast, why=("The few steps of a hit were asked for, without a donor.",))
        shape = shape_of(request, self._model)
        if shape is None:
            why = "A video that starts from a picture or another video, or in several loops, reuses nothing."
            return Reuse("full", full, why=(why,))
        if not self._has_embedder:
            why = f"The model {self._model.name} has no folder embedder, by which prompts are compared."
            return Reuse("full", full, why=(why,))
        try:
            if mode != "auto":
                return self._named(mode, fast, shape)
            if not (self._home / "cache.sqlite3").is_file():
                return Reuse("miss", full, why=("Miss: the cache is empty.",))
            return self._reuse(self._look_up(request, shape), full, fast)
        except BadRequest:
            raise
        except ChaiError as error:
            return Reuse("full", full, why=(f"Nothing can be reused: {error}",))

    def _named(self, id: str, fast: int, shape: Shape) -> Reuse:
        if not (self._home / "cache.sqlite3").is_file():
            raise BadRequest(f"There is no entry {id}, for the cache is empty: say auto, full or fast.")
        try:  # the first digits are enough, as cache ls prints them
            entry = self._opened(writes=False).find(id)
        except UnknownEntry as error:
            raise BadRequest(f"{error} Or say auto, full or fast.") from error
        if entry.fingerprint != self._fingerprint:
            raise BadRequest(f"Entry {id} was made by another model: choose one that {self._model.name} made.")
        if entry.shape.latent != shape.latent:
            raise BadRequest(
                f"Entry {id} has {entry.shape.num_frames} frames of {entry.shape.width}x{entry.shape.height}, and this "
                f"video {shape.num_frames} of {shape.width}x{shape.height}: ask for the same, or another entry."
            )
        return Reuse(
            "hit", fast, entry.id, entry.prompt, why=("This donor was chosen by name.",),
            full_seconds=entry.compute_seconds,
        )  # fmt: skip

    def _look_up(self, request: GenerationRequest, shape: Shape) -> Decision:
        cache = self._opened(writes=False)
        wanted = [entity for entity in self._entities(cache, request.prompt) if entity.kind != "prompt"]
        return cache.lookup(wanted, self._fingerprint, shape)

    @staticmethod
    def _reuse(decision: Decision, full: int, fast: int) -> Reuse:
        told: dict[str, Any] = {
            "why": tuple(decision.sentences()),
            "candidates": tuple(asdict(candidate) for candidate in decision.candidates),
            "lookup_ms": decision.lookup_ms,
        }
        entry, chosen = decision.entry, decision.chosen
        if entry is None or chosen is None:
            return Reuse("miss", full, **told)
        return Reuse(
            "hit", fast, entry.id, entry.prompt, chosen.wanted, chosen.found, chosen.score,
            full_seconds=entry.compute_seconds, **told,
        )  # fmt: skip

    def fetch(self, reuse: Reuse) -> tuple[Donor | None, int, str | None]:
        """The donor's latents, bytes read, and a sentence if they cannot be had."""
        if reuse.entry_id is None:
            return None, 0, None
        import torch

        from .attention import Donor

        cache = self._opened(writes=False)
        entry = cache.entry(reuse.entry_id)
        if entry is None:
            return None, 0, f"Entry {reuse.entry_id} has left the cache in the meantime."
        loaded = cache.load(entry)
        if loaded.tensors is None:
            return None, 0, loaded.note
        return Donor(clean=torch.from_numpy(loaded.tensors[CLEAN])[None]), entry.bytes, None

    def record(self, generation: Generation) -> tuple[Reuse, str | None]:
        """Write down what a run has shown: a hit refreshes its donor, a full run is kept for those to come.

        Returns: what the report says about reuse, and a sentence if something that should have been kept was not.
        """
        reuse, request = generation.report.reuse, generation.request
        shape = shape_of(request, self._model)
        assert reuse is not None
        if request.is_private or shape is None or not self._has_embedder or reuse.outcome == "fast":
            return reuse, None
        try:
            cache = self._opened(writes=True)
            if reuse.entry_id is not None:
                entry = cache.entry(reuse.entry_id)
                if entry is not None:
                    cache.touch(entry)
                return reuse, None
            if reuse.outcome == "miss":
                cache.count_miss()
            entry = cache.insert(self._new_entry(cache, generation, shape))
        except ChaiError as error:
            return reuse, f"This video was not kept for reuse: {error}"
        return replace(reuse, stored_entry_id=entry.id, bytes_written=entry.bytes), None

    def _new_entry(self, cache: LatentCache, generation: Generation, shape: Shape) -> NewEntry:
        request, report = generation.request, generation.report
        return NewEntry(
            fingerprint=self._fingerprint,
            shape=shape,
            prompt=request.prompt,
            seed=request.seed or 0,
            schedule=Schedule(report.steps, request.guidance_scale or 0.0, {CLEAN: 0.0}),
            entities=self._entities(cache, request.prompt),
            tensors={CLEAN: generation.latents[0].numpy()},
            compute_seconds=report.making_seconds,
            preview=small_moving_picture(generation.frames, generation.fps),
        )

    def _entities(self, cache: LatentCache, prompt: str) -> list[Entity]:
        """What a prompt is filed under: its objects, its scenes, and itself."""
        named = extract(prompt)
        phrases = [Phrase("object", each.phrase, each.head, each.count) for each in named.objects]
        phrases += [Phrase("scene", each.phrase, each.head, each.count) for each in named.scenes]
        return cache.embed([*phrases, Phrase("prompt", prompt, prompt, None)])

    def _opened(self, writes: bool) -> LatentCache:
        if self._cache is not None and writes and self._cache.read_only:
            self.close()
        if self._cache is None:
            self._embedder = self._embedder or embedder_for(self._model)
            self._cache = LatentCache(self._home, self._embedder, read_only=not writes)
        return self._cache


def embedder_for(model: Model) -> OpenClipEmbedder:
    """What a model's entities are embedded by: its own text-image model, or a published one.

    Raises: BadRequest for a model that has none, MissingWeights if it is not on this machine.
    """
    if model.folder is None:
        return published_embedder()
    folder = model.folder / "embedder"
    if not folder.is_dir():
        raise BadRequest(f"The model {model.name} has no folder embedder, by which phrases are compared.")
    return OpenClipEmbedder(f"local-dir:{folder}")


def published_embedder() -> OpenClipEmbedder:
    """What goes with the published weights of Open-Sora, which bring none."""
    return OpenClipEmbedder("ViT-L-14", "openai")


def shape_of(request: GenerationRequest, model: Model) -> Shape | None:
    """The latents that a resolved request makes; None if it is of a kind that neither reuses nor is reused."""
    height, width, num_frames, fps = request.height, request.width, request.num_frames, request.fps
    assert height and width and num_frames and fps, "not resolved"
    if request.num_loops > 1 or request.image is not None or request.extend is not None:
        return None
    channels = json.loads((model.parts["transformer"] / "config.json").read_text(encoding="utf-8")).get(
        "in_channels", 4
    )
    return Shape((channels, *latent_size(num_frames, height, width)), num_frames, height, width, fps)
