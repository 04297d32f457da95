"""HTML that cannot be broken into: every text is escaped where it is put in."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup, escape

from chai_app.files import human_bytes

__all__ = ["Markup", "ago", "button", "chip", "file_url", "human_bytes", "join", "seconds", "tag"]

_VOID = {"img", "input", "br", "source"}


def tag(name: str, /, *children: object, cls: str = "", **attributes: object) -> Markup:
    """An element. Children and attributes are escaped unless they are `Markup`; None and False leave an attribute out,
    True gives it no value, and an underscore in its name becomes a hyphen."""
    parts = [f"<{name}"]
    if cls:
        parts.append(f' class="{escape(cls)}"')
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.strip("_").replace("_", "-")
        parts.append(f" {attribute}" if value is True else f' {attribute}="{escape(value)}"')
    parts.append(">")
    if name not in _VOID:
        parts += [str(escape(child)) for child in children if child is not None]
        parts.append(f"</{name}>")
    return Markup("".join(parts))


def join(parts: Iterable[object], between: str = "") -> Markup:
    """Several parts as one."""
    return Markup(escape(between)).join(escape(part) for part in parts)


def button(
    label: object, act: str, /, cls: str = "", confirm: str | None = None, title: str | None = None, **args: object
) -> Markup:
    """A button that asks the server for `act` with `args`; `confirm` is asked first."""
    return tag(
        "button",
        label,
        cls=f"c-button {cls}".strip(),
        type="button",
        data_act=act,
        data_args=json.dumps(args),
        data_confirm=confirm,
        title=title,
        aria_label=title if not any(letter.isalnum() for letter in str(label)) else None,  # arrows and crosses
    )


def chip(text: str, kind: str, detail: str = "") -> Markup:
    """A word in a coloured pill; kind is object, scene, hit, miss, full, fast, done, failed, ..."""
    return tag("span", text, tag("small", detail) if detail else None, cls=f"c-chip c-{kind}")


def file_url(path: Path) -> str:
    """Where the server gives out a file of ours, seen from the page: a reverse proxy may show it under any path."""
    stamp = path.stat().st_mtime_ns if path.exists() else 0
    return f"gradio_api/file={quote(str(path.absolute()))}?v={stamp}"


def seconds(value: float | None) -> str:
    """0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if value is None:
        return "?"
    if value < 10:
        return f"{value:.1f} s"
    if value < 90:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def ago(moment: float, now: float | None = None) -> str:
    """How long ago a moment (seconds since 1970) was: "just now", "5 min ago", "3 days ago", or its date."""
    passed = (time.time() if now is None else now) - moment
    if passed < 60:
        return "just now"
    if passed < 3600:
        return f"{passed // 60:.0f} min ago"
    if passed < 86400:
        return f"{passed // 3600:.0f} h ago"
    if passed < 7 * 86400:
        return f"{passed // 86400:.0f} d ago"
    return time.strftime("%Y-%m-%d", time.localtime(moment))
