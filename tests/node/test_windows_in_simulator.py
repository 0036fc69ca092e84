"""The real node with windows that move, in the simulator: quick fail-over, calm links, pauses."""

from __future__ import annotations

import logging

import pytest

from mcpcore.raft.outcome import Role
from mcpcore.raft.settings import MILLISECOND, SECOND, RaftSettings
from mcpcore.sim import World
from mcpcore.sim.delay import Delay, Link
from tests.node.simulated_cluster import NAMES, SimulatedCluster
from tests.node.test_node_in_simulator import live_through

MS = MILLISECOND
MOVING = RaftSettings(election_floor_ns=1 * SECOND, heartbeat_floor_ns=200 * MS, quiet_after_ns=0)
STATIC = RaftSettings(quiet_after_ns=0)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


def started(world: World, settings: RaftSettings, one_way_ms: float = 5.0) -> SimulatedCluster:
    cluster = SimulatedCluster(world, settings=settings, drift_ppm=100.0)
    link = Link(delay=Delay("uniform", one_way_ms, one_way_ms / 10))
    for source in NAMES:
        for target in NAMES:
            if source != target:
                world.network.set_link(source, target, link)
    world.run_until(lambda: bool(cluster.leader()), within_s=60)
    return cluster


def replaced_after_s(world: World, cluster: SimulatedCluster) -> float:
    """Kill the leader; how long until a majority of the others follows another one."""
    dead = cluster.leader()
    cluster.hosts[dead].crash()
    began_s = world.now_s
    world.run_until(lambda: cluster.leader() not in ("", dead), within_s=60)
    took_s = world.now_s - began_s
    cluster.hosts[dead].restart()
    return took_s


def window_ms(cluster: SimulatedCluster) -> int:
    """The longest promise that the leader asks for."""
    state = cluster.running()[cluster.leader()].raft.state
    return max(p.promises.promise_ns for p in state.progress.values()) // MS


def test_a_dead_leader_is_replaced_in_a_quarter_of_the_time() -> None:
    took_s = {}
    for name, settings in (("moving", MOVING), ("static", STATIC)):
        with World(seed=11) as world:
            cluster = started(world, settings)
            world.run(20)
            took_s[name] = replaced_after_s(world, cluster)
    assert took_s["moving"] < 2
    assert took_s["static"] > 4 * took_s["moving"]


def test_windows_follow_the_links_of_the_real_transport() -> None:
    with World(seed=12) as world:
        cluster = started(world, MOVING)
        world.run(20)
        assert window_ms(cluster) == 1000
        for source in NAMES:
            for target in NAMES:
                if source != target:
                    slow = Link(delay=Delay("lognormal", 220, 60, 0.8))
                    world.network.set_link(source, target, slow)
        leader, term = cluster.leader(), cluster.running()[cluster.leader()].raft.state.term
        world.run(120)
        assert window_ms(cluster) > 1500
        assert cluster.leader() == leader, "a link that became slow is no reason for an election"
        assert cluster.running()[leader].raft.state.term == term


def test_the_first_windows_after_a_start_are_the_ceilings() -> None:
    with World(seed=13) as world:
        cluster = started(world, MOVING)
        followers = [g for n, g in cluster.running().items() if n != cluster.leader()]
        left_ns = max(
            g.raft.state.patience.promise_until_ns - g.raft.state.now_ns for g in followers
        )
        assert left_ns > 3 * SECOND


@pytest.mark.parametrize("seed", range(3))
def test_a_follower_that_was_stopped_for_a_while_disturbs_nobody(seed: int) -> None:
    """A late timer fires before what arrived meanwhile is read."""
    with World(seed=seed) as world:
        cluster = started(world, MOVING)
        world.run(20)
        leader = cluster.leader()
        term = cluster.running()[leader].raft.state.term
        stopped = next(name for name in NAMES if name != leader)
        roles: list[Role] = []
        cluster.running()[stopped].listeners.append(lambda event: roles.append(event.role))
        for _ in range(5):
            cluster.hosts[stopped].pause()
            world.run(3.3)
            cluster.hosts[stopped].resume()
            world.run(0.1)
            pulse = cluster.nodes[stopped].parts.pulse
            assert pulse is not None
            assert pulse.contacts.health.multiplier > 1
            world.run(4)
        assert not roles, "it doubted the leader although only it was away"
        assert cluster.leader() == leader
        assert cluster.running()[leader].raft.state.term == term


@pytest.mark.parametrize("seed", range(40, 42))
def test_nothing_acknowledged_is_missing_where_windows_move(seed: int) -> None:
    live_through(seed, settings=MOVING)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 1500, 50))
def test_nothing_acknowledged_is_missing_where_windows_move_in_five_hundred_worlds(
    first: int,
) -> None:
    for seed in range(first, first + 50):
        live_through(seed, settings=MOVING)


def test_members_with_and_without_windows_that_move_serve_together() -> None:
    """A rolling upgrade: the last one holds its windows still, as the release before did."""
    with World(seed=21) as world:
        cluster = SimulatedCluster(world, settings=MOVING)
        for name in NAMES[:1]:
            cluster.settings_of[name] = STATIC
        world.run_until(lambda: bool(cluster.leader()), within_s=60)
        for _ in range(3):
            world.run(15)
            replaced_after_s(world, cluster)
            world.run_until(cluster.agreed, within_s=60)
