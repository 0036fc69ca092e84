"""Serving clients: requests in, replies out, no task per request.

This module exists so that what a client may do, and what only an administrator may, is one table.
Answers are sent from the callbacks of futures, so that a thousand requests under way cost a
thousand futures and nothing else. It must never decide anything about a group.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mcpcore.errors import CoordinationError, InvalidInput, NotPermitted, OutcomeUnknown, QueueFull
from mcpcore.node.connection import Connection
from mcpcore.node.group import Consistency
from mcpcore.node.identity import Role
from mcpcore.node.machine import Watchable, Watching
from mcpcore.node.requests import (
    Op,
    Request,
    Status,
    decode_request,
    encode_error,
    encode_reply,
)
from mcpcore.raft.types import EntryKind

if TYPE_CHECKING:
    from mcpcore.node.node import Node

logger = logging.getLogger("mcpcore.node.service")

MAX_REQUESTS_PER_CLIENT = 16_384
MAX_WATCHES_PER_CLIENT = 1_024


class ClientService:
    """The door for clients and administrators of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._served: set[_Served] = set()

    def serve(self, connection: Connection) -> None:
        """Answer what comes over this connection until it ends."""
        served = _Served(self._node, connection, self._served.discard)
        self._served.add(served)

    def close(self) -> None:
        """End all watches. Requests under way are ended by their groups."""
        for served in list(self._served):
            served.ended("the node is stopping")


class _Served:
    """One client: its connection, its requests under way, its watches."""

    def __init__(
        self, node: Node, connection: Connection, forget: Callable[[_Served], None]
    ) -> None:
        self._node = node
        self._connection = connection
        self._forget = forget
        self._under_way = 0
        self._watches: dict[int, Watching] = {}
        connection.on_frame = self.on_frame
        connection.on_close = self.ended

    def ended(self, why: str) -> None:
        """The connection is over, or about to be."""
        for watching in self._watches.values():
            watching.cancel()
        self._watches.clear()
        self._forget(self)

    def on_frame(self, payload: bytes) -> None:
        """A request arrived; a malformed one raises InvalidInput and ends the connection."""
        request = decode_request(payload)
        try:
            self._handle(request)
        except CoordinationError as error:
            self._connection.send(encode_error(request.number, error))

    def _handle(self, request: Request) -> None:
        number, op, group, arguments = request
        if op is Op.STATUS:
            self._reply(number, self._node.status())
        elif op is Op.PROPOSE:
            kind, data = arguments
            if kind not in (EntryKind.COMMAND, EntryKind.SESSION):
                raise InvalidInput(f"clients cannot propose entries of kind {kind}")
            self._count()
            self._answer_later(number, self._node.group(group).propose(data, EntryKind(kind)))
        elif op is Op.QUERY:
            question, consistency = arguments
            self._count()
            self._answer_later(number, self._query(group, question, consistency))
        elif op is Op.TRANSFER:
            if self._connection.role is not Role.ADMIN:
                raise NotPermitted("transfer-leader", self._connection.name)
            self._node.group(group).transfer_leadership(arguments[0])
            self._reply(number, None)
        elif op is Op.WATCH:
            self._watch(number, group, arguments[0])
        elif op is Op.CANCEL:
            watching = self._watches.pop(arguments[0], None)
            if watching is not None:
                watching.cancel()
            self._reply(number, None)

    def _count(self) -> None:
        if self._under_way >= MAX_REQUESTS_PER_CLIENT:
            raise QueueFull("any", "requests of one client", MAX_REQUESTS_PER_CLIENT)

    def _query(self, group: str, question: bytes, consistency: str) -> asyncio.Future[Any]:
        try:
            wanted = Consistency(consistency)
        except ValueError:
            known = ", ".join(Consistency)
            raise InvalidInput(f"unknown consistency {consistency!r}; known: {known}") from None
        return self._node.group(group).read(question, wanted)

    def _answer_later(self, number: int, future: asyncio.Future[Any]) -> None:
        self._under_way += 1

        def done(answered: asyncio.Future[Any]) -> None:
            self._under_way -= 1
            if answered.cancelled():
                unknown = OutcomeUnknown("the node gave up on this request")
                self._connection.send(encode_error(number, unknown))
                return
            error = answered.exception()
            if error is None:
                self._reply(number, answered.result())
            elif isinstance(error, CoordinationError):
                self._connection.send(encode_error(number, error))
            else:
                raise error

        future.add_done_callback(done)

    def _watch(self, number: int, group: str, request: bytes) -> None:
        machine = self._node.group(group).state.machine
        if not isinstance(machine, Watchable):
            raise InvalidInput(f"the machine of group {group} cannot be watched")
        if number in self._watches:
            raise InvalidInput(f"request {number} is a watch already")
        if len(self._watches) >= MAX_WATCHES_PER_CLIENT:
            raise QueueFull(group, "watches of one client", MAX_WATCHES_PER_CLIENT)
        pump = _Pump(self._connection, number, lambda: self._watches.pop(number, None))
        watching = machine.watching(request, pump.wake)
        self._watches[number] = pump.watching = watching
        self._reply(number, None)
        pump.wake()

    def _reply(self, number: int, body: object) -> None:
        self._connection.send(encode_reply(number, Status.OK, body))


class _Pump:
    """Moves events of one watch to its connection, as fast as the client reads."""

    def __init__(self, connection: Connection, number: int, ended: Callable[[], object]) -> None:
        self._connection = connection
        self._number = number
        self._ended = ended
        self._due = False
        self._loop = asyncio.get_running_loop()
        self.watching: Watching | None = None

    def wake(self) -> None:
        """There is something to take. Called while a command is applied, so only note it."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._due = False
        watching = self.watching
        if watching is None or not self._connection.is_open:
            return
        if self._connection.is_congested:
            # The watch's own bounded queue fills meanwhile and ends the watch if need be.
            self._due = True
            self._loop.call_later(0.02, self._run)
            return
        events, over = watching.take()
        for event in events:
            self._connection.send(encode_reply(self._number, Status.EVENT, event))
        if over:
            watching.cancel()
            self._ended()
        elif events:
            self.wake()
