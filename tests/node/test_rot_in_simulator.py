"""Logs that rot under the real node, in simulated worlds: repaired by the others, or refused.

Hunt: "rot means 'I no longer know', and the entries come back from peers" (Alagappan et al., FAST
2018). Nothing of the node is replaced: it recovers its own log from a disk whose bytes change.
"""

from __future__ import annotations

import pytest

from mcpcore.errors import GroupInDoubt
from mcpcore.node.storage.log_image import EntriesAppended
from mcpcore.node.storage.wal_recovery import LoggedBatch, records
from mcpcore.sim import World
from tests.node.simulated_cluster import NAMES, Bookkeeper, SimulatedCluster

LOG = "data/log"


def spoil(cluster: SimulatedCluster, name: str, batch: LoggedBatch) -> None:
    """Every byte of a batch changes, on the platter."""
    host = cluster.hosts[name]
    disk = host.disk
    inode = disk._names[batch.path]
    for at in range(batch.offset, batch.end):
        inode.platter[at] ^= 0x2A
        inode.cache[at] = inode.platter[at]


def batches(cluster: SimulatedCluster, name: str) -> list[LoggedBatch]:
    """The batches with entries of group main."""
    return [
        batch
        for batch in records(cluster.hosts[name].disk, LOG)
        if any(isinstance(record, EntriesAppended) for record in batch.records)
    ]


def with_index(cluster: SimulatedCluster, name: str, index: int) -> LoggedBatch:
    """The batch that holds an entry."""
    return next(
        batch
        for batch in batches(cluster, name)
        for record in batch.records
        if isinstance(record, EntriesAppended)
        and record.block.entries[0].index <= index <= record.block.entries[-1].index
    )


def lived_in(world: World) -> tuple[SimulatedCluster, Bookkeeper]:
    cluster = SimulatedCluster(world)
    client = Bookkeeper(cluster, "client")
    world.run(5)
    return cluster, client


def finish(world: World, cluster: SimulatedCluster, client: Bookkeeper) -> None:
    client.stop = True
    world.run_until(lambda: client.done, within_s=30)
    world.run_until(lambda: bool(cluster.leader()) and cluster.agreed(), within_s=30)
    world.call("client", client.audit(), within_s=60)
    assert len(client.acknowledged) > 20


def doubts(cluster: SimulatedCluster) -> list[str]:
    return [name for name, group in cluster.running().items() if group.raft.state.doubt]


@pytest.mark.parametrize(("who", "where"), [("follower", 0.1), ("leader", 0.5), ("leader", 1.0)])
def test_a_node_whose_log_rotted_starts_and_is_repaired_by_the_others(
    who: str, where: float
) -> None:
    with World(seed=3) as world:
        cluster, client = lived_in(world)
        leader = cluster.leader()
        name = leader if who == "leader" else next(n for n in NAMES if n != leader)
        cluster.hosts[name].crash()
        found = batches(cluster, name)
        spoil(cluster, name, found[int(where * (len(found) - 2))])
        world.run(2)
        cluster.hosts[name].restart()
        world.run(4)
        status = world.call(name, _status(cluster, name))
        assert any("in doubt" in line for line in status["log_damage"])
        world.run_until(lambda: not doubts(cluster), within_s=20)
        finish(world, cluster, client)
        cluster.hosts[name].crash()
        cluster.hosts[name].restart()
        world.run(3)
        assert not doubts(cluster), "the end of a doubt is on the disk"


async def _status(cluster: SimulatedCluster, name: str) -> dict[str, list[str]]:
    return cluster.nodes[name].status()


def test_two_of_three_damaged_at_different_places_repair_each_other_without_the_third() -> None:
    with World(seed=4) as world:
        cluster, client = lived_in(world)
        client.stop = True
        world.run_until(lambda: client.done, within_s=30)
        world.run(2)
        for host in cluster.hosts.values():
            host.crash()
        spoil(cluster, "hangzhou", with_index(cluster, "hangzhou", 20))
        spoil(cluster, "edge", with_index(cluster, "edge", 40))
        cluster.hosts["hangzhou"].restart()
        cluster.hosts["edge"].restart()
        world.run(8)
        assert not doubts(cluster)
        cluster.hosts["us-east-1"].restart()
        finish(world, cluster, client)


def test_a_quorum_damaged_at_the_same_place_is_refused_and_names_the_way_out() -> None:
    with World(seed=5) as world:
        cluster, client = lived_in(world)
        client.stop = True
        world.run_until(lambda: client.done, within_s=30)
        world.run(2)
        for host in cluster.hosts.values():
            host.crash()
        for name in NAMES:
            spoil(cluster, name, with_index(cluster, name, 20))
        for host in cluster.hosts.values():
            host.restart()
        world.run(10)
        assert cluster.leader() == ""
        assert len(doubts(cluster)) == 3
        group = cluster.running()["edge"]

        async def ask() -> str:
            with pytest.raises(GroupInDoubt) as refusal:
                group.propose(b"x")
            return str(refusal.value)

        said = world.call("edge", ask())
        assert "nobody holds what edge lacks from index 20 to 20" in said
        assert "mcpctl recover" in said
        assert group.status().in_doubt in said


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_bits_that_rot_anywhere_in_one_log_cost_nothing_that_was_acknowledged(seed: int) -> None:
    with World(seed=seed) as world:
        cluster, client = lived_in(world)
        name = NAMES[seed % 3]
        for _ in range(2):
            cluster.hosts[name].crash()
            cluster.hosts[name].disk.rot(3, path=f"{LOG}/00000001.log")
            world.run(1)
            cluster.hosts[name].restart()
            world.run(5)
            world.run_until(lambda: not doubts(cluster), within_s=20)
        finish(world, cluster, client)
