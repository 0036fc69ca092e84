"""The hybrid clock against its paper, and against everything a physical clock can do to it."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.clock import HybridClock, Timestamp, UpperBound
from mcpcore.clock.timestamp import COUNTER_MAX, TIMESTAMP_MAX
from mcpcore.errors import ClockCeilingReached, InvalidInput, TimestampTooFarAhead

law = settings(deadline=None, max_examples=150)


class Wall:
    """A physical clock in the hands of a test."""

    def __init__(self, ns=1_000):
        self.ns = ns

    def __call__(self):
        return self.ns


# --- the two rules, line by line (paper, Figure 5) ----------------------------------------------


@pytest.mark.parametrize(
    ("l_c", "pt", "then"),
    [
        ((10, 0), 11, (11, 0)),  # physical time moved on: follow it
        ((10, 5), 11, (11, 0)),  # and the counter starts anew
        ((10, 0), 10, (10, 1)),  # it stood still: count
        ((10, 5), 9, (10, 6)),  # it went back: count
        ((10, 5), -3, (10, 6)),  # it went mad: count
    ],
)
def test_a_local_event_follows_figure_5(l_c, pt, then):
    clock = HybridClock(Wall(pt), floor=Timestamp.of(*l_c))

    stamp = clock.now()

    assert (stamp.physical_ns, stamp.counter) == then


@pytest.mark.parametrize(
    ("l_c", "message", "pt", "then"),
    [
        ((10, 3), (8, 9), 11, (11, 0)),  # pt leads alone
        ((10, 3), (10, 9), 10, (10, 10)),  # l = l.m: the greater counter, and one
        ((10, 9), (10, 3), 10, (10, 10)),
        ((10, 3), (8, 9), 9, (10, 4)),  # l leads: our counter, and one
        ((10, 3), (12, 9), 11, (12, 10)),  # the message leads: its counter, and one
        ((10, 3), (12, 9), 12, (12, 10)),  # pt = l.m: the message still counts
        ((12, 3), (10, 9), 12, (12, 4)),
        ((12, 3), (12, 9), 13, (13, 0)),
    ],
)
def test_a_receive_event_follows_figure_5(l_c, message, pt, then):
    clock = HybridClock(Wall(pt), floor=Timestamp.of(*l_c))

    stamp = clock.observe(Timestamp.of(*message))

    assert (stamp.physical_ns, stamp.counter) == then


def test_tick_is_now_without_the_type():
    stamps, ticks = HybridClock(Wall(7)), HybridClock(Wall(7))

    for _ in range(3):
        stamp, tick = stamps.now(), ticks.tick()
        assert stamp == tick
        assert type(stamp) is Timestamp
        assert type(tick) is int


def test_a_full_counter_carries_into_the_physical_half_and_order_holds():
    clock = HybridClock(Wall(10), floor=Timestamp.of(10, COUNTER_MAX))

    stamp = clock.now()

    assert (stamp.physical_ns, stamp.counter) == (11, 0)


# --- the theorems, over histories that Hypothesis invents ---------------------------------------


@dataclass(frozen=True)
class Event:
    """What happened at a node; ``past`` holds the ids of all events that happened before it."""

    id: int
    node: int
    stamp: Timestamp
    pt: int
    past: frozenset
    sent_by: int | None = None


@dataclass
class History:
    """Nodes, messages under way, and the true happens-before relation, kept apart from clocks."""

    walls: list
    clocks: list
    events: list = field(default_factory=list)
    last: dict = field(default_factory=dict)
    under_way: list = field(default_factory=list)

    def local(self, node):
        return self._happened(node, self.clocks[node].now(), frozenset(), None)

    def send(self, node, to):
        self.under_way.append((to, self.local(node)))

    def deliver(self, which, **how):
        if self.under_way:
            to, sent = self.under_way.pop(which % len(self.under_way))
            stamp = self.clocks[to].observe(sent.stamp, **how)
            self._happened(to, stamp, sent.past | {sent.id}, sent.id)

    def _happened(self, node, stamp, past, sent_by):
        before = self.last.get(node)
        if before is not None:
            past = past | before.past | {before.id}
        event = Event(len(self.events), node, stamp, self.walls[node].ns, past, sent_by)
        self.events.append(event)
        self.last[node] = event
        return event


steps = st.one_of(
    st.tuples(st.just("local"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("send"), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.just("deliver"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("wall"), st.integers(0, 2), st.integers(-5, 20)),
    st.tuples(st.just("wall"), st.integers(0, 2), st.sampled_from([-3600, 3600])),
)


def play(schedule, **settings_of_clocks):
    walls = [Wall(1_000_000), Wall(1_000_000), Wall(1_000_000)]
    history = History(walls, [HybridClock(wall, **settings_of_clocks) for wall in walls])
    for what, first, second in schedule:
        if what == "local":
            history.local(first)
        elif what == "send":
            history.send(first, second)
        elif what == "deliver":
            history.deliver(first)
        else:
            walls[first].ns += second
    return history


schedules = st.lists(steps, max_size=60)


@law
@given(schedules)
def test_what_happened_before_is_stamped_before(schedule):
    """Theorem 1: e happens-before f implies (l.e, c.e) < (l.f, c.f), whatever clocks do."""
    events = play(schedule).events
    for event in events:
        for earlier in event.past:
            assert events[earlier].stamp < event.stamp


@law
@given(schedules)
def test_the_physical_half_is_never_behind_physical_time(schedule):
    """Theorem 2: l.f >= pt.f."""
    for event in play(schedule).events:
        assert event.stamp.physical_ns >= event.pt


@law
@given(schedules)
def test_the_physical_half_is_the_physical_time_of_an_event_in_the_past(schedule):
    """Theorem 3: l.f is the maximum of pt.g over g that are f or happened before it."""
    events = play(schedule).events
    for event in events:
        assert event.stamp.physical_ns == max(
            event.pt, *(events[g].pt for g in event.past), event.pt
        )


@law
@given(schedules)
def test_the_counter_is_bounded_by_the_events_of_one_physical_time(schedule):
    """Theorem 4: c.f <= |{g : g happened before f and l.g = l.f}|."""
    events = play(schedule).events
    for event in events:
        same = [g for g in event.past if events[g].stamp.physical_ns == event.stamp.physical_ns]
        assert event.stamp.counter <= len(same)


@law
@given(schedules)
def test_a_cut_at_any_timestamp_is_a_consistent_snapshot(schedule):
    """Section 5: what is received inside the cut was sent inside it."""
    events = play(schedule).events
    for cut in {event.stamp for event in events}:
        inside = {event.id for event in events if event.stamp <= cut}
        for event in events:
            if event.id in inside:
                assert event.past <= inside


moving = st.lists(
    st.one_of(
        st.tuples(st.just("local"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("send"), st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.just("deliver"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("time"), st.just(0), st.integers(1, 1_000_000)),
    ),
    max_size=60,
)


@law
@given(
    moving,
    st.lists(st.integers(-500, 500), min_size=3, max_size=3),
    st.lists(st.integers(-5_000, 5_000), min_size=3, max_size=3),
    st.booleans(),
)
def test_the_physical_half_runs_ahead_by_at_most_the_pairwise_offset(
    schedule, ppm, offsets, weighted
):
    """Corollary of theorem 3, with and without the weighted increment's proved delay."""
    walls = [Wall(10_000_000 + offset) for offset in offsets]
    history = History(walls, [HybridClock(wall, max_offset_ns=10**12) for wall in walls])
    true_ns, epsilon, bases = 0, 0, [wall.ns for wall in walls]
    sent_at = {}
    for what, first, second in schedule:
        if what == "time":
            true_ns += second
            for i, wall in enumerate(walls):
                wall.ns = bases[i] + true_ns + true_ns * ppm[i] // 1_000_000
        elif what == "local":
            history.local(first)
        elif what == "send":
            history.send(first, second)
            sent_at[history.events[-1].id] = true_ns
        elif history.under_way:
            which = first % len(history.under_way)
            _, sent = history.under_way[which]
            # Proved: that much time has passed on the slowest possible clock.
            passed = (true_ns - sent_at[sent.id]) * (1_000_000 - 500) // 1_000_000
            history.deliver(which, floor_ns=max(0, passed - 1) if weighted else 0)
        epsilon = max(epsilon, max(w.ns for w in walls) - min(w.ns for w in walls))
        for node, event in history.last.items():
            ahead = history.clocks[node].last.physical_ns - walls[node].ns
            assert ahead <= epsilon, (event, epsilon)
    for event in history.events:
        for earlier in event.past:
            assert history.events[earlier].stamp < event.stamp


@law
@given(schedules)
def test_equal_clocks_with_no_tolerance_never_refuse(schedule):
    """A limit of zero must not refuse the present."""
    walls = [Wall(10_000)] * 3
    history = History(walls, [HybridClock(wall, max_offset_ns=0) for wall in walls])
    for what, first, second in schedule:
        if what == "local":
            history.local(first)
        elif what == "send":
            history.send(first, second)
        elif what == "deliver":
            history.deliver(first)
        elif second > 0:
            walls[0].ns += second
    assert all(not clock.refusals for clock in history.clocks)


# --- hostile peers ------------------------------------------------------------------------------


remotes = st.integers(0, 40_000) | st.integers(0, TIMESTAMP_MAX >> 32)


@law
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["wall", "now", "observe"]),
            st.integers(-3_000, 6_000),
            remotes,
            st.sampled_from([0, 1, COUNTER_MAX]),
            st.integers(0, 3_000),
        ),
        max_size=50,
    ),
    st.integers(0, 2_000),
)
def test_no_peer_can_pull_the_clock_further_than_the_limit(history, limit):
    """l - pt <= limit; after a backward step of s, at most s more. A refusal changes nothing."""
    wall = Wall(10_000)
    clock = HybridClock(wall, max_offset_ns=limit)
    highest = wall.ns
    for what, move, remote_ns, counter, floor_ns in history:
        if what == "wall":
            wall.ns = max(0, wall.ns + move)
            highest = max(highest, wall.ns)
        elif what == "now":
            before = clock.last
            assert clock.now() > before
        else:
            before, count = clock.last, sum(clock.refusals.values())
            remote = Timestamp.of(remote_ns, counter)
            try:
                received = clock.observe(remote, "mallory", floor_ns)
            except TimestampTooFarAhead:
                assert clock.last == before
                assert clock.refusals["mallory"] == count + 1
            else:
                assert received > max(before, remote)
        assert clock.last.physical_ns - wall.ns <= limit + (highest - wall.ns)


def test_refusals_of_very_many_names_take_bounded_memory():
    clock = HybridClock(Wall(0), max_offset_ns=0)

    for i in range(1000):
        with pytest.raises(TimestampTooFarAhead):
            clock.observe(Timestamp.of(10), f"peer{i}")

    assert len(clock.refusals) <= 257
    assert sum(clock.refusals.values()) == 1000


@pytest.mark.parametrize("remote", [-1, TIMESTAMP_MAX + 1])
def test_a_number_that_is_no_timestamp_is_refused_and_changes_nothing(remote):
    clock = HybridClock(Wall(10))
    before = clock.last

    with pytest.raises(InvalidInput, match="no timestamp"):
        clock.observe(remote, "b")

    assert clock.last == before
    assert not clock.refusals


def test_settings_that_make_no_clock_are_refused():
    with pytest.raises(InvalidInput):
        HybridClock(Wall(), max_offset_ns=-1)
    with pytest.raises(InvalidInput, match="do not stand in order"):
        HybridClock(Wall(), floor=5, ceiling=4)
    with pytest.raises(InvalidInput):
        HybridClock(Wall(10)).observe(Timestamp.of(10), counter_step=0)
    for remote_ns in (1, 10, 11):
        with pytest.raises(InvalidInput):
            HybridClock(Wall(10)).observe(Timestamp.of(remote_ns), floor_ns=-2)


# --- the upper bound ----------------------------------------------------------------------------


def test_the_clock_stops_at_the_bound_that_is_on_disk_and_says_what_to_do():
    wall = Wall(10)
    clock = HybridClock(wall, ceiling=Timestamp.of(20))
    clock.now()
    wall.ns = 21
    before = clock.last

    for ask in (clock.now, clock.tick, lambda: clock.observe(Timestamp.of(15))):
        with pytest.raises(ClockCeilingReached, match="Store a later bound"):
            ask()
    assert clock.last == before

    clock.raise_ceiling(Timestamp.of(30))
    assert clock.now() == Timestamp.of(21)
    with pytest.raises(InvalidInput):
        clock.raise_ceiling(Timestamp.of(29))


@law
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("now"), st.just(0)),
            st.tuples(st.just("wall"), st.integers(-4_000, 4_000)),
            st.tuples(st.just("observe"), st.integers(0, 500)),
            st.tuples(st.just("crash"), st.integers(-4_000, 4_000)),
            st.tuples(st.just("crash before the store is durable"), st.integers(-4_000, 100)),
        ),
        max_size=60,
    )
)
def test_timestamps_increase_across_crashes_whatever_the_wall_clock_does(history):
    policy = UpperBound(ahead_ns=1_000)
    wall = Wall(10_000)
    disk = Timestamp(0)
    clock = HybridClock(wall, ceiling=disk)
    issued = Timestamp(0)
    for what, number in history:
        if what == "wall":
            wall.ns = max(1, wall.ns + number)
        elif what.startswith("crash"):
            wall.ns = max(1, wall.ns + number)
            recovery = policy.recover(disk, wall_ns=wall.ns)
            clock = HybridClock(wall, floor=recovery.floor, ceiling=recovery.floor)
            if what != "crash":
                continue
        due = policy.due(clock.last, disk, wall.ns)
        if due is not None:
            disk = due
            clock.raise_ceiling(due)
        try:
            if what == "now":
                stamp = clock.now()
            elif what == "observe":
                stamp = clock.observe(Timestamp.of(wall.ns + number))
            else:
                continue
        except ClockCeilingReached:
            continue
        assert stamp > issued
        assert stamp <= disk
        issued = stamp


def test_the_bound_itself_is_the_last_timestamp_that_may_be_issued():
    clock = HybridClock(Wall(0), ceiling=3)

    assert [clock.now() for _ in range(3)] == [1, 2, 3]
    with pytest.raises(ClockCeilingReached):
        clock.now()
    with pytest.raises(ClockCeilingReached):
        clock.tick()
