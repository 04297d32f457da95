"""From a request to a video: plan it without a model, then carry it out. The room that all faces stand on.

One engine keeps one model in memory, loaded when it is first needed. Any thread may ask; generations take turns, and
so do looks into the cache, which are short.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..checks import check_text
from ..enhance import DEMO as DEMO_ENHANCER
from ..enhance import Enhanced, Enhancer, OnText
from ..errors import BadRequest, Cancelled, ChaiError
from ..models import DEMO, Model, find_model
from ..models.mag_ratios import ratios_of
from ..presets import hit_steps
from ..process import give_back_freed_memory, keep_freed_memory, loading_turn
from ..prompts import extract
from ..request import Decision, GenerationRequest, Plan
from ..settings import PROGRAM, Settings
from .donors import Donors, shape_of
from .loading import (
    LoadedModel,
    Machine,
    MemoryHost,
    OnReading,
    choose_machine,
    fingerprint_of,
    load,
    memory_in_plain_words,
)
from .ordering import RunOrder, arrange
from .preview import latent_preview
from .prompt_notes import prompt_notes
from .room import check_room
from .run import Generation, OnStage, Progress, Run
from .run_times import RunTimes
from .start import like_its_start, look_at_start
from .written import with_written_options

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..attention import Recipe

__all__ = ["Engine", "Generation", "OnStage", "Progress", "RunOrder"]

_MOST_AT_ONCE = 3_000
_LONG_S = 900  # what takes longer is worth a word before it begins


class Engine:
    """Plans requests and carries them out.

    model, device, dtype and offload are for requests that leave them open; None lets the machine decide. recipe is how
    hits attend to their donors; None is what the request says. memory_host is the program that this one is a guest of,
    where that program moves models in and out of memory. on_reading hears of weights that are read, as they are.
    """

    def __init__(
        self,
        model: str = DEMO,
        device: str | None = None,
        dtype: str | None = None,
        offload: str | None = None,
        settings: Settings | None = None,
        recipe: Recipe | None = None,
        memory_host: MemoryHost | None = None,
        on_reading: OnReading | None = None,
    ) -> None:
        self.on_reading = on_reading
        self.settings = Settings.from_environment() if settings is None else settings
        self._model, self._device, self._dtype, self._offload = model, device, dtype, offload
        self._loaded: LoadedModel | None = None
        self._enhancer: Enhancer | None = None
        self._recipe = recipe
        self._memory_host = memory_host
        self._turn = threading.Lock()
        self._looking = threading.RLock()  # held by whoever uses `_donors`
        self._donors: Donors | None = None
        self._donors_key: tuple[object, ...] = ()
        self._has_run = False

    def plan(self, request: GenerationRequest) -> Plan:
        """Settle everything that can be settled without the model, and find out what would go wrong.

        Milliseconds, no side effect. The plan's request has its model, size, length, steps and seed settled. Whether an
        earlier video can help is said as things are now: `generate` looks again.
        Raises: ChaiError, in the words for the person.
        """
        name = request.model or self._model
        model = find_model(name, self.settings)
        request = replace(
            like_its_start(with_written_options(request, model)).resolved(model.defaults),
            model=name,
            device=request.device or self._device,
            dtype=request.dtype or self._dtype,
            offload=request.offload or self._offload,
        )
        if request.acceleration == "magcache" and not ratios_of(model, self.settings):
            raise BadRequest(
                f"MagCache has no figures for {name}: run {PROGRAM} bench magcache --model {name} --save, or choose "
                f"first-block."
            )
        if request.recipe == "trained" and model.defaults.recipe != "trained":
            raise BadRequest(f"{name} did not learn with donors, so the recipe trained is not for it: choose paper.")
        earlier_frames, notes = look_at_start(request)
        check_room(request, model, earlier_frames)
        with self._donors_for(model) as donors:
            is_new = self._is_unread(model)  # else the checksums of 25 GB would be worked out for a plan
            reuse = donors.find(request, is_new)
            fingerprint = "" if is_new else donors.fingerprint
        if request.adaptive_steps and reuse.outcome == "hit":
            reuse = replace(reuse, steps=hit_steps(reuse.similarity, reuse.steps, request.num_inference_steps or 0))
        seconds = RunTimes(self.settings.home).expected(request, fingerprint, reuse.steps) or 0.0
        if seconds > _LONG_S:
            notes += (f"This will take about {_in_words(seconds)} here, going by earlier videos.",)
        return Plan(request, (*prompt_notes(request, model), *notes), reuse)

    def generate(
        self,
        request: GenerationRequest,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
        on_stage: OnStage | None = None,
    ) -> Generation:
        """Make the video.

        Args:
            progress: called at each step; returning False, or raising `Cancelled`, stops.
            cancel: set it from any thread to stop, also while another generation has the engine.
        Raises: Cancelled if stopped; ChaiError, in the words for the person.
        """
        with self._my_turn(cancel):
            started = time.perf_counter()
            model = find_model(request.model or self._model, self.settings)
            read_s = self._read_new_weights(request, model, on_stage)
            with self._donors_for(model) as cache:
                if not request.is_private:
                    cache.upgrade()
                plan = self.plan(request)
                reuse, donors, problems = cache.fetch(plan.reuse, plan.request.is_private)
                fingerprint = cache.fingerprint
            plan = replace(plan, reuse=reuse, notes=(*plan.notes, *problems))
            if problems and not donors:
                plan = _without_donor(plan, problems[0])
            ids = ",".join(donor["entry_id"] for donor in plan.reuse.donors)
            settled = {"miss": "full"}.get(plan.reuse.outcome, plan.reuse.outcome)
            request = replace(plan.request, reuse=ids or settled, adaptive_steps=False)
            if plan.reuse.outcome == "hit":
                request = request.with_fast_steps(plan.reuse.steps)
            plan = replace(plan, request=request)

            def load_as_planned(request: GenerationRequest) -> LoadedModel:
                loaded = self._load(request)
                if loaded.fingerprint != fingerprint:
                    raise ChaiError(f"The weights of {loaded.model.name} were changed just now: ask again.")
                return loaded

            planned = time.perf_counter()
            generation = Run(plan, progress, cancel, on_stage).carry_out(load_as_planned, donors, self._recipe)
            made = time.perf_counter()
            with self._donors_for(model) as cache:
                reuse, note = cache.record(generation)
            report = generation.report
            reuse = replace(reuse, full_seconds=self._compare(generation, is_kept=reuse.stored_entry_id is not None))
            seconds = {"plan": planned - started - read_s, **report.seconds, "keep": time.perf_counter() - made}
            seconds["load"] += read_s
            notes = report.notes if note is None else (*report.notes, note)
            return replace(generation, report=replace(report, reuse=reuse, notes=notes, seconds=seconds))

    def _read_new_weights(self, request: GenerationRequest, model: Model, on_stage: OnStage | None) -> float:
        """Load weights that were never read here before anything is looked up for them: their checksums are worked out
        meanwhile, so that neither waits for the other.

        Returns: the seconds that it took, 0 for weights that are known.
        """
        if not self._is_unread(model):
            return 0.0
        settled = self.plan(request).request  # what is wrong with it is told first
        if on_stage is not None:
            on_stage("load")
        started = time.perf_counter()
        self._load(settled)
        return time.perf_counter() - started

    def _compare(self, generation: Generation, is_kept: bool) -> float | None:
        """What a full run would have taken in the place of a hit. A full run that is kept is remembered as well."""
        request, report, times = generation.request, generation.report, RunTimes(self.settings.home)
        is_first, self._has_run = not self._has_run, True
        is_plain = request.num_loops == 1 and request.extend is None and request.image is None
        if not is_plain or report.reuse is None:
            return None
        if report.reuse.outcome in ("miss", "full") and is_kept:
            times.add(request, report, is_first)
        return times.usual(request, report) if report.reuse.outcome == "hit" else None

    def generate_batch(
        self,
        requests: Iterable[GenerationRequest],
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
        on_stage: OnStage | None = None,
    ) -> Iterator[Generation]:
        """Make one video after the other, each given out as soon as it is finished.

        All requests are planned before the first runs. They do not share forward passes: rounding depends on what
        else is in a batch, and a video must be the same whether it was made alone or among others.
        """
        plans = [self.plan(request) for request in requests]
        return (self.generate(plan.request, progress, cancel, on_stage) for plan in plans)

    def enhance(
        self,
        prompts: Sequence[str],
        enhancer: str = DEMO_ENHANCER,
        seed: int = 0,
        lynx_dial: float | None = None,
        on_text: OnText | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Enhanced]:
        """Turn short prompts into full captions, all in one go; nothing is made of them yet.

        A prompt whose caption lost something that it names comes back unchanged, with a note. For the report, a request
        for a caption gives the prompt as its original_prompt.

        Args:
            enhancer: demo, olmoe, qwen3-moe, mixtral, owner/name or a folder; the last one stays in memory.
            lynx_dial: how far the prompts of a batch share experts, 0 (exact) to 1; None is the enhancer's own.
            on_text: called with the number of a prompt and its caption so far; returning False stops.
            cancel: set it from any thread to stop.
        Raises: Cancelled if stopped; ChaiError, in the words for the person.
        """

        def watch(number: int, text: str) -> bool:
            is_stopped = cancel is not None and cancel.is_set()
            return not is_stopped and (on_text is None or on_text(number, text) is not False)

        is_watched = on_text is not None or cancel is not None
        for prompt in prompts:
            check_text("The prompt", prompt)
        with self._my_turn(cancel):
            machine = choose_machine(self._device, None, None)
            with memory_in_plain_words(machine, f"the enhancer {enhancer}", "close what else is using it"):
                if self._enhancer is None or self._enhancer.name != enhancer:
                    self._enhancer = None
                    if enhancer != DEMO_ENHANCER:
                        self._loaded = None  # two models at once may not fit
                    with loading_turn():
                        self._enhancer = Enhancer.load(enhancer, machine.device, settings=self.settings)
                return self._enhancer.enhance(
                    prompts, extract, seed=seed, lynx_dial=lynx_dial, on_text=watch if is_watched else None
                )

    def order_for_reuse(self, plans: Sequence[Plan]) -> RunOrder:
        """In which order to run planned videos, so that those that can serve others come before them.

        Milliseconds for a hundred, no side effect. What plans say of the cache is taken as it was when they were made.
        Plans of different models or sizes cannot serve each other; those of one stay together.
        """
        groups: dict[tuple[object, ...], list[int]] = {}
        for i, plan in enumerate(plans):
            model = find_model(str(plan.request.model), self.settings)
            key = (plan.request.model, shape_of(plan.request, model))
            many = groups.setdefault(key, [])
            if len(many) == _MOST_AT_ONCE:  # every two of them are compared
                groups[(*key, i)] = groups.pop(key)
                many = groups.setdefault(key, [])
            many.append(i)
        orders: list[tuple[list[int], RunOrder]] = []
        for (name, *_), members in groups.items():
            with self._donors_for(find_model(str(name), self.settings)) as donors:
                standings = [donors.standing(plans[i]) for i in members]
                try:
                    served = donors.serving([plans[i].request.prompt for i in members])
                except ChaiError:  # nobody can compare them, as without the embedder: they run as they came
                    hits = sum(standing.is_hit for standing in standings)
                    orders.append((members, RunOrder(tuple(range(len(members))), hits, hits)))
                    continue
            orders.append((members, arrange(standings, *served)))
        places = tuple(members[place] for members, order in orders for place in order.places)
        expected = sum(order.expected_hits for _, order in orders)
        as_given = sum(order.hits_as_given for _, order in orders)
        return RunOrder(places if expected > as_given else tuple(range(len(plans))), expected, as_given)

    def warm_up(self) -> None:
        """Load the model now, so that the first generation does not wait for it.

        Raises: ChaiError, in the words for the person.
        """
        with self._turn:
            request = GenerationRequest(
                "warm up", model=self._model, device=self._device, dtype=self._dtype, offload=self._offload
            )
            self._load(request)

    @property
    def loaded(self) -> LoadedModel | None:
        """The model in memory, None before it is needed."""
        return self._loaded

    def preview(self, latents: Tensor) -> np.ndarray | None:
        """A quick picture of latents (1, C, T, h, w), noisy or clean: uint8 (8 h, 8 w, 3).

        None if no model is in memory, or one with latents of another kind.
        """
        loaded = self._loaded
        if loaded is None or loaded.pipeline.vae.latent_channels != latents.shape[1]:
            return None
        return latent_preview(loaded.pipeline.vae, latents)

    def decode(
        self, latents: Tensor, num_frames: int | None = None, height: int | None = None, width: int | None = None
    ) -> np.ndarray:
        """Turn latents into frames with this engine's model, which is loaded if it is not there yet.

        Args:
            latents: (1, C, t, h, w) as the model sees them, of one loop.
            num_frames, height, width: of the video, in pixels; None is the most that the latents hold.
        Returns: uint8 (T, H, W, 3).
        Raises: BadRequest for latents of another model or of another size; ChaiError, in the words for the person.
        """
        from .decoding import decode

        with self._turn:
            model = find_model(self._model, self.settings)
            loaded = self._load_on(model, choose_machine(self._device, self._dtype, self._offload))
            size = "x".join(str(side) for side in latents.shape[2:])
            with memory_in_plain_words(loaded.machine, f"latents of {size}", "decode a shorter or smaller video"):
                return decode(loaded.pipeline, latents, num_frames, height, width)

    def unload(self) -> None:
        """Give the model's memory back; the next generation loads it again."""
        with self._turn:
            self._loaded = self._enhancer = None
        if self._memory_host is None:
            give_back_freed_memory()

    def close(self) -> None:
        """Give the model's memory back, and save what speeds up the next look into the cache."""
        self.unload()
        with self._looking:
            if self._donors is not None:
                self._donors.close()

    @contextmanager
    def _donors_for(self, model: Model) -> Iterator[Donors]:
        """The cache as `model` sees it, for one thread at a time; the last one is kept open."""
        with self._looking:
            key = (model.name, model.stamp())
            if self._donors is None or self._donors_key != key:
                if self._donors is not None:
                    self._donors.close()
                self._donors = Donors(self.settings, model, partial(self._fingerprint, model))
                self._donors_key = key
            yield self._donors

    def _loaded_fingerprint(self, model: Model) -> str | None:
        loaded = self._loaded
        is_it = loaded is not None and (loaded.model, loaded.stamp) == (model, model.stamp())
        return loaded.fingerprint if loaded is not None and is_it else None

    def _is_unread(self, model: Model) -> bool:
        """Whether weights would have to be read to know what they are."""
        return self._loaded_fingerprint(model) is None and model.unread_bytes(self.settings) > 0

    def _fingerprint(self, model: Model) -> str:
        return self._loaded_fingerprint(model) or fingerprint_of(model, self.settings, self.on_reading)

    def _load(self, request: GenerationRequest) -> LoadedModel:
        model = find_model(request.model or self._model, self.settings)
        return self._load_on(
            model, choose_machine(request.device, request.dtype, request.offload, request.preset == "exact")
        )

    def _load_on(self, model: Model, machine: Machine) -> LoadedModel:
        if self._loaded is None or not self._loaded.is_still(model, machine):
            self._loaded = None  # two models at once may not fit
            if self._enhancer is not None and self._enhancer.name != DEMO_ENHANCER:
                self._enhancer = None
            if self._memory_host is not None:
                self._memory_host.make_room(model.size_bytes, machine)
            elif machine.device == "cpu":
                keep_freed_memory()
            self._loaded, self._has_run = load(model, machine, self.settings, self.on_reading), False
        if self._memory_host is not None:
            self._memory_host.settle(self._loaded)
        return self._loaded

    @contextmanager
    def _my_turn(self, cancel: threading.Event | None) -> Iterator[None]:
        while not self._turn.acquire(timeout=0.1):
            if cancel is not None and cancel.is_set():
                raise Cancelled
        try:
            yield
        finally:
            self._turn.release()


def _in_words(seconds: float) -> str:
    """90 minutes, 5 hours, 12 days."""
    for unit, length in (("days", 86_400), ("hours", 3_600)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds / 60:.0f} minutes"


def _without_donor(plan: Plan, problem: str) -> Plan:
    """The plan of a full run for one whose donor cannot be had."""
    steps = plan.request.num_inference_steps or 0
    return replace(plan, reuse=Decision("miss", steps, why=(f"Miss: {problem}",)))
