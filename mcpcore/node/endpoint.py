"""One node as a client sees it: a connection made when needed, and the requests under way on it.

This module exists so that the client above it deals in questions and answers and never in frames.
It retries nothing: it says clearly whether a request never left (``Unreachable``) or was lost under
way (``ConnectionLost``), and leaves the rest to the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mcpcore.errors import ConnectionLost, CoordinationError, InvalidInput
from mcpcore.node.addresses import Address
from mcpcore.node.connection import Connection
from mcpcore.node.dialing import connect_client
from mcpcore.node.identity import Role
from mcpcore.node.requests import Op, Status, decode_reply, encode_request
from mcpcore.node.security import Security


class Endpoint:
    """A node at an address. Made by ``Client``."""

    def __init__(
        self, address: Address, security: Security, *, cluster: str, name: str, role: Role
    ) -> None:
        self.address = address
        self.node = ""
        """Name of the node found there; empty before the first connection."""
        self._security = security
        self._cluster = cluster
        self._name = name
        self._role = role
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._events: dict[int, Callable[[Any], None]] = {}

    async def connect(self) -> Connection:
        """The connection, made now if there is none. Callers at the same time share one attempt.

        Raises:
            Unreachable: nobody answers there.
            HandshakeRefused: the node refused us, or is not of our cluster.
        """
        if self._connection is not None and self._connection.is_open:
            return self._connection
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(self._connected)
        return await asyncio.shield(self._connecting)

    async def call(self, op: Op, group: str, *arguments: object) -> Any:
        """Ask and wait for the answer. Cancelling gives up on the answer, not on the request.

        Raises:
            Unreachable: the request never left.
            ConnectionLost: it left, and the connection broke before an answer came.
            CoordinationError: what the node answered.
        """
        connection = await self.connect()
        self._number += 1
        number = self._number
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            if not connection.send(encode_request(number, op, group, *arguments)):
                raise ConnectionLost(str(self.address), "its queue is full")
            return await future
        finally:
            self._waiting.pop(number, None)

    async def watch(
        self, group: str, request: bytes, on_event: Callable[[Any], None]
    ) -> Callable[[], None]:
        """Follow changes: ``on_event`` gets each encoded event, and None when the connection ends.

        Returns:
            Ends the watch.
        """
        connection = await self.connect()
        self._number += 1
        number = self._number
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._events[number] = on_event
        try:
            connection.send(encode_request(number, Op.WATCH, group, request))
            await future
        except BaseException:
            self._events.pop(number, None)
            raise
        finally:
            self._waiting.pop(number, None)

        def cancel() -> None:
            if self._events.pop(number, None) is not None and connection.is_open:
                self._number += 1
                connection.send(encode_request(self._number, Op.CANCEL, group, number))

        return cancel

    def close(self) -> None:
        """Hang up."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close()
            self._lost(self._connection, "the client closed it")

    async def _connect(self) -> Connection:
        connection = await connect_client(
            self.address,
            self._security,
            cluster=self._cluster,
            name=self._name,
            role=self._role,
            on_frame=self._on_frame,
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
            on_event = self._events.get(number)
            if on_event is not None:
                on_event(body)
            return
        future = self._waiting.get(number)
        if future is None or future.done():
            return
        if status is Status.OK:
            future.set_result(body)
        elif isinstance(body, CoordinationError):
            future.set_exception(body)
        else:
            raise InvalidInput("an error reply must hold an error")

    def _lost(self, connection: Connection, why: str) -> None:
        if self._connection is not connection:
            return
        self._connection = None
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost(str(self.address), why))
        events, self._events = self._events, {}
        for on_event in events.values():
            on_event(None)

    def __repr__(self) -> str:
        return f"{self.node or '?'}@{self.address}"
