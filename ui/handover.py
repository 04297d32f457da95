"""What a command of the same person hands over to this server: a request to plan, a video to make.

The command reads the server's note (`chai_app.server.note`), which nobody else can. It sends no secret before the
server has proved that it knows it too, and it may name any file that it could read itself: it is the same person. Who
hangs up has stopped the video.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from chai_app.engine import Generation
from chai_app.errors import Cancelled, ChaiError
from chai_app.request import GenerationRequest
from chai_app.server.note import Note, as_json

from .studio import Studio

DOOR = "/handed-over/"
_LONGEST_SILENCE_S = 0.5
_PIECE_BYTES = 2**20
_log = logging.getLogger("chai")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class HandOver:
    """Middleware that answers commands, and passes on what others ask. Without a note nobody is answered."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self.app: Any = None
        self.note: Note | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Called by the server for each request."""
        if scope["type"] != "http" or not scope["path"].startswith(DOOR):
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        act, note = scope["path"].removeprefix(DOOR), self.note
        if note is not None and act == "hello" and scope["method"] == "GET":
            return await _answer(send, 200, as_json(proof=note.proof(headers.get("x-chai-challenge", ""))))
        if note is None or not hmac.compare_digest(headers.get("authorization", "").encode(), _key(note)):
            return await _answer(send, 403, as_json(error="This door is for commands on this machine."))
        if scope["method"] != "POST" or act not in ("plan", "make"):
            return await _answer(send, 404, as_json(error="This door leads nowhere."))
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"no-store")]})
        try:
            request = GenerationRequest.from_json(json.loads(body))
            if act == "plan":
                plan = await asyncio.to_thread(self._studio.plan_here, request)
                await _tell(send, as_json(plan=plan.to_json()))
            else:
                await self._make(request, receive, send)
        except Cancelled:
            await _tell(send, as_json(cancelled=True))
        except ChaiError as error:
            await _tell(send, as_json(error=str(error)))
        except Exception as error:
            _log.exception("what a command handed over failed")
            await _tell(send, as_json(failed=f"{type(error).__name__}: {error}"))
        await _tell(send, b"", is_last=True)

    async def _make(self, request: GenerationRequest, receive: Receive, send: Send) -> None:
        jobs = self._studio.jobs
        job, made = jobs.make(request)
        hung_up = asyncio.create_task(_hung_up(receive))
        version, told = -1, ("", 0, 0)
        try:
            while not made.done():
                if hung_up.done():
                    return
                version = await asyncio.to_thread(jobs.wait_for_change, version, _LONGEST_SILENCE_S)
                live = jobs.live(job.id)
                now = ("wait", 0, 0) if live is None else (live.stage, live.step, live.total)
                if now != told and now[0]:
                    told = now
                    await _tell(send, as_json(stage=now[0], step=now[1], total=now[2]))
            generation = made.result()
            self._studio.cache_changes += 1
            await _tell(send, as_json(made=_told(generation)))
            frames = memoryview(generation.frames.tobytes())
            for start in range(0, len(frames), _PIECE_BYTES):
                await _tell(send, bytes(frames[start : start + _PIECE_BYTES]))
        finally:
            hung_up.cancel()
            jobs.cancel(job.id)


def _told(generation: Generation) -> dict[str, Any]:
    return {
        "request": generation.request.to_json(),
        "report": generation.report.to_json(),
        "fps": generation.fps,
        "shape": generation.frames.shape,
    }


def _key(note: Note) -> bytes:
    return f"Bearer {note.secret}".encode()


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _tell(send: Send, body: bytes, is_last: bool = False) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": not is_last})


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await _tell(send, body, is_last=True)
