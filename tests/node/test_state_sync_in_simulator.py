"""How long until every replica has applied what a leader was given, over links between clouds.

``python -m tests.node.test_state_sync_in_simulator`` prints the figures of docs/convergence.md.
"""

from __future__ import annotations

import asyncio

import pytest

from mcpcore.node.kv.commands import Put, encode_command
from mcpcore.raft.settings import SECOND, RaftSettings
from mcpcore.sim import Delay, Link, World
from tests.node.simulated_cluster import NAMES, SimulatedCluster

ONE_WAY_MS = {
    ("us-east-1", "hangzhou"): 110.0,
    ("us-east-1", "edge"): 20.0,
    ("hangzhou", "edge"): 40.0,
}
SETTINGS = RaftSettings(election_timeout_ns=5 * SECOND, heartbeat_ns=1 * SECOND)


def one_way_ms(a: str, b: str) -> float:
    return ONE_WAY_MS.get((a, b)) or ONE_WAY_MS[b, a]


def limit_s(leader: str) -> float:
    """The fastest quorum's round trip, and then the news one way to the farthest member."""
    ways = [one_way_ms(leader, other) for other in NAMES if other != leader]
    return (2 * min(ways) + max(ways)) / 1000


def measured_s(leader: str, *, seed: int, writes: int) -> list[float]:
    """From proposing until the last of the three has applied it, for each write."""
    with World(seed=seed) as world:
        cluster = SimulatedCluster(world, settings=SETTINGS)
        for (a, b), ms in ONE_WAY_MS.items():
            world.network.set_link(a, b, Link(delay=Delay("constant", ms)))
            world.network.set_link(b, a, Link(delay=Delay("constant", ms)))
        world.run_until(lambda: bool(cluster.leader()) and cluster.agreed(), within_s=60)
        world.run(2)
        if cluster.leader() != leader:
            first = cluster.nodes[cluster.leader()].group("main")

            async def hand_over() -> None:
                first.transfer_leadership(leader)

            world.call(cluster.leader(), hand_over())
            world.run_until(lambda: cluster.leader() == leader, within_s=30)
        world.run(3)
        groups = [cluster.nodes[name].group("main") for name in NAMES]
        proposed: dict[int, float] = {}
        waits: list[float] = []

        def look() -> None:
            least = min(group.applied for group in groups)
            for index in [index for index in proposed if index <= least]:
                waits.append(world.now_s - proposed.pop(index))

        world.check_each_instant(look)

        async def write() -> None:
            group = cluster.nodes[leader].group("main")
            for number in range(writes):
                group.propose(encode_command(Put(b"k%d" % number, b"v")))
                proposed[group.raft.state.log.last_index] = world.now_s
                await asyncio.sleep(0.037)

        world.call(leader, write(), within_s=600)
        world.run(2)
        assert not proposed
        return sorted(waits)


@pytest.mark.parametrize("leader", NAMES)
def test_every_replica_has_a_write_within_a_twentieth_of_what_physics_allows(leader: str) -> None:
    waits = measured_s(leader, seed=3, writes=60)
    assert waits[-1] <= 1.05 * limit_s(leader)
    assert waits[0] >= limit_s(leader), "else the limit is none"


if __name__ == "__main__":
    for leader in NAMES:
        waits = [each for seed in range(5) for each in measured_s(leader, seed=seed, writes=300)]
        waits.sort()
        p50, p99 = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
        print(  # noqa: T201
            f"| {leader} | {limit_s(leader) * 1e3:.0f} ms | {p50 * 1e3:.1f} ms | "
            f"{p99 * 1e3:.1f} ms | {p99 / limit_s(leader) - 1:+.1%} |",
            flush=True,
        )
