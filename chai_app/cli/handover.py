"""Work that a browser UI on the same CHAI_HOME does for a command: its model is in memory, and the command loads none.

The command plans and makes by it as by an `Engine`, and writes the files itself. Whatever stands in the way, it works
here instead.
"""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

from ..engine import Engine, Generation, OnStage, Progress
from ..engine.loading import OnReading
from ..errors import Cancelled, ChaiError
from ..models import DEMO
from ..request import Decision, GenerationRequest, Plan, Report, ResolvedRequest
from ..server.note import Note, whole_name
from ..settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

_PROOF_WITHIN_S = 2.0  # a server that is busy loading its model answers within a second
_MACHINE = ("device", "dtype", "offload")


def engine_for(
    requests: Iterable[Mapping[str, Any]], settings: Settings, stays_here: bool, say: Callable[[str], None]
) -> Engine | HandedOver:
    """Who is to make videos of `requests`, given as their fields: the browser UI that runs on the same CHAI_HOME, if it
    works as this program would, or an engine of our own. `say` is told that it is the former."""
    note = None if stays_here else Note.found_in(settings.home)
    if note is None or not note.works_like(settings):
        return Engine(settings=settings)
    models = {whole_name(str(fields.get("model") or DEMO)) for fields in requests}
    chooses_machine = any(fields.get(name) for fields in requests for name in _MACHINE)
    if models != {note.model} or chooses_machine or not _is_there(note):
        return Engine(settings=settings)
    say(f"Handed over to the browser UI at {note.url}, which has the model in memory; --here works in this process.")
    return HandedOver(note, settings)


class HandedOver:
    """What the server of `note` does for us; should it go away, an engine of our own does it."""

    def __init__(self, note: Note, settings: Settings) -> None:
        self._note, self._settings = note, settings
        self._engine: Engine | None = None
        self.on_reading: OnReading | None = None

    def plan(self, request: GenerationRequest) -> Plan:
        """`Engine.plan`."""
        if self._engine is None:
            try:
                with _Answer(self._note, "plan", request) as answer:
                    told = answer.line()["plan"]
                reuse = Decision.from_json(told["reuse"])
                return Plan(ResolvedRequest.from_json(told["request"]), tuple(told["notes"]), reuse)
            except (OSError, http.client.HTTPException, KeyError, TypeError, ValueError):
                pass
        return self._here().plan(request)

    def generate(
        self, request: GenerationRequest, progress: Progress | None = None, on_stage: OnStage | None = None
    ) -> Generation:
        """`Engine.generate`. Whoever interrupts it has stopped the server's work as well."""
        if self._engine is None:
            try:
                return self._handed_over(request, progress, on_stage)
            except (OSError, http.client.HTTPException, KeyError, TypeError, ValueError):
                pass
        return self._here().generate(request, progress=progress, on_stage=on_stage)

    def close(self) -> None:
        """Let go of what was needed here."""
        if self._engine is not None:
            self._engine.close()

    def _handed_over(
        self, request: GenerationRequest, progress: Progress | None, on_stage: OnStage | None
    ) -> Generation:
        import numpy as np

        started, stage, step = time.perf_counter(), "", 0
        with _Answer(self._note, "make", request) as answer:
            while "made" not in (told := answer.line()):
                if told["stage"] != stage and on_stage is not None:
                    on_stage(told["stage"])
                if told["total"] and told["step"] != step and progress is not None:
                    progress(told["step"], told["total"], None)
                stage, step = told["stage"], told["step"]
            made = told["made"]
            frames = np.frombuffer(answer.bytes(int(np.prod(made["shape"]))), np.uint8).reshape(made["shape"])
        report = Report.from_json(made["report"])
        # Whatever it took beside the work: the queue, and the way here.
        waited = time.perf_counter() - started - report.total_seconds
        report = replace(report, seconds={"wait": max(waited, 0.0), **report.seconds})
        no_latents = cast("Tensor", None)  # they are in the server's cache, and no file holds any
        return Generation(ResolvedRequest.from_json(made["request"]), frames, no_latents, made["fps"], report)

    def _here(self) -> Engine:
        if self._engine is None:
            self._engine = Engine(settings=self._settings, on_reading=self.on_reading)
        return self._engine


class _Answer:
    """What the server says to one thing that it is asked to do. Leaving it before its end stops the work."""

    def __init__(self, note: Note, act: str, request: GenerationRequest) -> None:
        self._connection = http.client.HTTPConnection(note.host, note.port)
        self._note, self._act, self._request = note, act, request

    def __enter__(self) -> _Answer:
        body = json.dumps(asdict(self._request)).encode()
        headers = {"Authorization": f"Bearer {self._note.secret}", "Content-Type": "application/json"}
        try:
            self._connection.request("POST", f"/handed-over/{self._act}", body, headers)
            self._response = self._connection.getresponse()
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._response.close()
        self._connection.close()

    def line(self) -> dict[str, Any]:
        """What it says next. Raises: ChaiError or Cancelled in its name, ConnectionError if it says no more."""
        line = self._response.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the server has gone")
        told = json.loads(line)
        if self._response.status != 200:
            raise ConnectionError(str(told.get("error")))
        if "failed" in told:
            raise RuntimeError(f"the browser UI failed, and its log tells more: {told['failed']}")
        if "cancelled" in told:
            raise Cancelled
        if "error" in told:
            raise ChaiError(str(told["error"]))
        return dict(told)

    def bytes(self, count: int) -> bytes:
        """That many. Raises: ConnectionError if there are fewer."""
        content = self._response.read(count)
        if len(content) < count:
            raise ConnectionError("the server has gone")
        return content


def _is_there(note: Note) -> bool:
    """Whether the server answers and knows the secret, of which it is told nothing."""
    challenge = secrets.token_urlsafe(16)
    connection = http.client.HTTPConnection(note.host, note.port, timeout=_PROOF_WITHIN_S)
    try:
        connection.request("GET", "/handed-over/hello", headers={"X-Chai-Challenge": challenge})
        answer = json.loads(connection.getresponse().read(1_000))
        return secrets.compare_digest(str(answer["proof"]), note.proof(challenge))
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return False
    finally:
        connection.close()
