"""What one member knows: the variables of Figure 2, and what must leave next.

This module exists so that the rules (elections, replication, commitment, reads, transfer) can each
live on a screen of their own and share one state. It owns one rule itself, because every other
relies on it: *nothing that promises leaves before what it promises is durable*. An answer goes to
``outbox`` when nothing stands behind it, and otherwise waits behind the write that does.
It must never read a clock or draw from anything but the random source handed in.
"""

from __future__ import annotations

from collections import deque

from mcpcore.errors import InvalidInput
from mcpcore.raft.custody import Custody
from mcpcore.raft.doubt import Doubt, InDoubt
from mcpcore.raft.links import Links
from mcpcore.raft.log import RaftLog
from mcpcore.raft.messages import Message
from mcpcore.raft.outcome import (
    NEVER,
    Entropy,
    Event,
    PendingWrite,
    ReadAnswer,
    Role,
    Write,
)
from mcpcore.raft.preference import Preference
from mcpcore.raft.progress import Progress
from mcpcore.raft.reunion import ReunionSettings
from mcpcore.raft.reunion_guard import ReunionGuard
from mcpcore.raft.settings import RaftSettings
from mcpcore.raft.snapshot_events import BaseChange, SnapshotEvent
from mcpcore.raft.types import Block, Configuration, Entry, EntryKind, HardState
from mcpcore.raft.windows import AdaptiveWindows, Patience, WindowSettings


class RaftState:
    """All of it. Fields are public to the rule modules of this package, and to nobody else."""

    __slots__ = (
        "aligned",
        "base_change",
        "chores",
        "commit",
        "commit_waits",
        "configurations",
        "custody",
        "device_full",
        "device_stalled",
        "doubt",
        "durable_hard_state",
        "durable_index",
        "election_deadline_ns",
        "events",
        "gated",
        "group",
        "handed",
        "heartbeat_due_ns",
        "heartbeat_ns",
        "id",
        "incarnation",
        "leader",
        "leader_heard_ns",
        "lease_void",
        "leaving",
        "links",
        "log",
        "matched_index",
        "met",
        "new_blocks",
        "noticed",
        "now_ns",
        "offered_term",
        "office_since_ns",
        "outbox",
        "paced_due_ns",
        "patience",
        "preference",
        "progress",
        "quiet",
        "read_answers",
        "read_round",
        "read_round_sent",
        "reads_forwarded",
        "reads_next_id",
        "reads_waiting",
        "retiring",
        "reunion",
        "reunion_talk",
        "rng",
        "role",
        "session_counter",
        "settings",
        "snapshot_ask_due_ns",
        "snapshot_events",
        "stateless",
        "term",
        "term_start",
        "told_commit",
        "transfer_deadline_ns",
        "transfer_sent",
        "transfer_target",
        "uncommitted_bytes",
        "unwritten_from",
        "voted_for",
        "votes",
        "windows",
        "write_seq",
        "writes",
    )

    def __init__(
        self,
        node: str,
        settings: RaftSettings,
        rng: Entropy,
        *,
        group: str,
        configuration: Configuration,
        hard_state: HardState,
        log: RaftLog,
        now_ns: int,
        incarnation: str = "",
        doubt: Doubt | None = None,
        applied: int,
        stateless: bool,
        reunion: ReunionSettings | None = None,
        links: Links | None = None,
    ) -> None:
        self.id = node
        self.incarnation = incarnation
        self.group = group
        self.settings = settings
        self.rng = rng
        self.now_ns = now_ns
        self.links = links if links is not None else Links()
        self.windows = AdaptiveWindows(WindowSettings.of(settings), self.links)
        self.heartbeat_ns = self.windows.heartbeat_ns((), now_ns)
        self.aligned = False  # whether heartbeats leave at multiples of their interval
        self.quiet = False  # see mcpcore.raft.quiescence
        # What the driver knows of the disk beyond our own writes.
        self.device_stalled = self.device_full = False

        if hard_state.term < log.last.term:
            raise InvalidInput(
                f"the stored term {hard_state.term} lies behind the log, which holds entries of "
                f"term {log.last.term}: a vote may have been lost",
                where=f"group {group}, member {node}",
                remedy="Restore the disk, or bring the member back empty under a new identity.",
            )
        # Persistent state, and how much of it is on the disk already.
        self.term, self.voted_for = hard_state
        self.log = log
        self.custody = Custody()
        self.durable_hard_state = hard_state
        self.durable_index = log.last_index
        self.unwritten_from = log.last_index + 1
        # In force from the moment it is appended, committed or not (section 6).
        self.configurations: list[tuple[int, Configuration]] = [(log.base.index, configuration)]
        for entry in log.entries(log.base.index + 1, log.last_index):
            self.note_configuration(entry)

        # Volatile state.
        self.role = Role.FOLLOWER
        self.leader = ""
        assert log.base.index <= applied <= log.last_index, (log, applied)
        self.commit = self.handed = self.matched_index = applied
        self.stateless = stateless
        self.reunion = ReunionGuard(reunion or ReunionSettings())
        self.reunion_talk = ("", 0, 0)  # the leader, the session and the time of what was refused
        # What verdicts rest on: when a leader with a quorum last spoke (ourselves, while we led),
        # and the highest commit index that a leader told us, whether or not we hold the entries.
        self.leader_heard_ns = now_ns
        self.told_commit = applied
        self.begin_waiting()

        # The disks behind the others: the first one met in this life, and the latest.
        self.met: dict[str, tuple[str, str]] = {}

        # Candidate, or about to be one: the leader of this term has offered its office.
        self.offered_term = 0
        self.votes: dict[str, bool] = {}

        # Leader.
        self.progress: dict[str, Progress] = {}
        self.session_counter = 0
        self.heartbeat_due_ns = NEVER
        self.term_start = 0
        self.uncommitted_bytes = 0
        self.paced_due_ns = NEVER
        self.lease_void = False
        self.commit_waits = (0, now_ns)  # for a commit beyond this index, since then
        self.office_since_ns = 0
        self.chores = False
        self.retiring = False
        self.leaving: dict[str, tuple[int, int]] = {}
        self.preference = Preference()
        self.noticed: set[str] = set()
        self.transfer_target = ""
        self.transfer_deadline_ns = NEVER
        self.transfer_sent = False

        # Reads: waiting for the first commit of a term or for a round; forwarded to the leader.
        self.reads_waiting: deque[tuple[int, int, str, int]] = deque()
        self.reads_forwarded: dict[int, int] = {}
        self.reads_next_id = 1 + (rng.randrange(1 << 30) << 32)
        self.read_round = 0
        self.read_round_sent = 0

        # What the disk lost, until it is known again (``recall``); None in all but a rare case.
        self.doubt: InDoubt | None = None
        if doubt is not None:
            self.doubt = InDoubt(doubt, 1 + (rng.randrange(1 << 30) << 32), now_ns)

        # What must leave next.
        self.outbox: list[tuple[str, Message]] = []
        self.gated: list[tuple[str, Message]] = []
        self.new_blocks: list[Block] = []
        self.writes: deque[PendingWrite] = deque()
        self.write_seq = 0
        self.read_answers: list[ReadAnswer] = []
        self.events: list[Event] = []
        self.base_change: BaseChange | None = None
        self.snapshot_events: list[SnapshotEvent] = []
        self.snapshot_ask_due_ns = now_ns

    def found(self, configuration: Configuration, hard_state: HardState) -> None:
        """Put the first configuration in force, in a member that holds nothing."""
        assert self.log.last_index == 0, "a group is founded before it holds anything"
        assert not self.configuration.members, "a group is founded once"
        assert self.term == 0
        self.term, self.voted_for = self.durable_hard_state = hard_state
        self.configurations = [(0, configuration)]
        self.begin_waiting()

    def begin_waiting(self) -> None:
        """How long a member waits at its start before it stands for election."""
        # A newborn group has promised nothing to anybody, so its first election need not wait. A
        # promise made before a restart is forgotten: every start behaves as if one was made.
        newborn = self.term == 0
        self.patience = Patience(self.windows.settings, self.now_ns, newborn=newborn)
        if newborn:
            patience_ns = self.rng.randrange(self.settings.election_timeout_ns)
            self.election_deadline_ns = self.now_ns + patience_ns
        else:
            self.reset_election_deadline()
        if self.configuration.members == {self.id}:
            self.election_deadline_ns = self.now_ns  # alone: there is nobody to wait for

    # --- facts ------------------------------------------------------------------------------

    @property
    def hard_state(self) -> HardState:
        """What must be durable before an answer leaves."""
        return HardState(self.term, self.voted_for)

    @property
    def configuration(self) -> Configuration:
        """The latest configuration in the log."""
        return self.configurations[-1][1]

    @property
    def is_leader(self) -> bool:
        """Whether this member leads its term."""
        return self.role is Role.LEADER

    @property
    def disqualified(self) -> str:
        """Why this member may neither vote nor stand: its disk is another one. Empty if it may."""
        admitted = self.configuration.member(self.id).incarnation
        if not self.incarnation or admitted in ("", self.incarnation):
            return ""
        return (
            f"{self.id} was admitted with the disk {admitted} and came back with "
            f"{self.incarnation}: what it voted and stored is forgotten"
        )

    def disk_stalled(self) -> bool:
        """Whether the disk has left a write, or the driver's probe, waiting beyond all patience.

        A full disk is not among them: it does answer, and says no.
        """
        if self.device_full:
            return False
        return self.device_stalled or (
            bool(self.writes)
            and self.now_ns - self.writes[0].since_ns > self.settings.election_timeout_ns
        )

    # --- what leaves ------------------------------------------------------------------------

    def send(self, to: str, message: Message) -> None:
        """Send something that promises nothing about our disk."""
        self.outbox.append((to, message))

    def reply(self, to: str, message: Message) -> None:
        """Send something that carries our term: only once the term and the vote are durable."""
        if self.durable_hard_state == (self.term, self.voted_for):
            self.outbox.append((to, message))
        else:
            self.gated.append((to, message))

    def reply_after_log(self, to: str, message: Message) -> None:
        """Send something that vouches for the log: only once all of the log is durable."""
        if (
            self.durable_hard_state == (self.term, self.voted_for)
            and self.durable_index >= self.log.last_index
        ):
            self.outbox.append((to, message))
        else:
            self.gated.append((to, message))

    def take_write(self) -> Write | None:
        """What must be made durable now; messages gated so far will wait for it."""
        if self.unwritten_from <= self.log.last_index:
            # A leader's own entries: one block for all that were proposed since the last write.
            self.new_blocks.append(self.log.block(self.unwritten_from, self.log.last_index))
            self.unwritten_from = self.log.last_index + 1
        blocks, base = self.new_blocks, self.base_change
        before = self.writes[-1].hard_state if self.writes else self.durable_hard_state
        changed = before != (self.term, self.voted_for)
        if not blocks and base is None and not changed:
            if not self.gated:
                return None  # so it is in most turns
            if self.writes:
                self.writes[-1].gated.extend(self.gated)
            else:
                # What they waited for became durable between their making and this turn.
                self.outbox.extend(self.gated)
            self.gated = []
            return None
        self.write_seq += 1
        hard_state = self.hard_state
        pending = PendingWrite(
            self.write_seq, self.now_ns, self.log.last_index, hard_state, self.gated
        )
        self.writes.append(pending)
        self.gated = []
        self.new_blocks, self.base_change = [], None
        stored = hard_state if changed else None
        return Write(pending.seq, stored, tuple(blocks), base, self.custody.hand_over())

    def note_written(self, seq: int) -> list[tuple[str, Message]]:
        """Record that writes up to ``seq`` are durable; returns the messages this sets free."""
        freed: list[tuple[str, Message]] = []
        while self.writes and self.writes[0].seq <= seq:
            done = self.writes.popleft()
            self.durable_hard_state = done.hard_state
            self.durable_index = done.last_index
            freed.extend(done.gated)
        return freed

    # --- the log ----------------------------------------------------------------------------

    def append_block(self, block: Block) -> None:
        """Add entries from a leader at the end of our log."""
        self.log.append(block.entries)
        self.new_blocks.append(block)
        self.unwritten_from = self.log.last_index + 1
        if block.reconfigures:
            for entry in block.entries:
                self.note_configuration(entry)

    def note_configuration(self, entry: Entry) -> None:
        """Put a configuration in force as soon as it is in the log (section 6)."""
        if entry.kind == EntryKind.CONFIG:
            self.configurations.append((entry.index, Configuration.decode(entry.data)))

    def truncate_from(self, index: int) -> None:
        """Drop entries that the leader of this term does not have."""
        assert index > self.commit, "a committed entry is never dropped"
        self.custody.truncated(self.log.entries(index, self.log.last_index), self.leader)
        self.log.truncate_from(index)
        # Writes under way may still put the dropped entries on the disk, but only until the write
        # that replaces them, which comes later. Until then they prove nothing about our new log.
        self.durable_index = min(self.durable_index, index - 1)
        for write in self.writes:
            write.last_index = min(write.last_index, index - 1)
        self.matched_index = min(self.matched_index, index - 1)
        while self.configurations[-1][0] >= index:
            self.configurations.pop()

    # --- time -------------------------------------------------------------------------------

    def reset_election_deadline(self) -> None:
        """Wait again, for a time no other member is likely to draw (section 5.2).

        Never less than we promised: to stand for election is to help somebody else.
        """
        links, voters = self.links, self.configuration.voters
        self.election_deadline_ns = self.patience.deadline_ns(
            self.now_ns,
            self.rng.randrange,
            multiplier=links.multiplier,
            round_trip_ns=links.farthest_ns(voters, self.id),
        )

    # --- promises about itself --------------------------------------------------------------

    def check(self) -> None:
        """Every promise this state makes about itself."""
        self.log.check()
        self.reunion.check()
        if self.doubt is not None:
            self.doubt.check()
            assert self.role is Role.FOLLOWER, "whoever is in doubt stands for nothing"
        assert self.log.base.index <= self.handed <= self.commit <= self.log.last_index
        assert self.durable_index <= self.log.last_index
        assert self.durable_hard_state.term <= self.term
        assert self.log.last.term <= self.term
        assert self.matched_index <= self.log.last_index
        assert [write.seq for write in self.writes] == sorted(write.seq for write in self.writes)
        assert [index for index, _ in self.configurations] == sorted(
            index for index, _ in self.configurations
        )
        if self.role in (Role.LEADER, Role.CANDIDATE):
            assert self.voted_for == self.id, "whoever stands for election votes for itself"
        if self.is_leader:
            assert self.leader == self.id
            assert self.log.term_at(max(self.term_start, self.log.base.index)) == self.term
            waiting = self.log.size_bytes(self.handed + 1, self.log.last_index)
            assert self.uncommitted_bytes == waiting, "every entry weighs until it is handed out"
            for peer, progress in self.progress.items():
                assert peer != self.id
                assert progress.match < progress.next <= self.log.last_index + 1, (peer, progress)
                assert peer in self.configuration.members or peer in self.leaving
                assert not (progress.stranger and progress.match), "a stranger holds nothing"
                assert progress.waiting or not progress.held_up
                assert progress.inflight_bytes == sum(size for _, size, _ in progress.inflight)
        else:
            assert not self.progress
            assert not self.leaving
            assert not self.transfer_target

    def __repr__(self) -> str:
        return (
            f"{self.id} {self.role.value} term {self.term} commit {self.commit} "
            f"log {self.log.last_index} leader {self.leader or '?'}"
        )
