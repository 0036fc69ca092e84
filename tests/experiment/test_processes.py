"""Nodes as real processes: started, killed, paused, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcpcore.errors import InvalidInput, NodeDied, NotReady
from mcpcore.experiment.links import LinkQuality, both_ways
from mcpcore.experiment.loopback import free_ports
from mcpcore.experiment.node_process import NodeProcess
from mcpcore.experiment.process_cluster import ClusterPlan, ProcessCluster
from mcpcore.experiment.replicas import settled_replicas
from mcpcore.node.config_file import load_node_config
from mcpcore.node.kv.client import KeyValueClient

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
PLAN = ClusterPlan(
    nodes=("a", "b", "c"),
    links=both_ways({(x, y): LinkQuality(one_way_s=0.005) for x, y in ("ab", "ac", "bc")}),
    election_timeout_s=1.0,
    heartbeat_s=0.2,
)


def exists(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet waited for does not count."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def wait_until_gone(pids: list[int], timeout_s: float = 5.0) -> None:
    until = time.monotonic() + timeout_s
    while any(map(exists, pids)):
        assert time.monotonic() < until, f"still running: {[pid for pid in pids if exists(pid)]}"
        time.sleep(0.02)


async def test_a_cluster_of_processes_lives_through_a_kill_a_pause_and_a_cut(
    tmp_path: Path,
) -> None:
    async with ProcessCluster(PLAN, tmp_path) as cluster:
        leader = await cluster.leader()
        follower, other = (name for name in PLAN.nodes if name != leader)
        client = await cluster.client(leader)
        store = KeyValueClient(client)
        await store.put("k", "1")

        node = cluster.nodes[follower]
        await node.kill()
        assert node.lives[-1].status == -signal.SIGKILL
        with pytest.raises(
            NodeDied, match=f"node {follower} ended by signal 9; its log .* leads term"
        ):
            node.expect_running()
        assert isinstance(await cluster.status(follower), Exception)
        await store.put("k", "2")
        await node.start()
        await cluster.wait_ready(follower)

        cluster.nodes[other].pause()
        assert isinstance(await cluster.status(other), Exception), "it answers while stopped"
        await store.put("k", "3")
        cluster.nodes[other].resume()
        await cluster.wait_ready(other)

        cluster.shaper.isolate(other)
        await store.put("k", "4")
        cluster.shaper.rejoin(other)
        await client.close()
        replicas = await settled_replicas(cluster)
        assert {replica.records["k"].value for replica in replicas} == {"4"}
        assert len({replica.digest for replica in replicas}) == 1
        pids = [life.pid for each in cluster.nodes.values() for life in each.lives]
    assert len(pids) == 4
    wait_until_gone(pids)
    for name in PLAN.nodes:
        assert load_node_config(tmp_path / f"{name}.toml").config.name == name
        assert "SIGTERM" in (tmp_path / "logs" / f"{name}.log").read_text(), "stopped in order"


async def test_waiting_for_a_leader_has_an_end_and_a_reason(tmp_path: Path) -> None:
    async with ProcessCluster(ClusterPlan(nodes=("a", "b")), tmp_path) as cluster:
        await cluster.leader()
        await cluster.nodes["b"].kill()
        await asyncio.sleep(3.5)
        with pytest.raises(NotReady, match=r"no majority agreed on a leader within 0\.5 s.*logs"):
            await cluster.leader(timeout_s=0.5)


async def test_a_node_that_cannot_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("cluster = 3\n")
    node = NodeProcess("broken", broken, tmp_path / "broken.log")
    await node.start()
    await node.ended()
    with pytest.raises(NodeDied, match=r"node broken ended with status 2.*cluster") as died:
        node.expect_running()
    assert died.value.status == 2


CHILD = """
import asyncio, sys
from pathlib import Path
from mcpcore.experiment.process_cluster import ClusterPlan, ProcessCluster

async def main():
    async with ProcessCluster(ClusterPlan(nodes=("a",)), Path(sys.argv[1])) as cluster:
        print(cluster.nodes["a"].pid, flush=True)
        if sys.argv[2] == "fail":
            raise RuntimeError("on purpose")
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("ending", ["SIGKILL", "SIGINT", "fail"])
def test_no_node_outlives_whoever_started_it(tmp_path: Path, ending: str) -> None:
    """Ctrl-C and an error clean up; a SIGKILL cannot, so the nodes are on a leash."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), ending],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        if ending != "fail":
            assert exists(pid)
            child.send_signal(signal.Signals[ending])
        child.wait(10)
        wait_until_gone([pid])


def test_the_leash_refuses_a_parent_that_is_gone_already() -> None:
    leash = ROOT / "mcpcore" / "experiment" / "leash.py"
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(leash), str(os.getpid() + 1), "/bin/true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "parent died" in done.stderr


def test_ports_are_free_different_and_not_those_of_outgoing_connections() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(ports) < lowest_outgoing
    with pytest.raises(InvalidInput, match="ports"):
        free_ports(1_000_000)


async def test_sites_that_are_not_linked_are_told_before_anything_starts(tmp_path: Path) -> None:
    plan = ClusterPlan(nodes=("a", "b", "c"), links=both_ways({("a", "b"): LinkQuality()}))
    cluster = ProcessCluster(plan, tmp_path)
    with pytest.raises(InvalidInput, match="a -> c"):
        async with cluster:
            raise AssertionError("it started")
    await asyncio.sleep(0)
    assert not any(node.lives for node in cluster.nodes.values())
