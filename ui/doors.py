"""The door of the server: every request passes it, and only the server's own page and programs come through.

A browser carries out what any web page asks of it, so a server on this machine is within reach of all of them. Two
things tell its own page from the others: the name under which it was asked (Host; a foreign name that was pointed here
is DNS rebinding), and the page that asks (Origin, Sec-Fetch-Site, which no page can forge). Programs send no Origin.
"""

from __future__ import annotations

import re
import secrets
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .visitors import COOKIE, visitor_in

if TYPE_CHECKING:
    from chai_app.server.uploads import Uploads

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_EVERYWHERE = ("0.0.0.0", "::", "")
_API = "/gradio_api/"
# Gradio's doors that neither the page nor a program needs; some of them write on a mere GET, or fetch from elsewhere.
_CLOSED = re.compile(
    r"/gradio_api/(proxy=|file=https?:|file/|deep_link|dev/|runs\b|run-history|stream/|process_recording|vibe-|undo-vibe"
    r"|profiling|custom_component|token)|/monitoring",
    re.IGNORECASE,
)
_SHOWN = re.compile(r"(image/(?!svg)|video/|audio/)[\w.+-]+")
_MOST_BODY_BYTES = 4_000_000  # of a request that is no upload
_MOST_TRIES, _MOST_TRIES_OF_ALL, _TRIES_WITHIN_S = 10, 100, 600.0

_ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
# Gradio's page needs inline scripts and evaluates those of its components; nothing comes from, or goes to, elsewhere.
_PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_FILE_POLICY = (
    "default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'; sandbox; "
    "frame-ancestors 'none'"
)
_NOT_SENT_ON = ("cookie", "authorization", "server")  # Gradio repeats what it was asked in answers to ranges


class Doors:
    """Middleware around all of the server.

    Args:
        app: what is behind the door.
        host: the address that is listened on.
        names: further names under which it answers, each with its port if the page is at another than the usual one.
        root_path: where a reverse proxy shows it, as /videos.
        uploads: knows how much may be sent.
    """

    def __init__(
        self,
        app: App,
        host: str,
        names: tuple[str, ...] = (),
        root_path: str = "",
        uploads: Uploads | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._root, self._uploads = app, root_path.rstrip("/"), uploads
        self._own_pages = {address for name in names if (address := _address(name))}
        self._names = {*LOOPBACK, *(name for name, _ in self._own_pages)}
        if host not in _EVERYWHERE:
            self._names.add(host.lower())
        self._is_open = host not in LOOPBACK
        if self._is_open:
            own = socket.gethostname().lower()
            self._names |= {own, own.removesuffix(".local") + ".local"}
        self._tries = Tries(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        asked = _headers(scope)
        path = scope["path"]
        if self._root and (path == self._root or path.startswith(self._root + "/")):
            path = path.removeprefix(self._root)  # a proxy that passes its own path on
        reason = self._reason_against(scope, path, asked)
        if reason is not None:
            return await _refuse(scope, send, 403, reason)
        if self._root and not path:  # what the page asks for is relative to it
            return await _refuse(scope, send, 307, "The page is one slash further.", {"location": f"{self._root}/"})
        if scope["type"] == "websocket":
            return await self._app(scope, receive, send)
        who = (scope.get("client") or ("",))[0]
        is_login = scope["method"] == "POST" and path.rstrip("/") == "/login"
        if is_login and (wait_s := self._tries.begin(who)):
            words = f"Too many wrong passwords: try again in {wait_s // 60 + 1:.0f} minutes."
            return await _refuse(scope, send, 429, words, {"retry-after": f"{wait_s + 1:.0f}"})
        is_upload = asked.get("content-type", [""])[0].lower().startswith("multipart/") and not is_login
        size = asked.get("content-length", [""])[0]
        if is_upload and self._uploads is not None:
            if not size.isdigit():
                return await _refuse(scope, send, 411, "An upload has to say its length.")
            if not self._uploads.may_come(int(size)):
                return await _refuse(scope, send, 413, "There is no room for this upload: clear what the queue holds.")
        elif size.isdigit() and int(size) > _MOST_BODY_BYTES:
            return await _refuse(scope, send, 413, "This request is too large.")

        async def answer(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                if is_login and message["status"] < 400:
                    self._tries.succeeded(who)
                message = {**message, "headers": _safe_headers(message.get("headers", ()), scope, path, asked)}
            await send(message)

        try:
            await self._app(scope, receive if is_upload else _limited(receive), answer)
        finally:
            if is_upload and self._uploads is not None:
                self._uploads.arrived(int(size))

    def _reason_against(self, scope: Scope, path: str, asked: dict[str, list[str]]) -> str | None:
        """A sentence if this is not for us, None if it is."""
        hosts = asked.get("host", [])
        if len(hosts) != 1:
            return "A request names the server that it is for once."
        forwarded = [each.strip() for text in asked.get("x-forwarded-host", []) for each in text.split(",")]
        for host in (*hosts, *forwarded):
            address = _address(host)
            if address is None or not self._answers_to(address[0], scope):
                name = "" if address is None else address[0]
                shown = name if re.fullmatch(r"[\w.:-]{1,100}", name) else "NAME"
                return (
                    f"This server does not answer to the name {shown}: open it under its own address, or start it with "
                    f"--allow-host {shown}."
                )
        if _CLOSED.match(path):
            return "This door is closed."
        is_page = scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and path in ("", "/")
        is_visit = (
            is_page and asked.get("sec-fetch-mode") == ["navigate"] and asked.get("sec-fetch-dest") == ["document"]
        )
        origins = asked.get("origin", [])
        if any(not self._is_own(origin, hosts[0]) for origin in origins):
            return "Another web page may not use this server: open its own page."
        sites = asked.get("sec-fetch-site", [])
        if any(site not in ("same-origin", "none") for site in sites) and not is_visit:
            return "Another web page may not use this server: open its own page."
        if not origins and not sites and not is_page:  # a browser tells neither where it does not trust the network
            referers = asked.get("referer", [])
            if any(not self._is_own(referer, hosts[0]) for referer in referers):
                return "Another web page may not use this server: open its own page."
        return None

    def _answers_to(self, name: str, scope: Scope) -> bool:
        if name in self._names:
            return True
        # An address in numbers cannot be pointed elsewhere; the one that the request came in on is ours.
        came_in_on = str((scope.get("server") or ("",))[0]).lower().removeprefix("::ffff:")
        return self._is_open and name == came_in_on

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether a page is the server's own: of the name and port that it was asked under, or of a given name."""
        try:
            parts = urlsplit(origin)
            name, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            return False
        usual = {"http": 80, "https": 443}.get(parts.scheme)
        if usual is None or not name:
            return False
        asked = _address(host)
        pages = {*self._own_pages, *([asked] if asked else [])}
        return (name, port or usual) in {(own, own_port or usual) for own, own_port in pages}


class Tries:
    """How often somebody has tried to log in of late, by address and in all."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of: dict[str, deque[float]] = {}
        self._of_all: deque[float] = deque()

    def begin(self, who: str) -> float:
        """Count a try. Returns: seconds to wait first, 0 if there is no need; then it is not counted."""
        now = self._clock()
        for tries in (self._of_all, *self._of.values()):
            while tries and tries[0] <= now - _TRIES_WITHIN_S:
                tries.popleft()
        self._of = {each: tries for each, tries in self._of.items() if tries}
        own = self._of.get(who, deque())
        for tries, most in ((own, _MOST_TRIES), (self._of_all, _MOST_TRIES_OF_ALL)):
            if len(tries) >= most:
                return tries[0] + _TRIES_WITHIN_S - now
        self._of[who] = own
        for tries in (own, self._of_all):  # counted before the answer: a hundred at once are a hundred
            tries.append(now)
        return 0.0

    def succeeded(self, who: str) -> None:
        """Forget the tries of somebody who knew the password."""
        for _ in self._of.pop(who, ()):
            if self._of_all:
                self._of_all.pop()


def _headers(scope: Scope) -> dict[str, list[str]]:
    asked: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        asked.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return asked


def _address(host: str) -> tuple[str, int | None] | None:
    """Name and port of a Host header, or None for what is none."""
    try:
        parts = urlsplit(f"//{host.strip()}")
        name, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not name or parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        return None
    return name.rstrip("."), port


def _safe_headers(headers: Any, scope: Scope, path: str, asked: dict[str, list[str]]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer, with what a browser has to know in order to keep other pages out."""
    told = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
    own = {**_ALWAYS, "content-security-policy": _PAGE_POLICY}
    if path.startswith(f"{_API}file="):
        kind = next((value for name, value in told if name == "content-type"), "")
        own["content-security-policy"] = _FILE_POLICY
        if not _SHOWN.match(kind.lower()) and not kind.startswith("application/json"):  # an error of Gradio's
            own |= {"content-type": "application/octet-stream", "content-disposition": "attachment"}
    kept = [
        (name, _lax(value) if name == "set-cookie" else value)
        for name, value in told
        if name not in own and name not in _NOT_SENT_ON and not name.startswith("access-control-")
    ]
    if path in ("", "/") and visitor_in("; ".join(asked.get("cookie", []))) is None:
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        kept.append(("set-cookie", f"{COOKIE}={secrets.token_urlsafe(16)}; Path=/; HttpOnly; SameSite=Lax{secure}"))
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (*kept, *own.items())]


def _lax(cookie: str) -> str:
    """A cookie that a browser sends with no request of another page's."""
    bare = re.sub(r"(?i);\s*(samesite=\w*|httponly)\s*(?=;|$)", "", cookie)
    return f"{bare}; HttpOnly; SameSite=Lax"


def _limited(receive: Receive) -> Receive:
    """The body of a request, cut off where it grows beyond what the page ever sends."""
    left = _MOST_BODY_BYTES

    async def limited() -> MutableMapping[str, Any]:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        return message if left >= 0 else {"type": "http.disconnect"}

    return limited


async def _refuse(scope: Scope, send: Send, status: int, words: str, more: dict[str, str] | None = None) -> None:
    if scope["type"] == "websocket":
        return await send({"type": "websocket.close", "code": 1008})
    body = f"{words}\n".encode()
    headers = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(body)), "connection": "close"}
    headers |= {**_ALWAYS, "content-security-policy": "default-src 'none'; frame-ancestors 'none'", **(more or {})}
    told = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
