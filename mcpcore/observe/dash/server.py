"""The page over HTTP: one document, one stream of pictures, and plans if actions are allowed.

This module exists so that who may see and who may act is decided in one place.

- Everybody who can reach the address may look. It listens on loopback unless told otherwise.
- Only who has the token may plan or act, and only if the page was started with actions at all. The
  token travels in a header that no form and no foreign page can set.
- A request must name the host that we listen on, so that a foreign name that points here (DNS
  rebinding) gets nothing.
- Nothing is loaded from elsewhere, and the browser is told so (Content-Security-Policy).
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from mcpcore.errors import CoordinationError, InvalidInput
from mcpcore.observe.dash.actions import Desk
from mcpcore.observe.dash.changes import difference, whole
from mcpcore.observe.watcher import Watcher

TOKEN_HEADER: Final = "x-mcpcore-token"
_TYPES: Final = {
    "index.html": "text/html; charset=utf-8",
    "dash.css": "text/css; charset=utf-8",
    "dash.js": "text/javascript; charset=utf-8",
}
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
STREAMS_MAX: Final = 64
_PLAN_BYTES_MAX: Final = 4096

Handler = Callable[[Request], Awaitable[Response]]


class Page:
    """The application.

    Args:
        watcher: where pictures come from.
        hosts: names under which we may be asked for, as the Host header gives them without port.
        desk: what can be done; None: nothing, the page only shows.
        token: who knows it may act.
    """

    def __init__(
        self, watcher: Watcher, *, hosts: frozenset[str], desk: Desk | None = None, token: str = ""
    ) -> None:
        assert desk is None or token, "actions without a token would be anybody's"
        self._watcher = watcher
        self._hosts = hosts
        self._desk = desk
        self._token = token
        self._streams = 0
        self._closing = asyncio.Event()

    def application(self) -> Starlette:
        """To be served."""
        return Starlette(
            routes=[
                Route("/", self._guarded(self._document)),
                Route("/static/{name}", self._guarded(self._document)),
                Route("/events", self._guarded(self._events)),
                Route("/picture.json", self._guarded(self._picture)),
                Route("/plan", self._guarded(self._plan), methods=["POST"]),
                Route("/do", self._guarded(self._do), methods=["POST"]),
            ]
        )

    def close(self) -> None:
        """End the streams, so that the server can stop."""
        self._closing.set()

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            if (request.url.hostname or "") not in self._hosts:
                return _told(421, "this is not the host that you asked for")
            response = await handler(request)
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return guarded

    async def _document(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in _TYPES:
            return _told(404, "there is no such page")
        body = files("mcpcore.observe.dash").joinpath("static", name).read_bytes()
        return Response(body, media_type=_TYPES[name])

    async def _picture(self, _: Request) -> Response:
        return JSONResponse(self._watcher.picture.as_dict())

    async def _events(self, _: Request) -> Response:
        if self._streams >= STREAMS_MAX:
            return _told(503, f"{STREAMS_MAX} pages are open already; close one")
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[bytes]:
        self._streams += 1
        try:
            yield _event({"actions": list(self._desk.names) if self._desk else []}, "may")
            number, shown = self._watcher.number, self._watcher.picture
            yield _event(whole(shown))
            while not self._closing.is_set():
                closing = asyncio.ensure_future(self._closing.wait())
                after = asyncio.ensure_future(self._watcher.after(number))
                try:
                    await asyncio.wait((closing, after), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    closing.cancel()
                    after.cancel()
                number, picture = self._watcher.number, self._watcher.picture
                yield _event(difference(shown, picture))
                shown = picture
        finally:
            self._streams -= 1

    async def _plan(self, request: Request) -> Response:
        async def plan(desk: Desk, asked: dict[str, str]) -> dict[str, str]:
            words, ticket = await desk.plan(asked.pop("action", ""), asked)
            return {"plan": words, "ticket": ticket}

        return await self._acting(request, plan)

    async def _do(self, request: Request) -> Response:
        async def do(desk: Desk, asked: dict[str, str]) -> dict[str, str]:
            return {"done": await desk.carry_out(asked.get("ticket", ""))}

        return await self._acting(request, do)

    async def _acting(
        self,
        request: Request,
        act: Callable[[Desk, dict[str, str]], Awaitable[dict[str, str]]],
    ) -> Response:
        if self._desk is None:
            return _told(403, "this page only shows; start mcpctl dash with --allow-actions")
        given = request.headers.get(TOKEN_HEADER, "")
        if not hmac.compare_digest(given.encode(), self._token.encode()):  # texts: ASCII alone
            return _told(403, "the token is missing or wrong; open the address that was printed")
        try:
            asked = _words(await _body(request))
            return JSONResponse(await act(self._desk, asked))
        except InvalidInput as error:
            return _told(400, str(error))
        except CoordinationError as error:
            return _told(409, str(error))


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _PLAN_BYTES_MAX:
            raise InvalidInput(f"more than {_PLAN_BYTES_MAX} bytes are no plan")
    return body


def _words(body: bytes) -> dict[str, str]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"not JSON: {error}") from error
    if type(asked) is not dict or any(type(value) is not str for value in asked.values()):
        raise InvalidInput("an object of texts is wanted")
    return asked


def _event(body: dict[str, Any], name: str = "picture") -> bytes:
    text = json.dumps(body, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n".encode()


def _told(status: int, why: str) -> JSONResponse:
    return JSONResponse({"error": why}, status)
