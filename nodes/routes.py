"""The side panel's doors on ComfyUI's server: entries, previews, pin, delete, budget. All of them are under /chai/.

ComfyUI has no login, so each door looks at what comes in: ids and keys instead of paths, JSON of at most 4 kB with
known fields, writing by POST and DELETE alone. JSON as the content type keeps a form on another site from posting here.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import handles, host

if TYPE_CHECKING:
    from aiohttp.web import Request, Response

LARGEST_BODY = 4096
_ID = re.compile(r"[0-9a-f]{8,64}")
_KEY = re.compile(r"[0-9a-f]{12}")
_LONGEST_SEARCH = 300
_MOST_ENTRIES = 200
_LARGEST_BUDGET = 10**15

Handler = Callable[["Request"], Awaitable["Response"]]


class Refused(Exception):
    """A request that is answered with a status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


def register() -> None:
    """Open the doors, where there is a server that is not running yet."""
    table = host.routes()
    if table is None:
        return
    for method, path, answer in DOORS:
        table.route(method, path)(_guarded(answer))


def _guarded(answer: Callable[[Request], Awaitable[Response]]) -> Handler:
    async def handler(request: Request) -> Response:
        from aiohttp import web

        from ..chai_app.errors import ChaiError

        try:
            return await answer(request)
        except Refused as refusal:
            return web.json_response({"error": refusal.sentence}, status=refusal.status)
        except ChaiError as error:
            return web.json_response({"error": str(error)}, status=409)

    return handler


async def _caches(request: Request) -> Response:
    first = handles.default_cache()
    known = [{"key": cache.key, "is_default": cache.home == first.home} for cache in handles.known_caches()]
    return await _json({"caches": known})


async def _entries(request: Request) -> Response:
    home = _home(request)
    search = request.query.get("search", "")
    if len(search) > _LONGEST_SEARCH:
        raise Refused(400, f"Search for at most {_LONGEST_SEARCH} characters.")
    limit, offset = _count(request, "limit", 60, _MOST_ENTRIES), _count(request, "offset", 0, 10**9)

    def look() -> dict[str, Any]:
        from .browse import found, opened

        shown, total = found(home, search, max(limit, 1), offset)
        with opened(home) as cache:
            has_preview = {each.entry.id: cache.preview(each.entry) is not None for each in shown}
            stats = cache.stats().to_json()
        stats.pop("embedders", None)
        entries = [{**each.to_json(), "has_preview": has_preview[each.entry.id]} for each in shown]
        return {"entries": entries, "total": total, "stats": stats}

    return await _json(await _aside(look))


async def _preview(request: Request) -> Response:
    from aiohttp import web

    home, id = _home(request), _id(request)

    def read() -> bytes | None:
        from .browse import opened

        with opened(home) as cache:
            entry = cache.entry(id)
            path = None if entry is None else cache.preview(entry)
            return None if path is None else path.read_bytes()

    content = await _aside(read)
    if content is None:
        raise Refused(404, "There is no such preview.")
    headers = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=content, content_type="image/webp", headers=headers)


async def _pin(request: Request) -> Response:
    home, id = _home(request), _id(request)
    body = await _body(request, {"pinned": bool})
    if "pinned" not in body:
        raise Refused(400, "Say whether the entry is to be pinned: pinned, true or false.")

    def change() -> bool:
        from .browse import opened

        with opened(home, writes=True) as cache:
            entry = cache.entry(id)
            return entry is not None and (cache.pin if body["pinned"] else cache.unpin)(entry)

    return await _changed(home, await _aside(change))


async def _delete(request: Request) -> Response:
    home, id = _home(request), _id(request)
    await _body(request, {})

    def change() -> bool:
        from .browse import opened

        with opened(home, writes=True) as cache:
            entry = cache.entry(id)
            return entry is not None and cache.remove(entry)

    return await _changed(home, await _aside(change))


async def _budget(request: Request) -> Response:
    home = _home(request)
    body = await _body(request, {"budget_bytes": int, "policy": str})
    budget = body.get("budget_bytes")
    if budget is None or not 0 <= budget <= _LARGEST_BUDGET:
        raise Refused(400, f"The budget is a whole number of bytes from 0 to {_LARGEST_BUDGET}.")
    policy = body.get("policy")
    if policy not in (None, "lru", "lfu", "lcbfu"):
        raise Refused(400, "The policy is lru, lfu or lcbfu.")

    def change() -> list[str]:
        from .browse import opened

        with opened(home, writes=True) as cache:
            return [entry.id for entry in cache.set_budget(budget, policy)]

    left = await _aside(change)
    _tell(home)
    return await _json({"left": left})


DOORS: tuple[tuple[str, str, Callable[[Request], Awaitable[Response]]], ...] = (
    ("GET", "/chai/caches", _caches),
    ("GET", "/chai/entries", _entries),
    ("GET", "/chai/entries/{id}/preview", _preview),
    ("POST", "/chai/entries/{id}/pin", _pin),
    ("DELETE", "/chai/entries/{id}", _delete),
    ("POST", "/chai/budget", _budget),
)


async def _json(values: Any, status: int = 200) -> Response:
    from aiohttp import web

    return web.json_response(values, status=status, headers={"Cache-Control": "no-store"})


async def _changed(home: Path, is_changed: bool) -> Response:
    if not is_changed:
        raise Refused(404, "There is no such entry in this cache (any more).")
    _tell(home)
    return await _json({"done": True})


def _tell(home: Path) -> None:
    host.send("chai.cache", {"cache": handles.Cache(home).key})


async def _aside(work: Callable[[], Any]) -> Any:
    """Disk and database in a thread of their own: the server goes on meanwhile."""
    return await asyncio.get_running_loop().run_in_executor(None, work)


def _home(request: Request) -> Path:
    key = request.query.get("cache")
    if key is not None and not _KEY.fullmatch(key):
        raise Refused(400, "A cache is named by its key of 12 hexadecimal digits.")
    home = handles.home_of(key)
    if home is None:
        raise Refused(404, "No cache with that key has been opened since the start.")
    return home


def _id(request: Request) -> str:
    id = request.match_info["id"]
    if not _ID.fullmatch(id):
        raise Refused(400, "An entry is named by its id, hexadecimal digits.")
    return str(id)


def _count(request: Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not re.fullmatch(r"\d{1,10}", text) or int(text) > most:
        raise Refused(400, f"{name} is a whole number from 0 to {most}.")
    return int(text)


async def _body(request: Request, fields: dict[str, type]) -> dict[str, Any]:
    """The JSON object that came along, of known fields and right types; a DELETE may come without one."""
    if (request.content_length or 0) > LARGEST_BODY:
        raise Refused(413, f"At most {LARGEST_BODY} bytes are taken here.")
    content = await request.content.read(LARGEST_BODY + 1)
    if len(content) > LARGEST_BODY:
        raise Refused(413, f"At most {LARGEST_BODY} bytes are taken here.")
    if not content and not fields:
        return {}
    if request.content_type != "application/json":
        raise Refused(415, "Send JSON, with the content type application/json.")
    try:
        body = json.loads(content)
    except ValueError:
        raise Refused(400, "This is not JSON.") from None
    if not isinstance(body, dict) or set(body) - set(fields):
        raise Refused(400, f"Send a JSON object with {', '.join(fields) or 'nothing in it'}.")
    for name, value in body.items():
        if type(value) is not fields[name]:
            raise Refused(400, f"{name} must be of the kind {fields[name].__name__}.")
    return body
