"""A whole group in one pure object: members, disks that forget, a network that does anything.

Nothing here waits: time is a number, and every delivery, sync and crash is a call. Each member has
a clock of its own rate and may be paused, as an operating system pauses a process. Used by the
golden conversations and by the random schedules.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgpack

from mcpcore.raft.codec import from_row, to_row
from mcpcore.raft.core import Raft
from mcpcore.raft.doubt import Doubt
from mcpcore.raft.invariants import FigureThree
from mcpcore.raft.log import START
from mcpcore.raft.membership import Change
from mcpcore.raft.messages import (
    AppendReply,
    Message,
    PreVote,
    SnapshotReply,
    SnapshotStatus,
    Vote,
    VoteReply,
)
from mcpcore.raft.outcome import Event, ReadAnswer, Write
from mcpcore.raft.quorum import zone_quorum_value
from mcpcore.raft.reunion import ReunionSettings
from mcpcore.raft.settings import RaftSettings
from mcpcore.raft.snapshot_events import BaseChange, SnapshotOffered
from mcpcore.raft.types import Configuration, Entry, EntryKind, HardState, LogPosition
from mcpcore.raft.types import Member as MemberFacts
from tests.raft.snapshotting import (
    Part,
    Sending,
    Snapshot,
    carry_out,
    offer_again,
    recover,
)

MS = 1_000_000
SETTINGS = RaftSettings(election_timeout_ns=1000 * MS, heartbeat_ns=200 * MS)
NOBODY = Configuration.of("")


@dataclass
class Disk:
    """What survives a crash, and the writes that may not."""

    hard_state: HardState = field(default_factory=HardState)
    entries: list[Entry] = field(default_factory=list)
    pending: list[Write] = field(default_factory=list)
    base: LogPosition = START
    configuration: Configuration | None = None
    """In force at ``base``; None: the one that the group began with."""
    snapshots: dict[int, Snapshot] = field(default_factory=dict)
    """Durable ones by the index of the last entry that they cover."""
    part: Part | None = None
    doubt: Doubt | None = None
    lost: list[Entry] = field(default_factory=list)
    """The log before it rotted: what was confirmed of it still counts, though it is gone."""
    quarantine: set[Entry] = field(default_factory=set)
    """What writes handed over; a driver keeps it before it stores them."""

    @property
    def last_index(self) -> int:
        return self.base.index + len(self.entries)

    def rot(self, holes: list[tuple[int, int]]) -> None:
        """Lose the entries of these ranges, first and last included; beyond the end is lost too."""
        whole, self.lost, last = self.entries, list(self.entries), self.last_index
        gone = {index for first, last in holes for index in range(first, last + 1)}
        runs: list[list[Entry]] = [[]]
        for entry in whole:
            if entry.index in gone:
                runs.append([])
            else:
                runs[-1].append(entry)
        is_open = max(gone) >= last
        until = max(last, *gone)
        self.entries = runs[0]
        kept = tuple(tuple(run) for run in runs[1:] if run)
        self.doubt = Doubt(self.hard_state.term, until, is_open, kept)

    def doubt_at_start(self) -> Doubt | None:
        """What a restart knows: runs that the log has reached meanwhile are part of it."""
        if self.doubt is None:
            return None
        behind = tuple(run for run in self.doubt.runs if run[0].index > self.last_index)
        return self.doubt._replace(runs=behind)

    def store(self, write: Write) -> None:
        self.quarantine.update(each.entry for each in write.dropped)
        if write.hard_state is not None:
            self.hard_state = write.hard_state
        if write.base is not None and not write.base.suffix_kept:
            self._begin_at(write.base, [])
        for block in write.blocks:
            offset = block.entries[0].index - self.base.index - 1
            assert 0 <= offset <= len(self.entries), "a hole on the disk"
            gone = set(self.entries[offset:]) - set(block.entries)
            assert gone <= self.quarantine, "an entry left the disk without a trace"
            self.entries[offset:] = block.entries
        if write.base is not None and write.base.suffix_kept:
            self._begin_at(write.base, self.entries[write.base.position.index - self.base.index :])

    def _begin_at(self, change: BaseChange, entries: list[Entry]) -> None:
        index = change.position.index
        assert max(self.snapshots, default=0) >= index, "no snapshot stands for what is dropped"
        assert index >= self.base.index, "a base never goes back"
        self.base, self.configuration, self.entries = (
            change.position,
            change.configuration,
            list(entries),
        )

    def holds(self, entry: Entry) -> bool:
        """Whether this very entry is durable, or covered by the snapshot that the log begins at."""
        offset = entry.index - self.base.index - 1
        return offset < 0 or (offset < len(self.entries) and self.entries[offset] == entry)


@dataclass
class Member:
    raft: Raft
    disk: Disk
    applied: list[Entry] = field(default_factory=list)
    answers: list[ReadAnswer] = field(default_factory=list)
    asked: dict[int, int] = field(default_factory=dict)
    up: bool = True
    incarnation: str = ""
    bootstrapped: bool = True
    sendings: dict[str, Sending] = field(default_factory=dict)
    offered: SnapshotOffered | None = None


@dataclass(frozen=True)
class Letter:
    sender: str
    to: str
    message: Message


class Cluster:
    """A group under test. ``sync`` False leaves every write pending until ``complete``.

    ``joiners`` run from the start and know nothing: a change of membership may take them in.
    ``identities`` gives every disk an identity, with which the first members are admitted;
    ``settings_of`` names members with settings of their own.
    """

    def __init__(
        self,
        names: str | list[str],
        *,
        seed: int = 0,
        settings: RaftSettings = SETTINGS,
        sync: bool = True,
        joiners: str = "",
        identities: bool = False,
        settings_of: Mapping[str, RaftSettings] | None = None,
        reunion: ReunionSettings | None = None,
    ) -> None:
        self.rng = random.Random(seed)
        self.settings = settings
        self.settings_of = settings_of or {}
        self.reunion = reunion
        about = {name: MemberFacts(incarnation=f"{name}1") for name in names if identities}
        self.configuration = Configuration(frozenset(names), about=about)
        self.sync = sync
        self.now_ns = 1
        self.mail: list[Letter] = []
        self.cut: set[tuple[str, str]] = set()
        self.rates_ppm: dict[str, int] = {}
        self.paused: dict[str, list[Letter]] = {}
        self.stalled: set[str] = set()
        self.story: list[tuple[str, Event]] = []
        self.lazy = False
        self._undrained: dict[str, None] = {}
        self.figure_three = FigureThree()
        self.lost_disks: dict[str, Disk] = {}
        self.members: dict[str, Member] = {}
        for name in sorted([*names, *joiners]):
            disk, incarnation = Disk(), f"{name}1" if identities else ""
            first = self.configuration if name in names else NOBODY
            self.members[name] = Member(
                self._start(name, disk, first, incarnation),
                disk,
                incarnation=incarnation,
                bootstrapped=name in names,
            )

    def _start(self, name: str, disk: Disk, configuration: Configuration, incarnation: str) -> Raft:
        start = recover(disk, configuration)
        return Raft(
            name,
            self.settings_of.get(name, self.settings),
            random.Random(self.rng.randrange(1 << 30)),
            configuration=start.configuration,
            hard_state=start.hard_state,
            log=start.log,
            now_ns=self.clock_ns(name),
            applied=start.applied,
            stateless=start.stateless,
            incarnation=incarnation,
            doubt=disk.doubt_at_start(),
            reunion=self.reunion,
        )

    # --- looking ---------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Raft:
        return self.members[name].raft

    def clock_ns(self, name: str) -> int:
        """The member's own monotonic clock, which runs fast or slow by its rate."""
        return self.now_ns + self.now_ns * self.rates_ppm.get(name, 0) // 1_000_000

    def running(self, name: str) -> bool:
        return self.members[name].up and name not in self.paused

    def leaders(self) -> list[str]:
        return [
            name for name, member in self.members.items() if member.up and member.raft.is_leader
        ]

    def leader(self) -> str:
        """The leader of the highest term."""
        best = max(self.leaders(), key=lambda name: self[name].state.term, default="")
        assert best, f"nobody leads: {[m.raft.state for m in self.members.values()]}"
        return best

    def commands(self, name: str) -> list[bytes]:
        return [e.data for e in self.members[name].applied if e.kind == EntryKind.COMMAND]

    # --- doing -----------------------------------------------------------------------------

    def drain(self, name: str) -> None:
        """Carry out what a member wants, as a driver would, and judge the result.

        While ``lazy``, this only notes that the member wants something: a real driver takes one
        turn for several messages, proposals and finished writes.
        """
        if self.lazy:
            self._undrained[name] = None
            return
        member = self.members[name]
        while True:
            ready = member.raft.ready()
            for to, message in ready.messages:
                self.post(name, to, message)
            if ready.write is not None:
                member.disk.pending.append(ready.write)
            for event in ready.snapshots:
                carry_out(self, name, event)
            for entry in ready.committed:
                expected = member.applied[-1].index + 1 if member.applied else 1
                assert entry.index == expected, "applied once, in order"
                member.applied.append(entry)
            self._judge_reads(name, ready.reads)
            if member.raft.state.doubt is None:
                member.disk.doubt = None  # a driver notes it on the disk, some time later
            self.story.extend((name, event) for event in ready.events)
            self.judge(name)
            if self.sync and name not in self.stalled and member.disk.pending:
                self.complete(name, len(member.disk.pending), drain=False)
            elif not (member.raft.has_more or ready.snapshots):
                break

    def be_lazy(self) -> None:
        """From now on, members take no turn until ``take_turns``."""
        self.lazy = True

    def take_turns(self) -> None:
        """Every member that wants a turn takes one."""
        self.lazy = False
        undrained, self._undrained = self._undrained, {}
        for name in undrained:
            if self.running(name):
                self.drain(name)

    def post(self, sender: str, to: str, message: Message) -> None:
        self._judge_promise(sender, to, message)
        if (sender, to) not in self.cut and to in self.members:
            wire = msgpack.unpackb(msgpack.packb(to_row(message)), use_list=False)
            self.mail.append(Letter(sender, to, from_row(wire)))

    def complete(self, name: str, count: int = 1, *, drain: bool = True) -> None:
        """The disk finishes the oldest writes."""
        member = self.members[name]
        done, member.disk.pending = member.disk.pending[:count], member.disk.pending[count:]
        for write in done:
            member.disk.store(write)
            member.raft.written(write.seq, self.clock_ns(name))
        if drain:
            self.drain(name)

    def deliver(self, position: int = 0, *, keep: bool = False) -> None:
        letter = self.mail[position] if keep else self.mail.pop(position)
        member = self.members[letter.to]
        if letter.to in self.paused:
            self.paused[letter.to].append(letter)  # its socket holds it
        elif member.up and (letter.sender, letter.to) not in self.cut:
            member.raft.step(letter.sender, letter.message, self.clock_ns(letter.to))
            self.drain(letter.to)

    def settle(self) -> None:
        """Deliver everything, in order, until nobody has anything to say."""
        for _ in range(20_000):
            if not self.mail:
                return
            self.deliver()
        raise AssertionError("the conversation never ends")

    def advance(self, ms: float, *, settle: bool = True, step_ms: float = 50) -> None:
        """Let time pass; members tick when due."""
        end_ns = self.now_ns + int(ms * MS)
        while self.now_ns < end_ns:
            self.now_ns = min(end_ns, self.now_ns + int(step_ms * MS))
            self.tick()
            if settle:
                self.settle()

    def tick(self) -> None:
        for name, member in self.members.items():
            if self.running(name):
                if member.raft.deadline_ns() <= self.clock_ns(name):
                    member.raft.tick(self.clock_ns(name))
                    self.drain(name)
                offer_again(self, name)

    def elect(self, name: str) -> None:
        """Make this member the leader, as if its clock had run out first."""
        for _ in range(100):
            if self[name].is_leader:
                return
            for other, member in self.members.items():
                if other != name and member.up:
                    member.raft.state.election_deadline_ns = self.now_ns + 10_000 * MS
            self.advance(100)
        raise AssertionError(f"{name} cannot win: {[m.raft for m in self.members.values()]}")

    def propose(self, name: str, data: bytes) -> Entry:
        entry = self[name].propose(data, self.clock_ns(name))
        self.drain(name)
        return entry

    def change(self, name: str, *wanted: Change, **how: bool) -> Entry:
        entry = self[name].propose_change(wanted, self.clock_ns(name), **how)
        self.drain(name)
        return entry

    def read(self, name: str) -> int:
        """Ask for a linearizable read; its answer is judged when it comes."""
        number = self[name].read(self.clock_ns(name))
        self.members[name].asked[number] = self.newest_commit()
        self.drain(name)
        return number

    def lease_read(self, name: str) -> int:
        """Read by the lease, and judge at once."""
        index = self[name].lease_read(self.clock_ns(name))
        assert index >= self.newest_commit(), "a lease read missed what was committed before it"
        return index

    def newest_commit(self) -> int:
        """The highest index that anybody may have been told is committed."""
        return len(self.figure_three.committed)

    def partition(self, *sides: str | list[str]) -> None:
        """Cut every link between different sides, both ways."""
        for side in sides:
            for other in sides:
                if other is not side:
                    self.cut |= {(a, b) for a in side for b in other}
        self.mail = [letter for letter in self.mail if (letter.sender, letter.to) not in self.cut]

    def heal(self) -> None:
        self.cut.clear()
        for name in self.members:
            self.reconnect(name)

    def reconnect(self, name: str) -> None:
        """All connections of this member are new, at its own end."""
        if self.running(name):
            for peer in self.members:
                if peer != name:
                    self._connect(name, peer)
            self.drain(name)

    def _connect(self, name: str, peer: str) -> None:
        incarnation = self.members[peer].incarnation
        self[name].peer_connected(peer, self.clock_ns(name), incarnation=incarnation)

    def pause(self, name: str) -> None:
        """The process neither runs nor dies: its clock goes on, its sockets hold what arrives."""
        if self.members[name].up:
            self.paused[name] = []

    def resume(self, name: str) -> None:
        self.mail[:0] = self.paused.pop(name)
        for peer, member in self.members.items():
            # No connection outlives the disk behind it.
            if member.incarnation != self[name].state.met.get(peer, ("", ""))[1] and peer != name:
                self._connect(name, peer)
        self.drain(name)

    def crash(self, name: str, *, stored: int = 0) -> None:
        """Lose everything but the disk; ``stored`` pending writes made it there."""
        member = self.members[name]
        for write in member.disk.pending[:stored]:
            member.disk.store(write)
        member.disk.pending = []
        member.sendings, member.offered = {}, None
        member.up = False
        self.paused.pop(name, None)
        self.figure_three.restarted(name)

    def restart(self, name: str) -> None:
        member = self.members[name]
        first = self.configuration if member.bootstrapped else NOBODY
        member.raft = self._start(name, member.disk, first, member.incarnation)
        applied = member.raft.state.handed
        snapshot = member.disk.snapshots.get(applied)
        member.applied = list(snapshot.state) if snapshot is not None else []
        member.asked = {}
        member.up = True
        for other in self.members:
            if other != name and self.running(other):
                self._connect(other, name)
                self.drain(other)
        self.reconnect(name)

    def wipe(self, name: str) -> None:
        """Its disk is lost. It will come back with an empty one, and knows nothing."""
        if self.members[name].up:
            self.crash(name)
        member = self.members[name]
        self.lost_disks[member.incarnation] = member.disk
        letter, life = member.incarnation[:1], int(member.incarnation[1:] or 0)
        member.disk, member.incarnation = Disk(), f"{letter}{life + 1}"
        member.bootstrapped = False

    # --- judging ---------------------------------------------------------------------------

    def judge(self, name: str) -> None:
        state = self[name].state
        before = len(self.figure_three.committed)
        state.check()
        self.figure_three.observe(state)
        if state.commit > before:
            term = state.log.term_at(state.commit)
            assert term == state.term or self.figure_three.leaders.get(term or 0) == name, (
                "only entries of the leader's own term are committed by counting (Figure 8)"
            )
            self._committed_is_on_a_quorum_of_disks(name, state.commit)

    def _judge_promise(self, sender: str, to: str, message: Message) -> None:
        """What a message promises is on the sender's disk before the message leaves (Figure 2)."""
        if isinstance(message, PreVote):
            return
        disk, state = self.members[sender].disk, self[sender].state
        assert disk.hard_state.term >= message.term, f"too early for its term: {message}"
        if disk.hard_state.term > message.term or state.term > message.term:
            return  # it waited behind later writes, which changed the disk again
        if isinstance(message, Vote) or (isinstance(message, VoteReply) and message.granted):
            voted_for = sender if isinstance(message, Vote) else to
            assert disk.hard_state.voted_for == voted_for, f"too early for the vote: {message}"
        if isinstance(message, AppendReply) and message.accepted:
            first = max(1, message.at_index - 20, state.log.base.index + 1)
            for index in range(first, message.at_index + 1):
                assert disk.holds(state.log.entry(index)), f"too early: {message}"
        if isinstance(message, SnapshotReply) and message.status == SnapshotStatus.INSTALLED:
            last = disk.base.index + len(disk.entries)
            assert last >= message.at_index, f"the log is not in its place yet: {message}"

    def _judge_reads(self, name: str, answers: list[ReadAnswer]) -> None:
        member = self.members[name]
        for answer in answers:
            floor = member.asked.pop(answer.read)
            assert answer.read_index == 0 or answer.read_index >= floor, (
                f"a read on {name} would miss index {floor}, committed before it was asked"
            )
        member.answers.extend(answers)

    def _committed_is_on_a_quorum_of_disks(self, name: str, index: int) -> None:
        entry = self.figure_three.committed[index]
        state = self[name].state
        # A change may have begun in this very turn, before or after the commit.
        begun = state.configurations[-1][0] > index
        possible = [configuration for _, configuration in state.configurations[-1 - begun :]]

        def held(configuration: Configuration) -> bool:
            def stored(member: str) -> int:
                # What a voter stored counts until somebody can know that its disk is lost: whoever
                # wins without it has the votes of enough others.
                admitted = configuration.member(member).incarnation
                disk = self.lost_disks.get(admitted, self.members[member].disk)
                return index if disk.holds(entry) or entry in disk.lost else 0

            return zone_quorum_value(configuration, stored) >= index

        assert any(map(held, possible)), (
            f"index {index} was committed without a quorum of the disks of {possible[-1]}"
        )
