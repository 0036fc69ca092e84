"""One node as a client sees it: a connection made when needed, and the requests under way on it.

This module exists so that the client above it deals in questions and answers and never in frames.
It retries nothing: it says clearly whether a request never left (``Unreachable``, ``QueueFull``) or
was lost under way (``ConnectionLost``), and leaves the rest to the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mcpcore.errors import ConnectionLost, InvalidInput, QueueFull, Unreachable
from mcpcore.node.client.event_buffer import EventBuffer
from mcpcore.node.requests import Op, Status, decode_reply, encode_request, encode_traced
from mcpcore.node.tracing import GROUP, NODE, Tracing
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.connection import Connection
from mcpcore.node.transport.dialing import connect_client
from mcpcore.node.transport.identity import Role
from mcpcore.node.transport.security import Security


class Endpoint:
    """A node at an address. Made by ``Client``."""

    def __init__(
        self,
        address: Address,
        security: Security,
        *,
        cluster: str,
        name: str,
        role: Role,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing
        self.address = address
        self.node = ""
        """Name of the node found there; empty before the first connection."""
        self._security = security
        self._cluster = cluster
        self._name = name
        self._role = role
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._streams: set[Connection] = set()
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._watches: dict[int, EventBuffer] = {}
        self._closed = False

    async def connect(self) -> Connection:
        """The connection, made now if there is none. Callers at the same time share one attempt.

        Raises:
            Unreachable: nobody answers there, or the client was closed.
            HandshakeRefused: the node refused us, or is not of our cluster.
        """
        if self._closed:
            raise Unreachable(str(self.address), "the client is closed")
        if self._connection is not None and self._connection.is_open:
            return self._connection
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(self._connected)
        connecting = self._connecting
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if connecting.cancelled() and (task is None or not task.cancelling()):
                # Nobody cancelled us: `close` ended the attempt that we shared.
                raise Unreachable(str(self.address), "the client is closed") from None
            raise

    async def call(self, op: Op, group: str, *arguments: object) -> Any:
        """Ask and wait for the answer. Cancelling gives up on the answer, not on the request.

        Raises:
            Unreachable: the request never left.
            QueueFull: the same; too many wait to leave.
            ConnectionLost: it left, and the connection broke before an answer came.
            CoordinationError: what the node answered.
        """
        return await self._ask(await self.connect(), self._next(), op, group, *arguments)

    async def watch(
        self, group: str, request: bytes, events: EventBuffer, *, op: Op = Op.WATCH
    ) -> Callable[[], None]:
        """Follow changes: they go into ``events``, which ends when the watch does.

        Args:
            op: what is followed: WATCH, a machine; VERDICTS, those of the node.

        Returns:
            Ends the watch.

        Raises:
            CoordinationError: as ``call``; no watch has begun.
        """
        connection = await self.connect()
        number = self._next()
        self._watches[number] = events
        try:
            await self._ask(connection, number, op, group, request)
        except BaseException:
            self._unwatch(connection, number)  # it may have begun, and nobody will listen
            raise
        return lambda: self._unwatch(connection, number)

    async def close(self) -> None:
        """Hang up for good, and return once the loop has let go of every byte stream there was: a
        program may end now, and nothing is left open. The connections' own linger bounds the wait.
        Whoever waits for an answer gets ``ConnectionLost``.
        """
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._connection is not None:
            self._connection.close()  # which calls `_lost`
        if self._streams:
            await asyncio.wait([stream.gone for stream in self._streams])

    def _next(self) -> int:
        self._number += 1
        return self._number

    async def _ask(
        self, connection: Connection, number: int, op: Op, group: str, *arguments: object
    ) -> Any:
        traceparent = (
            "" if self._tracing is None else self._traced(self._tracing, connection, group)
        )
        if traceparent:
            request = encode_traced(traceparent, number, op, group, *arguments)
        else:
            request = encode_request(number, op, group, *arguments)
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            if not connection.send(request):
                if connection.is_open:
                    raise QueueFull(group, f"requests for {self.address}", len(self._waiting))
                raise Unreachable(str(self.address), "the connection ended before it left")
            return await future
        finally:
            self._waiting.pop(number, None)

    def _traced(self, tracing: Tracing, connection: Connection, group: str) -> str:
        """Tell that a request leaves now; returns what to tell the node of the trace, if it traces
        calls: one that does not would take it for no request at all.
        """
        if tracing.recording():
            tracing.event("sent", {NODE: self.node, GROUP: group, "address": str(self.address)})
        agreement = connection.agreement
        return tracing.traceparent() if agreement is not None and agreement.traces else ""

    def _unwatch(self, connection: Connection, number: int) -> None:
        watched = self._watches.pop(number, None) is not None
        if watched and connection.is_open:
            connection.send(encode_request(self._next(), Op.CANCEL, "", number))

    async def _connect(self) -> Connection:
        connection = await connect_client(
            self.address,
            self._security,
            cluster=self._cluster,
            name=self._name,
            role=self._role,
            on_frame=self._on_frame,
            registry=self._streams,
        )
        connection.on_close = lambda why: self._lost(connection, why)
        self._connection = connection
        self.node = connection.name
        return connection

    def _connected(self, task: asyncio.Task[Connection]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # whoever waits for it gets it; nobody may be waiting any more

    def _on_frame(self, payload: bytes) -> None:
        number, status, body = decode_reply(payload)
        if status is Status.EVENT:
            self._heard(number, body)
            return
        future = self._waiting.get(number)
        if future is None or future.done():
            watched = self._watches.pop(number, None)
            if watched is not None:
                watched.end(body if status is Status.ERROR else None)
            return
        if status is Status.OK:
            future.set_result(body)
        elif status is Status.ERROR:
            future.set_exception(body)
        else:
            raise InvalidInput("a request cannot be answered with the end of a watch")

    def _heard(self, number: int, event: object) -> None:
        events = self._watches.get(number)
        if events is None or self._connection is None:
            return
        if type(event) is not bytes:
            raise InvalidInput("an event must be bytes")
        events.put(event)
        if events.ended:
            self._unwatch(self._connection, number)

    def _lost(self, connection: Connection, why: str) -> None:
        if self._connection is not connection:
            return
        self._connection = None
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost(str(self.address), why))
        watches, self._watches = self._watches, {}
        for events in watches.values():
            events.end(ConnectionLost(str(self.address), f"the watch ended with it: {why}"))

    def __repr__(self) -> str:
        return f"{self.node or '?'}@{self.address}"
