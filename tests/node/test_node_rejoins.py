"""A node that comes back is one of them again at once, however long its links had been down."""

from __future__ import annotations

from mcpcore.sim import World
from tests.node.simulated_cluster import SimulatedCluster


def linked(cluster: SimulatedCluster, name: str) -> bool:
    async def seen_by(other: str) -> bool:
        connected: bool = cluster.nodes[other].status()["peers"][name]["connected"]
        return connected

    others = [other for other in cluster.names if other != name]
    return all(cluster.world.call(other, seen_by(other)) for other in others)


def test_a_restarted_node_is_let_in_though_it_had_called_a_hundred_times_before() -> None:
    """Calls are numbered so that a delayed one is recognised; a new process begins anew."""
    with World(seed=1) as world:
        cluster = SimulatedCluster(world)
        caller = min(cluster.names)  # the smaller name calls
        world.run(2)
        world.inject("isolate", caller)
        world.run(90)
        world.heal()
        world.run(4)
        assert linked(cluster, caller)
        cluster.hosts[caller].crash()
        world.run(1)
        cluster.hosts[caller].restart()
        world.run(3)
        assert linked(cluster, caller)
