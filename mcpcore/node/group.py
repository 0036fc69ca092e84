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
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mcpcore.clock import ClockHealth
from mcpcore.errors import (
    CoordinationError,
    GroupFailed,
    InvalidInput,
    NoSpace,
    OutcomeUnknown,
    ProtocolViolation,
    QueueFull,
    Rejected,
    ReplicaInDoubt,
    StateMissing,
)
from mcpcore.node.applying import Applying
from mcpcore.node.clocks import Clocks
from mcpcore.node.deadlines import Deadlines
from mcpcore.node.duties import Duties
from mcpcore.node.group_status import GroupObserver, GroupStatus, status_of
from mcpcore.node.inbox import Inbox
from mcpcore.node.machine import LeaderDuties, ReplicatedState
from mcpcore.node.meters import Meters, Probe
from mcpcore.node.neighbours import Neighbours
from mcpcore.node.quarantining import QuarantineKeeper
from mcpcore.node.reading import Reading
from mcpcore.node.reuniting import Reuniting
from mcpcore.node.snapshots.keeper import SnapshotKeeper
from mcpcore.node.storage.contract import LogDevice
from mcpcore.node.storing import Storing
from mcpcore.node.waiting import (
    Applied,
    Consistency,
    Proposals,
    ReadResult,
    Stale,
    parse_consistency,
)
from mcpcore.raft import quiescence, recall
from mcpcore.raft.core import Raft
from mcpcore.raft.membership import Change
from mcpcore.raft.messages import Message
from mcpcore.raft.outcome import NEVER, Event, MembershipNoticed, Role, RoleChanged, Write
from mcpcore.raft.split import Verdict
from mcpcore.raft.types import Configuration, Entry, EntryKind, HardState, LogPosition

if TYPE_CHECKING:
    from mcpcore.node.freshness import Freshness
    from mcpcore.node.judging import Judging
    from mcpcore.node.trails import Trail

logger = logging.getLogger("mcpcore.node.group")

FULL_DEVICE_RETRY_NS = 20_000_000

__all__ = ["Applied", "Consistency", "Group", "GroupStatus", "ReadResult", "Stale"]


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
        wake: asks the node for a turn of this group, soon.
        alarm: asks the node to call ``rang`` at a moment, instead of the one named before.
        neighbours: what the node knows of other nodes.
        failed: called when the log fails; the node then stops.
        clock_health: judges the node's clock; no lease is relied upon without it.
        offended: called with a member and what it said that no correct member says.
        observer: hears what concerns the node as a whole.
        meters: where the node counts.
        quarantine: keeps what the log gives up.
        reunions: remembers what waits for an operator, and what cuts did.
    """

    __slots__ = (
        "_clocks",
        "_closed",
        "_configuration",
        "_deadlines",
        "_device",
        "_duties",
        "_inbox",
        "_meters",
        "_neighbours",
        "_observer",
        "_offended",
        "_probe",
        "_proposals",
        "_reading",
        "_send",
        "_storing",
        "_wake",
        "applying",
        "failure",
        "freshness",
        "judging",
        "listeners",
        "members_only",
        "name",
        "quarantine",
        "raft",
        "reunions",
        "trail",
    )  # fmt: skip

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
        alarm: Callable[[Group, int], None],
        neighbours: Neighbours,
        failed: Callable[[BaseException], None],
        clock_health: Callable[[], ClockHealth],
        offended: Callable[[str, ProtocolViolation], None],
        observer: GroupObserver,
        meters: Meters,
        quarantine: QuarantineKeeper,
        reunions: Reuniting,
    ) -> None:
        self.name = name
        self._meters = meters
        self._probe = Probe(meters.proposals)
        self._observer = observer
        self._configuration = raft.state.configuration
        self.raft = raft
        self._device = device
        self._clocks = clocks
        self._send = send
        self._wake = wake
        self._neighbours = neighbours
        self._deadlines = Deadlines(partial(alarm, self), neighbours)
        self._offended = offended
        self._inbox = Inbox()
        self._proposals = Proposals(name)
        self.applying = Applying(
            raft.state.id,
            state,
            raft.state.handed,
            self._proposals,
            marked=partial(observer.marked, self),
            reached=self._reached,
        )
        """The state, and how far it has come."""
        machine = state.machine
        self._duties: Duties | None = None
        if isinstance(machine, LeaderDuties):
            self._duties = Duties(machine, raft, self.wake)
        self._reading = Reading(
            raft,
            state,
            self._duties,
            clock_health=clock_health,
            rouse=self.rouse,
            wake=self.wake,
        )
        self.quarantine = quarantine
        self._storing = Storing(
            device,
            name,
            stored=self._stored,
            failed=failed,
            wait=self._wait_for_room,
            keep=quarantine.keep,
        )
        self._closed = False
        self.failure: Exception | None = None
        """What was raised here in the middle of a change; None while the group is in service."""
        self.judging: Judging | None = None
        """Knows whether this group is split; None: nobody judges it."""
        self.freshness: Freshness | None = None
        """Knows how old the state here may be; None: nobody keeps account."""
        self.trail: Trail | None = None
        """Follows traced entries; None: nobody traces here."""
        self.reunions = reunions
        reunions.wake = self.wake
        self.members_only = False
        """Whether only members of the present configuration are heard: see ``recovery.apply``."""
        self.listeners: list[Callable[[RoleChanged], None]] = []
        """Called with every change of role, term or known leader. What they raise is logged."""

    @property
    def awaiting_operator(self) -> str:
        """The reunion that waits for an operator's answer, in words; empty if none does."""
        return self.raft.state.reunion.words()

    @property
    def state(self) -> ReplicatedState:
        """The state machine and its sessions."""
        return self.applying.state

    @property
    def applied(self) -> int:
        """The highest index that the state holds."""
        return self.applying.applied

    @property
    def snapshots(self) -> SnapshotKeeper | None:
        """Takes, sends and receives snapshots; None: the log is kept for ever."""
        return self.applying.snapshots

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
            GroupReadOnly: no leader with a quorum is to be had here, and has not been for long.
            Rejected: not appended: not the leader, too large, too much waiting.
            InvalidInput: entries of this kind are not for callers to propose.
        """
        if kind not in (EntryKind.COMMAND, EntryKind.SESSION):
            raise InvalidInput(f"entries of kind {kind!r} are the protocol's own", where="propose")
        raft = self.raft
        if self._closed or raft.state.stateless or self.applying.watch.divergence is not None:
            self._refuse_if_closed()
            self._refuse_without_state()
            self._refuse_if_in_doubt()
        if self._device.no_space:
            raise NoSpace(self.name)
        if self._storing:
            raise QueueFull(self.name, "entries for the disk", len(self._storing))
        if raft.quiet:
            self.rouse()
        now_ns = self._clocks.monotonic_ns()
        try:
            entry = raft.propose(data, now_ns, kind)
        except Rejected:
            self._refuse_if_read_only()  # says more than that another member leads
            raise
        self._probe.proposed(entry.index, now_ns)
        future = self._proposals.add(entry)
        if self.trail is not None:
            self.trail.proposed(entry)
        self._wake(self)
        return future

    def read(
        self, request: bytes, consistency: Consistency | Stale = Consistency.LINEARIZABLE
    ) -> asyncio.Future[ReadResult]:
        """Ask the state machine a question.

        The future fails with ``ReadNotConfirmed`` if no quorum confirmed the leader in time, and
        with ``MachineFault`` if the state machine raised. A member that lags behind answers when it
        has caught up, so bound your wait; cancelling is harmless.

        Raises:
            GroupReadOnly: no leader with a quorum is to be had here; a stale read still is.
            StalenessNotPromised: a ``Stale`` read accepts no state as old as ours may be.
            ReunionRefused: an operator must agree first that this member catches up.
            Rejected: not asked: no leader is known, too many reads wait, the lease does not hold.
            InvalidInput: there is no such consistency.
        """
        if type(consistency) not in (Consistency, Stale):
            consistency = parse_consistency(str(consistency))
        self._refuse_if_closed()
        self._refuse_without_state()
        self._refuse_if_in_doubt()
        now_ns = self._clocks.monotonic_ns()
        if isinstance(consistency, Stale):
            fresh = self.freshness
            bound = fresh.bound(self, consistency.max_age_s) if fresh is not None else None
            return self._reading.ask_stale(request, self.applied, now_ns, bound)
        if consistency is not Consistency.STALE:
            self.reunions.refuse()
            self._refuse_if_read_only()
        return self._reading.ask(request, consistency, self.applied, now_ns)

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
        if self._storing:
            raise QueueFull(self.name, "entries for the disk", len(self._storing))
        now_ns = self._clocks.monotonic_ns()
        future = self._proposals.add(self.raft.propose_change(changes, now_ns, force=force))
        self._wake(self)
        return future

    def found(self, configuration: Configuration, hard_state: HardState) -> None:
        """The group begins here, with nothing in its log and this configuration in force."""
        self.raft.found(configuration, hard_state, self._clocks.monotonic_ns())
        self._wake(self)

    def transfer_leadership(self, target: str) -> None:
        """Begin to hand leadership to another member.

        Raises:
            Rejected: we do not lead, or the target cannot.
        """
        self._refuse_if_closed()
        self.rouse()
        self.raft.transfer_leadership(target, self._clocks.monotonic_ns())
        self._wake(self)

    @property
    def verdict(self) -> Verdict | None:
        """Whether the group is split, as this node sees it now. None if nobody judges it, or it is
        no member, or out of service.
        """
        return self.judging.verdict(self) if self.judging is not None else None

    def status(self) -> GroupStatus:
        """This group as this node sees it now."""
        return status_of(self)

    # --- what the node tells -------------------------------------------------------------------

    def receive(self, sender: str, message: Message) -> None:
        """A message arrived for this group.

        Raises:
            ProtocolViolation: no correct member sends this.
        """
        if self._closed or not self._hears(sender):
            return
        if self._inbox.admits(sender, message):
            self._step(sender, message)
        self._wake(self)

    def _hears(self, peer: str) -> bool:
        """Whether we deal with ``peer``. After a recovery by force there are others who hold the
        group as it was before, and may have committed what we have not: neither a word of theirs
        nor the farewell of a leader to those it removed may pass between them and us.
        """
        return not self.members_only or peer in self.raft.state.configuration.members

    def _step(self, sender: str, message: Message) -> None:
        try:
            if self.raft.quiet and quiescence.disturbs(self.raft.state, message):
                self.rouse()
            self.raft.step(sender, message, self._clocks.monotonic_ns())
        except ProtocolViolation:
            raise
        except Exception as bug:  # noqa: BLE001 - see _break
            self._break(bug)

    def peer_connected(self, peer: str, *, incarnation: str) -> None:
        """A new connection to a member stands, and this is the disk behind it."""
        if not self._closed:
            self._inbox.forget(peer)
            self.raft.peer_connected(peer, self._clocks.monotonic_ns(), incarnation=incarnation)
            self._wake(self)

    def rouse(self, heard_ns: int | None = None) -> bool:
        """Wake the group up if it sleeps; returns whether it did.

        Args:
            heard_ns: when its leader's node was last heard of, if the neighbours need not be asked.
        """
        if self._closed or not self.raft.quiet:
            return False
        if heard_ns is None:
            heard_ns = self._neighbours.heard_ns(self.raft.state)
        self.raft.wake(self._clocks.monotonic_ns(), heard_ns)
        self._wake(self)
        return True

    def disk_changed(self, *, stalled: bool, full: bool) -> None:
        """The node's disk stopped or resumed answering, or ran out of space, or got some."""
        now_ns = self._clocks.monotonic_ns()
        try:
            self.raft.disk(now_ns, stalled=stalled, full=full)
            if stalled:
                self.rouse()
                if self.raft.is_leader:
                    self.raft.tick(now_ns)
        except Exception as bug:  # noqa: BLE001 - see _break
            self._break(bug)
        self._wake(self)

    def rang(self, now_ns: int) -> None:
        """A moment has come that this group named. Called by the node."""
        self._deadlines.rang()
        if self._closed:
            return
        if self._deadlines.retry_ns <= now_ns:
            self._deadlines.retry_ns = NEVER
            self._storing.go_on()
        try:
            busy = bool(self._proposals or self._reading)
            self._deadlines.came(self.raft, now_ns, busy=busy)
        except Exception as bug:  # noqa: BLE001 - see _break
            self._break(bug)
        self._wake(self)

    def turn(self) -> int:
        """Carry out what the core wants now; returns what it cost, in messages and entries."""
        if self._closed:
            return 0
        try:
            return self._carry_out()
        except Exception as bug:  # noqa: BLE001 - see _break
            self._break(bug)
            return 1

    def _carry_out(self) -> int:
        cost = 1
        for sender, message in self._inbox.next_turn():
            cost += 1
            try:
                self._step(sender, message)
            except ProtocolViolation as violation:
                self._offended(sender, violation)
        ready = self.raft.ready()
        for to, message in ready.messages:
            if self._hears(to):
                self._send(to, self.name, message)
        if ready.write is not None:
            if ready.write.dropped:
                self.reunions.lost(ready.write.dropped)
            self._storing.put(ready.write)
        for event in ready.events:
            self._announce(event)
        if ready.snapshots and self.snapshots is not None:
            self.snapshots.hear(ready.snapshots)
        if ready.committed:
            if self.trail is None:
                self.applying.apply(ready.committed)
            else:
                self.trail.committed(ready.committed)
                self.applying.apply(ready.committed)
                self.trail.applied(ready.committed)
        if ready.reads:
            self._reading.answered(ready.reads, self.applied)
        if self._duties is not None:
            self._duties.carry_out(self.applied, self._clocks.monotonic_ns())
        if self._configuration is not self.raft.state.configuration:
            self._configuration = self.raft.state.configuration
            self._observer.reconfigured(self)
        if self.reunions.busy:
            self.reunions.look()
        if self.raft.has_more or len(self._inbox):
            self._wake(self)
        self._deadlines.arm(self.raft, None if self._duties is None else self._duties.due_ns)
        self._neighbours.noted(self)
        return cost + len(ready.committed) + len(ready.messages)

    def stored_entries(self) -> list[Entry] | None:
        """Everything after the base, as the device was given it; None while it is behind."""
        state = self.raft.state
        if self._closed or self._storing or state.new_blocks or state.doubt is not None:
            return None
        return state.log.entries(state.log.base.index + 1, state.unwritten_from - 1)

    def close(self, why: str = "this node is stopping") -> None:
        """Stop: nothing more is sent, stored, applied or answered."""
        stopping = f"group {self.name}: {why}"
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
        if self.trail is not None:
            self.trail.close("the group was closed here")
        self._deadlines.disarm()
        if self.snapshots is not None:
            self.snapshots.close()
        self._storing.close()
        self.quarantine.close()
        self.reunions.close()
        self._proposals.fail_all(of_proposals)
        self._reading.fail_all(of_reads)

    def _break(self, bug: Exception) -> None:
        """Something raised half-way through a change. Going on could skip an entry, or answer from
        a state that no other member has: take no part any more, and say so loudly.
        """
        if self._closed:
            return
        self.failure = bug
        problem = f"group {self.name} is out of service on this node"
        asyncio.get_running_loop().call_exception_handler({"message": problem, "exception": bug})
        self._end(
            lambda: OutcomeUnknown(f"{problem}; the proposal may have been or may be applied"),
            lambda: GroupFailed(self.name, repr(bug)),
        )

    def wake(self) -> None:
        """Have a turn in this loop turn."""
        if not self._closed:
            self._wake(self)

    def become(
        self, position: LogPosition, configuration: Configuration, fresh: ReplicatedState
    ) -> bool:
        """Take a durable, verified snapshot for our state, unless entries have overtaken it.

        Returns:
            Whether it was news.
        """
        if self._closed or not self.raft.snapshots.install(position, configuration):
            return False
        try:
            self.applying.adopt(position, fresh)
        except Exception as bug:  # noqa: BLE001 - see _break
            self._break(bug)
            return False
        self._wake(self)
        return True

    def stateless_problem(self) -> str:
        """Why this member cannot answer yet although nothing failed; empty if it can."""
        return "its state is lost; waiting for a snapshot" if self.raft.state.stateless else ""

    def _refuse_without_state(self) -> None:
        if self.raft.state.stateless:
            raise StateMissing(self.name)

    def _refuse_if_closed(self) -> None:
        if self.failure is not None:
            raise GroupFailed(self.name, repr(self.failure))
        if self._closed:
            raise Rejected(f"group {self.name}: this node has stopped, ask another node")

    def _refuse_if_in_doubt(self) -> None:
        doubt = self.applying.watch.doubt
        if doubt:
            raise ReplicaInDoubt(self.name, doubt)

    def _refuse_if_read_only(self) -> None:
        """Say at once what a caller would otherwise find out by waiting. A leader never asks:
        whether it may write is Raft's to say.
        """
        if self.judging is not None and not self.raft.is_leader:
            refusal = self.judging.refusal(self, self._clocks.monotonic_ns())
            if refusal is not None:
                recall.refuse_if_stuck(self.raft.state)  # it says more: what to do about it
                raise refusal

    def _wait_for_room(self) -> None:
        self._deadlines.retry_ns = self._clocks.monotonic_ns() + FULL_DEVICE_RETRY_NS

    def _stored(self, write: Write) -> None:
        try:
            self.raft.written(write.seq, self._clocks.monotonic_ns())
            if self.trail is not None:
                self.trail.stored(write)
            if write.base is not None and self.snapshots is not None:
                self.snapshots.base_stored(write.base.position.index)
        except Exception as bug:  # noqa: BLE001 - see _break
            self._break(bug)
        self._wake(self)

    def _reached(self, index: int) -> None:
        if 0 < self._probe.index <= index:
            self._probe.applied(self._clocks.monotonic_ns())
        self._observer.moved(self)
        self._reading.applied_to(index)

    def _announce(self, event: Event) -> None:
        if isinstance(event, MembershipNoticed):
            noticed = {"group": self.name, "term": event.term, "peer": event.member}
            logger.warning(
                "group %s: member %s: %s", self.name, event.member, event.what, extra=noticed
            )
            return
        self._meters.role_changed(event)
        if event.role is not Role.LEADER:
            self._probe.abandon()
        logger.info(
            "group %s term %d: %s, leader %s: %s",
            self.name,
            event.term,
            event.role.value,
            event.leader or "unknown",
            event.reason,
            extra={
                "group": self.name,
                "term": event.term,
                "role": event.role.value,
                "leader": event.leader,
            },
        )
        for listener in self.listeners:
            try:
                listener(event)
            except Exception:
                logger.exception("group %s: a listener raised", self.name)
