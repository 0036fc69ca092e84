"""Serving clients: requests in, replies out, no task per request.

This module exists so that what a client may do, and what only an administrator may, is one table.
Answers are sent from the callbacks of futures, so that a thousand requests under way cost a
thousand futures and nothing else. It must never decide anything about a group.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from mcpcore.errors import (
    AnswerTooLarge,
    CoordinationError,
    InvalidInput,
    NotPermitted,
    OutcomeUnknown,
    QueueFull,
    Rejected,
    StorageFailed,
)
from mcpcore.node import custody_door
from mcpcore.node.backup import Backup
from mcpcore.node.catalog import settings_from
from mcpcore.node.changes import from_rows
from mcpcore.node.config import GroupConfig
from mcpcore.node.group import Applied
from mcpcore.node.machine import Watchable, Watching
from mcpcore.node.policies.door import answer
from mcpcore.node.policies.machine import PolicyMachine
from mcpcore.node.requests import (
    Op,
    Request,
    Status,
    decode_request,
    encode_error,
    encode_reply,
)
from mcpcore.node.tracing import GROUP, NODE, PEER, Side, Span, facts_of
from mcpcore.node.transport.connection import Connection
from mcpcore.node.transport.identity import Role
from mcpcore.node.verdict_stream import VerdictWatch
from mcpcore.node.waiting import ReadResult, parse_consistency
from mcpcore.raft.types import EntryKind

if TYPE_CHECKING:
    from mcpcore.node.node import Node

logger = logging.getLogger("mcpcore.node.service")

MAX_REQUESTS_PER_CLIENT = 16_384
MAX_WATCHES_PER_CLIENT = 1_024
MAX_EVENT_BYTES_QUEUED = 1 << 20
"""A connection on which more waits than this gets no further events until the client has read."""
CONGESTION_POLL_S = 0.02
UNTRACED = (Op.STATUS, Op.SURVEY, Op.GROUPS, Op.VERDICT, Op.CANCEL)
"""Questions that are no part of anybody's work, unless they come as a part of a trace."""


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
        """End all watches, and what is left of the requests once the groups have answered them."""
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
        self._under_way: set[asyncio.Future[Any]] = set()
        self._watches: dict[int, Watching] = {}
        self._spans: dict[int, Span] = {}
        self._backup: tuple[int, Backup] | None = None
        connection.on_frame = self.on_frame
        connection.on_close = self.ended

    def ended(self, why: str) -> None:
        """The connection is over, or about to be."""
        for watching in self._watches.values():
            watching.cancel()
        self._watches.clear()
        self._backup = None
        spans, self._spans = self._spans, {}
        for span in spans.values():
            span.end({}, why)
        for future in list(self._under_way):
            future.cancel()  # nobody waits for the answer; a proposal takes its course all the same
        self._forget(self)

    def on_frame(self, payload: bytes) -> None:
        """A request arrived; a malformed one raises InvalidInput and ends the connection."""
        request = decode_request(payload)
        if self._node.tracing is not None and (request.traceparent or request.op not in UNTRACED):
            with self._begin_span(request).current():
                self._try(request)
        else:
            self._try(request)

    def _begin_span(self, request: Request) -> Span:
        """Tell of a request until it is answered, or the connection ends."""
        assert self._node.tracing is not None
        facts = {
            NODE: self._node.config.name,
            GROUP: request.group,
            PEER: self._connection.name,
        }
        name = request.op.name.lower()
        span = self._node.tracing.span(name, Side.SERVER, facts, request.traceparent)
        older = self._spans.pop(request.number, None)
        if older is not None:
            older.end({}, f"another request has taken the number {request.number}")
        self._spans[request.number] = span
        return span

    def _end_span(self, number: int, body: object, error: CoordinationError | None) -> None:
        span = self._spans.pop(number, None)
        if span is not None:
            span.end(facts_of(body), error)

    def _try(self, request: Request) -> None:
        try:
            self._handle(request)
        except CoordinationError as error:
            self._refuse(request.number, error)
        except Exception as bug:
            logger.exception("a request of %s failed", self._connection.name)
            self._refuse(request.number, OutcomeUnknown(f"the node failed over this: {bug!r}"))

    def _handle(self, request: Request) -> None:
        number, op, group, arguments, _ = request
        if op is Op.STATUS:
            self._reply(number, self._node.status())
        elif op is Op.SURVEY:
            self._reply(number, self._node.survey())
        elif op is Op.PROPOSE:
            kind, data = arguments
            if kind not in (EntryKind.COMMAND, EntryKind.SESSION):
                raise InvalidInput(f"clients cannot propose entries of kind {kind}")
            if isinstance(self._node.group(group).state.machine, PolicyMachine):
                self._only_administrators("change the log of a policy")
            self._count(group)
            self._answer_later(number, self._node.group(group).propose(data, EntryKind(kind)))
        elif op is Op.QUERY:
            question, consistency = arguments
            self._count(group)
            reading = self._node.group(group).read(question, parse_consistency(consistency))
            self._answer_later(number, reading)
        elif op is Op.GROUPS:
            self._reply(number, self._node.groups_in_brief())
        elif op is Op.CREATE_GROUP:
            self._only_administrators("group create")
            made = GroupConfig(_names(arguments[0]), settings_from(arguments[1]))
            self._await_later(number, group, self._node.create_group(group, made))
        elif op is Op.RETIRE_GROUP:
            self._only_administrators("group retire")
            self._await_later(number, group, self._node.retire_group(group))
        elif op is Op.TRANSFER:
            self._only_administrators("transfer-leader")
            self._node.group(group).transfer_leadership(arguments[0])
            self._reply(number, None)
        elif op is Op.WATCH:
            self._watch(number, group, arguments[0])
        elif op is Op.VERDICTS:
            self._follow(number, lambda wake: VerdictWatch(self._node.verdicts(wake)))
        elif op is Op.VERDICT:
            self._reply(number, self._node.explain(group))
        elif op is Op.CANCEL:
            watching = self._watches.pop(arguments[0], None)
            if watching is not None:
                watching.cancel()
            self._reply(number, None)
        elif op is Op.CHANGE:
            self._only_administrators("change members")
            rows, force = arguments
            self._count(group)
            self._answer_later(number, self._node.change(group, from_rows(rows), force=force))
        elif op is Op.POLICY:
            verb, body = arguments
            administrator = self._connection.role is Role.ADMIN
            self._count(group)
            told = answer(self._node.policy(group), verb, body, administrator=administrator)
            if isinstance(told, asyncio.Future):
                self._answer_later(number, told)
            else:
                self._reply(number, told)
        elif op in custody_door.OPS:
            self._only_administrators("decide about quarantine and reunions")
            work = custody_door.answer(self._node.group(group), op, arguments)
            self._answer_later(number, asyncio.get_running_loop().create_task(work))
        elif op is Op.BACKUP:
            if self._connection.role is not Role.ADMIN:
                raise NotPermitted("backup", self._connection.name)
            self._reply(number, self._back_up(number, group, arguments[0]))

    def _back_up(self, number: int, group: str, handle: int) -> object:
        if not handle:
            backup = self._node.back_up(group)
            self._backup = (number, backup)
            return (number, backup.described())
        if self._backup is None or self._backup[0] != handle:
            raise Rejected(f"no backup {handle} is under way on this connection; begin again")
        piece = self._backup[1].piece()
        if not piece:
            self._backup = None
        return piece

    def _only_administrators(self, may: str) -> None:
        if self._connection.role is not Role.ADMIN:
            raise NotPermitted(may, self._connection.name)

    def _await_later(self, number: int, group: str, work: Coroutine[Any, Any, object]) -> None:
        """Answer None when something is done that takes its course whoever waits for it."""

        async def done() -> None:
            try:
                await work
            except OSError as error:
                raise StorageFailed(f"group {group}: the disk did not take it: {error}") from error

        self._answer_later(number, asyncio.get_running_loop().create_task(done()))

    def _count(self, group: str) -> None:
        if len(self._under_way) >= MAX_REQUESTS_PER_CLIENT:
            raise QueueFull(group, "requests of one client", MAX_REQUESTS_PER_CLIENT)

    def _answer_later(self, number: int, future: asyncio.Future[Any]) -> None:
        self._under_way.add(future)

        def done(answered: asyncio.Future[Any]) -> None:
            self._under_way.discard(answered)
            if answered.cancelled():
                return  # the connection is over
            error = answered.exception()
            if error is None:
                self._reply(number, answered.result())
            elif isinstance(error, CoordinationError):
                self._refuse(number, error)
            else:
                raise error

        future.add_done_callback(done)

    def _watch(self, number: int, group: str, request: bytes) -> None:
        machine = self._node.group(group).state.machine
        if not isinstance(machine, Watchable):
            raise InvalidInput(f"the machine of group {group} cannot be watched")
        self._follow(number, partial(machine.watching, request), group)

    def _follow(
        self, number: int, begin: Callable[[Callable[[], None]], Watching], group: str = ""
    ) -> None:
        if number in self._watches:
            raise InvalidInput(f"request {number} is a watch already")
        if len(self._watches) >= MAX_WATCHES_PER_CLIENT:
            raise QueueFull(group, "watches of one client", MAX_WATCHES_PER_CLIENT)
        pump = _Pump(self._connection, number, lambda: self._watches.pop(number, None))
        self._watches[number] = pump.watching = begin(pump.wake)
        self._reply(number, None)
        pump.wake()

    def _reply(self, number: int, body: object) -> None:
        told = body.row() if isinstance(body, ReadResult) else body
        reply = encode_reply(number, Status.OK, told)
        most = self._node.config.limits.max_frame_bytes
        if len(reply) <= most:
            self._connection.send(reply)
            if self._spans:
                self._end_span(number, body, None)
        elif isinstance(body, Applied):
            where = f"index {body.index}, term {body.term}"
            too_long = f"its result has {len(body.result)} bytes, too many for a frame of {most}"
            self._refuse(number, OutcomeUnknown(f"the command was applied at {where}; {too_long}"))
        else:
            self._refuse(number, AnswerTooLarge(len(reply), most))

    def _refuse(self, number: int, error: CoordinationError) -> None:
        self._node.meters.refusals[type(error).__name__] += 1
        self._connection.send(encode_error(number, error))
        if self._spans:
            self._end_span(number, None, error)


def _names(given: tuple[object, ...]) -> tuple[str, ...]:
    names = tuple(name for name in given if type(name) is str)
    if len(names) < len(given):
        raise InvalidInput("voters must be names of nodes")
    return names


class _Pump:
    """Moves events of one watch to its connection, as fast as the client reads."""

    def __init__(self, connection: Connection, number: int, ended: Callable[[], object]) -> None:
        self._connection = connection
        self._number = number
        self._ended = ended
        self._due = False
        self._taken: deque[bytes] = deque()
        self._over = False
        self._loop = asyncio.get_running_loop()
        self.watching: Watching | None = None

    def wake(self) -> None:
        """There is something to take. Called while a command is applied, so only note it."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._due = sent = False
        watching, connection = self.watching, self._connection
        if watching is None or not connection.is_open:
            return
        try:
            if not self._taken:
                events, self._over = watching.take()
                self._taken.extend(events)
            while self._taken and connection.is_open:
                if connection.is_congested or connection.queued_bytes > MAX_EVENT_BYTES_QUEUED:
                    # The watch's own bounded queue fills meanwhile and ends it if need be.
                    self._due = True
                    self._loop.call_later(CONGESTION_POLL_S, self._run)
                    return
                connection.send(encode_reply(self._number, Status.EVENT, self._taken.popleft()))
                sent = True
            if self._over:
                connection.send(encode_reply(self._number, Status.END, None))
        except CoordinationError as error:
            self._end(watching, error)
        except Exception as bug:
            logger.exception("a watch of %s failed", connection.name)
            self._end(watching, OutcomeUnknown(f"the node failed over this watch: {bug!r}"))
        else:
            if self._over:
                self._end(watching, None)
            elif sent:
                self.wake()

    def _end(self, watching: Watching, error: CoordinationError | None) -> None:
        """An event that cannot be sent ends the watch: leaving it out would be a lie."""
        self.watching = None
        watching.cancel()
        self._ended()
        if error is not None:
            self._connection.send(encode_error(self._number, error))
