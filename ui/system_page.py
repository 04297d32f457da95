"""The system: models and how to get them, device and memory, attention kernel, folders, and the doctor's findings."""

from __future__ import annotations

import threading
from typing import Any

from chai_app.doctor import Check, examine, is_healthy

from .bridge import Act, Answer
from .markup import Markup, button, chip, human_bytes, join, tag
from .receipt import definitions
from .studio import Studio

_STATES = {"ok": ("fine", "hit"), "note": ("note", "miss"), "problem": ("problem", "problem")}


def build_system_page(part: Any) -> None:
    """Lay the page out. Called within a tab."""
    part("system-models")
    part("system-doctor")


def _view(studio: Studio, args: dict[str, Any]) -> Answer:
    if studio.checks is None and not studio.examining.locked():
        threading.Thread(target=_examine, args=[studio], name="doctor", daemon=True).start()
    return {"html": {"system-models": _overview(studio), "system-doctor": _doctor(studio.checks)}}


def _examine(studio: Studio) -> None:
    with studio.examining:
        studio.checks = examine(studio.settings)
        studio.cache_changes += 1


def _again(studio: Studio, args: dict[str, Any]) -> Answer:
    studio.checks = None
    return {"refresh": True, "toast": "Looking again; it takes some seconds."}


def _overview(studio: Studio) -> Markup:
    models = []
    for status in studio.models():
        is_here = status.model is not None
        size = human_bytes(status.model.size_bytes) if status.model is not None else ""
        models.append(
            tag(
                "li",
                tag("b", status.name),
                " ",
                chip("ready" if is_here else "missing", "hit" if is_here else "failed", size),
                tag("p", status.about, cls="c-dim"),
                tag("p", status.problem, cls="c-dim") if status.problem else None,
            )
        )
    loaded = studio.engine.loaded
    memory = _memory(has_torch=loaded is not None)
    facts: list[tuple[str, object]] = [
        ("In memory", f"{loaded.model.name}, {loaded.machine.dtype}" if loaded else studio.warmth.problem or "nothing"),
        ("Runs on", loaded.machine.device if loaded else "not known yet"),
        *memory,
        ("Videos", str(studio.settings.output_folder)),
        ("Cache", str(studio.settings.home.absolute())),
        ("Models", str(studio.settings.models_folder.absolute())),
    ]
    return tag(
        "div",
        tag("section", tag("h2", "Models"), tag("ul", join(models), cls="c-plain"), cls="c-panel"),
        tag("section", tag("h2", "This machine"), definitions(facts), cls="c-panel"),
        cls="c-columns",
    )


def _memory(has_torch: bool) -> list[tuple[str, object]]:
    import sys

    found: list[tuple[str, object]] = []
    try:
        import resource

        # Kilobytes on Linux, bytes on macOS.
        scale = 1 if sys.platform == "darwin" else 1024
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
        found.append(("Main memory", f"{human_bytes(most)} at most so far, by this program"))
    except ImportError:
        pass
    # Before a model is loaded, another thread may be half-way through importing torch.
    torch = sys.modules["torch"] if has_torch else None
    if torch is not None and torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(i)
            found.append((f"GPU {i}", f"{human_bytes(total - free)} of {human_bytes(total)} in use"))
    return found


def _doctor(checks: list[Check] | None) -> Markup:
    if checks is None:
        return tag("section", tag("h2", "Doctor"), tag("p", "Looking at everything.", cls="c-dim"), cls="c-panel")
    rows = [
        tag(
            "tr",
            tag("td", chip(*_STATES[check.status])),
            tag("th", check.name, scope="row"),
            tag("td", check.detail, style="overflow-wrap:anywhere"),
        )
        for check in checks
    ]
    verdict = "Videos can be made here." if is_healthy(checks) else "Videos cannot be made here yet: see the problems."
    return tag(
        "section",
        tag("div", tag("h2", "Doctor"), button("Look again", "doctor_again", "c-small"), cls="c-row"),
        tag("p", verdict),
        tag("div", tag("table", tag("tbody", join(rows)), cls="c-table"), cls="c-scroll", tabindex=0),
        cls="c-panel",
    )


ACTS: dict[str, Act] = {"view_system": _view, "doctor_again": _again}
