"""Take away what is left of a person, a thing or a day: in the cache, the gallery, the queue and among uploads."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..cache import Selection
from ..engine.prompt_notes import entities_of
from ..errors import ChaiError
from .gallery import settings_in

if TYPE_CHECKING:
    from ..cache import Entry, LatentCache
    from .gallery import Gallery, Item
    from .jobs import Job, JobQueue


@dataclass(frozen=True)
class Traces:
    """What a selection is about: entries of the cache, files of the gallery, jobs that are over, and files that were
    uploaded or made for downloading."""

    entries: tuple[Entry, ...]
    items: tuple[Item, ...]
    jobs: tuple[Job, ...]
    uploads: tuple[Path, ...]

    @property
    def count(self) -> int:
        """How many things they are."""
        return len(self.entries) + len(self.items) + len(self.jobs) + len(self.uploads)


def find_traces(
    selection: Selection,
    cache: LatentCache,
    gallery: Gallery,
    jobs: JobQueue,
    uploads: Path,
    exports: Path | None = None,
    sees: Callable[[Job], bool] = lambda job: True,
) -> Traces:
    """Everything that `selection` means. Changes nothing.

    Uploads are meant if a file or job that goes has started from them, if they are copies of videos that are meant, or
    by their date if no words were given. An archive may hold anything, so it goes with all words.

    Args: uploads, exports: folders of what came through pages and what was made for them; sees: which jobs may be
    spoken of.
    """
    items = [
        item
        for item in gallery.items()
        if _fits(selection, item.modified, None if item.request is None else item.request.prompt)
    ]
    over = [
        job
        for job in jobs.jobs()
        if job.is_finished and sees(job) and _fits(selection, job.created, job.request.prompt)
    ]
    requests = [item.request for item in items if item.request is not None] + [job.request for job in over]
    started_from = {str(path) for request in requests for path in (request.image, request.extend) if path}
    by_date = selection.entity is None and selection.prompt is None
    files = [
        path
        for folder in (uploads, exports)
        if folder and folder.is_dir()
        for path in folder.rglob("*")
        if path.is_file()
    ]
    gone = [
        path
        for path in files
        if str(path) in started_from
        or _fits(selection, _modified(path), _prompt_of(path))
        or (not by_date and path.suffix.lower() == ".zip")
    ]
    return Traces(tuple(cache.entries(selection)), tuple(items), tuple(over), tuple(gone))


def purge(
    selection: Selection,
    cache: LatentCache,
    gallery: Gallery,
    jobs: JobQueue,
    uploads: Path,
    exports: Path | None = None,
    sees: Callable[[Job], bool] = lambda job: True,
) -> Traces:
    """Take away everything that `selection` means, as `find_traces` finds it. Returns: what went."""
    found = find_traces(selection, cache, gallery, jobs, uploads, exports, sees)
    entries = cache.purge(selection)
    items = [item for item in found.items if gallery.remove(item)]
    forgotten = jobs.forget(job.id for job in found.jobs)
    for path in found.uploads:
        path.unlink(missing_ok=True)
    return Traces(tuple(entries), tuple(items), tuple(forgotten), found.uploads)


def _prompt_of(path: Path) -> str | None:
    """What a copy of a video of ours shows."""
    with suppress(ChaiError):
        request, _ = settings_in(path)
        return None if request is None else request.prompt
    return None


def _modified(path: Path) -> float:
    """Seconds since 1970; of a file that has just gone, now."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _fits(selection: Selection, moment: float, prompt: str | None) -> bool:
    """As `LatentCache` selects: what is left open excludes nothing. A file without a prompt fits no words."""
    if selection.since is not None and moment < selection.since:
        return False
    if selection.before is not None and moment >= selection.before:
        return False
    if prompt is None:
        return selection.entity is None and selection.prompt is None
    if selection.prompt is not None and selection.prompt.lower() not in prompt.lower():
        return False
    if selection.entity is None:
        return True
    named = entities_of(prompt)
    wanted = selection.entity.lower()
    return any(wanted in (each.phrase.lower(), each.head.lower()) for each in (*named.objects, *named.scenes))
