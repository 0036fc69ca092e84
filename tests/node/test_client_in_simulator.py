"""The client's promise under faults: what was acknowledged happened once, what was rejected never.

A put that is applied twice shows: it raises the version of its key by two. Compare-and-set shows
the same of reads that were acted upon.

One seed again: ``python -m tests.node.test_client_in_simulator SEED``.
"""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import replace

import pytest

from mcpcore.errors import OutcomeUnknown, Rejected
from mcpcore.node.client import Client
from mcpcore.node.kv.client import KeyValueClient
from mcpcore.node.kv.results import Swapped
from mcpcore.sim import World
from mcpcore.sim.schedule import Schedule, random_schedule
from tests.node.simulated_cluster import NAMES, PLAIN, SimulatedCluster
from tests.node.test_node_in_simulator import SURVIVABLE

CALM_S = 2.5
FAULTS_S = 9.0
LINKS = ("one_way", "isolate", "partition", "flapping", "reset")
"""Between clients and nodes too: a command arrives, and its answer does not."""


class Counter:
    """Clients on one host that raise two counters, and keep count of what they were told."""

    def __init__(self, cluster: SimulatedCluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.acknowledged = {"hits": 0, "sum": 0}
        self.unknown = {"hits": 0, "sum": 0}
        self.rejected = {"hits": 0, "sum": 0}
        self.stop = False
        self.done = 0
        cluster.world.host(name, self.main)

    def client(self) -> Client:
        addresses = list(self.cluster.addresses().values())
        rng = random.Random(self.name)
        return Client(
            addresses, cluster="sim", security=PLAIN, name=self.name, timeout_s=3, rng=rng
        )

    async def main(self) -> None:
        async with self.client() as client:
            await asyncio.gather(*(self._raise(KeyValueClient(client), n) for n in range(3)))
        self.done = 1

    async def _raise(self, store: KeyValueClient, number: int) -> None:
        while not self.stop:
            key = "hits" if number else "sum"
            try:
                if number:
                    await store.put("hits", self.name)
                elif not await self._add_one(store):
                    continue
                self.acknowledged[key] += 1
            except Rejected:
                self.rejected[key] += 1
            except OutcomeUnknown:
                self.unknown[key] += 1
            await asyncio.sleep(0.05)

    async def _add_one(self, store: KeyValueClient) -> bool:
        found = await store.get("sum")
        value = "1" if found is None else str(int(found.value) + 1)
        expected = None if found is None else found.value
        return isinstance(
            await store.compare_and_set("sum", expected=expected, value=value), Swapped
        )


def live_through(seed: int) -> None:
    """One world; at its end the counters are compared with what the clients were told."""
    with World(seed=seed) as world:
        cluster = SimulatedCluster(world, drift_ppm=200.0)
        clients = [Counter(cluster, f"client-{number}") for number in range(2)]
        world.run(CALM_S)
        everybody = (*NAMES, *(client.name for client in clients))
        at_nodes = random_schedule(seed, NAMES, duration_s=FAULTS_S, count=4, kinds=SURVIVABLE)
        on_links = random_schedule(-seed, everybody, duration_s=FAULTS_S, count=6, kinds=LINKS)
        faults = (*at_nodes.faults, *on_links.faults)
        world.apply(Schedule(tuple(replace(f, at_s=f.at_s + CALM_S) for f in faults)))
        world.run(FAULTS_S)
        world.heal()
        for host in cluster.hosts.values():
            if not host.is_alive:
                host.restart()
        for client in clients:
            client.stop = True
        world.run_until(lambda: all(client.done for client in clients), within_s=30)
        world.run_until(lambda: bool(cluster.leader()) and cluster.agreed(), within_s=30)

        async def audit() -> tuple[int, int]:
            async with clients[0].client() as client:
                store = KeyValueClient(client)
                hits, total = await store.get("hits"), await store.get("sum")
                assert hits is not None
                assert total is not None
                assert total.version == int(total.value), "each success added one"
                return hits.version, int(total.value)

        found = world.call(clients[0].name, audit(), within_s=60)
        for key, value in zip(("hits", "sum"), found, strict=True):
            least = sum(client.acknowledged[key] for client in clients)
            most = least + sum(client.unknown[key] for client in clients)
            assert least > 10, "a world in which nobody was served proves nothing"
            assert least <= value <= most, (
                f"{key} is {value}, of which {least} were acknowledged and {most - least} unknown; "
                f"again: python -m tests.node.test_client_in_simulator {seed}"
            )


@pytest.mark.parametrize("seed", range(4))
def test_what_is_acknowledged_happened_once_and_what_is_rejected_never(seed: int) -> None:
    live_through(seed)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 1200, 20))
def test_the_promise_holds_in_two_hundred_worlds(first: int) -> None:
    for seed in range(first, first + 20):
        live_through(seed)


if __name__ == "__main__":
    live_through(int(sys.argv[1]))
