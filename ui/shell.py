"""The frame around the pages: header, tabs, the bridge to the page's script, and the endpoints for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from chai_app import __version__

from .api import add_api
from .bridge import Bridge
from .cache_page import ACTS as CACHE_ACTS
from .cache_page import build_cache_page
from .compare_page import ACTS as COMPARE_ACTS
from .compare_page import build_compare_page
from .gallery_page import ACTS as GALLERY_ACTS
from .gallery_page import build_gallery_page
from .generate_page import ACTS as GENERATE_ACTS
from .generate_page import build_generate_page
from .markup import Markup, tag
from .numbers_page import ACTS as NUMBERS_ACTS
from .numbers_page import build_numbers_page
from .studio import Studio
from .system_page import ACTS as SYSTEM_ACTS
from .system_page import build_system_page
from .visitors import asked_by

HERE = Path(__file__).parent
TITLE = "CHAI"
_ICON = Markup(
    '<svg viewBox="0 0 24 24" width="26" height="26" aria-hidden="true"><path fill="none" stroke="currentColor" '
    'stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" d="M5 9h11v5a5 5 0 0 1-5 5h-1a5 5 0 0 1-5-5z'
    'M16 10h1.5a2.5 2.5 0 0 1 0 5H16M8 6c0-1 1-1 1-2M12 6c0-1 1-1 1-2"/></svg>'
)
_KEYS = (
    ("Ctrl + Enter", "generate"),
    ("Esc", "cancel the running video (or close what is open)"),
    ("C", "compare the shown video with the cache off"),
    ("1 to 6", "go to a page"),
    ("/", "go to the prompt, or to the search of a page"),
    ("?", "show these keys"),
)


def build(studio: Studio) -> gr.Blocks:
    """The whole browser UI."""
    bridge = Bridge(studio)
    for acts in (GENERATE_ACTS, CACHE_ACTS, GALLERY_ACTS, COMPARE_ACTS, SYSTEM_ACTS, NUMBERS_ACTS):
        bridge.add(acts)

    def poll(message: Any, request: gr.Request) -> Any:
        with asked_by(request):
            return bridge.poll(message)

    def act(message: Any, request: gr.Request) -> Any:
        with asked_by(request):
            return bridge.act(message)

    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(_header(), elem_id="c-header", js_on_load=None, apply_default_css=False)
        with gr.Tabs(elem_id="pages"):
            with gr.Tab("Generate", id="generate"):
                build_generate_page(studio, part)
            with gr.Tab("Compare", id="compare"):
                build_compare_page(part)
            with gr.Tab("Cache", id="cache"):
                build_cache_page(part)
            with gr.Tab("Gallery", id="gallery"):
                build_gallery_page(part)
            with gr.Tab("System", id="system"):
                build_system_page(part)
            with gr.Tab("Numbers", id="numbers"):
                build_numbers_page(part)
        gr.HTML(
            _dialogs(),
            elem_id="c-bridge",
            server_functions=[poll, act],
            apply_default_css=False,
            js_on_load="window.chaiStart && window.chaiStart({server, upload, element})",
        )
        add_api(studio)
    return blocks


def part(name: str, words: str = "Loading.") -> gr.HTML:
    """A place in a page that the page's script fills with what the server says; `words` stand there until then."""
    waiting = tag("p", words, cls="c-dim") if words else None
    return gr.HTML(
        tag("div", waiting, id=f"part-{name}", data_part=name, cls=f"c-part c-part-{name}"),
        js_on_load=None,
        apply_default_css=False,
    )


def _header() -> Markup:
    actions = tag(
        "div",
        tag("span", tag("i"), tag("span", "connecting", cls="c-status-words"), id="c-status", role="status"),
        tag("button", "Notify me", id="c-notify", cls="c-button c-quiet", type="button"),
        tag("button", "Dark", id="c-theme", cls="c-button c-quiet", type="button"),
        tag(
            "button", "?", id="c-help", cls="c-button c-quiet", type="button", title="Keys", aria_label="Show the keys"
        ),
        cls="c-header-actions",
    )
    name = tag("span", _ICON, tag("h1", TITLE), cls="c-name")
    about = tag("span", "Open-Sora 1.2, faster the more you make", cls="c-dim c-about")
    return tag("header", name, about, actions, cls="c-header")


def _dialogs() -> Markup:
    rows = [tag("div", tag("dt", tag("kbd", key)), tag("dd", words)) for key, words in _KEYS]
    keys = tag(
        "dialog",
        tag("h2", "Keys"),
        tag("dl", *rows, cls="c-keys"),
        tag("p", f"CHAI {__version__}. Drop a video that was made here anywhere on the page: its settings return."),
        tag("form", tag("button", "Close", cls="c-button"), method="dialog"),
        id="c-keys-dialog",
        aria_label="Keys",
    )
    ask = tag(
        "dialog",
        tag("p", "", id="c-ask-words"),
        tag(
            "div",
            tag("button", "Cancel", cls="c-button", id="c-ask-no", type="button"),
            tag("button", "Yes", cls="c-button c-danger", id="c-ask-yes", type="button"),
            cls="c-actions",
        ),
        id="c-ask-dialog",
        aria_label="Please confirm",
    )
    entry = tag(
        "dialog",
        tag("div", id="part-entry", data_part="entry"),
        tag("form", tag("button", "Close", cls="c-button"), method="dialog"),
        id="c-entry-dialog",
        aria_label="One entry in full",
    )
    toasts = tag("div", id="c-toasts", popover="manual", role="status", aria_live="polite")
    drop = tag("div", tag("p", "Drop a video made here: its settings return"), id="c-drop", aria_hidden="true")
    return tag("div", keys, ask, entry, toasts, drop)
