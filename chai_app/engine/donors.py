"""The engine's way to the cache: find donors for a prompt, read their latents, keep what a run has made.

Nothing that goes wrong here costs the person a video: whatever is in doubt is a miss with a note.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..cache import LatentCache, NewEntry, OlderCache, OpenClipEmbedder, Phrase, Schedule, Shape, UnknownEntry
from ..cache.entries import MOST_COUNT
from ..errors import BadRequest, ChaiError
from ..media.pictures import small_moving_picture
from ..models import Model
from ..numbers import CountRange, count_likeness
from ..opensora.sizes import latent_size
from ..presets import KEEPING
from ..request import MOST_DONORS, Decision, Plan, ResolvedRequest, Reuse
from ..settings import CountGate, Settings
from .libraries import import_libraries
from .ordering import Standing
from .prompt_notes import entities_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..attention import Donor
    from ..cache import Candidate, Entity, Entry
    from ..cache.entries import Kind
    from ..cache.lookup import CountLikeness
    from ..prompts import Mention
    from .run import Generation

CLEAN = "clean"  # the name of the finished latents in an entry


class Donors:
    """The cache of `settings` as one model sees it: its embedder, its fingerprint, its shapes. One thread at a time.

    fingerprint_of is asked when the model's fingerprint is first needed, which is not before there is anything to find.
    """

    def __init__(self, settings: Settings, model: Model, fingerprint_of: Callable[[], str]) -> None:
        self._settings, self._home, self._model = settings, settings.home, model
        self._fingerprint_of = fingerprint_of
        self._embedder: OpenClipEmbedder | None = None
        self._cache: LatentCache | None = None

    @cached_property
    def fingerprint(self) -> str:
        """The model's."""
        return self._fingerprint_of()

    def close(self) -> None:
        """Save what speeds up the next start."""
        if self._cache is not None:
            self._cache.close()
            self._cache = None

    def upgrade(self) -> None:
        """Bring a cache of an older version up to date. What stands in the way is told by who needs the cache."""
        if self._cache is not None or not self._is_there:
            return
        with suppress(ChaiError):
            try:
                LatentCache(self._home, read_only=True, shared=self._settings.shared).close()
            except OlderCache:
                LatentCache(self._home, shared=self._settings.shared).close()

    @property
    def _is_there(self) -> bool:
        return self._settings.shared is not None or (self._home / "cache.sqlite3").is_file()

    @property
    def _has_embedder(self) -> bool:
        return self._model.folder is None or self._model.embedder_folder is not None

    def find(self, request: ResolvedRequest, is_new: bool = False) -> Decision:
        """Decide for a resolved request. Reads, and writes nothing.

        Args:
            is_new: whether the model's weights have never been read here, so that no video of theirs can be.
        Raises: BadRequest if it names an entry that is not there or does not fit.
        """
        full, fast = request.num_inference_steps, min(request.fast_steps, request.num_inference_steps)
        mode = request.reuse or "auto"
        if mode == "full":
            is_exact = request.preset == "exact"
            why = "The preset exact looks at no earlier video." if is_exact else "Reuse was switched off."
            return Decision("full", full, why=(why,))
        if mode == "fast":
            return Decision("fast", fast, why=("The few steps of a hit were asked for, without a donor.",))
        shape = shape_of(request, self._model, may_start=mode != "auto")
        if shape is None:
            why = "A video that starts from a picture or another video, or in several loops, looks for no donor."
            return Decision("full", full, why=(why,))
        if not self._has_embedder:
            why = f"The model {self._model.name} has no folder embedder, by which prompts are compared."
            return Decision("full", full, why=(why,))
        try:
            if mode != "auto":
                return self._named([id.strip() for id in mode.split(",")], fast, shape)
            if not self._is_there:
                return Decision("miss", full, why=("Miss: the cache is empty.",))
            if is_new:
                why = f"Miss: the weights of {self._model.name} are new here, so no video of theirs is in the cache."
                return Decision("miss", full, why=(why,))
            return self._looked_up(request, shape, full, fast)
        except BadRequest:
            raise
        except ChaiError as error:
            return Decision("full", full, why=(f"Nothing can be reused: {error}",))

    def _named(self, ids: list[str], fast: int, shape: Shape) -> Decision:
        if not self._is_there:
            raise BadRequest(f"There is no entry {ids[0]}, because the cache is empty: say auto, full or fast.")
        if len(ids) > MOST_DONORS:
            raise BadRequest(f"{len(ids)} entries are too many to attend to: name {MOST_DONORS} at most.")
        donors = []
        for id in ids:
            try:  # the first digits are enough, as cache ls prints them
                entry = self._opened(writes=False).find(id)
            except UnknownEntry as error:
                raise BadRequest(f"{error} Or say auto, full or fast.") from error
            if entry.fingerprint != self.fingerprint:
                raise BadRequest(f"Entry {id} was made by another model: choose one that {self._model.name} made.")
            if entry.shape.latent != shape.latent:
                raise BadRequest(
                    f"Entry {id} has {entry.shape.num_frames} frames of {entry.shape.width}x{entry.shape.height}, and "
                    f"this video {shape.num_frames} of {shape.width}x{shape.height}: ask for the same, or another "
                    f"entry."
                )
            donors.append({"entry_id": entry.id, "entry_prompt": entry.prompt, "wanted": ()})
        why = "This donor was chosen by name." if len(donors) == 1 else "These donors were chosen by name."
        return self._hit(Decision("hit", fast, why=(why,)), donors)

    def _looked_up(self, request: ResolvedRequest, shape: Shape, full: int, fast: int) -> Decision:
        cache = self._opened(writes=False)
        entities, unknown = self._entities(cache, request.prompt)
        wanted = [entity for entity in entities if entity.kind != "prompt"]
        if not wanted:
            why = "the prompt names no object and no scene that can be looked up"
            if unknown:
                why = "all that the prompt names has words that the model has never seen"
            return Decision("miss", full, why=(f"Miss: {why}.", *unknown))
        likeness = gate(self._settings.count_gate)
        first = cache.lookup(wanted, self.fingerprint, shape, likeness)
        decisions, left = [first], wanted
        # One donor for each thing that those before it do not show.
        while len(decisions) < request.donors and (last := decisions[-1].chosen) is not None:
            left = [entity for entity in left if entity.text not in last.serves]
            further = cache.lookup(left, self.fingerprint, shape, likeness) if left else None
            if further is None or not further.is_hit:
                break
            decisions.append(further)
        more = [sentence for decision in decisions[1:] for sentence in decision.sentences()[:1]]
        reuse = Decision(
            "hit" if first.is_hit else "miss",
            fast if first.is_hit else full,
            why=(*first.sentences(), *more, *unknown),
            candidates=tuple(asdict(candidate) for candidate in first.candidates),
            lookup_ms=sum(decision.lookup_ms for decision in decisions),
        )
        chosen = [decision.chosen for decision in decisions if decision.chosen is not None]
        if request.recipe in KEEPING:
            reuse = replace(reuse, keeps=tuple(phrase for c in chosen for phrase in (c.wanted, *_others(c))))
        return self._hit(
            reuse,
            [
                {
                    **{"entry_id": c.entry_id, "entry_prompt": c.prompt, "wanted": (c.wanted, *_others(c))},
                    **{"found": c.found, "similarity": c.score},
                }
                for c in chosen
            ],
        )

    @staticmethod
    def _hit(reuse: Decision, donors: Sequence[Mapping[str, Any]]) -> Decision:
        """The same with these donors, of which the first is the one that it names; as it is if there are none."""
        if not donors:
            return reuse
        first = donors[0]
        return replace(
            reuse,
            entry_id=first["entry_id"],
            entry_prompt=first["entry_prompt"],
            wanted=first["wanted"][0] if first["wanted"] else None,
            found=first.get("found"),
            similarity=first.get("similarity"),
            donors=tuple(donors),
        )

    def fetch(self, reuse: Decision, is_private: bool) -> tuple[Decision, list[Donor], tuple[str, ...]]:
        """What to attend to. A donor that cannot be read is left out of the outcome, with a sentence for each; one that
        is damaged is set aside, but not by a private run, which changes nothing."""
        if reuse.entry_id is None:
            return reuse, [], ()
        import_libraries(self._settings)
        import torch

        from ..attention import Donor

        cache = self._opened(writes=not is_private)
        donors, here, problems, bytes_read = [], [], [], 0
        for told in reuse.donors:
            entry = cache.entry(told["entry_id"])
            if entry is None:
                problems.append(f"Entry {told['entry_id']} has left the cache in the meantime.")
                continue
            loaded = cache.load(entry)
            if loaded.tensors is None:
                problems.append(str(loaded.note))
                continue
            donors.append(Donor(clean=torch.from_numpy(loaded.tensors[CLEAN])[None]))
            here.append(told)
            bytes_read += entry.bytes
        if problems and here:
            keeps = {phrase for told in here for phrase in told["wanted"]} & set(reuse.keeps)
            reuse = replace(self._hit(reuse, here), keeps=tuple(each for each in reuse.keeps if each in keeps))
        return replace(reuse, bytes_read=bytes_read), donors, tuple(problems)

    def record(self, generation: Generation) -> tuple[Reuse, str | None]:
        """Write down what a run has shown: a hit refreshes its donors, and what the settings say is kept.

        Returns: what the report says about reuse, and a sentence if something that should have been kept was not.
        """
        report, reuse, request = generation.report, generation.report.reuse, generation.request
        shape = shape_of(request, self._model)
        assert reuse is not None
        if request.is_private or not self._has_embedder or reuse.outcome == "fast":
            return reuse, None
        if shape is None and not reuse.donors:
            return reuse, None
        if report.model_fingerprint != self.fingerprint:
            return reuse, "This video was not kept for reuse: the weights were changed meanwhile."
        try:
            cache = self._opened(writes=True)
            for entry in self._donors_of(cache, reuse):
                cache.touch(entry)
            if reuse.outcome == "miss":
                cache.count_miss()
            line = None if shape is None else self._line(cache, generation)
            if shape is None or line is None:
                return reuse, None
            lack = None if line else self._lack(report.steps, report.acceleration)
            if lack is not None:
                return reuse, f"This video was not kept for reuse: {lack}."
            entry = cache.insert(self._new_entry(cache, generation, shape, line))
        except ChaiError as error:
            return reuse, f"This video was not kept for reuse: {error}"
        return replace(reuse, stored_entry_id=entry.id, bytes_written=entry.bytes), None

    @staticmethod
    def _donors_of(cache: LatentCache, reuse: Reuse) -> list[Entry]:
        """Those that are still here."""
        entries = [cache.entry(told["entry_id"]) for told in reuse.donors]
        return [entry for entry in entries if entry is not None]

    def _line(self, cache: LatentCache, generation: Generation) -> dict[str, Any] | None:
        """Where a video stands in its line of reuse, as fields of a new entry; None if it is not to enter."""
        from ..cache.drift import drift

        reuse, store = generation.report.reuse, self._settings.store
        assert reuse is not None
        if store == "nothing" or (reuse.entry_id is not None and store == "full"):
            return None
        if reuse.entry_id is None:
            return {}
        donors = self._donors_of(cache, reuse)
        if not donors or donors[0].id != reuse.entry_id:  # it left meanwhile: nobody knows how deep the line is
            return None
        depth = 1 + max(donor.reuse_depth for donor in donors)
        if depth > self._settings.reuse_depth:
            return None
        root = donors[0].root if donors[0].parent else donors[0].id
        first = cache.entry(root) if root else None
        latents = cache.load(first).tensors if first is not None else None
        return {
            "parent": donors[0].id,
            "root": root,
            "reuse_depth": depth,
            "drift": None if latents is None else drift(generation.latents[0].numpy(), latents[CLEAN]),
            "extra": {"donors": [donor.id for donor in donors]} if len(donors) > 1 else {},
        }

    def _new_entry(self, cache: LatentCache, generation: Generation, shape: Shape, line: Mapping[str, Any]) -> NewEntry:
        request, report = generation.request, generation.report
        return NewEntry(
            fingerprint=self.fingerprint,
            shape=shape,
            prompt=request.prompt,
            seed=request.seed or 0,
            schedule=Schedule(report.steps, report.guidance_scale(request), {CLEAN: 0.0}),
            entities=self._entities(cache, request.prompt)[0],
            tensors={CLEAN: generation.latents[0].numpy()},
            compute_seconds=report.making_seconds,
            preview=small_moving_picture(generation.frames, generation.fps),
            **line,
        )

    def _lack(self, steps: int, acceleration: str) -> str | None:
        """Why a run without a donor is none that others should attend to; None for the model's own way of making one.

        That is all of its own steps, and nothing left out but what its card says is left out: that was measured on the
        model not to matter. So the preset balanced feeds the cache, and draft does not.
        """
        own = self._model.defaults
        full_steps = self._settings.full_steps or own.num_inference_steps
        if steps < full_steps:
            return f"it took {steps} of the {full_steps} steps of a full run of {self._model.name}"
        if acceleration not in ("none", own.acceleration):
            return f"{acceleration} left out more than a full run of {self._model.name} does"
        return None

    def standing(self, plan: Plan) -> Standing:
        """What a planned video is to others that are planned with it."""
        request, outcome = plan.request, plan.reuse.outcome
        mode = request.reuse or "auto"
        can_enter = shape_of(request, self._model) is not None and self._has_embedder
        runs_in_full = outcome in ("miss", "full") and self._lack(plan.reuse.steps, plan.acceleration) is None
        stores = self._settings.store != "nothing" and not request.is_private
        return Standing(outcome == "hit", mode == "auto" and outcome == "miss", can_enter and runs_in_full and stores)

    def serving(self, prompts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """`cache.serving` for what prompts name: who would serve whom, and how well, (N, N) each."""
        from ..cache.serving import serving

        cache = self._opened(writes=False)
        named = [[e for e in self._entities(cache, prompt)[0] if e.kind != "prompt"] for prompt in prompts]
        return serving(named, cache.thresholds, gate(self._settings.count_gate))

    def _entities(self, cache: LatentCache, prompt: str) -> tuple[list[Entity], tuple[str, ...]]:
        """What a prompt is filed under and looked for by: its objects, its scenes, and itself. Phrases with words that
        the embedder has never seen are left out, with a sentence for each: it puts them anywhere, often near another.
        """
        named = entities_of(prompt)
        phrases, unknown = [], []
        kinds: tuple[tuple[Kind, Sequence[Mention]], ...] = (("object", named.objects), ("scene", named.scenes))
        for kind, each in ((kind, each) for kind, some in kinds for each in some):
            strange = self._strange_words(each)
            if strange:
                words = " and ".join(repr(word) for word in strange)
                unknown.append(
                    f"Not looked up: {each.phrase!r}, for the {self._model.name} model does not know {words}."
                )
            else:
                phrases.append(Phrase(kind, each.phrase, each.head, count_of(each)))
        return cache.embed([*phrases, Phrase("prompt", prompt, prompt, None)]), tuple(unknown)

    def _strange_words(self, named: Mention) -> list[str]:
        """Those that the model never saw, among the words that tell things apart: numbers are compared by themselves,
        and of a noun one form is enough."""
        vocabulary = self._model.vocabulary
        if vocabulary is None:
            return []
        noun = " ".join(named.phrase.split()[-len(named.head.split()) :])
        strange_noun = vocabulary.unknown_words(noun) if vocabulary.unknown_words(named.head) else []
        return [*vocabulary.unknown_words(" ".join(named.attributes)), *strange_noun]

    def _opened(self, writes: bool) -> LatentCache:
        if self._cache is not None and writes and self._cache.read_only:
            self.close()
        if self._cache is None:
            self._embedder = self._embedder or embedder_for(self._model)
            self._cache = LatentCache(self._home, self._embedder, read_only=not writes, shared=self._settings.shared)
        return self._cache


def gate(setting: CountGate) -> CountLikeness:
    """What the cache is to make of two counts: how far the second serves who wants the first, 0 to 1."""
    if setting == "on":
        return count_likeness()
    if setting == "off":
        return lambda wanted, found: 1.0
    from ..cache.lookup import same_count

    def equal(wanted: int | None, found: int | None) -> float:
        is_within = isinstance(wanted, CountRange) and found is not None and wanted.least <= found <= wanted.most
        return 1.0 if is_within else same_count(wanted, found)

    return equal


def count_of(named: Mention) -> int | None:
    """The count under which an entity is filed and looked for."""
    if named.count is not None and named.count > MOST_COUNT:
        return None
    return named.count if named.count_range is None else CountRange(*named.count_range)


def _others(chosen: Candidate) -> tuple[str, ...]:
    return tuple(text for text in chosen.serves if text != chosen.wanted)


def embedder_for(model: Model) -> OpenClipEmbedder:
    """What a model's entities are embedded by: its own text-image model, or a published one.

    Raises: BadRequest for a model that has none, MissingWeights if it is not on this machine.
    """
    if model.folder is None:
        return published_embedder()
    if model.embedder_folder is None:
        raise BadRequest(f"The model {model.name} has no folder embedder, by which phrases are compared.")
    return OpenClipEmbedder(f"local-dir:{model.embedder_folder}")


def published_embedder() -> OpenClipEmbedder:
    """What goes with the published weights of Open-Sora, which bring none."""
    return OpenClipEmbedder("ViT-L-14", "openai")


def shape_of(request: ResolvedRequest, model: Model, may_start: bool = False) -> Shape | None:
    """The latents that a resolved request makes; None if it is of a kind that neither reuses nor is reused.

    may_start is for a donor that a person names: a video that starts from a picture may attend to it, but looks for
    none and enters nothing, because a picture is not part of what an entry is found by.
    """
    height, width, num_frames, fps = request.height, request.width, request.num_frames, request.fps
    if request.num_loops > 1 or request.extend is not None or (request.image is not None and not may_start):
        return None
    channels = model.transformer_setting("in_channels", 4)
    return Shape((channels, *latent_size(num_frames, height, width)), num_frames, height, width, fps)
