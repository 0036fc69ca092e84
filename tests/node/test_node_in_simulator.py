"""Whole worlds by seed: the real node, its log and its transport, under faults of every kind.

One seed again: ``python -m tests.node.test_node_in_simulator SEED``.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from mcpcore.node.transport.certificates import Authority, write_pairs
from mcpcore.node.transport.identity import CertifiedRole
from mcpcore.node.transport.security import Tls
from mcpcore.raft.settings import RaftSettings
from mcpcore.sim import World
from mcpcore.sim.schedule import Schedule, random_schedule
from mcpcore.sim.strategies import schedules
from tests.node.simulated_cluster import NAMES, SETTINGS, Bookkeeper, SimulatedCluster

SURVIVABLE = (
    "partition",
    "one_way",
    "isolate",
    "bridge",
    "flapping",
    "clog",
    "slow_link",
    "lossy",
    "bursty",
    "fragment",
    "reset",
    "crash",
    "kill",
    "pause",
    "suspend",
    "slow",
    "clock_step",
    "clock_drift",
    "clock_slew",
    "clock_strobe",
    "clock_freeze",
    "leap_second",
    "disk_stall",
    "disk_slow",
    "disk_error",
    "disk_full",
    "disk_lost_sync",
)
"""Faults after which nothing acknowledged may be missing. Rot, lies and wiped disks are not among
them: they take repair from peers, and on a majority no log survives them."""

CALM_S = 3.0
FAULTS_S = 15.0
FIVE = ("a", "b", "c", "d", "e")


def live_through(
    seed: int, schedule: Schedule | None = None, *, settings: RaftSettings = SETTINGS
) -> World:
    """One world: clients write while faults happen; then all is healed and audited."""
    names = FIVE if seed % 4 == 3 else NAMES
    with World(seed=seed) as world:
        try:
            cluster = SimulatedCluster(world, names, settings=settings, drift_ppm=200.0)
            clients = [Bookkeeper(cluster, f"client-{number}") for number in range(2)]
            world.run(CALM_S)
            if schedule is None:
                schedule = random_schedule(
                    seed, names, duration_s=FAULTS_S, count=8, kinds=SURVIVABLE
                )
            later = (replace(fault, at_s=fault.at_s + CALM_S) for fault in schedule.faults)
            world.apply(Schedule(tuple(later)))
            world.run(FAULTS_S)
            world.heal()
            for host in cluster.hosts.values():
                if not host.is_alive:
                    host.restart()
            world.run(2)
            for client in clients:
                client.stop = True
            world.run_until(lambda: all(client.done for client in clients), within_s=30)
            world.run_until(lambda: bool(cluster.leader()) and cluster.agreed(), within_s=30)
            for client in clients:
                world.call(client.name, client.audit(), within_s=60)
                assert client.acknowledged, "a world in which nobody was served proves nothing"
            for group in cluster.running().values():
                group.raft.check()
        except BaseException as error:
            error.add_note(f"again: python -m tests.node.test_node_in_simulator {seed}")
            for fault in (schedule or Schedule()).faults:
                error.add_note(str(fault))
            raise
    return world


@pytest.mark.parametrize("first", range(0, 12, 3))
def test_nothing_acknowledged_is_lost_whatever_happens_to_the_nodes(first: int) -> None:
    for seed in range(first, first + 3):
        live_through(seed)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 2000, 50))
def test_nothing_acknowledged_is_lost_in_a_thousand_worlds(first: int) -> None:
    for seed in range(first, first + 50):
        live_through(seed)


def test_the_same_seed_gives_the_same_run_of_the_node_event_for_event() -> None:
    assert live_through(7).digest == live_through(7).digest


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tls]:
    """Mutual TLS for the nodes and one client of the simulated cluster."""
    directory = tmp_path_factory.mktemp("certificates")
    authority = Authority.create("sim")
    pairs = {directory / "ca": authority.pair}
    owners = dict.fromkeys(NAMES, CertifiedRole.NODE) | {"client": CertifiedRole.CLIENT}
    for name, role in owners.items():
        pairs[directory / name] = authority.issue(role, name)
    write_pairs(pairs)
    return {
        name: Tls(directory / "ca.crt", directory / f"{name}.crt", directory / f"{name}.key")
        for name in owners
    }


def test_over_mutual_tls_the_node_survives_a_crash_and_a_cut_alike_each_time(
    certificates: dict[str, Tls],
) -> None:
    def live() -> str:
        with World(seed=11) as world:
            cluster = SimulatedCluster(world, security=dict(certificates))
            client = Bookkeeper(cluster, "client", security=certificates["client"])
            world.run(4)
            cluster.hosts[cluster.leader()].crash()
            world.run(3)
            for host in cluster.hosts.values():
                if not host.is_alive:
                    host.restart()
            cut = world.inject("isolate", cluster.leader())
            world.run(4)
            cut.end()
            world.run(2)
            client.stop = True
            world.run_until(lambda: client.done and cluster.agreed(), within_s=30)
            world.call("client", client.audit(), within_s=60)
            assert len(client.acknowledged) > 50
        return world.digest

    assert live() == live(), "TLS keys are random, the run is not"


@given(schedule=schedules(NAMES, duration_s=8.0, kinds=SURVIVABLE, faults_max=5))
@hypothesis_settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_schedule_that_hypothesis_finds_loses_what_was_acknowledged(schedule: Schedule) -> None:
    live_through(1, schedule)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    live_through(int(sys.argv[1]))
