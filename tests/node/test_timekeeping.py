"""Nodes know each other's clocks from the frames they exchange anyway, and survive bad ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mcpcore.clock import ClockState, Timestamp
from mcpcore.errors import InvalidInput, LeaseUnavailable
from mcpcore.node.group import Consistency
from mcpcore.node.kv.commands import Get, encode_request
from mcpcore.node.timekeeping import Timekeeper
from mcpcore.sim import World
from mcpcore.sim.delay import Delay, Link
from tests.node.simulated_cluster import NAMES, Bookkeeper, SimulatedCluster

HOUR_S = 3600.0
YEAR_NS = 365 * 24 * 3600 * 10**9
LOPSIDED = Link(Delay("uniform", 40.0, 20.0))


def on(world: World, cluster: SimulatedCluster, name: str, look: Any) -> Any:
    """What ``look(node)`` gives when it runs on the node's own host, with its clocks."""

    async def main() -> Any:
        return look(cluster.nodes[name])

    return world.call(name, main())


def test_nodes_learn_each_others_offset_and_rate_within_the_stated_bounds() -> None:
    with World(seed=3) as world:
        cluster = SimulatedCluster(world, drift_ppm=50.0)
        world.run(300)
        stamps = {name: on(world, cluster, name, lambda n: n.clock.stamp_ns()) for name in NAMES}
        for name in NAMES:
            known = on(world, cluster, name, lambda n: n.clock.estimates())
            assert set(known) == set(NAMES) - {name}, "idle followers exchange time too"
            for peer, estimate in known.items():
                truth = stamps[peer] - stamps[name]
                slack = 2_000_000  # the stamps above were not read at the very same instant
                assert estimate.bounds.earliest_ns - slack <= truth
                assert truth <= estimate.bounds.latest_ns + slack
                rates = [cluster.hosts[each].clock.drift_ppm for each in (peer, name)]
                assert estimate.skew_ppm == pytest.approx(rates[0] - rates[1], abs=25)


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
def test_a_system_clock_stepped_by_an_hour_breaks_no_order_and_no_timer(step_s: float) -> None:
    with World(seed=5) as world:
        cluster = SimulatedCluster(world)
        client = Bookkeeper(cluster, "client")
        world.run(20)
        leader = cluster.leader()
        term = cluster.running()[leader].raft.state.term
        before = on(world, cluster, leader, lambda n: n.clock.now())
        assert on(world, cluster, leader, lambda n: n.clock.health().may_lease)

        world.inject("clock_step", leader, value=step_s)
        world.run(2)

        health = on(world, cluster, leader, lambda n: n.clock.health())
        assert not health.may_lease
        assert "jump" in str(health) or "step" in str(health), str(health)
        request = encode_request(Get(b"k"))
        with pytest.raises(LeaseUnavailable, match="clock"):
            on(world, cluster, leader, lambda n: n.group("main").read(request, Consistency.LEASE))
        after = on(world, cluster, leader, lambda n: n.clock.now())
        assert before < after
        assert abs(after.physical_ns - before.physical_ns) < 30 * 10**9, (
            "it did not follow the step"
        )
        world.run(20)
        assert cluster.leader() == leader, "no timer fired because of it"
        assert cluster.running()[leader].raft.state.term == term
        assert on(world, cluster, leader, lambda n: n.clock.health().may_lease), "it recovers"
        served = len(client.acknowledged)
        world.run(2)
        assert len(client.acknowledged) > served


def test_a_node_from_next_year_is_refused_named_and_does_not_spread() -> None:
    with World(seed=8) as world:
        cluster = SimulatedCluster(world, offsets_ns={"edge": YEAR_NS})
        client = Bookkeeper(cluster, "client")
        world.run(20)
        for name in ("us-east-1", "hangzhou"):
            view = {row.node: row for row in on(world, cluster, name, lambda n: n.clock.view())}
            assert view["edge"].refusals > 0
            assert view["edge"].verdict == "false", view
            now = on(world, cluster, name, lambda n: n.clock.now())
            assert now.physical_ns < world.epoch_ns + 60 * 10**9, "the poison did not spread"
            assert on(world, cluster, name, lambda n: n.clock.health().may_lease)
        served = len(client.acknowledged)
        world.run(3)
        assert len(client.acknowledged) > served, "the good nodes never stop"


def test_a_restart_never_repeats_a_timestamp_although_the_clock_was_set_back() -> None:
    with World(seed=2) as world:
        cluster = SimulatedCluster(world)
        world.run(10)
        issued = on(world, cluster, "edge", lambda n: [n.clock.now() for _ in range(1000)])
        cluster.hosts["edge"].crash()
        world.inject("clock_step", "edge", value=-1.0)
        cluster.hosts["edge"].restart()
        world.run(5)
        again = on(world, cluster, "edge", lambda n: n.clock.now())
        assert max(issued) < again


def test_a_clock_that_hears_no_majority_says_so_and_leases_end() -> None:
    with World(seed=4) as world:
        cluster = SimulatedCluster(world)
        world.run(10)
        world.inject("isolate", "hangzhou")
        world.run(120)
        health = on(world, cluster, "hangzhou", lambda n: n.clock.health())
        assert health.state is not ClockState.SYNCHRONISED
        assert health.reasons


def test_slow_and_lopsided_links_widen_the_interval_and_keep_the_truth_inside() -> None:
    with World(seed=6) as world:
        cluster = SimulatedCluster(world)
        for name in NAMES:  # what leaves takes long, what comes back does not
            world.network.set_link(name, NAMES[(NAMES.index(name) + 1) % 3], LOPSIDED)
        world.run(60)
        stamps = {name: on(world, cluster, name, lambda n: n.clock.stamp_ns()) for name in NAMES}
        for name in NAMES:
            for peer, known in on(world, cluster, name, lambda n: n.clock.estimates()).items():
                truth = stamps[peer] - stamps[name]
                assert known.bounds.latest_ns - known.bounds.earliest_ns > 30_000_000
                assert known.bounds.earliest_ns <= truth <= known.bounds.latest_ns


class _Clocks:
    def __init__(self) -> None:
        self.now = 10**18

    def monotonic_ns(self) -> int:
        return self.now

    def wall_ns(self) -> int:
        return self.now


def test_a_frame_with_garbage_for_time_is_refused() -> None:
    with World(seed=1) as world:

        async def main() -> None:
            host = world["a"]
            keeper = Timekeeper("a", ("b",), _Clocks(), host.disk, "data", life=1, fresh=True)
            for header in (None, (), (1, 2, 3, 4, 5), (1, -1, b"", 0, 0), (1, 1, b"x", 0, 0), "ab"):
                with pytest.raises(InvalidInput):
                    keeper.heard("b", header)
            await asyncio.sleep(0)

        world.host("a", start=False)
        world.call("a", main())


def test_a_missing_bound_of_a_node_that_lived_before_starts_beyond_what_peers_accepted() -> None:
    with World(seed=1) as world:
        host = world.host("a", start=False)

        async def main() -> Timestamp:
            host.disk.make_dirs("data")
            keeper = Timekeeper(
                "a",
                ("b",),
                _Clocks(),
                host.disk,
                "data",
                life=1,
                fresh=False,
            )
            await keeper.start()
            try:
                return keeper.clock.now()
            finally:
                await keeper.stop()

        first = world.call("a", main())
        assert first.physical_ns >= 10**18 + 500_000_000
