"""What a node does once for all its groups: timers, turns, beats, liveness, places, the disk."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mcpcore.errors import InvalidInput
from mcpcore.node.catalog import Catalog, settings_from
from mcpcore.node.clocks import SystemClocks
from mcpcore.node.config import GroupConfig
from mcpcore.node.disk_watch import DiskFacts, DiskVerdict, DiskWatch
from mcpcore.node.election_gate import ElectionGate
from mcpcore.node.inbox import MESSAGES_PER_TURN, WAITING_MAX, Inbox
from mcpcore.node.liveness import Beat, Liveness
from mcpcore.node.node_words import (
    NODE,
    Rouse,
    beat_row,
    from_row,
    heartbeat_row,
    reply_row,
    rouse_row,
)
from mcpcore.node.outgoing import Outgoing
from mcpcore.node.scheduler import WORK_PER_TURN, Scheduler
from mcpcore.node.sleepers import Sleeper, Sleepers, Tally, mark_of
from mcpcore.node.timer_wheel import TimerWheel
from mcpcore.raft.messages import Append, Awake, Heartbeat, HeartbeatReply, Rest
from mcpcore.raft.settings import MILLISECOND, SECOND, RaftSettings
from mcpcore.raft.types import EMPTY_BLOCK, MAX_UINT

MS = MILLISECOND

# --- one wheel -----------------------------------------------------------------------------------

GRAIN_NS = 10


class WheelAgainstAList(RuleBasedStateMachine):
    """The wheel against a dict of deadlines that is searched from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.wheel: TimerWheel[int] = TimerWheel(GRAIN_NS)
        self.model: dict[int, int] = {}
        self.now_ns = 0

    @rule(key=st.integers(0, 8), due_ns=st.integers(0, 500))
    def a_deadline_is_set(self, key: int, due_ns: int) -> None:
        self.wheel.set(key, self.now_ns + due_ns)
        self.model[key] = self.now_ns + due_ns

    @rule(key=st.integers(0, 8))
    def one_is_cancelled(self, key: int) -> None:
        self.wheel.cancel(key)
        self.model.pop(key, None)

    @rule(by_ns=st.sampled_from([0, 1, 9, 10, 11, 100, 10_000]))
    def time_passes_or_jumps(self, by_ns: int) -> None:
        self.now_ns += by_ns
        due = self.wheel.due(self.now_ns)
        assert len(due) == len(set(due)), "everybody once, however long nobody looked"
        for key in due:
            assert self.model.pop(key) <= self.now_ns, "nobody early"
        late = [key for key, due_ns in self.model.items() if due_ns + GRAIN_NS <= self.now_ns]
        assert not late, "nobody later than a slot"

    @invariant()
    def it_keeps_its_promises(self) -> None:
        self.wheel.check()
        assert len(self.wheel) == len(self.model)
        next_ns = self.wheel.next_ns()
        if self.model:
            assert next_ns is not None
            assert 0 <= next_ns - min(self.model.values()) < GRAIN_NS
        else:
            assert next_ns is None
        self.wheel.check()


TestWheelAgainstAList = WheelAgainstAList.TestCase
TestWheelAgainstAList.settings = settings(deadline=None, max_examples=60)


# --- fair turns ----------------------------------------------------------------------------------


class Group:
    """Something with so much to do, that notes the turn of the loop in which it is served."""

    def __init__(self, bench: Turns, cost: int, times: int) -> None:
        self.bench, self.cost, self.times = bench, cost, times
        self.served: list[int] = []

    def turn(self) -> int:
        self.served.append(self.bench.loop_turn)
        self.times -= 1
        if self.times:
            self.bench.scheduler.wake(self)
        return self.cost


class Turns:
    def __init__(self) -> None:
        self.frames: list[tuple[str, Any, bool]] = []
        self.scheduler = Scheduler(
            1 << 20,
            SystemClocks(),
            header=lambda peer: (1, 1, b"", 0, 0),
            post=lambda peer, payload, *, droppable, flush: self.frames.append(
                (peer, msgpack.unpackb(payload, use_list=False)[1], droppable)
            ),
        )
        self.loop_turn = 0

    async def run(self, turns: int) -> None:
        for _ in range(turns):
            self.loop_turn += 1
            await asyncio.sleep(0)


async def test_one_flooded_group_does_not_starve_the_others() -> None:
    """The wait of 200 quiet groups is bounded in turns, however much the loud one has to do."""
    bench = Turns()
    loud = [Group(bench, WORK_PER_TURN // 2, 10_000) for _ in range(3)]
    calm = [Group(bench, 1, 50) for _ in range(200)]
    for group in [*loud, *calm]:
        bench.scheduler.wake(group)
    await bench.run(400)
    gaps = sorted(
        after - before
        for group in calm
        for before, after in zip(group.served, group.served[1:], strict=False)
    )
    assert len(gaps) == 200 * 49, "everybody was served as often as it asked"
    assert gaps[len(gaps) * 99 // 100] <= 3
    assert gaps[-1] <= 4


async def test_groups_take_turns_in_the_order_of_asking_and_once_each() -> None:
    bench = Turns()
    order: list[int] = []

    class Named(Group):
        def turn(self) -> int:
            order.append(self.cost)
            return 1

    groups = [Named(bench, number, 1) for number in range(5)]
    for group in [*groups, *reversed(groups)]:
        bench.scheduler.wake(group)
    await bench.run(2)
    assert order == [0, 1, 2, 3, 4]


async def test_one_timer_of_the_loop_stands_for_a_thousand_deadlines() -> None:
    bench = Turns()
    rung: list[int] = []

    class Sleeping:
        def __init__(self, number: int) -> None:
            self.number = number

        def rang(self, now_ns: int) -> None:
            rung.append(self.number)

    now_ns = SystemClocks().monotonic_ns()
    for number in range(1000):
        bench.scheduler.alarm(Sleeping(number), now_ns + (50 + number % 7) * MS)
    timers = [h for h in asyncio.get_running_loop()._scheduled if not h.cancelled()]  # type: ignore[attr-defined]
    assert len(timers) == 1
    async with asyncio.timeout(5):
        while len(rung) < 1000:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert sorted(rung) == list(range(1000))


def test_a_flooded_group_handles_so_many_messages_a_turn_in_order_and_drops_the_rest() -> None:
    inbox, flood = Inbox(), WAITING_MAX + 2 * MESSAGES_PER_TURN
    at_once = [n for n in range(flood) if inbox.admits("b", Awake(n))]
    assert at_once == list(range(MESSAGES_PER_TURN))
    assert inbox.dropped == flood - MESSAGES_PER_TURN - WAITING_MAX
    seen = []
    while len(inbox):
        turn = [message.term for _, message in inbox.next_turn()]
        assert len(turn) <= MESSAGES_PER_TURN
        seen += turn
    assert seen == list(range(MESSAGES_PER_TURN, MESSAGES_PER_TURN + WAITING_MAX))
    list(inbox.next_turn())
    assert inbox.admits("b", Awake(1)), "a new turn has its own share"


def test_what_a_peer_said_in_a_session_that_is_over_is_forgotten() -> None:
    inbox = Inbox()
    for number in range(MESSAGES_PER_TURN + 10):
        inbox.admits("bc"[number % 2], Awake(number))
    inbox.forget("b")
    assert {sender for sender, _ in inbox.next_turn()} == {"c"}


# --- what nodes say for all their groups ---------------------------------------------------------

uints = st.integers(0, MAX_UINT)
names = st.text(min_size=1, max_size=8)
heartbeats = st.lists(
    st.tuples(names, st.builds(Heartbeat, uints, uints, uints, uints, st.just(7), st.just(9))),
    min_size=1,
    max_size=5,
)
replies = st.lists(
    st.tuples(names, st.builds(HeartbeatReply, uints, uints, uints, st.just(7))),
    min_size=1,
    max_size=5,
)
beats = st.builds(Beat, uints, uints, uints, uints, uints, uints)


def wire(row: tuple[object, ...]) -> tuple[object, ...]:
    back = msgpack.unpackb(msgpack.packb(row), use_list=False)
    assert isinstance(back, tuple)
    return back


@given(heartbeats, replies, beats)
@settings(deadline=None)
def test_words_of_nodes_survive_the_wire(told: Any, answers: Any, beat: Beat) -> None:
    assert from_row(wire(heartbeat_row(7, 9, told))) == told
    assert from_row(wire(reply_row(7, answers))) == answers
    assert from_row(wire(beat_row(beat))) == beat
    assert from_row(wire(rouse_row())) == Rouse()


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | uints | st.floats() | names | st.binary(),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=8,
)


@given(
    st.tuples(st.just(NODE), st.integers(0, 5), *[anything] * 3)
    | st.lists(anything, max_size=9).map(lambda rest: (NODE, *rest))
    | st.tuples(st.just(NODE), st.just(2), uints, uints, *[st.lists(anything).map(tuple)] * 5)
)
@settings(deadline=None)
def test_rows_for_the_node_are_believed_in_nothing(row: Any) -> None:
    try:
        words = from_row(row)
    except InvalidInput:
        return
    if isinstance(words, list):
        for name, message in words:
            assert type(name) is str
            assert all(type(value) is int and 0 <= value <= MAX_UINT for value in message)


@pytest.mark.parametrize(
    "row",
    [
        (NODE,),
        (NODE, True, 1, 1, 1, 1, 1, 1),
        (NODE, 1, 1, 1, 1, 1, 1),
        (NODE, 1, 1, 1, 1, 1, 1, -1),
        (NODE, 2, 1, 1, (), (), (), (), ()),
        (NODE, 2, 1, 1, ("a",), (1,), (1,), (1,), ()),
        (NODE, 2, 1, 1, ("a",), (1,), (1,), (1,), (True,)),
        (NODE, 2, 1, 1, (b"a",), (1,), (1,), (1,), (1,)),
        (NODE, 3, 1, ("a",), (1,), (1,), (MAX_UINT + 1,)),
        (NODE, 4, 0),
        (NODE, 5),
    ],
)
def test_malformed_words_of_a_node_are_refused(row: Any) -> None:
    with pytest.raises(InvalidInput):
        from_row(row)


def test_heartbeats_of_a_thousand_groups_travel_as_one_row_of_columns_in_one_frame() -> None:
    outgoing = Outgoing(8 << 20)
    for number in range(1000):
        outgoing.add(f"group-{number}", Heartbeat(3, 2, 17, 0, 10**15, 5 * SECOND))
    ((rows, droppable),) = outgoing.frames()
    assert len(rows) == 1
    assert droppable
    packed = len(msgpack.packb(rows))
    assert packed < 20 * 1000, f"{packed} bytes for 1000 heartbeats"


def test_heartbeats_come_before_what_was_said_after_them_and_frames_with_more_are_kept() -> None:
    outgoing = Outgoing(8 << 20)
    outgoing.add("g", Append(1, 1, 0, 0, EMPTY_BLOCK, 0, 1, 1))
    outgoing.add("g", HeartbeatReply(1, 1, 0, 5))
    outgoing.add("g", Heartbeat(1, 1, 0, 0, 5, 5))
    ((rows, droppable),) = outgoing.frames()
    assert [row[0] for row in rows] == [NODE, NODE, "g"]
    assert not droppable


def news(commit: int) -> Heartbeat:
    return Heartbeat(1, 1, commit, 0, 0, 0)


async def test_news_of_a_commit_wait_one_turn_for_an_append_that_says_it_anyway() -> None:
    bench = Turns()
    bench.scheduler.send("b", "g", news(7))
    bench.scheduler.wake(Group(bench, 1, 1))
    await bench.run(1)
    assert not bench.frames
    bench.scheduler.send("b", "g", Append(1, 1, 0, 0, EMPTY_BLOCK, 7, 1, 1))
    await bench.run(3)
    ((_, rows, droppable),) = bench.frames
    assert [row[0] for row in rows] == ["g"], "the append alone"
    assert not droppable


async def test_news_of_a_commit_that_nothing_overtakes_leave_in_the_next_turn() -> None:
    bench = Turns()
    bench.scheduler.send("b", "g", news(7))
    bench.scheduler.wake(Group(bench, 1, 1))
    await bench.run(2)
    ((_, rows, _),) = bench.frames
    assert from_row(rows[0]) == [("g", news(7))]


def test_only_the_newest_news_of_a_commit_leave_and_before_what_may_rely_on_them() -> None:
    outgoing = Outgoing(8 << 20, {"g": news(7), "h": news(3)})
    outgoing.add("g", news(8))
    outgoing.add("g", Rest(1, 1, 8))
    ((rows, _),) = outgoing.frames()
    assert [row[0] for row in rows] == [NODE, "g"]
    assert from_row(rows[0]) == [("g", news(8)), ("h", news(3))]
    assert not outgoing.waiting


# --- who lives -----------------------------------------------------------------------------------


def test_contact_is_counted_both_ways_from_the_sending_of_what_was_heard() -> None:
    ours, theirs = Liveness(1), Liveness(2)
    beat = ours.beat("b", 100, 0, 0)
    assert not theirs.heard("a", beat, 5_000)
    assert ours.answered_ns("b") < 0, "nothing has come back"
    assert not ours.heard("b", theirs.beat("a", 5_100, 0, 0), 300)
    assert ours.heard_ns("b") == 300
    assert ours.answered_ns("b") == 100, "when it was sent, on our own clock"


def test_an_echo_of_an_earlier_life_counts_for_nothing() -> None:
    ours = Liveness(life=2)
    ours.heard("b", Beat(9, 1, echo_life=1, echo_ns=50, asleep=0, mark=0), 100)
    assert ours.answered_ns("b") < 0


def test_an_echo_from_the_future_counts_for_nothing() -> None:
    ours = Liveness(life=2)
    ours.heard("b", Beat(9, 1, echo_life=2, echo_ns=101, asleep=0, mark=0), 100)
    assert ours.answered_ns("b") < 0


def test_a_peers_new_life_is_noticed_and_has_heard_nothing_yet() -> None:
    ours = Liveness(life=2)
    assert not ours.heard("b", Beat(9, 1, 2, 50, 0, 0), 100)
    assert ours.answered_ns("b") == 50
    assert ours.heard("b", Beat(10, 1, 0, 0, 0, 0), 200)
    assert ours.answered_ns("b") < 0
    assert not ours.heard("b", Beat(10, 2, 2, 150, 0, 0), 300)
    assert ours.answered_ns("b") == 150


# --- who sleeps ----------------------------------------------------------------------------------


def sleeper(name: str, leader: str, window_ms: int = 1000, index: int = 5) -> Sleeper:
    """A group of a, b and c that sleeps on a."""
    peers = ("b", "c") if leader == "a" else (leader,)
    return Sleeper(name, leader == "a", peers, window_ms * MS, mark_of(name, 3, index))


@given(st.lists(st.tuples(st.sampled_from("wxyz"), st.sampled_from("abc-")), max_size=30))
@settings(deadline=None)
def test_the_books_of_sleepers_balance_whoever_comes_and_goes(doings: Any) -> None:
    books = Sleepers()
    for name, leader in doings:
        if leader == "-":
            books.discard(name)
        else:
            books.add(sleeper(name, leader))
        books.check()


def test_two_nodes_agree_on_what_sleeps_between_them_or_notice() -> None:
    ours, theirs = Sleepers(), Sleepers()
    for name in ("x", "y"):
        ours.add(sleeper(name, "a"))
        theirs.add(Sleeper(name, False, ("a",), 1000 * MS, mark_of(name, 3, 5)))
    said = ours.vouched_for("b")
    assert said.count == 2
    assert not theirs.doubt("a", said, 0, 1000)
    ours.discard("x")
    assert not theirs.doubt("a", ours.vouched_for("b"), 100, 1000), "a word may be on its way"
    assert not theirs.doubt("a", ours.vouched_for("b"), 1099, 1000)
    assert theirs.doubt("a", ours.vouched_for("b"), 1100, 1000)
    theirs.discard("x")
    assert not theirs.doubt("a", ours.vouched_for("b"), 9999, 1000)


def test_groups_that_sleep_at_different_indexes_or_terms_do_not_agree() -> None:
    assert (
        len({mark_of("x", 3, 5), mark_of("x", 3, 6), mark_of("x", 4, 5), mark_of("y", 3, 5)}) == 4
    )
    theirs = Sleepers()
    theirs.add(Sleeper("x", False, ("a",), 1000 * MS, mark_of("x", 3, 4)))
    said = Tally(1, mark_of("x", 3, 5))
    assert not theirs.doubt("a", said, 0, 10)
    assert theirs.doubt("a", said, 10, 10)


def test_silence_wakes_the_groups_that_relied_on_that_peer_each_by_its_own_window() -> None:
    books, live = Sleepers(), Liveness(1)
    books.add(sleeper("fast", "b", 500))
    books.add(sleeper("slow", "b", 2000))
    books.add(sleeper("other", "c", 500))
    books.add(sleeper("ours", "a", 1000))
    for peer in "bc":
        live.heard(peer, Beat(7, 1, 1, 0, 0, 0), 0)
    live.heard("c", Beat(7, 1, 1, 600 * MS, 0, 0), 600 * MS)
    assert books.overdue(live, 499 * MS) == []
    assert books.overdue(live, 700 * MS) == ["fast"]
    assert set(books.overdue(live, 1050 * MS)) == {"fast", "ours"}, "b has not heard of us"
    assert set(books.overdue(live, 2000 * MS)) == {"fast", "slow", "other", "ours"}


# --- who may stand -------------------------------------------------------------------------------


def test_so_many_elections_at_a_time_and_a_place_is_free_when_one_is_decided() -> None:
    gate = ElectionGate(2)
    assert gate.enter("x", 0, 100)
    assert gate.enter("y", 0, 100)
    assert not gate.enter("z", 50, 100)
    gate.leave("x")
    assert gate.enter("z", 60, 100)
    assert len(gate) == 2


def test_groups_that_cannot_win_do_not_keep_their_places() -> None:
    gate = ElectionGate(1)
    assert gate.enter("no-quorum", 0, 100)
    assert not gate.enter("able", 99, 100)
    assert gate.enter("able", 100, 100)
    assert not gate.enter("no-quorum", 150, 100)


# --- the disk ------------------------------------------------------------------------------------


def test_an_idle_disk_is_asked_for_a_sign_of_life_and_a_busy_one_is_not() -> None:
    watch = DiskWatch(1000, 0)
    quiet, nothing = DiskFacts(None, 0, False), DiskVerdict(False, False, False)
    assert watch.look(quiet, 249) == nothing
    assert watch.look(quiet, 250) == DiskVerdict(False, False, probe=True)
    assert watch.look(DiskFacts(250, 0, False), 300) == nothing, "it owes us an answer already"
    assert watch.look(DiskFacts(None, 1, False), 400) == nothing, "it has answered"
    assert watch.look(DiskFacts(None, 1, False), 649) == nothing
    assert watch.look(DiskFacts(None, 1, False), 650).probe


def test_a_disk_that_owes_an_answer_beyond_the_bound_is_stalled_until_it_answers() -> None:
    watch = DiskWatch(1000, 0)
    assert not watch.look(DiskFacts(100, 0, False), 1100).stalled
    assert watch.look(DiskFacts(100, 0, False), 1101).stalled
    assert not watch.look(DiskFacts(None, 1, False), 1200).stalled


def test_a_full_disk_is_not_a_dead_one() -> None:
    watch = DiskWatch(1000, 0)
    assert watch.look(DiskFacts(100, 0, True), 9000) == DiskVerdict(False, True, False)


# --- the catalog ---------------------------------------------------------------------------------


@given(
    st.dictionaries(names, st.lists(names, min_size=1, max_size=3, unique=True)),
    st.sets(names),
    st.integers(1, 60),
)
@settings(deadline=None)
def test_a_catalog_survives_the_disk(hosted: Any, retired: Any, seconds: int) -> None:
    own = RaftSettings(election_timeout_ns=seconds * SECOND, heartbeat_ns=seconds * SECOND // 5)
    catalog = Catalog({n: GroupConfig(tuple(v), own) for n, v in hosted.items()}, retired)
    assert Catalog.decode(catalog.encode()) == catalog


def test_a_catalog_of_a_thousand_groups_made_alike_is_small() -> None:
    alike = GroupConfig(("us-east-1", "hangzhou", "edge"))
    assert len(Catalog({f"group-{n}": alike for n in range(1000)}).encode()) < 20_000


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 7))
@settings(deadline=None)
def test_a_damaged_catalog_is_refused_in_words(noise: bytes, at: int, bit: int) -> None:
    catalog = Catalog({"g": GroupConfig(("a", "b"))}, {"old"})
    whole = catalog.encode()
    damaged = bytearray(whole)
    damaged[at % len(whole)] ^= 1 << bit
    for encoded in (noise, bytes(damaged), whole[: at % len(whole)]):
        with pytest.raises(InvalidInput, match="catalog"):
            Catalog.decode(encoded)


def test_settings_of_a_newer_version_are_refused_by_name_and_missing_ones_have_defaults() -> None:
    own = replace(RaftSettings(), quiet_after_ns=7)
    assert settings_from({"quiet_after_ns": 7}) == own
    with pytest.raises(InvalidInput, match="no such setting: telepathy"):
        settings_from({"telepathy": 1})


def test_turns_are_bounded_also_when_thousands_of_random_groups_want_them() -> None:
    """No loop turn costs more than the bound and one group's share."""

    async def law() -> None:
        bench, rng = Turns(), random.Random(1)
        costs: dict[int, int] = {}

        class Counted(Group):
            def turn(self) -> int:
                costs[bench.loop_turn] = costs.get(bench.loop_turn, 0) + self.cost
                return super().turn()

        groups = [
            Counted(bench, rng.choice((1, 10, 1000)), rng.randrange(1, 4)) for _ in range(500)
        ]
        for group in groups:
            bench.scheduler.wake(group)
        await bench.run(1000)
        assert all(group.times == 0 for group in groups)
        assert max(costs.values()) <= WORK_PER_TURN + 1000

    asyncio.run(law())
