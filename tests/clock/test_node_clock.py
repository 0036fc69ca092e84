"""A whole cluster's clocks, and everything that goes wrong with them."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.clock import (
    CalibrationWindow,
    ClockSettings,
    ClockState,
    Exchange,
    NodeClock,
    SampleRefused,
    Timestamp,
    Uncompensated,
    WeightedIncrement,
    WindowRestarted,
)
from mcpcore.errors import InvalidInput, TimestampTooFarAhead

law = settings(deadline=None, max_examples=40)

MS = 1_000_000
S = 1_000_000_000
YEAR_NS = 365 * 86_400 * S
EPOCH_NS = 1_800_000_000 * S


class Host:
    """A machine with a drifting oscillator, and a system clock that anybody may set."""

    def __init__(self, cluster, ppm, wall_off_ns):
        self.cluster = cluster
        self.ppm = ppm
        self.wall_off_ns = wall_off_ns
        self.frozen_at_ns = None
        self.suspended_ns = 0

    def monotonic_ns(self):
        true_ns = self.cluster.true_ns - self.suspended_ns
        return 5 * S + true_ns + true_ns * self.ppm // 1_000_000

    def wall_ns(self):
        if self.frozen_at_ns is not None:
            return self.frozen_at_ns
        return EPOCH_NS + self.wall_off_ns + self.suspended_ns + self.monotonic_ns()


class Cluster:
    """Nodes that exchange heartbeats every second over links of 6 ms each way."""

    def __init__(self, *ppm, offsets_ns=None, compensation=None, **limits):
        self.true_ns = 0
        self.names = "abcdefg"[: len(ppm)]
        self.hosts = {
            name: Host(self, rate, off)
            for name, rate, off in zip(self.names, ppm, offsets_ns or [0] * len(ppm), strict=True)
        }
        self.compensation = compensation
        self.settings = ClockSettings(**limits)
        self.clocks = {name: self.start(name) for name in self.names}
        self.stamps = {name: [] for name in self.names}
        self.cut = set()
        self.refused = 0

    def start(self, name, **bounds):
        host = self.hosts[name]
        return NodeClock(
            name,
            [peer for peer in self.names if peer != name],
            wall_ns=host.wall_ns,
            monotonic_ns=host.monotonic_ns,
            settings=self.settings,
            compensation=self.compensation,
            **bounds,
        )

    def exchange(self, a, b, there_ns=6 * MS, back_ns=6 * MS):
        ours, theirs = self.clocks[a], self.clocks[b]
        t1 = ours.stamp_ns()
        self.true_ns += there_ns
        t2 = theirs.stamp_ns()
        self.true_ns += back_ns
        return ours.exchanged(b, Exchange(t1, t2, t2, ours.stamp_ns()))

    def message(self, a, b):
        sent = self.clocks[a].now()
        self.stamps[a].append(sent)
        self.true_ns += 6 * MS
        try:
            self.stamps[b].append(self.clocks[b].received(a, sent))
        except TimestampTooFarAhead:
            self.refused += 1

    def run(self, seconds):
        for _ in range(seconds):
            for a, b in permutations(self.names, 2):
                if a not in self.cut and b not in self.cut:
                    self.exchange(a, b)
                    self.message(a, b)
            self.true_ns += S

    def steady_ns(self, name):
        return self.clocks[name].stamp_ns()

    def check_order(self):
        for stamps in self.stamps.values():
            assert stamps == sorted(set(stamps))


def row(clock, node):
    return next(row for row in clock.view() if row.node == node)


# --- a healthy cluster --------------------------------------------------------------------------


def test_after_a_few_heartbeats_a_cluster_is_synchronised_and_steers_together():
    cluster = Cluster(-50, 0, 50, offsets_ns=[-40 * MS, 0, 70 * MS])
    cluster.run(120)

    for clock in cluster.clocks.values():
        health = clock.health()
        assert health.state is ClockState.SYNCHRONISED
        assert health.may_lease
        assert health.reasons == ("agrees with a, b, c",)
        assert clock.plan.name == "auto: calibration window"
    physical = [clock.physical_ns() for clock in cluster.clocks.values()]
    assert max(physical) - min(physical) < 15 * MS, "slewed from 110 ms, 500 ppm at a time"
    assert cluster.refused == 0
    cluster.check_order()


@law
@given(
    st.lists(st.integers(-500, 500), min_size=3, max_size=3),
    st.lists(st.integers(-80 * MS, 80 * MS), min_size=3, max_size=3),
    st.lists(
        st.tuples(st.sampled_from(list(permutations("abc", 2))), st.integers(0, 50 * MS)),
        min_size=8,
        max_size=30,
    ),
)
def test_every_nodes_interval_holds_the_same_moment_whatever_the_links_do(ppm, offsets, history):
    """The median of the steady clocks, as long as all of them are heard."""
    cluster = Cluster(
        *ppm, offsets_ns=offsets, compensation=CalibrationWindow(), drift_max_ppm=500, wander_ppm=0
    )
    cluster.run(1)
    for (a, b), delay in history:
        cluster.exchange(a, b, there_ns=delay, back_ns=50 * MS - delay)
        cluster.true_ns += 100 * MS
        middle = sorted(cluster.steady_ns(name) for name in "abc")[1]
        for clock in cluster.clocks.values():
            assert len(clock.agreement().truechimers) == 3
            assert clock.interval().widened(3).contains(middle)
            reading = clock.reading()
            assert reading.interval.widened(3).contains(middle)
            uncertainty = row(clock, clock.node).uncertainty_ns
            assert abs(clock.physical_ns() - middle - row(clock, clock.node).offset_ns) <= (
                uncertainty + 3
            )


def test_the_view_shows_every_clock_against_the_clusters_time():
    cluster = Cluster(0, 100, -100, offsets_ns=[0, 30 * MS, -30 * MS])
    cluster.run(60)

    rows = cluster.clocks["a"].view()

    assert [row.node for row in rows] == ["a", "b", "c"]
    assert [row.verdict for row in rows] == ["true"] * 3
    assert rows[1].offset_ns == pytest.approx(36 * MS, abs=2 * MS)
    assert rows[2].offset_ns == pytest.approx(-36 * MS, abs=2 * MS)
    assert rows[1].skew_ppm == pytest.approx(100, abs=15)
    assert rows[1].delay_ns == pytest.approx(12 * MS, rel=1e-3)
    assert rows[1].samples == 60
    assert rows[0].samples == 0
    assert all(row.uncertainty_ns < 20 * MS for row in rows)


def test_a_lone_node_is_its_own_majority():
    cluster = Cluster(0)

    health = cluster.clocks["a"].health()

    assert health.state is ClockState.SYNCHRONISED
    assert health.uncertainty_ns == 0
    assert cluster.clocks["a"].wait_until_past_ns(cluster.clocks["a"].now()) == 1


def test_before_a_majority_was_heard_nobody_claims_to_know_the_time():
    cluster = Cluster(0, 0, 0)
    clock = cluster.clocks["a"]

    assert clock.interval() is None
    assert clock.reading() is None
    assert clock.wait_until_past_ns(Timestamp(0)) is None
    health = clock.health()
    assert health.state is ClockState.UNSYNCHRONISED
    assert not health.may_lease
    assert health.reasons == ("1 of 3 clocks are known, a majority is 2",)
    assert clock.now() > Timestamp(0), "order needs no agreement"


# --- a poisoned timestamp -----------------------------------------------------------------------


def test_a_timestamp_from_next_year_is_refused_counted_named_and_does_not_spread():
    cluster = Cluster(20, 0, -20)
    cluster.run(10)
    poison = Timestamp.of(cluster.hosts["a"].wall_ns() + YEAR_NS)

    for _ in range(3):
        with pytest.raises(TimestampTooFarAhead, match="timestamp from c"):
            cluster.clocks["a"].received("c", poison)
    cluster.run(10)

    assert row(cluster.clocks["a"], "c").refusals == 3
    assert "refused 3 timestamps from c" in cluster.clocks["a"].health().reasons
    for name, clock in cluster.clocks.items():
        assert clock.now().physical_ns < cluster.hosts[name].wall_ns() + S
        assert clock.health().state is ClockState.SYNCHRONISED
        if name != "a":
            assert not clock.hlc.refusals
    cluster.check_order()


def test_a_node_whose_clock_runs_an_hour_ahead_is_refused_by_all_and_stops_nobody():
    cluster = Cluster(0, 0, 0, offsets_ns=[0, 0, 3600 * S])
    cluster.run(10)

    for name in "ab":
        clock = cluster.clocks[name]
        assert clock.hlc.refusals["c"] == 10
        assert clock.health().state is ClockState.SYNCHRONISED
        assert any("the clock of c is 3599" in reason for reason in clock.health().reasons)
        assert row(clock, "c").verdict == "false"
        assert clock.now().physical_ns < EPOCH_NS + 3000 * S
    bad = cluster.clocks["c"].health()
    assert bad.state is ClockState.UNSYNCHRONISED
    assert not bad.may_lease
    assert "our own clock is 3599" in bad.reasons[0]


def test_a_node_whose_clock_is_an_hour_behind_is_put_forward_by_the_majority():
    cluster = Cluster(0, 0, 0, offsets_ns=[0, 0, -3600 * S], compensation=CalibrationWindow())
    cluster.run(2)

    stamps = [cluster.clocks[name].now().physical_ns for name in "abc"]

    assert max(stamps) - min(stamps) < 20 * MS
    cluster.check_order()


# --- steps, freezes, suspensions ----------------------------------------------------------------


@pytest.mark.parametrize("step_ns", [3600 * S, -3600 * S, S, -S])
def test_a_step_of_the_system_clock_enters_no_timestamp_and_is_told(step_ns):
    cluster = Cluster(10, 0, -10)
    cluster.run(30)
    before = cluster.clocks["a"].now()

    cluster.hosts["a"].wall_off_ns += step_ns
    after = cluster.clocks["a"].now()
    health = cluster.clocks["a"].health()

    assert before < after < before + ((10 * MS) << 32)
    assert health.state is ClockState.HOLDOVER
    assert not health.may_lease
    assert f"the system clock jumped by {step_ns / 1e9:+.3f} s" in health.reasons[0]

    cluster.run(15)
    health = cluster.clocks["a"].health()
    assert health.state is ClockState.SYNCHRONISED
    assert health.may_lease
    assert any("jumped" in reason for reason in health.reasons), "settled, not forgotten"
    assert cluster.refused == 0
    assert all(
        clock.estimates()[p].steps == 0
        for clock in cluster.clocks.values()
        for p in clock.estimates()
    )
    cluster.check_order()


@law
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from(["step", "freeze", "thaw", "suspend", "nothing"]),
            st.integers(-3600 * S, 3600 * S),
        ),
        max_size=12,
    )
)
def test_order_holds_through_every_storm_of_clock_faults(faults):
    cluster = Cluster(300, 0, -300, drift_max_ppm=500)
    for name, fault, number in faults:
        host = cluster.hosts[name]
        if fault == "step":
            host.wall_off_ns += number
        elif fault == "freeze":
            host.frozen_at_ns = host.wall_ns()
        elif fault == "thaw":
            host.frozen_at_ns = None
        elif fault == "suspend":
            host.suspended_ns += min(abs(number), cluster.true_ns)
        cluster.run(1)
        for clock in cluster.clocks.values():
            clock.health()
            clock.view()
    cluster.check_order()


def test_after_a_suspension_no_lease_is_trusted_and_the_peers_notice():
    cluster = Cluster(0, 0, 0)
    cluster.run(30)
    cluster.hosts["a"].suspended_ns += 20 * S

    health = cluster.clocks["a"].health()
    event = cluster.exchange("b", "a")

    assert not health.may_lease
    assert "jumped by +20.000 s" in health.reasons[0]
    assert isinstance(event, WindowRestarted)
    assert cluster.clocks["b"].plan.name == "auto: weighted increment"
    assert "a clock stepped" in cluster.clocks["b"].plan.why


def test_a_frozen_system_clock_stops_nothing():
    cluster = Cluster(0, 0, 0)
    cluster.run(5)
    host = cluster.hosts["a"]
    host.frozen_at_ns = host.wall_ns()
    before = cluster.clocks["a"].now()
    cluster.run(20)

    assert cluster.clocks["a"].now().physical_ns - before.physical_ns > 20 * S
    assert "the system clock jumped" in " ".join(cluster.clocks["a"].health().reasons)
    cluster.check_order()


@pytest.mark.parametrize("stalls", [1, 3, 100])
def test_a_process_that_stalls_between_two_readings_has_seen_no_jump(stalls):
    cluster = Cluster(0)
    host, clock = cluster.hosts["a"], cluster.clocks["a"]
    read, left = host.wall_ns, [stalls]

    def stalling():
        wall = read()
        if left[0]:
            left[0] -= 1
            cluster.true_ns += 2 * S  # preempted, right after the reading
        return wall

    clock._wall_ns = stalling
    while left[0]:
        assert clock.watch() is None
    assert clock.watch() is None
    host.wall_off_ns += S
    assert clock.watch().by_ns == S, "and a real one is still seen"


# --- silence ------------------------------------------------------------------------------------


def test_cut_off_a_node_goes_to_holdover_and_then_gives_up_its_claims():
    cluster = Cluster(50, 0, -50)
    cluster.run(60)
    cluster.cut = {"a"}
    clock = cluster.clocks["a"]
    radii = []

    for _ in range(20):
        cluster.true_ns += 300 * S
        health = clock.health()
        radii.append(health.uncertainty_ns)
        if health.uncertainty_ns <= cluster.settings.uncertainty_max_ns:
            assert health.state is ClockState.HOLDOVER
            assert "no exchange with a majority for" in health.reasons[0]
        else:
            assert health.state is ClockState.UNSYNCHRONISED
            assert not health.may_lease
            assert "uncertain by" in health.reasons[0]

    assert radii == sorted(radii)
    assert health.state is ClockState.UNSYNCHRONISED


def test_one_peer_that_still_answers_is_no_majority():
    cluster = Cluster(0, 0, 0, 0, 0)
    cluster.run(20)
    cluster.cut = set("cde")
    cluster.run(40)

    health = cluster.clocks["a"].health()

    assert health.state is ClockState.HOLDOVER
    assert "no exchange with a majority for 4" in health.reasons[0]


def test_an_impossible_exchange_proves_no_contact():
    cluster = Cluster(0, 0, 0)
    cluster.run(20)
    clock = cluster.clocks["a"]
    cluster.true_ns += 60 * S
    now = clock.stamp_ns()

    for peer in "bc":
        assert isinstance(clock.exchanged(peer, Exchange(now, now + S, now, now)), SampleRefused)

    assert clock.health().state is ClockState.HOLDOVER


# --- peers come and go --------------------------------------------------------------------------


def test_a_restarted_peer_is_learnt_anew_without_a_false_alarm():
    cluster = Cluster(0, 0, 0)
    cluster.run(20)
    cluster.hosts["c"].wall_off_ns += 50 * MS
    cluster.clocks["c"] = cluster.start("c")
    for name in "ab":
        cluster.clocks[name].peer_restarted("c")
    cluster.run(5)

    seen = cluster.clocks["a"].estimates()["c"]
    assert seen.steps == 0
    assert seen.samples == 5
    assert seen.offset_ns == pytest.approx(50 * MS, abs=MS)


def test_a_change_of_members_keeps_what_is_known_of_those_who_stay():
    cluster = Cluster(0, 0, 0)
    cluster.run(10)
    clock = cluster.clocks["a"]

    clock.set_peers(["b", "d", "e", "f"])

    assert list(clock.estimates()) == ["b"]
    assert clock.health().reasons == ("2 of 5 clocks are known, a majority is 3",)


def test_strangers_and_impossible_exchanges_change_nothing():
    cluster = Cluster(0, 0, 0)
    clock = cluster.clocks["a"]

    assert isinstance(clock.exchanged("b", Exchange(5, 5, 5, 4)), SampleRefused)
    assert clock.estimates() == {}
    for ask in (
        lambda: clock.exchanged("x", Exchange(1, 1, 1, 1)),
        lambda: clock.received("x", 5),
        lambda: clock.peer_restarted("x"),
        lambda: clock.set_peers(["a"]),
    ):
        with pytest.raises(InvalidInput):
            ask()


def test_the_weighted_floor_lifts_a_received_timestamp():
    cluster = Cluster(0, 0, compensation=WeightedIncrement(floor_ns={"a": 5 * MS}), max_offset_ns=S)
    sent = Timestamp.of(cluster.clocks["b"].physical_ns() + 100 * MS, 7)

    got = cluster.clocks["b"].received("a", sent)

    assert got == Timestamp.of(sent.physical_ns + 5 * MS)


def test_uncompensated_clocks_are_left_to_drift():
    cluster = Cluster(400, -400, 0, compensation=Uncompensated(), drift_max_ppm=500)
    cluster.run(60)

    apart = cluster.clocks["a"].physical_ns() - cluster.clocks["b"].physical_ns()

    assert apart == pytest.approx(800e-6 * cluster.true_ns, rel=1e-3)


@pytest.mark.parametrize(
    "bad",
    [
        {"max_offset_ns": -1},
        {"max_offset_ns": 0},
        {"window_ns": 1.5},
        {"drift_max_ppm": "50"},
        {"wander_ppm": float("nan")},
        {"settle_ns": True},
        {"uncertainty_max_ns": 600 * MS},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(bad):
    with pytest.raises(InvalidInput, match=next(iter(bad))):
        ClockSettings(**bad)


# --- what it costs ------------------------------------------------------------------------------


class Counting:
    """A strategy that counts how often it is asked."""

    def __init__(self):
        self.plans = 0
        self.inner = CalibrationWindow()

    def plan(self, evidence):
        self.plans += 1
        return self.inner.plan(evidence)

    def weight(self, peer, delay_ns):
        return self.inner.weight(peer, delay_ns)


def fleet(peers, seconds, **limits):
    """A node that hears ``peers`` others five times a second; how often it weighed them all."""
    true_ns = 5 * S
    counting = Counting()
    names = [f"n{number}" for number in range(peers)]
    clock = NodeClock(
        "us",
        names,
        wall_ns=lambda: EPOCH_NS + true_ns,
        monotonic_ns=lambda: true_ns,
        settings=ClockSettings(**limits),
        compensation=counting,
    )
    for _ in range(5 * seconds):
        true_ns += S // 5
        for name in names:
            now = clock.stamp_ns()
            clock.exchanged(name, Exchange(now - 12 * MS, now - 6 * MS, now - 6 * MS, now))
    return counting.plans


def test_all_peers_are_weighed_once_a_second_however_many_there_are():
    first_heard = 50
    assert fleet(50, 20) <= first_heard + 20 + 2
    assert fleet(50, 2, plan_every_ns=0) == 50 * 2 * 5 + 1, "or at every exchange, if asked for"


def test_a_step_is_planned_for_at_once_and_not_at_the_next_turn():
    cluster = Cluster(0, 0, 0, plan_every_ns=3600 * S)
    cluster.run(20)
    assert cluster.clocks["a"].plan.why.startswith("fewer than 8 exchanges"), "an old plan"
    cluster.hosts["a"].wall_off_ns += 3600 * S
    cluster.exchange("a", "b")
    assert "a clock stepped" in cluster.clocks["a"].plan.why


def test_our_own_row_of_the_view_is_that_of_the_view():
    cluster = Cluster(30, -20, 5)
    cluster.run(30)
    assert cluster.clocks["a"].own_row() == row(cluster.clocks["a"], "a")
