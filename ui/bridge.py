"""What a page asks the server, and what the server answers: parts of the page as HTML, and words for the person.

Pages hold no state of their own but what they look at; everything else is asked for here, by name.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from chai_app.errors import BadRequest, ChaiError

from .job_views import job_view, queue_view
from .studio import Studio

Answer = dict[str, Any]
Act = Callable[[Studio, dict[str, Any]], Answer]
_log = logging.getLogger("chai")
_TOLD_ENDED = 5


class Bridge:
    """Acts by name. Each takes plain values and gives plain values: html (by the name of a part), toast (a sentence),
    problem (a sentence about what went wrong), job (the one to show), and what a page's script knows beside these."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._acts: dict[str, Act] = {}

    def add(self, acts: dict[str, Act]) -> None:
        """Let a page bring its acts."""
        assert not set(acts) & set(self._acts), "two acts of one name"
        self._acts.update(acts)

    def act(self, message: Any) -> Answer:
        """Carry out what a page asks: {"act": name, "args": {...}}. Never raises."""
        try:
            if not isinstance(message, dict) or message.get("act") not in self._acts:
                raise BadRequest("This page is of another version of the program: load it again.")
            args = message.get("args")
            return self._acts[message["act"]](self.studio, args if isinstance(args, dict) else {})
        except ChaiError as error:
            return {"problem": str(error)}
        except Exception as error:
            _log.exception("the page's act %r failed", message.get("act"))  # its words may be private
            return {"problem": f"The program failed here ({type(error).__name__}): its log tells more."}

    def poll(self, message: Any) -> Answer:
        """What has changed since the version that the page has seen; cheap if nothing has."""
        try:
            self.studio.first_page.set()
            values = message if isinstance(message, dict) else {}
            return poll(self.studio, values)
        except Exception as error:
            _log.exception("a poll failed")
            return {"problem": f"The program failed here ({type(error).__name__}): its log tells more."}


def poll(studio: Studio, values: dict[str, Any]) -> Answer:
    """Queue, the job that is looked at, what ended lately, and how the model is."""
    everyones, jobs = studio.jobs.jobs(), studio.seen_jobs()
    is_running = bool(everyones) and everyones[0].state == "running"
    second = int(time.time()) if is_running else 0  # "so far" goes on while nothing else changes
    version = f"{studio.jobs.version}.{studio.warmth.state}.{studio.cache_changes}.{second}"
    if values.get("version") == version and not values.get("fresh"):
        return {"version": version}
    selected = studio.job(values.get("job"))
    if selected is None:  # a new page looks at what runs, or at what was made last
        selected = next((job for job in jobs if job.state == "running"), jobs[0] if jobs else None)
    id = None if selected is None else selected.id
    ended = [job for job in jobs if job.is_finished][:_TOLD_ENDED]
    return {
        "version": version,
        "job": id,
        "running": next((job.id for job in jobs if job.state == "running"), None),
        "waiting": sum(not job.is_finished for job in everyones),
        "warmth": {"state": studio.warmth.state, "words": _warmth_words(studio)},
        "cache_changes": studio.cache_changes,
        "ended": [
            {
                "id": job.id,
                "state": job.state,
                "group": job.group,
                "words": "a private video" if job.request.is_private else job.request.prompt,
            }
            for job in ended
        ],
        "html": {"queue": queue_view(studio, id), "job": job_view(studio, selected)},
    }


def _warmth_words(studio: Studio) -> str:
    loaded = studio.engine.loaded
    match studio.warmth.state:
        case "warm" if loaded is not None:
            return f"{loaded.model.name} on {loaded.machine.device}, {loaded.machine.dtype}"
        case "failed":
            return studio.warmth.problem or "the model could not be loaded"
        case _:
            return f"loading the model {studio.model}"
