"""What the pages look at: one engine, one queue, one gallery and one cache for all of them, whoever has them open."""

from __future__ import annotations

import logging
import math
import os
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chai_app.engine import Engine
from chai_app.engine.donors import embedder_for
from chai_app.errors import BadRequest, CannotWrite, ChaiError
from chai_app.media.names import free_name, slug
from chai_app.media.pictures import small_moving_picture
from chai_app.models import Model, ModelStatus, find_model, list_models
from chai_app.request import GenerationRequest, Plan, Report
from chai_app.server.gallery import Gallery
from chai_app.server.jobs import Job, JobQueue
from chai_app.server.uploads import Uploads
from chai_app.settings import Settings

from .visitors import visitor

if TYPE_CHECKING:
    from chai_app.cache import LatentCache
    from chai_app.doctor import Check
    from chai_app.engine import Generation

_log = logging.getLogger("chai")
_LONGEST_WAIT_FOR_A_PAGE_S, _LONGEST_WAIT_FOR_A_LOAD_S = 15, 10
_REPORTS_ASKED, _GUESSES = 60, 5  # of earlier videos, for how long the next will take
_SWEEP_S = 600


@dataclass
class Warmth:
    """How far the model is on its way into memory; problem is a sentence if it did not arrive."""

    state: Literal["cold", "warming", "warm", "failed"] = "cold"
    problem: str | None = None
    seconds: float = 0.0


@dataclass
class Studio:
    """The server's side of the browser UI; `start` it, and `close` it in the end.

    model is the one for requests that leave it open.
    """

    settings: Settings
    model: str
    engine: Engine = field(init=False)
    jobs: JobQueue = field(init=False)
    gallery: Gallery = field(init=False)
    warmth: Warmth = field(init=False, default_factory=Warmth)

    def __post_init__(self) -> None:
        home = self.settings.home
        output = self.settings.output_folder.expanduser().absolute()
        for folder in (output, self.uploads):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CannotWrite(
                    f"The folder {folder} cannot be made ({error.strerror}): set CHAI_OUTPUT or CHAI_HOME to another."
                ) from error
        self.settings = replace(self.settings, output_folder=output)
        self.engine = Engine(self.model, settings=self.settings)
        # Planning reads the cache while the engine writes into it: each has its own handle.
        self._planner = Engine(self.model, settings=self.settings)
        self._planning = threading.Lock()
        self._caching = threading.RLock()
        self._cache: LatentCache | None = None
        self.gallery = Gallery(output, home / "thumbnails")
        self.jobs = JobQueue(self.engine, home / "jobs.json", self._path_for, self.plan, self._keep_thumbnail)
        self.files = Uploads((self.uploads, self.exports), self._files_in_use)
        self._sweeping = threading.Thread(target=self._sweep_files, name="sweep", daemon=True)
        self._is_over = threading.Event()
        self.first_page = threading.Event()  # set once somebody has the page
        self._warming = threading.Thread(target=self._warm_up, name="warm up", daemon=True)
        self._is_closed = False
        self.cache_changes = 0  # grows with every change that a page should look at again
        self.deleted: dict[str, Any] = {}  # entries that can be brought back, by token
        self.verdicts: dict[str, str] = {}  # what the judge said, by job
        self.judge: Any = None
        self.judging, self.thumbnailing, self.examining = threading.Lock(), threading.Lock(), threading.Lock()
        self.checks: list[Check] | None = None
        self.files.sweep(everything=True)  # what a program left that was killed

    @property
    def uploads(self) -> Path:
        """Where the browser's files arrive."""
        return self.settings.home.absolute() / "uploads"

    @property
    def exports(self) -> Path:
        """Where files lie that are made for downloading, and entries that can still be brought back."""
        return self.settings.home.absolute() / "exports"

    @property
    def served_folders(self) -> list[Path]:
        """What the server gives out, and nothing else of ours."""
        home = self.settings.home.absolute()
        return [
            self.settings.output_folder,
            home / "previews",
            home / "thumbnails",
            self.exports,
            self.jobs.private_folder(),
        ]

    def start(self) -> None:
        """Begin with the queue, and bring the model into memory behind the first page."""
        self._sweeping.start()
        self.jobs.start()
        self._warming.start()

    def close(self) -> None:
        """Stop the queue, save indexes, leave the folders to others."""
        self._is_closed = True
        self._is_over.set()
        self.first_page.set()  # a model that is only now brought into memory would outlive the program
        self.jobs.close()
        if self._warming.ident is not None:
            self._warming.join(_LONGEST_WAIT_FOR_A_LOAD_S)
        with self._caching:
            if self._cache is not None:
                self._cache.close()
                self._cache = None
        self._planner.close()
        self.engine.close()
        self.files.sweep(everything=True)

    def _sweep_files(self) -> None:
        while not self._is_over.wait(_SWEEP_S):
            self.files.sweep()

    def _files_in_use(self) -> set[Path]:
        """What jobs on the list start from. Private ones take theirs along when the program ends."""
        requests = [job.request for job in self.jobs.jobs() if not (self._is_closed and job.request.is_private)]
        return {Path(path).resolve() for request in requests for path in (request.image, request.extend) if path}

    def _warm_up(self) -> None:
        # Importing torch keeps the interpreter so busy that the first page would wait for it.
        self.first_page.wait(_LONGEST_WAIT_FOR_A_PAGE_S)
        if self._is_closed:
            return
        started = time.perf_counter()
        self.warmth.state = "warming"
        try:
            self.plan(GenerationRequest("a ball"))
            self.engine.warm_up()
            self.warmth.state = "warm"
        except ChaiError as error:
            self.warmth.state, self.warmth.problem = "failed", str(error)
        except Exception as error:
            _log.exception("warming up failed")
            words = f"The model could not be loaded ({type(error).__name__}: {error})."
            self.warmth.state, self.warmth.problem = "failed", words
        self.warmth.seconds = time.perf_counter() - started

    # Asking

    def sees(self, job: Job) -> bool:
        """Whether who is asking may know what a job makes: a private one is its owner's alone."""
        return not job.request.is_private or (job.owner is not None and job.owner == visitor())

    def seen_jobs(self) -> list[Job]:
        """`JobQueue.jobs`, without those that are private to others."""
        return [job for job in self.jobs.jobs() if self.sees(job)]

    def job(self, id: object) -> Job | None:
        """The job called `id`, unless it is private to another."""
        job = self.jobs.job(str(id))
        return job if job is not None and self.sees(job) else None

    def group(self, name: object) -> list[Job]:
        """The arms of a comparison that who is asking may see."""
        return [job for job in self.jobs.group(str(name)) if self.sees(job)]

    def submit(
        self, requests: Sequence[GenerationRequest], group: str | None = None, labels: Sequence[str] = ()
    ) -> list[Job]:
        """`JobQueue.submit`, in the name of who is asking."""
        return self.jobs.submit(requests, group, labels, owner=visitor())

    def plan(self, request: GenerationRequest) -> Plan:
        """`Engine.plan`, from any thread, whatever the engine is at.

        Raises: BadRequest also for a file or a model that nobody may name from a page.
        """
        self._check_names(request)
        return self.plan_here(request)

    def plan_here(self, request: GenerationRequest) -> Plan:
        """`plan` for the person whose machine this is, who may name any file."""
        with self._planning:
            return self._planner.plan(request)

    def _check_names(self, request: GenerationRequest) -> None:
        """A page may be open to others: it names files that came through it, and models by their names."""
        for name in ("image", "extend"):
            path = getattr(request, name)
            if path is not None and not self.may_name(Path(path)):
                raise BadRequest(f"{path} did not come through this page: choose the file in the form.")
        if request.model in (None, self.model):
            return
        known = [self.model, *(status.name for status in self.models())]
        if request.model not in known:
            raise BadRequest(f"There is no model {request.model!r}: choose one of {', '.join(known)}.")

    def may_name(self, path: Path) -> bool:
        """Whether a page may name a file: it was uploaded, or lies where files are given out."""
        folders = (self.uploads, *self.served_folders)
        return any(path.resolve().is_relative_to(folder.resolve()) for folder in folders)

    def models(self) -> list[ModelStatus]:
        """All models that can be named."""
        return list_models(self.settings)

    def default_model(self) -> Model | None:
        """The model for requests that leave it open, None if it is not here."""
        try:
            return find_model(self.model, self.settings)
        except ChaiError:
            return None

    @contextmanager
    def cache(self) -> Iterator[LatentCache]:
        """The cache, one caller at a time; with the model's embedder where it has one."""
        from chai_app.cache import LatentCache

        with self._caching:
            if self._cache is None:
                try:
                    embedder = embedder_for(find_model(self.model, self.settings))
                except ChaiError:
                    embedder = None
                self._cache = LatentCache(self.settings.home, embedder, shared=self.settings.shared)
            yield self._cache

    def expected_seconds(self, plan: Plan) -> float | None:
        """How long a plan will take, by what those most like it took here; None if there is none of its size."""
        request, steps = plan.request, plan.reuse.steps
        size = (request.model, request.height, request.width, request.num_frames)
        alike: list[Report] = []
        for reports in (self._reports_of_jobs, self._reports_of_files):  # files only where no job is like it
            alike = [r for r in reports() if (r.model, r.height, r.width, r.num_frames) == size and r.steps]
            if alike:
                break
        else:
            return None

        def distance(report: Report) -> tuple[bool, float]:
            return report.acceleration != plan.acceleration, abs(math.log(report.steps / steps))

        nearest = min(map(distance, alike))
        guesses = [
            report.making_seconds + report.seconds.get("denoise", 0) * (steps / report.steps - 1)
            for report in alike
            if distance(report) == nearest
        ]
        return statistics.median(guesses[:_GUESSES])

    def _reports_of_jobs(self) -> Iterator[Report]:
        """Of videos on the list, newest first."""
        return islice((job.report for job in self.jobs.jobs() if job.report is not None), _REPORTS_ASKED)

    def _reports_of_files(self) -> Iterator[Report]:
        """Of videos in the gallery, newest first."""
        return islice((item.report for item in self.gallery.items() if item.report is not None), _REPORTS_ASKED)

    # What follows a video

    def _path_for(self, request: GenerationRequest) -> Path:
        suffix = ".png" if request.num_frames == 1 else ".mp4"
        name = f"{slug(request.prompt)}-{request.seed}{suffix}"
        self.settings.output_folder.mkdir(parents=True, exist_ok=True)
        return free_name(self.settings.output_folder / name, request.num_frames or 1, set())

    def _keep_thumbnail(self, job: Job, generation: Generation) -> None:
        self.cache_changes += 1
        if job.file is not None:
            picture = small_moving_picture(generation.frames, generation.fps, longest_side=256, most_frames=12)
            self.gallery.add_thumbnail(job.file, lambda: picture)

    def is_upload(self, path: Path) -> bool:
        """Whether a file came through this server, so that a page may name it."""
        return path.is_file() and path.resolve().is_relative_to(self.uploads.resolve())


def quiet_gradio(studio: Studio) -> None:
    """Settings that Gradio reads from the environment: no word to the outside, files where they can be purged."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(studio.uploads)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
