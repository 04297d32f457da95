"""Which browser is asking. It is told by a cookie, and tells one person's private videos from another's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http.cookies import CookieError, SimpleCookie
from typing import Any

COOKIE = "chai-visitor"
_visitor: ContextVar[str | None] = ContextVar("visitor", default=None)


def visitor() -> str | None:
    """Who asks for what is being done now; None for a program, and for what nobody asked for."""
    return _visitor.get()


@contextmanager
def asked_by(request: Any) -> Iterator[None]:
    """Within the block, `visitor` is the browser that sent `request`, which is as Gradio gives it to a handler."""
    inner = getattr(request, "request", None) or request
    token = _visitor.set(None if inner is None else visitor_in(inner.headers.get("cookie", "")))
    try:
        yield
    finally:
        _visitor.reset(token)


def visitor_in(cookies: str) -> str | None:
    """The browser that a Cookie header tells of."""
    try:
        found = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return None
    return found.value if found is not None and re.fullmatch(r"[\w-]{22}", found.value) else None
