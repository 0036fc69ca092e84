"""Reads of one group: which consistency is asked for, and who may answer.

This module exists so that everything that stands between a question and the state machine is on
one screen: duties that only a leader knows, the clock that a lease needs, the quorum that a
linearizable read needs. When a read is safe is the core's to say (``mcpcore.raft.reads``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from mcpcore.clock import ClockHealth
from mcpcore.errors import CoordinationError, InvalidInput, LeaseUnavailable, ReadNotConfirmed
from mcpcore.node.duties import Duties
from mcpcore.node.machine import ReplicatedState
from mcpcore.node.waiting import Answer, Consistency, ReadResult, Reads
from mcpcore.raft import quiescence
from mcpcore.raft.core import Raft
from mcpcore.raft.outcome import ReadAnswer
from mcpcore.raft.staleness import StalenessBound


class Reading:
    """The reads of one group.

    Args:
        duties: the duties of its machine, if it has any.
        clock_health: judges the node's clock; no lease is relied upon without it.
        rouse: wakes the group up if it sleeps; returns whether it did.
        wake: asks for a turn of the group.
    """

    __slots__ = ("_clock_health", "_duties", "_raft", "_reads", "_rouse", "_state", "_wake")

    def __init__(
        self,
        raft: Raft,
        state: ReplicatedState,
        duties: Duties | None,
        *,
        clock_health: Callable[[], ClockHealth],
        rouse: Callable[[], bool],
        wake: Callable[[], None],
    ) -> None:
        self._raft = raft
        self._state = state
        self._duties = duties
        self._clock_health = clock_health
        self._rouse = rouse
        self._wake = wake
        self._reads = Reads(raft.state.group, raft.state.settings.max_pending_reads)

    def __len__(self) -> int:
        """How many wait for an answer."""
        return len(self._reads)

    def ask(
        self, request: bytes, consistency: Consistency, applied: int, now_ns: int
    ) -> asyncio.Future[ReadResult]:
        """See ``Group.read``."""
        answer: Answer = partial(self._query, request)
        if self._duties is not None:
            prepared = self._duties.answer(request, now_ns)
            if prepared is not None:
                answer, consistency = (lambda: prepared), Consistency.LINEARIZABLE
        group = self._raft.state.group
        future: asyncio.Future[ReadResult] = asyncio.get_running_loop().create_future()
        woke = consistency is not Consistency.STALE and self._rouse()
        if consistency is Consistency.LEASE and (woke or quiescence.just_woken(self._raft.state)):
            # A leader that slept has no lease yet; asking a quorum promises no less.
            consistency = Consistency.LINEARIZABLE
        if consistency is Consistency.LINEARIZABLE:
            self._reads.ask(self._raft.read(now_ns), future, answer)
            self._wake()
        elif consistency is Consistency.LEASE:
            health = self._clock_health()
            if not health.may_lease:
                raise LeaseUnavailable(group, f"this clock cannot be relied upon: {health}")
            self._reads.answer_at(self._raft.lease_read(now_ns), applied, future, answer)
        else:
            self._reads.answer_at(0, applied, future, answer)
        return future

    def ask_stale(
        self, request: bytes, applied: int, now_ns: int, bound: StalenessBound | None
    ) -> asyncio.Future[ReadResult]:
        """Answer from the state as it is, and say how old it may be."""
        if self._duties is not None and self._duties.answer(request, now_ns) is not None:
            raise InvalidInput("only a leader can answer this, and never from an old state")
        future: asyncio.Future[ReadResult] = asyncio.get_running_loop().create_future()
        answer: Answer = partial(self._query, request)
        self._reads.answer_at(0, applied, future, answer, bound)
        return future

    def answered(self, answers: Sequence[ReadAnswer], applied: int) -> None:
        """The core says which reads are confirmed, and which cannot be."""
        for answer in answers:
            if answer.read_index:
                self._reads.confirmed(answer.read, answer.read_index, applied)
            else:
                group = self._raft.state.group
                self._reads.unconfirmed(answer.read, ReadNotConfirmed(group))

    def applied_to(self, applied: int) -> None:
        """The state has reached ``applied``."""
        self._reads.applied_to(applied)

    def fail_all(self, why: Callable[[], CoordinationError]) -> None:
        """Nothing will be answered here any more."""
        self._reads.fail_all(why)

    def _query(self, request: bytes) -> bytes:
        return self._state.machine.query(request)
