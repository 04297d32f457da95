"""From a request to a video: plan it without a model, then carry it out. The room that all faces stand on.

One engine keeps one model in memory, loaded when it is first needed. Any thread may ask; generations take turns.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from .conditioning import like_its_start, read_start
from .errors import Cancelled
from .loading import LoadedModel, choose_machine, load
from .models import DEMO, find_model
from .prompt_notes import prompt_notes
from .request import GenerationRequest, Plan
from .run import Generation, OnStage, Progress, Run
from .settings import Settings

__all__ = ["Engine", "Generation", "OnStage", "Progress"]


class Engine:
    """Plans requests and carries them out.

    model, device, dtype and offload are for requests that leave them open; None lets the machine decide.
    """

    def __init__(
        self,
        model: str = DEMO,
        device: str | None = None,
        dtype: str | None = None,
        offload: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.settings = Settings.from_environment() if settings is None else settings
        self._model, self._device, self._dtype, self._offload = model, device, dtype, offload
        self._loaded: LoadedModel | None = None
        self._turn = threading.Lock()

    def plan(self, request: GenerationRequest) -> Plan:
        """Settle everything that can be settled without the model, and find out what would go wrong.

        Milliseconds, no side effect. The plan's request has its model, size, length, steps and seed settled; giving
        it to `generate` twice makes the same video twice.
        Raises: ChaiError, in the words for the person.
        """
        name = request.model or self._model
        model = find_model(name, self.settings)
        request = replace(
            like_its_start(request).resolved(model.defaults),
            model=name,
            device=request.device or self._device,
            dtype=request.dtype or self._dtype,
            offload=request.offload or self._offload,
        )
        if request.seed is None:
            request = replace(request, seed=secrets.randbelow(2**32))
        start = read_start(request)
        notes = (start.note,) if start is not None and start.note else ()
        return Plan(request, (*prompt_notes(request, model), *notes))

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
        plan = self.plan(request)
        with self._my_turn(cancel):
            return Run(plan, progress, cancel, on_stage).carry_out(self._load)

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

    def unload(self) -> None:
        """Give the model's memory back; the next generation loads it again."""
        with self._turn:
            self._loaded = None

    def _load(self, request: GenerationRequest) -> LoadedModel:
        model = find_model(request.model or self._model, self.settings)
        machine = choose_machine(request.device, request.dtype, request.offload)
        if self._loaded is None or (self._loaded.model, self._loaded.machine) != (model, machine):
            self._loaded = None  # two models at once may not fit
            self._loaded = load(model, machine, self.settings)
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
