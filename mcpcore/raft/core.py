"""One member of one group, as a step machine.

This module exists so that a driver needs to know seven verbs and no rules: hand in what happened
(``step``, ``tick``, ``propose``, ``read``, ``written``...), then take what must happen (``ready``).
The order is the driver's only duty: take a :class:`Ready`, send its messages, start its write,
apply its entries; call ``written`` when a write is durable. What must wait for the disk waits in
here, so a driver cannot get it wrong. The rules are in the neighbouring modules, one per section
of the paper. It must never act on the world.

Time is an integer of nanoseconds from a monotonic clock, handed in with every call; ``deadline_ns``
names when the next ``tick`` is due.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mcpcore.errors import (
    InvalidInput,
    NotLeader,
    ProposalTooLarge,
    QueueFull,
    TransferUnderWay,
)
from mcpcore.raft import (
    commitment,
    election,
    identity,
    quiescence,
    reads,
    recall,
    reconfiguration,
    renewal,
    replication,
    reuniting,
    snapshots,
    tracking,
    transfer,
)
from mcpcore.raft.dispatch import dispatch
from mcpcore.raft.doubt import Doubt
from mcpcore.raft.links import Links
from mcpcore.raft.log import ENTRY_OVERHEAD_BYTES, RaftLog
from mcpcore.raft.membership import Change
from mcpcore.raft.messages import (
    Message,
)
from mcpcore.raft.outcome import NEVER, Entropy, Event, ReadAnswer, Role, Write
from mcpcore.raft.reunion import ReunionSettings
from mcpcore.raft.settings import RaftSettings
from mcpcore.raft.snapshot_events import SnapshotEvent
from mcpcore.raft.state import RaftState
from mcpcore.raft.types import Configuration, Entry, EntryKind, HardState

Row = tuple[str, Message]
"""A message and the member it goes to."""


class Ready(NamedTuple):
    """What must happen now, in this order: send, start the write, apply, answer.

    Args:
        messages: to send at once; nothing in them waits for ``write``.
        write: to make durable, then ``Raft.written(write.seq)``; None if nothing is new.
        committed: entries to apply, each exactly once, in order.
        reads: reads that may be answered once applied up to their index (0: cannot be confirmed).
        events: what changed about roles and members, for logs and people.
        snapshots: who wants one, and what arrived of one; see ``Raft.snapshots`` for the answers.
    """

    messages: list[Row]
    write: Write | None
    committed: list[Entry]
    reads: list[ReadAnswer]
    events: list[Event]
    snapshots: list[SnapshotEvent]


class Raft:
    """A member of a Raft group: the protocol and nothing else.

    Args:
        node: this member's name.
        settings: windows and bounds, the same for all members.
        rng: source of randomness for election windows and the numbers of reads; seeded by the
            caller, differently at every start, or a late answer may meet a new read's number.
        configuration: the configuration in force at the start of ``log``.
        hard_state: term and vote as found on the disk.
        log: entries as found on the disk.
        now_ns: the monotonic clock.
        group: the group's name, for messages to people.
        incarnation: the identity of this member's disk, drawn when it was new; empty if the driver
            keeps none.
        applied: up to where a snapshot was restored; None means up to where ``log`` begins.
        stateless: no snapshot was found for where ``log`` begins, so another member must send one.
        aligned: send heartbeats at multiples of their interval, together with other groups'.
        doubt: what the disk lost, if it did; ``log`` is then what stands before it.
        reunion: when a reunion waits for an operator.
        links: what is known of the links; one for all groups of a node, its own if None.

    Raises:
        InvalidInput: the stored term lies behind the log, so the disk lost what must be durable.
    """

    __slots__ = ("_state", "reunions", "snapshots")

    def __init__(
        self,
        node: str,
        settings: RaftSettings,
        rng: Entropy,
        *,
        configuration: Configuration,
        hard_state: HardState = HardState(),  # noqa: B008 - immutable
        log: RaftLog | None = None,
        now_ns: int = 0,
        group: str = "main",
        incarnation: str = "",
        applied: int | None = None,
        stateless: bool = False,
        aligned: bool = False,
        doubt: Doubt | None = None,
        reunion: ReunionSettings | None = None,
        links: Links | None = None,
    ) -> None:
        log = log if log is not None else RaftLog()
        self._state = RaftState(
            node,
            settings,
            rng,
            group=group,
            configuration=configuration,
            hard_state=hard_state,
            log=log,
            now_ns=now_ns,
            incarnation=incarnation,
            doubt=doubt,
            applied=log.base.index if applied is None else applied,
            stateless=stateless,
            reunion=reunion,
            links=links,
        )
        self.reunions = reuniting.Reunions(self._state)
        """What a driver does about reunions."""
        self.snapshots = snapshots.Snapshots(self._state)
        """What a driver does with snapshots."""
        self._state.aligned = aligned

    # --- what is ---------------------------------------------------------------------------

    @property
    def state(self) -> RaftState:
        """All variables, to look at. Changing them is not yours to do."""
        return self._state

    @property
    def leader(self) -> str:
        """The leader this member follows (itself if it leads), or empty."""
        return self._state.leader

    @property
    def is_leader(self) -> bool:
        """Whether this member leads."""
        return self._state.role is Role.LEADER

    def deadline_ns(self) -> int:
        """When the next ``tick`` is due, on the clock handed in."""
        state = self._state
        if state.quiet:
            return NEVER
        if state.role is Role.LEADER:
            return min(state.heartbeat_due_ns, state.transfer_deadline_ns, state.paced_due_ns)
        # Heartbeats push the election deadline ahead for ever; a lost answer must not wait for it.
        due_ns = min(state.election_deadline_ns, reads.forwarded_deadline_ns(state))
        return due_ns if state.doubt is None else min(due_ns, state.doubt.due_ns)

    def contact_age_ns(self, now_ns: int) -> int:
        """How old the last sign of a working group is: on a leader, since it *sent* the latest
        messages that a quorum answered; on others, since they heard a leader (or began to listen).

        A group that sleeps hears nothing of its own: ask its node then (``Neighbours.heard_ns``).
        """
        state = self._state
        last_ns = election.quorum_contact_ns(state) if state.is_leader else state.leader_heard_ns
        return max(0, now_ns - last_ns)

    def check(self) -> None:
        """Every promise the state makes about itself."""
        self._state.check()
        quiescence.check(self._state)

    def __repr__(self) -> str:
        return f"<{self._state!r}>"

    # --- what happened ---------------------------------------------------------------------

    def tick(self, now_ns: int) -> None:
        """Time passed."""
        state = self._enter(now_ns)
        if state.quiet:
            return
        before = (state.term, state.leader)
        if state.is_leader:
            commitment.check_office(state)
        if state.is_leader:
            transfer.give_up_when_late(state)
            transfer.leave_without_state(state)
            replication.resend_lost(state)
            reuniting.call_for_the_needed(state)
            reconfiguration.look_around(state)
            if now_ns >= state.heartbeat_due_ns:
                renewal.renew(state)
                state.heartbeat_due_ns = commitment.next_beat_ns(state)
                commitment.beat(state)
                renewal.beaten(state)
        else:
            if now_ns >= state.election_deadline_ns:
                silence = f"{state.leader or 'no leader'} has been silent"
                election.start_pre_vote(state, silence)
            reads.expire_forwarded(state)
            if state.doubt is not None:
                recall.ask_when_due(state, state.doubt)
        self._leave(before)

    def propose(self, data: bytes, now_ns: int, kind: EntryKind = EntryKind.COMMAND) -> Entry:
        """Append a command, if we lead. It is committed if ``ready`` hands it out, in this term.

        Returns:
            The entry: remember its term and index to recognise the outcome.

        Raises:
            NotLeader: ask the leader named.
            GroupInDoubt: so many members lost part of their logs that nobody may lead.
            TransferUnderWay: leadership is being handed over.
            ProposalTooLarge: the command exceeds the limit.
            QueueFull: too many uncommitted bytes are waiting.
        """
        state = self._state
        if now_ns > state.now_ns:
            state.now_ns = now_ns
        if state.role is not Role.LEADER:
            recall.refuse_if_stuck(state)
            raise NotLeader(state.group, state.leader or None)
        if state.transfer_target:
            raise TransferUnderWay(state.group, state.transfer_target)
        if kind is EntryKind.CONFIG:
            raise InvalidInput("a configuration is changed with propose_change", where="kind")
        settings = state.settings
        size = len(data)
        if size > settings.max_proposal_bytes:
            raise ProposalTooLarge(state.group, size, settings.max_proposal_bytes)
        waiting = state.uncommitted_bytes + size + ENTRY_OVERHEAD_BYTES
        if waiting > settings.max_uncommitted_bytes:
            raise QueueFull(state.group, "uncommitted bytes", settings.max_uncommitted_bytes)
        if state.quiet:
            quiescence.wake(state, state.now_ns)
        state.uncommitted_bytes = waiting
        return state.log.append_one(state.term, kind, data)

    def read(self, now_ns: int) -> int:
        """Ask for a linearizable read, on any member; the answer comes with a later ``ready``.

        Returns:
            The number under which the answer comes.

        Raises:
            NotLeader: no leader is known.
            GroupInDoubt: so many members lost part of their logs that nobody may lead.
            QueueFull: too many reads are waiting.
        """
        state = self._enter(now_ns)
        quiescence.wake(state, now_ns)
        recall.refuse_if_stuck(state)
        return reads.ask(state)

    def lease_read(self, now_ns: int) -> int:
        """The index to which state must be applied to read right now, without asking anybody.

        Raises:
            NotLeader: we do not lead.
            LeaseUnavailable: the lease cannot be relied upon; ask with ``read`` instead.
        """
        return reads.lease_index(self._enter(now_ns))

    def transfer_leadership(self, target: str, now_ns: int) -> None:
        """Hand leadership to ``target``; given up after an election timeout.

        Raises:
            NotLeader: we have nothing to hand over.
            TransferRefused: the target cannot lead, or another transfer is under way.
        """
        state = self._enter(now_ns)
        quiescence.wake(state, now_ns)
        transfer.start(state, target)

    def propose_change(
        self,
        changes: Iterable[Change],
        now_ns: int,
        *,
        joint: bool | None = None,
        auto_leave: bool = True,
        force: bool = False,
    ) -> Entry:
        """Change who takes part, or what is known of the members (paper section 6).

        The new configuration is in force here at once. A joint one is left by the leader itself
        once it is committed and applied, unless ``auto_leave`` is False.

        Args:
            changes: applied in order, all or nothing.
            joint: True for a joint change, False for a simple one; None chooses a joint one only
                if more than one voter changes.
            force: promote a learner that has not caught up.

        Returns:
            The entry: the change is made if ``ready`` hands it out, in this term.

        Raises:
            NotLeader: ask the leader named.
            TransferUnderWay: leadership is being handed over.
            ChangePending: another change is under way, or this leader has committed nothing yet.
            LearnerBehind: a learner to be promoted has not caught up.
            ChangeRefused: the change leads nowhere good; the reason says why.
            InvalidInput: a change is malformed.
        """
        state = self._enter(now_ns)
        quiescence.wake(state, now_ns)
        return reconfiguration.propose(
            state, tuple(changes), joint=joint, auto_leave=auto_leave, force=force
        )

    def leave_joint(self, now_ns: int) -> Entry:
        """Leave a joint change that does not leave by itself.

        Raises:
            NotLeader: ask the leader named.
            TransferUnderWay: leadership is being handed over.
            ChangePending: the joint configuration is not yet committed and applied.
            ChangeRefused: there is no joint change.
        """
        state = self._enter(now_ns)
        quiescence.wake(state, now_ns)
        return reconfiguration.leave_joint(state)

    def place(self, member: str, round_trip_ns: int) -> None:
        """A member says how far a quorum is from it; the best placed one is preferred as leader.

        Args:
            round_trip_ns: from ``member`` to a quorum of the voters and back; 0 for unknown. Our
                own is measured here and need not be told.
        """
        self._state.preference.round_trips_ns[member] = round_trip_ns

    def peer_connected(self, peer: str, now_ns: int, *, incarnation: str = "") -> None:
        """A new connection to ``peer`` stands; whatever was under way on the old one is lost.

        Args:
            incarnation: the identity of the disk behind the peer, as its side of the connection
                states it; empty if the driver cannot tell.
        """
        state = self._enter(now_ns)
        if peer == state.leader or state.is_leader:
            quiescence.wake(state, now_ns)
        identity.meet(state, peer, incarnation)
        if state.is_leader:
            tracking.reconnect(state, peer)
            reconfiguration.tend(state)

    def written(self, seq: int, now_ns: int) -> None:
        """All writes up to ``seq`` are durable."""
        state = self._enter(now_ns)
        before = (state.term, state.leader)
        for to, message in state.note_written(seq):
            if to == state.id:
                dispatch(state, to, message)
            else:
                state.outbox.append((to, message))
        commitment.advance_commit(state)
        self._leave(before)

    def step(self, sender: str, message: Message, now_ns: int) -> None:
        """A message arrived from ``sender``.

        Raises:
            ProtocolViolation: no correct member sends this. Close the connection; the state is as
                it was before, except that time has passed and a higher term was noted.
        """
        state = self._enter(now_ns)
        if state.quiet and quiescence.disturbs(state, message):
            quiescence.wake(state, now_ns, by=sender)
        before = (state.term, state.leader)
        dispatch(state, sender, message)
        self._leave(before)

    def found(self, configuration: Configuration, hard_state: HardState, now_ns: int) -> None:
        """The group begins: all its first members know each other now.

        Only a member that holds nothing yet can be told: no entry, and nobody as a member.

        Args:
            configuration: the first one, durable at the start of the log.
            hard_state: a term and a vote of an earlier group of this name; a name's promises are
                kept for ever.
        """
        self._enter(now_ns).found(configuration, hard_state)

    # --- sleep, and the disk -----------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """Whether this member sleeps: see ``mcpcore.raft.quiescence``."""
        return self._state.quiet

    def rest(self, now_ns: int) -> bool:
        """Put the group to sleep, if it has nothing to do; for a leader whose node hears the nodes
        of all members. Returns whether this member sleeps now.
        """
        state = self._enter(now_ns)
        if state.is_leader and state.chores:
            reconfiguration.tend(state)
        if not state.quiet and not quiescence.unrest(state):
            quiescence.fall_asleep(state)
        return state.quiet

    def wake(self, now_ns: int, heard_ns: int) -> None:
        """Wake up, as if the last heartbeat had been at ``heard_ns``; harmless when awake."""
        quiescence.wake(self._enter(now_ns), heard_ns)

    def disk(self, now_ns: int, *, stalled: bool, full: bool) -> None:
        """What the driver knows of the disk, beyond the writes of this group.

        Args:
            stalled: it has not answered for too long; a leader steps down at the next ``tick``.
            full: it answers, and takes nothing more.
        """
        state = self._enter(now_ns)
        if state.device_full and not full:
            for write in state.writes:  # it was full, not silent
                write.since_ns = now_ns
        state.device_stalled, state.device_full = stalled, full

    # --- what must happen ------------------------------------------------------------------

    def ready(self) -> Ready:
        """Take what must happen now. Empty lists and None if there is nothing."""
        state = self._state
        if state.offered_term:
            transfer.take_offer(state)
        if state.role is Role.LEADER:
            if state.chores:
                reconfiguration.tend(state)
            transfer.offer_when_ready(state)
            if state.read_round > state.read_round_sent:
                commitment.beat(state)
            replication.replicate(state)
            commitment.announce_commit(state)
            reads.confirm(state)
        elif state.doubt is not None:
            recall.end_if_certain(state, state.doubt)
        write = state.take_write()
        committed: list[Entry] = []
        if self.has_more:
            most = min(state.commit, state.handed + state.settings.max_apply_entries)
            last = state.log.limit(state.handed + 1, most, state.settings.max_apply_bytes)
            committed = state.log.entries(state.handed + 1, last)
            if state.role is Role.LEADER:
                state.uncommitted_bytes -= state.log.size_bytes(state.handed + 1, last)
                # Applied now: a change may be finished, and another begun.
                if state.handed < state.configurations[-1][0] <= last:
                    state.chores = True
            state.handed = last
        ready = Ready(
            state.outbox,
            write,
            committed,
            state.read_answers,
            state.events,
            self.snapshots.take_events(),
        )
        state.outbox, state.read_answers, state.events = [], [], []
        return ready

    @property
    def has_more(self) -> bool:
        """Whether another ``ready`` would hand out more: committed entries come in portions, and a
        leader, or who is offered its office, has work of its own once a configuration is applied.
        """
        state = self._state
        if state.chores or state.offered_term:
            return True
        return state.handed < state.commit and not state.stateless

    # --- inside ----------------------------------------------------------------------------

    def _enter(self, now_ns: int) -> RaftState:
        state = self._state
        if now_ns > state.now_ns:
            state.now_ns = now_ns
        return state

    def _leave(self, before: tuple[int, str]) -> None:
        state = self._state
        if (state.term, state.leader) != before:
            reads.fail_pending(state)
