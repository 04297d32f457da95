"""The queue of a server: videos to be made one after the other, whoever looks on. It belongs to no page.

One worker thread on one engine. What was asked for stands in a file, so that it survives a crash; a private request
stands nowhere but in memory.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..checks import check_fields
from ..errors import BadRequest, Cancelled, ChaiError
from ..request import GenerationRequest, Plan, Report
from .jobs_file import JobsFile
from .private_folder import PrivateFolder

if TYPE_CHECKING:
    from torch import Tensor

    from ..engine import Engine, Generation

State = Literal["queued", "running", "done", "failed", "cancelled"]
MOST_FINISHED = 200
MOST_WAITING = 1_000
_MOST_CRASHES = 2
_PREVIEW_SHARE = 0.1  # of the time between two steps that a preview may take
_CLOSED = "The browser UI was closed before this video was made: ask again."
_log = logging.getLogger("chai")


@dataclass(frozen=True)
class Job:
    """One video that was asked for. Moments are seconds since 1970.

    request is resolved, its seed settled; file is where the finished video is; error a sentence. Jobs of one group are
    the arms of a comparison, told apart by their labels. crashes counts how often the program ended while it ran.
    owner is who asked for a private one, whom alone a server shows it; it stands in memory only.
    """

    id: str
    request: GenerationRequest
    state: State = "queued"
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    file: Path | None = None
    report: Report | None = None
    error: str | None = None
    group: str | None = None
    label: str | None = None
    crashes: int = 0
    owner: str | None = field(default=None, repr=False)

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ("done", "failed", "cancelled")

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`; `from_json` gives an equal job back."""
        return {
            **{name: value for name, value in vars(self).items() if name != "owner"},
            "request": self.request.to_json(),
            "report": None if self.report is None else self.report.to_json(),
            "file": None if self.file is None else str(self.file),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Job:
        """The job in `values`. Raises: BadRequest, KeyError, TypeError for what is none."""
        report, file = values["report"], values["file"]
        inside = ("request", "report", "file")
        check_fields(cls, {name: value for name, value in values.items() if name not in inside})
        if not isinstance(file, str | None):
            raise TypeError(f"file is {file!r}")
        return cls(
            **{
                **values,
                "request": GenerationRequest.from_json(values["request"]),
                "report": None if report is None else Report.from_json(report),
                "file": None if file is None else Path(file),
            }
        )


@dataclass
class Live:
    """How far the running job is. preview is a JPEG of unfinished latents, preview_step the step it shows."""

    stage: str = ""
    step: int = 0
    total: int = 0
    step_started: float = 0.0
    seconds_left: float | None = None
    preview: bytes | None = None
    preview_step: int = 0
    next_preview: float = 0.0
    cancel: threading.Event = field(default_factory=threading.Event)


class JobQueue:
    """Jobs on one engine.

    Args:
        engine: makes the videos; nobody else should.
        planner: settles requests without waiting for the engine; default: the engine itself.
        file: where jobs are remembered; None remembers nothing.
        path_for: where the video of a request is written, a name that is still free.
        on_done: is told of each finished video that is not private; what it raises is logged and forgotten.
    Raises: ChaiError if another program has the file.
    """

    def __init__(
        self,
        engine: Engine,
        file: Path | None,
        path_for: Callable[[GenerationRequest], Path],
        planner: Callable[[GenerationRequest], Plan] | None = None,
        on_done: Callable[[Job, Generation], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine, self._path_for, self._on_done, self._clock = engine, path_for, on_done, clock
        self._plan = planner or engine.plan
        self._changed = threading.Condition()
        self._version = 0
        self._private_folder: PrivateFolder | None = None
        self._file = None if file is None else JobsFile(file)
        self._jobs: list[Job] = [] if self._file is None else self._read(self._file)
        self._live: dict[str, Live] = {}
        self._guests: dict[str, Future[Generation]] = {}
        self._is_closing = False
        self._worker = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self) -> None:
        """Let the worker begin."""
        self._worker.start()

    def close(self, timeout_s: float = 30) -> None:
        """Stop the running job, which stays in the queue for the next start, and remove private videos."""
        with self._changed:
            if not self._is_closing:
                self._is_closing = True
                self._tell(is_kept=True)  # as waiting, in case that whoever ends the program has no patience
            for live in self._live.values():
                live.cancel.set()
            self._changed.notify_all()
        if self._worker.is_alive():
            self._worker.join(timeout_s)
        with self._changed:
            for id in list(self._guests):
                self._let_go(id)
        if self._private_folder is not None:
            self._private_folder.close()
        if self._file is not None:
            self._file.close()

    # Asking

    @property
    def version(self) -> int:
        """A number that grows with every change, steps and previews included."""
        return self._version

    def jobs(self) -> list[Job]:
        """The running one, those that wait, in their order, and the finished ones, newest first."""
        with self._changed:
            waiting = [job for job in self._jobs if not job.is_finished]
            finished = [job for job in self._jobs if job.is_finished]
        waiting.sort(key=lambda job: job.state != "running")
        return waiting + sorted(finished, key=lambda job: -(job.ended or 0))

    def job(self, id: str) -> Job | None:
        """The job called `id`."""
        with self._changed:
            return next((job for job in self._jobs if job.id == id), None)

    def live(self, id: str) -> Live | None:
        """How far a running job is; None for one that does not run."""
        return self._live.get(id)

    def group(self, name: str) -> list[Job]:
        """The arms of a comparison, in the order in which they were asked for."""
        with self._changed:
            return [job for job in self._jobs if job.group == name]

    def private_folder(self) -> Path:
        """Where private videos lie until the program ends."""
        with self._changed:
            if self._private_folder is None:
                self._private_folder = PrivateFolder()
            return self._private_folder.path

    def wait(self, id: str, timeout_s: float | None = None) -> Job | None:
        """The job once it is finished, or as it is when the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: (job := self.job(id)) is None or job.is_finished, timeout_s)
            return self.job(id)

    def wait_for_change(self, version: int, timeout_s: float) -> int:
        """The version, once it is another than `version` or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != version, timeout_s)
            return self._version

    # Changing

    def make(self, request: GenerationRequest) -> tuple[Job, Future[Generation]]:
        """Let somebody who waits for it, and writes it himself, have a video in its turn.

        The job is on the list until it is over, and in no file: nobody would want it after a crash. `cancel` stops it.
        Args: request: as it was planned.
        Returns: the job, and what will hold the video, or raise `Cancelled` or what went wrong.
        """
        job = Job(secrets.token_hex(16), request, created=self._clock())
        with self._changed:
            if self._is_closing:
                raise ChaiError(_CLOSED)
            made = self._guests[job.id] = Future()
            self._jobs.append(job)
            self._tell()
        return job, made

    def submit(
        self,
        requests: Sequence[GenerationRequest],
        group: str | None = None,
        labels: Sequence[str] = (),
        owner: str | None = None,
    ) -> list[Job]:
        """Put requests at the end, after all of them were planned.

        Args: owner: who may see those of them that are private.
        Raises: ChaiError for the first that cannot be made; then none is queued.
        """
        plans = [self._plan(request) for request in requests]
        now = self._clock()
        jobs = [
            Job(
                secrets.token_hex(16 if plan.request.is_private else 6),  # which nobody else is to guess
                plan.request,
                created=now,
                group=group,
                label=labels[i] if labels else None,
                owner=owner if plan.request.is_private else None,
            )
            for i, plan in enumerate(plans)
        ]
        with self._changed:
            waiting = sum(not job.is_finished for job in self._jobs)
            if waiting + len(jobs) > MOST_WAITING:
                raise BadRequest(f"{waiting} videos are waiting, and {MOST_WAITING} is the most: remove some first.")
            self._jobs += jobs
            self._tell(is_kept=True)
        return jobs

    def cancel(self, id: str) -> bool:
        """Stop a job that runs, at its next step, or one that waits, at once. False if it is over already."""
        with self._changed:
            job = self.job(id)
            if job is None or job.is_finished:
                return False
            if job.state == "running":
                self._live[id].cancel.set()
            else:
                self._put(replace(job, state="cancelled", ended=self._clock()))
                self._let_go(id)
            return True

    def move(self, id: str, places: int) -> bool:
        """Let a waiting job take its turn so many places later (or earlier, below 0). False if it does not wait."""
        with self._changed:
            order = [job for job in self._jobs if job.state == "queued"]
            old = next((i for i, job in enumerate(order) if job.id == id), None)
            if old is None:
                return False
            order.insert(max(0, min(old + places, len(order) - 1)), order.pop(old))
            self._jobs = [job for job in self._jobs if job.state != "queued"] + order
            self._tell(is_kept=True)
            return True

    def forget(self, ids: Iterable[str]) -> list[Job]:
        """Take jobs off the list; their videos stay. A running one stays too. Returns: what went."""
        wanted = set(ids)
        with self._changed:
            gone = [job for job in self._jobs if job.id in wanted and job.state != "running"]
            self._jobs = [job for job in self._jobs if job not in gone]
            for job in gone:
                self._let_go(job.id)
            self._tell(is_kept=True)
        for job in gone:
            if job.request.is_private and job.file is not None:
                job.file.unlink(missing_ok=True)
        return gone

    # The worker

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing or self._next() is not None)
                job = self._next()
                if self._is_closing or job is None:
                    return
                self._live[job.id] = Live()
                self._put(replace(job, state="running", started=self._clock()))
            try:
                done = self._carry_out(self._now(job))
            except Exception:  # whatever happens, the next one gets its turn
                _log.exception("the queue failed at job %s", job.id)
                done = replace(self._now(job), state="failed", ended=self._clock(), error="The queue itself failed.")
            with self._changed:
                self._live.pop(job.id, None)
                self._put(done)
                self._let_go(job.id)

    def _carry_out(self, job: Job) -> Job:
        live = self._live[job.id]

        def on_stage(stage: str) -> None:
            live.stage, live.step_started = stage, time.perf_counter()
            self._tell()

        def progress(step: int, total: int, latents: Tensor | None) -> None:
            now = time.perf_counter()
            if step and live.step_started:
                live.seconds_left = _smoothed(live.seconds_left, now - live.step_started, total - step)
            live.step, live.total = step, total
            if latents is not None and step < total:
                self._draw(live, latents, now)
            live.step_started = time.perf_counter()
            self._tell()

        try:
            try:
                generation = self._engine.generate(job.request, progress, live.cancel, on_stage)
            except Exception as error:
                if job.id in self._guests and not self._is_closing:
                    self._guests[job.id].set_exception(error)
                raise
            if job.id in self._guests:
                self._guests[job.id].set_result(generation)
                return replace(job, state="done", ended=self._clock(), report=generation.report)
            on_stage("write")
            path = self.private_folder() / f"{job.id}.mp4" if job.request.is_private else self._path_for(job.request)
            written, report = generation.save(path)
        except Cancelled:
            if self._is_closing:
                return replace(job, state="queued", started=None)
            return replace(job, state="cancelled", ended=self._clock())
        except ChaiError as error:
            return replace(job, state="failed", ended=self._clock(), error=str(error))
        except Exception as error:
            _log.exception("job %s failed", job.id)
            sentence = f"The program failed here ({type(error).__name__}: {error}): its log tells more."
            return replace(job, state="failed", ended=self._clock(), error=sentence)
        done = replace(
            job,
            request=generation.request.reopened(),  # whoever looks at a job may ask for it with another seed
            state="done",
            ended=self._clock(),
            file=written.path,
            report=report,
        )
        if self._on_done is not None and not job.request.is_private:
            try:
                self._on_done(done, generation)
            except Exception:
                _log.exception("what follows job %s failed", job.id)
        return done

    def _draw(self, live: Live, latents: Tensor, now: float) -> None:
        """A preview, if the last one cost little enough of the time since."""
        if now < live.next_preview:
            return
        try:
            picture = self._engine.preview(latents)
        except Exception:  # a picture on the way is worth less than the video
            _log.exception("no previews for this video")
            picture = None
        if picture is None:
            live.next_preview = float("inf")
            return
        live.preview, live.preview_step = _jpeg(picture), live.step
        took = time.perf_counter() - now
        live.next_preview = now + took / _PREVIEW_SHARE

    def _let_go(self, id: str) -> None:
        """Take a job of somebody who waits for it off the list; if he has no video by now, he will not get one."""
        made = self._guests.pop(id, None)
        if made is None:
            return
        if not made.done():
            made.set_exception(ChaiError(_CLOSED) if self._is_closing else Cancelled())
        self._jobs = [job for job in self._jobs if job.id != id]
        self._tell()

    def _next(self) -> Job | None:
        return next((job for job in self._jobs if job.state == "queued"), None)

    def _now(self, job: Job) -> Job:
        found = self.job(job.id)
        assert found is not None, "a running job is not forgotten"
        return found

    def _put(self, job: Job) -> None:
        """`job` in the place of what it was. Called with the lock held."""
        self._jobs = [job if old.id == job.id else old for old in self._jobs]
        finished = sorted((old for old in self._jobs if old.is_finished), key=lambda old: old.ended or 0)
        too_old = {old.id for old in finished[:-MOST_FINISHED]}
        self._jobs = [old for old in self._jobs if old.id not in too_old]
        self._tell(is_kept=True)

    def _tell(self, is_kept: bool = False) -> None:
        with self._changed:
            self._version += 1
            if is_kept and self._file is not None:
                kept = [job for job in self._jobs if not job.request.is_private and job.id not in self._guests]
                if self._is_closing:
                    kept = [replace(j, state="queued", started=None) if j.state == "running" else j for j in kept]
                self._file.write([job.to_json() for job in kept])
            self._changed.notify_all()

    def _read(self, file: JobsFile) -> list[Job]:
        """What the file remembers. A job that ran when the program ended waits again, unless it may be the reason."""
        jobs = []
        for values in file.read():
            try:
                job = Job.from_json(values)
            except (ChaiError, AttributeError, KeyError, TypeError, ValueError):
                _log.warning("a job in %s was passed over: it is not one of this version", file.path)
                continue
            if job.state == "running":
                job = replace(job, state="queued", started=None, crashes=job.crashes + 1)
                if job.crashes >= _MOST_CRASHES:
                    words = "The program ended twice while making this video, so it is not tried again by itself."
                    job = replace(job, state="failed", ended=self._clock(), error=words)
            jobs.append(job)
        return sorted(jobs, key=lambda job: job.crashes == 0)  # what was running goes first


def _smoothed(before: float | None, step_seconds: float, steps_left: int) -> float:
    """Seconds left after another step: half of what this step says, half of what was thought before."""
    fresh = step_seconds * steps_left
    return fresh if before is None else 0.5 * fresh + 0.5 * max(before - step_seconds, 0.0)


def _jpeg(picture: Any) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    image.thumbnail((512, 512))
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
