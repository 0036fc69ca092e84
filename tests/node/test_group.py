"""The driver of one group: every question gets one answer, and a bug never skips an entry."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.clock import ClockHealth
from mcpcore.errors import (
    GroupFailed,
    InvalidInput,
    MachineFault,
    NoSpace,
    NotLeader,
    OutcomeUnknown,
    ProtocolViolation,
    QueueFull,
    Superseded,
)
from mcpcore.node.group import FULL_DEVICE_RETRY_NS, Consistency, Group
from mcpcore.node.inbox import MESSAGES_PER_TURN
from mcpcore.node.kv.commands import LeaseKeepAlive, encode_request
from mcpcore.node.kv.local import KeyValueNode
from mcpcore.node.machine import ReplicatedState, StateMachine
from mcpcore.node.meters import Meters
from mcpcore.node.node_words import NODE
from mcpcore.node.node_words import from_row as words
from mcpcore.node.outgoing import FRAME_BYTES, MESSAGE_BYTES, Outgoing
from mcpcore.node.quarantining import QuarantineKeeper
from mcpcore.node.reuniting import Reuniting
from mcpcore.node.waiting import Applied, Proposals, Reads
from mcpcore.raft.core import Raft
from mcpcore.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    Message,
    PreVoteReply,
    Vote,
    VoteReply,
)
from mcpcore.raft.quarantine import QuarantineLimits
from mcpcore.raft.settings import RaftSettings
from mcpcore.raft.state import RaftState
from mcpcore.raft.types import EMPTY_BLOCK, Block, Configuration, Entry, EntryKind, HardState
from tests.node.local_cluster import LocalCluster
from tests.node.storage.ram_disk import RamDisk


class Notes(StateMachine):
    """Remembers commands; raises on b"poison", as a machine with a bug does."""

    def __init__(self) -> None:
        self.notes: list[bytes] = []

    def apply(self, index: int, command: bytes) -> bytes:
        if command == b"poison":
            raise ZeroDivisionError("a bug of the machine")
        self.notes.append(command)
        return b"%d" % len(self.notes)

    def query(self, request: bytes) -> bytes:
        if request == b"poison":
            raise KeyError("a bug of the machine")
        return b",".join(self.notes)

    def snapshot(self) -> Iterator[bytes]:
        return iter(self.notes)

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.notes = list(chunks)

    def digest(self) -> bytes:
        return b"%d" % len(self.notes)


class Slab:
    """A log device that stores nothing and is as full as a test says."""

    def __init__(self) -> None:
        self.full = self.no_space = False
        self.stored: list[tuple[HardState | None, Sequence[Block]]] = []

    def submit(
        self, group: str, hard_state: HardState | None, blocks: Sequence[Block]
    ) -> asyncio.Future[None]:
        self.stored.append((hard_state, blocks))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


class Hand:
    """Clocks that a test moves."""

    now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns


class Alone:
    """A node that hears of nobody and lets every group stand."""

    def heard_ns(self, state: RaftState) -> int:
        return 0

    def may_rest(self, state: RaftState, now_ns: int) -> bool:
        return False

    def listens_ns(self, now_ns: int) -> int:
        return 0

    def may_stand(self, group: str, now_ns: int, hold_ns: int) -> bool:
        return True

    def noted(self, group: Group) -> None:
        pass


class Unobserved:
    """A group with no node around it."""

    def moved(self, group: Group) -> None: ...

    def marked(self, group: Group, index: int) -> None: ...

    def reconfigured(self, group: Group) -> None: ...


class Bench:
    """One member of a group, driven by hand; the others are the test's to play."""

    def __init__(
        self, members: str = "a", machine: Any = None, settings: RaftSettings | None = None
    ) -> None:
        self.device, self.clocks = Slab(), Hand()
        self.sent: list[tuple[str, Message]] = []
        self.alarms: list[int] = []
        self.broken: list[BaseException] = []
        raft = Raft(
            "a",
            settings or RaftSettings(),
            random.Random(1),
            configuration=Configuration.of(members),
        )
        self.group = Group(
            "main",
            raft,
            ReplicatedState(Notes() if machine is None else machine),
            self.device,  # type: ignore[arg-type]
            self.clocks,
            send=lambda to, group, message: self.sent.append((to, message)),
            wake=lambda group: None,
            alarm=lambda group, due_ns: self.alarms.append(due_ns),
            neighbours=Alone(),
            offended=lambda peer, violation: self.broken.append(violation),
            failed=self.broken.append,
            clock_health=lambda: ClockHealth.__new__(ClockHealth),
            observer=Unobserved(),
            meters=Meters(),
            quarantine=QuarantineKeeper(
                RamDisk(), "data", "main", "a", QuarantineLimits(), self.clocks.wall_ns
            ),
            reunions=Reuniting(RamDisk(), "data", raft, self.clocks),
        )

    async def turns(self, count: int = 4) -> None:
        for _ in range(count):
            self.group.turn()
            await asyncio.sleep(0)

    async def campaign(self) -> None:
        """Let the election timeout pass."""
        self.clocks.now_ns = self.group.raft.deadline_ns()
        self.group.rang(self.clocks.now_ns)
        await self.turns()

    async def lead(self, term: int = 1) -> None:
        """Win the election of a term, with the vote of b if there are others."""
        while not self.group.raft.is_leader:
            await self.campaign()
            state = self.group.raft.state
            if state.role.value == "pre-candidate":
                self.group.receive("b", PreVoteReply(state.term, state.term + 1, True))
                await self.turns()
            if state.role.value == "candidate":
                self.group.receive("b", VoteReply(state.term, True))
                await self.turns()


# --- proposals --------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), max_size=20), st.data())
@settings(deadline=None)
def test_every_proposal_gets_exactly_the_answer_of_its_own_term_and_index(
    proposed: list[tuple[int, int]], data: st.DataObject
) -> None:
    """A member may lead in several terms and lose the entries in between: an index comes again."""

    async def law() -> None:
        proposals = Proposals("main")
        futures = [
            (term, index, proposals.add(Entry(term, index, 1, b"")))
            for index, term in sorted(proposed)
        ]
        for index in range(1, 5):
            term = data.draw(st.integers(1, 3))
            proposals.applied([Entry(term, index, 1, b"")], [b"r"])
            for its_term, its_index, future in futures:
                if its_index == index:
                    assert future.done(), "nobody is forgotten"
                    if its_term == term:
                        assert future.result() == Applied(term, index, b"r")
                    else:
                        assert isinstance(future.exception(), Superseded)
                elif its_index > index:
                    assert not future.done(), "nobody is told too early"
        assert not len(proposals)

    asyncio.run(law())


async def test_a_proposal_overtaken_by_ones_own_later_term_is_answered_all_the_same() -> None:
    """Propose, lose office and the entry, lead again, propose at the same index."""
    bench = Bench("abc")
    await bench.lead()
    group = bench.group
    term = group.raft.state.term
    lost = group.propose(b"lost")
    index = group.raft.state.log.last_index
    await bench.turns()
    group.receive("b", Append(term + 1, 1, 0, 0, EMPTY_BLOCK, 0, 1, 0))  # b leads, with less
    noop = Entry(term + 1, 1, EntryKind.NOOP, b"")
    group.receive("b", Append(term + 1, 1, 0, 0, Block((noop,)), 0, 1, 0))
    await bench.turns()
    assert group.raft.state.log.last_index < index
    await bench.lead()
    while group.raft.state.log.last_index < index - 1:
        group.propose(b"filler")
    kept = group.propose(b"kept") if group.raft.state.log.last_index < index else None
    await bench.turns()
    session = group.raft.state.progress["b"].session
    last = group.raft.state.log.last_index
    group.receive(
        "b", AppendReply(group.raft.state.term, session, True, last, 0, 0, bench.clocks.now_ns)
    )
    await bench.turns()
    assert lost.done()
    with pytest.raises(Superseded):
        await lost
    if kept is not None:
        assert (await kept).index == index


async def test_callers_cannot_propose_entries_of_the_protocol() -> None:
    bench = Bench()
    await bench.lead()
    for kind in (EntryKind.CONFIG, EntryKind.NOOP):
        with pytest.raises(InvalidInput, match="protocol's own"):
            bench.group.propose(b"\xff", kind)


# --- reads ------------------------------------------------------------------------------------


async def test_a_consistency_given_as_plain_text_is_what_it_says_and_never_less() -> None:
    bench = Bench("abc")
    with pytest.raises(NotLeader):
        bench.group.read(b"", "linearizable")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="known: linearizable, lease, stale"):
        bench.group.read(b"", "strong")  # type: ignore[arg-type]


async def test_reads_that_wait_for_entries_are_bounded() -> None:
    reads = Reads("main", 2)
    futures = [asyncio.get_running_loop().create_future() for _ in range(3)]
    for future in futures:
        reads.answer_at(5, 0, future, lambda: b"seen")
    with pytest.raises(QueueFull, match="reads that wait for entries"):
        await futures[2]
    reads.applied_to(4)
    assert not futures[0].done()
    reads.applied_to(5)
    assert [(await future).answer for future in futures[:2]] == [b"seen", b"seen"]


async def test_a_query_that_raises_concerns_its_asker_alone() -> None:
    bench = Bench()
    await bench.lead()
    failing = bench.group.read(b"poison", Consistency.STALE)
    with pytest.raises(MachineFault, match="KeyError"):
        await failing
    await bench.turns()
    assert (await bench.group.read(b"", Consistency.STALE)).answer == b""
    assert bench.group.failure is None


async def test_a_new_leader_does_not_deny_a_lease_before_it_knows_all_of_them() -> None:
    """It has won, but its first entry is not committed yet: "no such lease" could be a lie."""
    bench = Bench("abc", KeyValueNode())
    await bench.lead()
    assert bench.group.raft.is_leader
    with pytest.raises(NotLeader):
        bench.group.read(encode_request(LeaseKeepAlive(7)))


# --- the disk ---------------------------------------------------------------------------------


async def test_a_term_and_a_vote_are_stored_though_the_device_is_full() -> None:
    bench = Bench("abc")
    bench.device.full = True
    bench.group.receive("b", Vote(5, 0, 0, True))
    await bench.turns()
    assert bench.device.stored == [(HardState(5, "b"), ())]
    assert [type(message) for _, message in bench.sent] == [VoteReply]


async def test_entries_wait_for_a_full_device_in_order_and_are_offered_again() -> None:
    bench = Bench("abc")
    bench.device.full = True
    for index in range(1, 6):
        entry = Entry(1, index, EntryKind.COMMAND, b"x")
        block = Block((entry,))
        term_before = 1 if index > 1 else 0
        bench.group.receive("b", Append(1, 1, term_before, index - 1, block, 0, 1, 0))
        await bench.turns(1)
    assert not any(blocks for _, blocks in bench.device.stored)
    assert bench.alarms[-1] == bench.clocks.now_ns + FULL_DEVICE_RETRY_NS
    bench.device.full = False
    bench.clocks.now_ns = bench.alarms[-1]
    bench.group.rang(bench.clocks.now_ns)
    stored = [block.entries[0].index for _, blocks in bench.device.stored for block in blocks]
    assert stored == [1, 2, 3, 4, 5]


async def test_a_violation_that_had_to_wait_for_its_turn_still_ends_its_senders_session() -> None:
    bench = Bench("abc")
    bench.group.receive("b", Heartbeat(1, 1, 0, 0, 1, 1))
    for _ in range(MESSAGES_PER_TURN):
        bench.group.receive("b", Heartbeat(1, 1, 0, 0, 1, 1))
    bench.group.receive("c", Heartbeat(1, 1, 0, 0, 1, 1))  # two leaders of one term
    assert bench.broken == []
    await bench.turns(3)
    assert [type(error) for error in bench.broken] == [ProtocolViolation]
    assert bench.group.failure is None


async def test_a_full_disk_refuses_writes_in_words_and_answers_reads() -> None:
    bench = Bench()
    await bench.lead()
    assert (await _turning(bench, bench.group.propose(b"x"))).result == b"1"
    bench.device.full = bench.device.no_space = True
    with pytest.raises(NoSpace, match="no space is left on this node's disk"):
        bench.group.propose(b"y")
    assert (await _turning(bench, bench.group.read(b""))).answer == b"x"
    bench.device.full = bench.device.no_space = False
    assert (await _turning(bench, bench.group.propose(b"z"))).result == b"2"


# --- bugs -------------------------------------------------------------------------------------


async def test_a_listener_that_raises_does_not_keep_entries_from_being_applied() -> None:
    bench = Bench()

    def burst(event: object) -> None:
        raise RuntimeError("a bug of the listener")

    bench.group.listeners.append(burst)
    await bench.lead()
    assert (await asyncio.wait_for(_turning(bench, bench.group.propose(b"n")), 1)).result == b"1"


async def _turning(bench: Bench, future: asyncio.Future[Any]) -> Any:
    await bench.turns()
    return await future


async def test_a_machine_that_raises_puts_its_group_out_of_service_and_skips_no_entry() -> None:
    bench = Bench()
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context))
    await bench.lead()
    group = bench.group
    first, poison, after = (group.propose(data) for data in (b"one", b"poison", b"two"))
    await bench.turns()
    assert (await first).result == b"1"
    for future in (poison, after):
        with pytest.raises(OutcomeUnknown, match="out of service"):
            await future
    with pytest.raises(GroupFailed, match="ZeroDivisionError"):
        group.propose(b"three")
    with pytest.raises(GroupFailed):
        group.read(b"", Consistency.STALE)
    machine = group.state.machine
    assert isinstance(machine, Notes)
    assert machine.notes == [b"one"], "what comes after the entry that failed is not applied"
    assert (group.status().role, group.status().problem) == (
        "failed",
        "ZeroDivisionError('a bug of the machine')",
    )
    assert [type(context["exception"]) for context in heard] == [ZeroDivisionError]


async def test_a_group_that_failed_leaves_the_others_of_its_node_alone(tmp_path: Path) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    machines = {"good": Notes, "bad": Notes}
    cluster = LocalCluster(
        tmp_path, "a", groups=("good", "bad"), machine=lambda group: machines[group]()
    )
    async with cluster, cluster.client(timeout_s=1.0) as client:
        await client.propose(b"fine", group="bad")
        with pytest.raises(OutcomeUnknown):
            await client.propose(b"poison", group="bad")
        assert (await client.propose(b"fine", group="good")).result == b"1"
        status = (await client.status())[str(cluster.addresses["a"])]
        assert isinstance(status, dict)
        assert status["groups"]["bad"]["role"] == "failed"
        assert status["groups"]["good"]["role"] == "leader"


# --- frames -----------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 3000), max_size=40),
    st.integers(FRAME_BYTES + MESSAGE_BYTES, 8000),
)
@settings(deadline=None)
def test_frames_keep_every_message_in_order_and_none_is_longer_than_allowed(
    sizes: list[int], most: int
) -> None:
    outgoing = Outgoing(most)
    for index, size in enumerate(sizes, 1):
        if size % 3 == 0:
            outgoing.add("g" * 100, Heartbeat(1, index, 1, 0, 2**62, 2**62))
        else:
            block = Block((Entry(1, index, EntryKind.COMMAND, b"x" * size),))
            outgoing.add("g" * 100, Append(1, index, 1, index - 1, block, 0, 2**62, 2**62))
    frames = list(outgoing.frames())
    rows = [row for frame, _ in frames for row in frame]
    beats = [name_and_beat for row in rows if row[0] == NODE for name_and_beat in words(row)]
    appends = [row[3] for row in rows if row[0] != NODE]
    assert [beat.session for _, beat in beats] == [
        index for index, size in enumerate(sizes, 1) if size % 3 == 0
    ]
    assert appends == [index for index, size in enumerate(sizes, 1) if size % 3]
    for rows, droppable in frames:
        assert len(rows) == 1 or len(msgpack.packb(rows)) + FRAME_BYTES <= most
        assert droppable == all(row[0] == NODE for row in rows)
