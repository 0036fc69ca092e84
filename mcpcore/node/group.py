"""The driver of one group: it carries out what the Raft core decides.

This module exists so that the order of acting (send, write, apply, answer) stands on one screen,
and so that callers get a future for every question. It takes no decision of the protocol: if a
rule of Raft shows up here, it is in the wrong place.

A turn happens once per loop turn, however many messages and proposals came in: one write to the
disk and one batch of messages for all of them.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from mcpcore.clock import ClockHealth
from mcpcore.errors import (
    CoordinationError,
    LeaseUnavailable,
    NotLeader,
    OutcomeUnknown,
    QueueFull,
    ReadNotConfirmed,
    Rejected,
    Superseded,
)
from mcpcore.node.clocks import Clocks
from mcpcore.node.machine import LeaderDuties, ReplicatedState
from mcpcore.node.storage import LogDevice
from mcpcore.raft.core import Raft
from mcpcore.raft.messages import Message
from mcpcore.raft.state import ReadAnswer, Role, RoleChanged, Write
from mcpcore.raft.types import Entry, EntryKind

logger = logging.getLogger("mcpcore.node.group")

Answer = Callable[[], bytes]
"""Computes the answer to a read from the state as it is when called."""

FULL_DEVICE_RETRY_S = 0.02


class Consistency(StrEnum):
    """What a read may miss."""

    LINEARIZABLE = "linearizable"
    """Nothing that was committed before the read was asked; a quorum confirms it."""
    LEASE = "lease"
    """The same, if clocks keep their rate; answered by the leader alone, or refused."""
    STALE = "stale"
    """Anything that this node has not heard of yet; answered at once, by any node."""


class Applied(NamedTuple):
    """Where a proposal stands in the log, and what applying it gave."""

    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    result: bytes


class ReadResult(NamedTuple):
    """An answer, and up to which log index the state it comes from was applied."""

    applied: int
    answer: bytes


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One group as one node sees it."""

    group: str
    role: str
    term: int
    leader: str
    commit: int
    applied: int
    last_index: int
    digest: str
    """Hash of the applied state, to be compared between nodes at equal ``applied``."""
    members: tuple[str, ...]
    match: dict[str, int]
    """On the leader: the highest index known to be durable on each other member."""


class Group:
    """One group on this node. Made by ``Node``.

    Args:
        raft: the protocol core, recovered.
        state: the state machine and its sessions.
        device: the node's log.
        send: queues a message for a member of this group.
        wake: asks the node for a turn of this group in this loop turn.
        failed: called when the log fails; the node then stops.
        clock_health: judges the node's clock; no lease is relied upon without it.
    """

    def __init__(
        self,
        name: str,
        raft: Raft,
        state: ReplicatedState,
        device: LogDevice,
        clocks: Clocks,
        *,
        send: Callable[[str, str, Message], None],
        wake: Callable[[Group], None],
        failed: Callable[[BaseException], None],
        clock_health: Callable[[], ClockHealth],
    ) -> None:
        self.name = name
        self.raft = raft
        self.state = state
        self.applied = 0
        self._device = device
        self._clocks = clocks
        self._send = send
        self._wake = wake
        self._failed = failed
        self._clock_health = clock_health
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._waiting: dict[int, tuple[int, asyncio.Future[Applied]]] = {}
        self._asked: dict[int, tuple[asyncio.Future[ReadResult], Answer]] = {}
        self._behind: list[tuple[int, int, asyncio.Future[ReadResult], Answer]] = []
        self._unstored: deque[Write] = deque()
        self._reads = 0
        self._duties = state.machine if isinstance(state.machine, LeaderDuties) else None
        self._on_duty_in = 0
        self._closed = False
        self.listeners: list[Callable[[RoleChanged], None]] = []
        """Called with every change of role, term or known leader."""

    # --- asking ------------------------------------------------------------------------------

    def propose(self, data: bytes, kind: EntryKind = EntryKind.COMMAND) -> asyncio.Future[Applied]:
        """Append a command; the future gives its result once it is committed and applied here.

        Cancelling the future does not take the command back. The future fails with ``Superseded``
        (it certainly never takes effect) or ``OutcomeUnknown`` (this node stops).

        Raises:
            Rejected: not appended: not the leader, too large, too much waiting.
        """
        self._refuse_if_closed()
        if self._unstored:
            raise QueueFull(self.name, "entries for the disk", len(self._unstored))
        entry = self.raft.propose(data, self._clocks.monotonic_ns(), kind)
        future: asyncio.Future[Applied] = self._loop.create_future()
        self._waiting[entry.index] = (entry.term, future)
        self._wake(self)
        return future

    def read(
        self, request: bytes, consistency: Consistency = Consistency.LINEARIZABLE
    ) -> asyncio.Future[ReadResult]:
        """Ask the state machine a question.

        The future fails with ``ReadNotConfirmed`` if no quorum confirmed the leader in time.

        Raises:
            Rejected: not asked: no leader is known, too many reads wait, the lease does not hold.
        """
        self._refuse_if_closed()
        now_ns = self._clocks.monotonic_ns()
        answer: Answer = partial(self.state.machine.query, request)
        if self._duties is not None:
            prepared = self._duties.leader_query(request, now_ns)
            if prepared is not None:
                if not self.raft.is_leader:
                    raise NotLeader(self.name, self.raft.leader or None)
                answer, consistency = (lambda: prepared), Consistency.LINEARIZABLE
        future: asyncio.Future[ReadResult] = self._loop.create_future()
        if consistency is Consistency.LINEARIZABLE:
            self._asked[self.raft.read(now_ns)] = (future, answer)
            self._wake(self)
        elif consistency is Consistency.LEASE:
            health = self._clock_health()
            if not health.may_lease:
                raise LeaseUnavailable(self.name, f"this clock cannot be relied upon: {health}")
            self._answer_when_applied(self.raft.lease_read(now_ns), future, answer)
        else:
            self._answer_when_applied(0, future, answer)
        return future

    def transfer_leadership(self, target: str) -> None:
        """Begin to hand leadership to another member.

        Raises:
            Rejected: we do not lead, or the target cannot.
        """
        self._refuse_if_closed()
        self.raft.transfer_leadership(target, self._clocks.monotonic_ns())
        self._wake(self)

    def status(self) -> GroupStatus:
        """This group as this node sees it now."""
        state = self.raft.state
        return GroupStatus(
            group=self.name,
            role=state.role.value,
            term=state.term,
            leader=state.leader,
            commit=state.commit,
            applied=self.applied,
            last_index=state.log.last_index,
            digest=self.state.digest().hex(),
            members=tuple(sorted(state.configuration.members)),
            match={peer: progress.match for peer, progress in state.progress.items()},
        )

    # --- what the node tells -------------------------------------------------------------------

    def receive(self, sender: str, message: Message) -> None:
        """A message arrived for this group."""
        if not self._closed:
            self.raft.step(sender, message, self._clocks.monotonic_ns())
            self._wake(self)

    def peer_connected(self, peer: str, *, remembers: bool) -> None:
        """A new connection to a member stands."""
        if not self._closed:
            self.raft.peer_connected(peer, self._clocks.monotonic_ns(), remembers=remembers)
            self._wake(self)

    def turn(self) -> None:
        """Carry out what the core wants now. Called by the node, once per loop turn at most."""
        if self._closed:
            return
        ready = self.raft.ready()
        for to, message in ready.messages:
            self._send(to, self.name, message)
        if ready.write is not None:
            self._unstored.append(ready.write)
            self._store()
        for event in ready.events:
            self._announce(event)
        if ready.committed:
            self._apply(ready.committed)
        for answer in ready.reads:
            self._answer(answer)
        if self._duties is not None:
            self._do_duties(self._duties)
        if self.raft.has_more:
            self._wake(self)
        self._arm()

    def close(self) -> None:
        """Stop: nothing more is sent, stored, applied or answered."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        stopping = f"group {self.name}: this node is stopping"
        unknown = OutcomeUnknown(f"{stopping}; the proposal may still be committed by the others")
        for _, proposed in self._waiting.values():
            _fail(proposed, unknown)
        refused = Rejected(f"{stopping}; nothing was read, ask another node")
        for asked, _ in self._asked.values():
            _fail(asked, refused)
        for _, _, asked, _ in self._behind:
            _fail(asked, refused)
        self._waiting.clear()
        self._asked.clear()
        self._behind.clear()

    # --- inside --------------------------------------------------------------------------------

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise Rejected(f"group {self.name}: this node has stopped, ask another node")

    def _store(self) -> None:
        """Hand writes to the device, in order. While it is full they wait here: a leader then
        accepts no more, and a follower's answers wait, so that its leader's windows fill.
        """
        while self._unstored and not self._closed:
            if self._device.full:
                self._loop.call_later(FULL_DEVICE_RETRY_S, self._store)
                return
            write = self._unstored.popleft()
            try:
                future = self._device.submit(self.name, write.hard_state, write.blocks)
            except CoordinationError as error:
                self._failed(error)
                return
            future.add_done_callback(partial(self._stored, write.seq))

    def _stored(self, seq: int, done: asyncio.Future[None]) -> None:
        if self._closed or done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._failed(error)
            return
        self.raft.written(seq, self._clocks.monotonic_ns())
        self._wake(self)

    def _apply(self, entries: list[Entry]) -> None:
        apply, waiting = self.state.apply, self._waiting
        for entry in entries:
            result = apply(entry)
            if waiting:
                waiter = waiting.pop(entry.index, None)
                if waiter is not None and not waiter[1].done():
                    term, future = waiter
                    if term == entry.term:
                        future.set_result(Applied(term, entry.index, result))
                    else:
                        future.set_exception(Superseded(self.name, entry.index))
        self.applied = entries[-1].index
        while self._behind and self._behind[0][0] <= self.applied:
            _, _, asked, answer = heapq.heappop(self._behind)
            self._query(asked, answer)

    def _answer(self, answer: ReadAnswer) -> None:
        asked = self._asked.pop(answer.read, None)
        if asked is None:
            return
        future, compute = asked
        if answer.read_index == 0:
            _fail(future, ReadNotConfirmed(self.name))
        else:
            self._answer_when_applied(answer.read_index, future, compute)

    def _answer_when_applied(
        self, needed: int, future: asyncio.Future[ReadResult], answer: Answer
    ) -> None:
        if needed <= self.applied:
            self._query(future, answer)
        else:
            self._reads += 1
            heapq.heappush(self._behind, (needed, self._reads, future, answer))

    def _query(self, future: asyncio.Future[ReadResult], answer: Answer) -> None:
        if not future.done():
            future.set_result(ReadResult(self.applied, answer()))

    def _announce(self, event: RoleChanged) -> None:
        logger.info(
            "group %s term %d: %s, leader %s: %s",
            self.name,
            event.term,
            event.role.value,
            event.leader or "unknown",
            event.reason,
        )
        for listener in self.listeners:
            listener(event)

    def _do_duties(self, duties: LeaderDuties) -> None:
        """Start, stop and carry out what only the leader does for its machine."""
        state = self.raft.state
        leads = state.role is Role.LEADER and self.applied >= state.term_start
        now_ns = self._clocks.monotonic_ns()
        if not leads:
            if self._on_duty_in:
                self._on_duty_in = 0
                duties.follow()
            return
        if self._on_duty_in != state.term:
            self._on_duty_in = state.term
            duties.lead(now_ns)
        command = duties.duty(now_ns)
        if command is not None:
            try:
                self.raft.propose(command, now_ns)
            except Rejected as refusal:
                logger.debug("group %s: a duty waits: %s", self.name, refusal)
            self._wake(self)

    def _arm(self) -> None:
        """Have one timer stand for the next deadline. One that stands earlier is left alone."""
        deadline_ns = self.raft.deadline_ns()
        if self._on_duty_in and self._duties is not None:
            duty_ns = self._duties.next_duty_ns()
            if duty_ns is not None:
                deadline_ns = min(deadline_ns, duty_ns)
        if self._timer is not None:
            if self._timer_ns <= deadline_ns:
                return
            self._timer.cancel()
        delay_s = max(0, deadline_ns - self._clocks.monotonic_ns()) / 1e9
        self._timer_ns = deadline_ns
        self._timer = self._loop.call_later(delay_s, self._rang)

    def _rang(self) -> None:
        self._timer = None
        if not self._closed:
            now_ns = self._clocks.monotonic_ns()
            if self.raft.deadline_ns() <= now_ns:
                self.raft.tick(now_ns)
            self._wake(self)


def _fail(future: asyncio.Future[Applied] | asyncio.Future[ReadResult], why: Exception) -> None:
    if not future.done():
        future.set_exception(why)
        future.exception()  # whoever dropped the future does not want to hear of it
