"""Take away what is left of a person, a thing or a day: in the cache, the gallery, the queue and among uploads."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .cache import Selection
from .prompts import extract

if TYPE_CHECKING:
    from .cache import Entry, LatentCache
    from .gallery import Gallery, Item
    from .jobs import Job, JobQueue


@dataclass(frozen=True)
class Traces:
    """What a selection is about: entries of the cache, files of the gallery, jobs that are over, uploaded files."""

    entries: tuple[Entry, ...]
    items: tuple[Item, ...]
    jobs: tuple[Job, ...]
    uploads: tuple[Path, ...]

    @property
    def count(self) -> int:
        """How many things they are."""
        return len(self.entries) + len(self.items) + len(self.jobs) + len(self.uploads)


def find_traces(selection: Selection, cache: LatentCache, gallery: Gallery, jobs: JobQueue, uploads: Path) -> Traces:
    """Everything that `selection` means. Changes nothing.

    Uploads are meant if a file or job that goes has started from them, or by their date if no words were given.
    """
    items = [
        item
        for item in gallery.items()
        if _fits(selection, item.modified, None if item.request is None else item.request.prompt)
    ]
    over = [job for job in jobs.jobs() if job.is_finished and _fits(selection, job.created, job.request.prompt)]
    requests = [item.request for item in items if item.request is not None] + [job.request for job in over]
    started_from = {str(path) for request in requests for path in (request.image, request.extend) if path}
    by_date = selection.entity is None and selection.prompt is None
    files = [path for path in uploads.rglob("*") if path.is_file()] if uploads.is_dir() else []
    gone = [
        path for path in files if str(path) in started_from or (by_date and _fits(selection, _modified(path), None))
    ]
    return Traces(tuple(cache.entries(selection)), tuple(items), tuple(over), tuple(gone))


def purge(selection: Selection, cache: LatentCache, gallery: Gallery, jobs: JobQueue, uploads: Path) -> Traces:
    """Take away everything that `selection` means. Returns: what went."""
    found = find_traces(selection, cache, gallery, jobs, uploads)
    entries = cache.purge(selection)
    items = [item for item in found.items if gallery.remove(item)]
    forgotten = jobs.forget(job.id for job in found.jobs)
    for path in found.uploads:
        path.unlink(missing_ok=True)
    return Traces(tuple(entries), tuple(items), tuple(forgotten), found.uploads)


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
    named = extract(prompt)
    wanted = selection.entity.lower()
    return any(wanted in (each.phrase.lower(), each.head.lower()) for each in (*named.objects, *named.scenes))
