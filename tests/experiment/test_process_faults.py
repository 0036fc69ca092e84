"""Every fault that can be done to real processes is done, and is seen to have had an effect."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from mcpcore.check import Verdict
from mcpcore.experiment.conclusion import conclude
from mcpcore.experiment.network import Isolation
from mcpcore.experiment.node_faults import NodeFaults
from mcpcore.experiment.process_cluster import ClusterPlan, ProcessCluster
from mcpcore.experiment.processes import run_processes
from mcpcore.experiment.replicas import settled_replicas
from mcpcore.experiment.scenario import (
    Clocks,
    Expectations,
    Groups,
    Region,
    Scenario,
    WorkloadSpec,
)
from mcpcore.node.kv.client import KeyValueClient
from mcpcore.sim.delay import Delay, Link
from mcpcore.sim.schedule import Fault, Schedule
from tests.experiment.three_namespaces import skip_unless

pytestmark = pytest.mark.processes


def scenario(*faults: Fault, duration_s: float) -> Scenario:
    names = ("a", "b", "c")
    link = Link(delay=Delay("uniform", 4.0, 2.0), loss=0.001)
    return Scenario(
        name="every-fault",
        duration_s=duration_s,
        settle_s=40.0,
        regions=tuple(map(Region, names)),
        links={(x, y): link for x in names for y in names if x < y},
        groups=Groups(election_timeout_s=1.5, heartbeat_s=0.3),
        clocks=Clocks(offset_ms=20.0, drift_ppm=50.0),
        workloads=(WorkloadSpec("register", clients=1, rate_per_s=8.0),),
        faults=Schedule(faults),
        expect=Expectations(converged_within_s=30.0, faults_take_effect=True),
    )


PACKETS = (
    Fault(0.5, "partition", on=("a",), for_s=2.0),
    Fault(3.0, "lossy", on=("b",), to=("a", "c"), for_s=1.5, value=0.2),
    Fault(3.0, "duplicate", on=("b",), to=("a", "c"), for_s=1.5, value=0.3),
    Fault(3.0, "reorder", on=("b",), to=("a", "c"), for_s=1.5, value=0.3),
    Fault(5.0, "slow_link", on=("a",), to=("b",), for_s=1.0, value=20.0),
    Fault(6.0, "reset", on=("b",), to=("a", "c")),
    Fault(7.5, "flapping", on=("c",), for_s=2.0, value=0.5),
)
MACHINES = (
    Fault(0.3, "clock_step", on=("a",), for_s=2.0, value=3.0),
    Fault(0.3, "clock_drift", on=("b",), for_s=3.0, value=400.0),
    Fault(0.3, "clock_freeze", on=("c",), for_s=1.0),
    Fault(1.0, "disk_slow", on=("a",), for_s=1.0, value=20.0),
    Fault(6.0, "crash", on=("b",), for_s=1.0),
    Fault(9.0, "pause", on=("c",), for_s=1.0),
    Fault(10.5, "disk_stall", on=("c",), for_s=1.0),
)


async def run(wanted: Scenario, folder: Path, isolation: Isolation) -> dict[str, tuple[int, str]]:
    """Run it, demand that every promise holds, and return what each fault touched."""
    done = await run_processes(wanted, folder, 3, isolation=isolation)
    conclusion = conclude(done)
    broken = {p.name: p.found for p in conclusion.promises if p.verdict is not Verdict.OK}
    assert not broken, f"{broken}; {done.failure}"
    assert done.environment["isolation"] == isolation.value
    return {record.fault.kind: (record.effects, record.proof) for record in done.faults}


async def test_faults_of_packets_in_namespaces(tmp_path: Path) -> None:
    await skip_unless(Isolation.TUN)
    effects = await run(scenario(*PACKETS, duration_s=10.5), tmp_path, Isolation.TUN)
    assert effects.keys() == {fault.kind for fault in PACKETS}
    assert all(count > 0 for count, _ in effects.values()), effects
    assert effects["partition"][1] == "packets"


async def test_faults_of_machines_in_namespaces(tmp_path: Path) -> None:
    await skip_unless(Isolation.TUN)
    effects = await run(scenario(*MACHINES, duration_s=12.0), tmp_path, Isolation.TUN)
    assert effects.keys() == {fault.kind for fault in MACHINES}
    assert "bytes of a torn write" in effects["crash"][1]


async def test_faults_without_root_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    faults = (
        *(fault for fault in MACHINES if fault.kind == "clock_step"),
        Fault(0.5, "duplicate", on=("a",), to=("b",), for_s=1.0, value=0.3),
        Fault(4.0, "suspend", on=("a",), for_s=1.0),
        Fault(6.0, "disk_bit_rot", on=("c",), value=2.0),
    )
    wanted = scenario(*faults, duration_s=8.0)
    done = await run_processes(wanted, tmp_path, 3, isolation=Isolation.LOOPBACK)
    effects = {record.fault.kind: record.effects for record in done.faults}
    assert effects.keys() == {"clock_step", "disk_bit_rot"}
    assert all(effects.values())
    assert done.impossible == (
        "links carry streams: none is lost, duplicated or reordered (loopback)",
        "duplicate cannot be done with --isolation loopback",
        "suspend cannot be done to processes; it was left out",
    )
    rotten = next(record for record in done.faults if record.fault.kind == "disk_bit_rot")
    assert "1 of 1 nodes noticed" in rotten.proof
    assert not [p for p in conclude(done).promises if p.verdict is Verdict.VIOLATED], done.failure


@pytest.mark.parametrize("isolation", [Isolation.NETNS, Isolation.LOOPBACK])
async def test_a_full_disk_is_full_and_its_node_catches_up_afterwards(
    tmp_path: Path, isolation: Isolation
) -> None:
    await skip_unless(isolation)
    plan = ClusterPlan(nodes=("a", "b", "c"), steered=True, small_disk_bytes=8 << 20)
    async with ProcessCluster(plan, tmp_path, isolation) as cluster:
        leader = await cluster.leader()
        victim = next(name for name in plan.nodes if name != leader)
        faults = NodeFaults(cluster, random.Random(0), lambda _: None)
        struck = await faults.begin(Fault(0.0, "disk_full", on=(victim,), for_s=1.0), (victim,))
        assert struck is not None
        async with await cluster.client(None) as client:
            store = KeyValueClient(client)
            for number in range(40):  # more than the room that a log makes ahead
                await store.put(f"k{number}", "x" * 50_000)
        deadline_s = asyncio.get_running_loop().time() + 20
        while not await struck.effects():
            assert asyncio.get_running_loop().time() < deadline_s, "the node found room"
            await asyncio.sleep(0.1)
        await struck.lift()
        if isolation is Isolation.NETNS:
            assert "no block was left on 1" in struck.proof
        replicas = await settled_replicas(cluster)
        assert len({replica.digest for replica in replicas}) == 1
    assert (tmp_path / "kept" / victim).is_dir() == (isolation is Isolation.NETNS)


async def test_a_node_shows_the_clock_that_it_was_given(tmp_path: Path) -> None:
    """Read back through the node's own account, as ``mcpctl clocks`` shows it."""
    plan = ClusterPlan(nodes=("a", "b", "c"), clocks={"a": (40.0, 0.0)}, steered=True)
    async with ProcessCluster(plan, tmp_path) as cluster:
        await cluster.leader()
        assert cluster.pages["a"].met().wall_ahead_ns == pytest.approx(40_000_000, abs=100_000)
        assert abs(cluster.pages["b"].met().wall_ahead_ns) < 100_000
        until_s = asyncio.get_running_loop().time() + 20
        while True:
            rows = {}
            account = await cluster.status("b")
            if isinstance(account, dict):
                rows = {row["node"]: row["offset_ns"] for row in account["clock"]["view"]}
            ahead_ns = (rows.get("a") or 0) - (rows.get("b") or 0)
            if abs(ahead_ns - 40_000_000) < 10_000_000:
                break
            assert asyncio.get_running_loop().time() < until_s, rows
            await asyncio.sleep(0.2)
