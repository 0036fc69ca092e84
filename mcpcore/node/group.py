"""The driver of one group: it carries out what the Raft core decides.

This module exists so that the order of acting (send, write, apply, answer) stands on one screen,
and so that callers get a future for every question. It takes no decision of the protocol: if a
rule of Raft shows up here, it is in the wrong place.

A turn happens once per loop turn, however many messages and proposals came in: one write to the
disk and one batch of messages for all of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from mcpcore.clock import ClockHealth
from mcpcore.errors import (
    CoordinationError,
    GroupFailed,
    InvalidInput,
    LeaseUnavailable,
    NotLeader,
    OutcomeUnknown,
    ProtocolViolation,
    QueueFull,
    ReadNotConfirmed,
    Rejected,
    ReplicaInDoubt,
)
from mcpcore.node.clocks import Clocks
from mcpcore.node.divergence import StateWatch
from mcpcore.node.group_status import GroupObserver, GroupStatus, status_of
from mcpcore.node.machine import LeaderDuties, ReplicatedState
from mcpcore.node.storage.contract import LogDevice
from mcpcore.node.waiting import Answer, Applied, Consistency, Proposals, ReadResult, Reads
from mcpcore.raft.core import Raft
from mcpcore.raft.membership import Change
from mcpcore.raft.messages import Message
from mcpcore.raft.state import Event, MembershipNoticed, Role, RoleChanged, Write
from mcpcore.raft.types import Configuration, Entry, EntryKind, HardState

logger = logging.getLogger("mcpcore.node.group")

FULL_DEVICE_RETRY_S = 0.02

__all__ = ["Applied", "Consistency", "Group", "GroupStatus", "ReadResult"]


class Group:
    """One group on this node. Made by ``Node``.

    If code of ours or of the state machine raises in the middle of a change, what this member holds
    is not known any more. It then takes no further part (``failure`` says why): the other members
    and the other groups of this node go on.

    Args:
        raft: the protocol core, recovered.
        state: the state machine and its sessions.
        device: the node's log.
        send: queues a message for a member of this group.
        wake: asks the node for a turn of this group in this loop turn.
        failed: called when the log fails; the node then stops.
        clock_health: judges the node's clock; no lease is relied upon without it.
        observer: hears what concerns the node as a whole.
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
        observer: GroupObserver,
    ) -> None:
        self.name = name
        self.watch = StateWatch(raft.state.id)
        self._observer = observer
        self._configuration = raft.state.configuration
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
        self._proposals = Proposals(name)
        self._reads = Reads(name, raft.state.settings.max_pending_reads)
        self._unstored: deque[Write] = deque()
        self._store_timer: asyncio.TimerHandle | None = None
        self._duties = state.machine if isinstance(state.machine, LeaderDuties) else None
        self._on_duty_in = 0
        self._closed = False
        self.failure: Exception | None = None
        """What was raised here in the middle of a change; None while the group is in service."""
        self.listeners: list[Callable[[RoleChanged], None]] = []
        """Called with every change of role, term or known leader. What they raise is logged."""

    # --- asking ------------------------------------------------------------------------------

    def propose(self, data: bytes, kind: EntryKind = EntryKind.COMMAND) -> asyncio.Future[Applied]:
        """Append a command; the future gives its result once it is committed and applied here.

        Cancelling the future does not take the command back. The future fails with ``Superseded``
        (it certainly never takes effect) or ``OutcomeUnknown`` (this node stops). While no quorum
        can be reached it stays pending, so bound your wait (``asyncio.timeout``); the outcome is
        then unknown.

        Args:
            data: the command, as the state machine's ``apply`` gets it.
            kind: COMMAND, or SESSION for the entries that ``mcpcore.raft.sessions`` makes.

        Raises:
            Rejected: not appended: not the leader, too large, too much waiting.
            InvalidInput: entries of this kind are not for callers to propose.
        """
        if kind not in (EntryKind.COMMAND, EntryKind.SESSION):
            raise InvalidInput(f"entries of kind {kind!r} are the protocol's own", where="propose")
        self._refuse_if_closed()
        self._refuse_if_in_doubt()
        if self._unstored:
            raise QueueFull(self.name, "entries for the disk", len(self._unstored))
        entry = self.raft.propose(data, self._clocks.monotonic_ns(), kind)
        future = self._proposals.add(entry)
        self._wake(self)
        return future

    def read(
        self, request: bytes, consistency: Consistency = Consistency.LINEARIZABLE
    ) -> asyncio.Future[ReadResult]:
        """Ask the state machine a question.

        The future fails with ``ReadNotConfirmed`` if no quorum confirmed the leader in time, and
        with ``MachineFault`` if the state machine raised. A member that lags behind answers when it
        has caught up, so bound your wait; cancelling is harmless.

        Raises:
            Rejected: not asked: no leader is known, too many reads wait, the lease does not hold.
            InvalidInput: there is no such consistency.
        """
        if type(consistency) is not Consistency:
            consistency = Consistency.parse(consistency)
        self._refuse_if_closed()
        self._refuse_if_in_doubt()
        now_ns = self._clocks.monotonic_ns()
        answer: Answer = partial(self.state.machine.query, request)
        if self._duties is not None:
            prepared = self._duties.leader_query(request, now_ns)
            if prepared is not None:
                state = self.raft.state
                if not state.is_leader or self._on_duty_in != state.term:
                    # A new leader that has not begun its duties knows nothing to answer from.
                    known = state.leader if state.leader != state.id else ""
                    raise NotLeader(self.name, known or None)
                answer, consistency = (lambda: prepared), Consistency.LINEARIZABLE
        future: asyncio.Future[ReadResult] = self._loop.create_future()
        if consistency is Consistency.LINEARIZABLE:
            self._reads.ask(self.raft.read(now_ns), future, answer)
            self._wake(self)
        elif consistency is Consistency.LEASE:
            health = self._clock_health()
            if not health.may_lease:
                raise LeaseUnavailable(self.name, f"this clock cannot be relied upon: {health}")
            self._reads.answer_at(self.raft.lease_read(now_ns), self.applied, future, answer)
        else:
            self._reads.answer_at(0, self.applied, future, answer)
        return future

    def change(self, changes: Sequence[Change], *, force: bool = False) -> asyncio.Future[Applied]:
        """Change who takes part. The future resolves when the change is committed; a joint one is
        left by the leader some moments later.

        Args:
            force: promote a learner that has not caught up.

        Raises:
            Rejected: not begun: not the leader, another change is under way, a rule stands against
                it. The error says which.
        """
        self._refuse_if_closed()
        if self._unstored:
            raise QueueFull(self.name, "entries for the disk", len(self._unstored))
        now_ns = self._clocks.monotonic_ns()
        future = self._proposals.add(self.raft.propose_change(changes, now_ns, force=force))
        self._wake(self)
        return future

    def found(self, configuration: Configuration, hard_state: HardState) -> None:
        """The group begins here, with nothing in its log and this configuration in force."""
        self.raft.found(configuration, hard_state, self._clocks.monotonic_ns())
        self._wake(self)

    def mark(self) -> None:
        """Take a digest of the state as it is now."""
        self.watch.mark(self.applied, self.state.digest())
        self._observer.marked(self, self.applied)

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
        return status_of(self)

    # --- what the node tells -------------------------------------------------------------------

    def receive(self, sender: str, message: Message) -> None:
        """A message arrived for this group.

        Raises:
            ProtocolViolation: no correct member sends this.
        """
        if self._closed:
            return
        try:
            self.raft.step(sender, message, self._clocks.monotonic_ns())
        except ProtocolViolation:
            raise
        except Exception as bug:  # noqa: BLE001 - see _break
            self._break(bug)
        self._wake(self)

    def peer_connected(self, peer: str, *, incarnation: str) -> None:
        """A new connection to a member stands, and this is the disk behind it."""
        if not self._closed:
            self.raft.peer_connected(peer, self._clocks.monotonic_ns(), incarnation=incarnation)
            self._wake(self)

    def turn(self) -> None:
        """Carry out what the core wants now. Called by the node, once per loop turn at most."""
        if self._closed:
            return
        try:
            self._carry_out()
        except Exception as bug:  # noqa: BLE001 - see _break
            self._break(bug)

    def _carry_out(self) -> None:
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
            if answer.read_index:
                self._reads.confirmed(answer.read, answer.read_index, self.applied)
            else:
                self._reads.unconfirmed(answer.read, ReadNotConfirmed(self.name))
        if self._duties is not None:
            self._do_duties(self._duties)
        if self._configuration is not self.raft.state.configuration:
            self._configuration = self.raft.state.configuration
            self._observer.reconfigured(self)
        if self.raft.has_more:
            self._wake(self)
        self._arm()

    def close(self) -> None:
        """Stop: nothing more is sent, stored, applied or answered."""
        stopping = f"group {self.name}: this node is stopping"
        self._end(
            lambda: OutcomeUnknown(
                f"{stopping}; the proposal may still be committed by the others"
            ),
            lambda: Rejected(f"{stopping}; nothing was read, ask another node"),
        )

    # --- inside --------------------------------------------------------------------------------

    def _end(
        self,
        of_proposals: Callable[[], CoordinationError],
        of_reads: Callable[[], CoordinationError],
    ) -> None:
        if self._closed:
            return
        self._closed = True
        for timer in (self._timer, self._store_timer):
            if timer is not None:
                timer.cancel()
        self._unstored.clear()
        self._proposals.fail_all(of_proposals)
        self._reads.fail_all(of_reads)

    def _break(self, bug: Exception) -> None:
        """Something raised half-way through a change. Going on could skip an entry, or answer from
        a state that no other member has: take no part any more, and say so loudly.
        """
        if self._closed:
            return
        self.failure = bug
        problem = f"group {self.name} is out of service on this node"
        self._loop.call_exception_handler({"message": problem, "exception": bug})
        self._end(
            lambda: OutcomeUnknown(f"{problem}; the proposal may have been or may be applied"),
            lambda: GroupFailed(self.name, repr(bug)),
        )

    def _refuse_if_closed(self) -> None:
        if self.failure is not None:
            raise GroupFailed(self.name, repr(self.failure))
        if self._closed:
            raise Rejected(f"group {self.name}: this node has stopped, ask another node")

    def _refuse_if_in_doubt(self) -> None:
        doubt = self.watch.doubt
        if doubt:
            raise ReplicaInDoubt(self.name, doubt)

    def _store(self) -> None:
        """Hand writes to the device, in order. While it is full entries wait here: a leader then
        accepts no more, and a follower's answers wait, so that its leader's windows fill. A term or
        vote alone goes on: the device never refuses it, and elections must not stop.
        """
        while self._unstored and not self._closed:
            if self._unstored[0].blocks and self._device.full:
                if self._store_timer is None:
                    later = self._loop.call_later(FULL_DEVICE_RETRY_S, self._store_again)
                    self._store_timer = later
                return
            write = self._unstored.popleft()
            try:
                future = self._device.submit(self.name, write.hard_state, write.blocks)
            except CoordinationError as error:
                self._failed(error)
                return
            future.add_done_callback(partial(self._stored, write.seq))

    def _store_again(self) -> None:
        self._store_timer = None
        self._store()

    def _stored(self, seq: int, done: asyncio.Future[None]) -> None:
        if self._closed or done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._failed(error)
            return
        try:
            self.raft.written(seq, self._clocks.monotonic_ns())
        except Exception as bug:  # noqa: BLE001 - see _break
            self._break(bug)
        self._wake(self)

    def _apply(self, entries: list[Entry]) -> None:
        apply, proposals, marked = self.state.apply, self._proposals, self.watch.next
        for entry in entries:
            result = apply(entry)
            if entry.index == marked:
                self.applied = marked
                self.mark()
                marked = self.watch.next
            if proposals:
                proposals.applied(entry, result)
        self.applied = entries[-1].index
        self._observer.moved(self)
        self._reads.applied_to(self.applied)

    def _announce(self, event: Event) -> None:
        if isinstance(event, MembershipNoticed):
            logger.warning("group %s: member %s: %s", self.name, event.member, event.what)
            return
        logger.info(
            "group %s term %d: %s, leader %s: %s",
            self.name,
            event.term,
            event.role.value,
            event.leader or "unknown",
            event.reason,
        )
        for listener in self.listeners:
            try:
                listener(event)
            except Exception:
                logger.exception("group %s: a listener raised", self.name)

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
        if self._closed:
            return
        now_ns = self._clocks.monotonic_ns()
        try:
            if self.raft.deadline_ns() <= now_ns:
                self.raft.tick(now_ns)
        except Exception as bug:  # noqa: BLE001 - see _break
            self._break(bug)
        self._wake(self)
