"""Opens the browser UI: which address, which folders, who may come in."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
import webbrowser
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from chai_app.errors import ChaiError
from chai_app.process import loading_turn
from chai_app.server.note import Note
from chai_app.settings import Settings

from .doors import LOOPBACK, Doors

DEFAULT_PORT = 7860
PORTS_TRIED = 50
_MOST_UPLOAD = "300mb"


@dataclass(frozen=True)
class Access:
    """Where the UI listens and who may use it.

    names are those under which it answers beside its address; root_path is where a reverse proxy shows it.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    user: str | None = None
    password: str | None = None
    names: tuple[str, ...] = ()
    root_path: str = ""

    @property
    def is_open(self) -> bool:
        """Whether others on the network reach it without a password."""
        return self.host not in LOOPBACK and not self.password


def serve(settings: Settings, model: str, access: Access, opens_browser: bool = True) -> None:
    """Run the browser UI until it is stopped, by Ctrl-C or by a signal to end: what runs then waits for the next start.

    Raises: ChaiError if the port is taken, or another browser UI works in the same folder.
    """
    is_over = threading.Event()
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: is_over.set())
    started = launch(settings, model, access)
    print(f"CHAI is at {started.url}  (Ctrl-C stops it)", flush=True)
    if access.is_open:
        print(
            "WARNING: everybody on the network can use it, see all videos and delete the cache. Give --user and "
            "--password, or leave --listen out.",
            file=sys.stderr,
            flush=True,
        )
    if opens_browser and access.host in LOOPBACK:
        webbrowser.open(started.url)
    try:
        with suppress(KeyboardInterrupt):
            is_over.wait()
    finally:
        started.close()


@dataclass
class Started:
    """A UI that runs in threads of this process."""

    studio: Any
    blocks: Any
    url: str
    note: Note

    def close(self) -> None:
        """Stop it."""
        self.note.take_away(self.studio.settings.home)
        self.blocks.close(verbose=False)
        self.studio.close()


def launch(settings: Settings, model: str, access: Access) -> Started:
    """Start the browser UI and return at once.

    Raises: ChaiError as `serve`.
    """
    from .studio import Studio, quiet_gradio

    if access.root_path and not access.root_path.startswith("/"):
        raise ChaiError(f"The root path is {access.root_path!r}: give it as the proxy shows it, such as /videos.")

    _free_port(access)  # before seconds go into the rest
    studio = Studio(settings, model)
    quiet_gradio(studio)
    with loading_turn():  # the first page waits for Gradio
        from gradio.routes import App, ORJSONResponse

        from .handover import HandOver
        from .shell import HERE, build
        from .theme import colour_variables, theme

    hand_over = HandOver(studio)

    class GuardedApp(App):
        """Gradio's server behind the door: outside of its own middleware, which would answer other pages first."""

        def build_middleware_stack(self) -> Any:
            hand_over.app = super().build_middleware_stack()
            return Doors(hand_over, access.host, access.names, access.root_path, studio.files)

    logging.getLogger("httpx").setLevel(logging.WARNING)
    blocks = build(studio)
    script = (HERE / "chai.js").read_text(encoding="utf-8")
    style = (HERE / "chai.css").read_text(encoding="utf-8")
    auth = (access.user or "chai", access.password) if access.password else None
    blocks.queue(default_concurrency_limit=8)
    _, url, _ = blocks.launch(
        server_name=access.host,
        server_port=_free_port(access),  # another program may have taken the first one meanwhile
        auth=auth,
        prevent_thread_lock=True,
        quiet=True,
        show_error=True,
        root_path=access.root_path,
        share=False,
        ssr_mode=False,
        pwa=False,
        run_history=False,
        enable_monitoring=False,
        max_file_size=_MOST_UPLOAD,
        allowed_paths=[str(folder) for folder in studio.served_folders],
        footer_links=[],
        # Gradio asks itself for the page and gives up after 3 s, which a busy machine needs; a page that is late is
        # better than none.
        _frontend=False,
        _app=GuardedApp(default_response_class=ORJSONResponse),
        theme=theme(),
        css=colour_variables() + style,
        head=f"<script>{script}</script>",
    )
    studio.start()
    # Where it listens everywhere, this machine is one of the places.
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(access.host, access.host)
    hand_over.note = Note.of(host, urlsplit(url).port or 80, model, settings)
    hand_over.note.leave_in(studio.settings.home)
    return Started(studio, blocks, url, hand_over.note)


def _free_port(access: Access) -> int:
    """The port that was asked for, or the first free one from 7860 on. Raises: ChaiError if there is none."""
    wanted = [access.port] if access.port else range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED)
    for port in wanted:
        with socket.socket(socket.AF_INET6 if ":" in access.host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((access.host, port))
            except OSError as error:
                reason = error.strerror or str(error)
                continue
            return port
    if access.port:
        raise ChaiError(f"Port {access.port} of {access.host} is not free ({reason}): choose another with --port.")
    raise ChaiError(f"No port from {DEFAULT_PORT} on is free on {access.host} ({reason}): choose one with --port.")
