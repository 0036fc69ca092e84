"""The real node, its log and its transport, on simulated hosts.

Nothing of the node is replaced: it runs its own write-ahead log on a disk that tears and forgets,
and its own connections over a network that is cut, in virtual time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mcpcore.errors import OutcomeUnknown, Rejected, StorageFailed
from mcpcore.node.client.client import Client
from mcpcore.node.group import Group
from mcpcore.node.kv.client import KeyValueClient
from mcpcore.node.kv.local import KeyValueNode
from mcpcore.node.machine import StateMachine
from mcpcore.node.node import GroupConfig, Node, NodeConfig
from mcpcore.node.snapshots.settings import SnapshotSettings
from mcpcore.node.tracing import Tracing
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.security import Plaintext, Security
from mcpcore.raft.invariants import FigureThree
from mcpcore.raft.settings import MILLISECOND, RaftSettings
from mcpcore.sim import Host, World

SETTINGS = RaftSettings(election_timeout_ns=1000 * MILLISECOND, heartbeat_ns=200 * MILLISECOND)
PORT = 7000
NAMES = ("us-east-1", "hangzhou", "edge")
PLAIN = Plaintext(allow_plaintext=True, networks=("10.0.0.0/8",))


class SimulatedCluster:
    """Nodes on hosts of a world, each judged by Figure 3 at every instant."""

    def __init__(
        self,
        world: World,
        names: tuple[str, ...] = NAMES,
        *,
        settings: RaftSettings = SETTINGS,
        security: dict[str, Security] | None = None,
        drift_ppm: float = 0.0,
        offsets_ns: dict[str, int] | None = None,
        snapshots: SnapshotSettings | None = None,
        machine: Callable[[str], StateMachine] = lambda group: KeyValueNode(),
        tracing: Tracing | None = None,
        **more: Any,
    ) -> None:
        self.world = world
        self.tracing = tracing
        self.machine = machine
        self.more = more
        self.names = names
        self.settings = settings
        self.settings_of: dict[str, RaftSettings] = {}
        self.snapshots = snapshots or SnapshotSettings()
        self.security = security or {}
        self.nodes: dict[str, Node] = {}
        self.starts: dict[str, int] = {}
        self.judge = FigureThree()
        self._seen: dict[str, object] = {}
        self.hosts: dict[str, Host] = {}
        draw = random.Random(world.seed)
        for name in names:
            rate = draw.uniform(-drift_ppm, drift_ppm)
            self.hosts[name] = world.host(
                name,
                self._main(name),
                drift_ppm=rate,
                offset_ns=(offsets_ns or {}).get(name, 0),
                start=False,
            )
        for host in self.hosts.values():
            host.start()
        world.check_each_instant(self._observe)

    def addresses(self) -> dict[str, Address]:
        return {name: Address(host.address, PORT) for name, host in self.hosts.items()}

    def _main(self, name: str) -> Any:
        async def main() -> None:
            host = self.hosts[name]
            addresses = self.addresses()
            config = NodeConfig(
                cluster="sim",
                name=name,
                listen=addresses[name],
                peers={peer: at for peer, at in addresses.items() if peer != name},
                data="data/log",
                security=self.security.get(name, PLAIN),
                groups={"main": GroupConfig(self.names, self.settings_of.get(name, self.settings))},
                snapshots=self.snapshots,
                bootstrap=True,
            )
            config = replace(config, **self.more)
            while True:  # as a process supervisor would: a node that stopped is started again
                node = Node(
                    config,
                    self.machine,
                    disk=host.disk,
                    rng=host.random,
                    tracing=self.tracing,
                )
                self.judge.restarted(name)
                self.nodes[name] = node
                self.starts[name] = self.starts.get(name, 0) + 1
                try:
                    async with node:
                        await node.stopped.wait()
                except StorageFailed:
                    pass  # the disk is still broken
                await asyncio.sleep(0.5)

        return main

    def running(self) -> dict[str, Group]:
        return {
            name: node.group("main")
            for name, node in self.nodes.items()
            if self.hosts[name].is_alive and "main" in node.groups and not node.stopped.is_set()
        }

    def _observe(self) -> None:
        for name, node in self.nodes.items():
            if "main" in node.groups:
                state = node.group("main").raft.state
                seen = (state.term, state.role, state.commit, state.log.last)
                if self._seen.get(name) != (node, seen):
                    self._seen[name] = (node, seen)
                    self.judge.observe(state)

    def leader(self) -> str:
        """The leader that a majority follows, or empty."""
        running = self.running()
        for name, group in running.items():
            followers = [other for other in running.values() if other.raft.leader == name]
            if group.raft.is_leader and len(followers) > len(self.names) // 2:
                return name
        return ""

    def agreed(self) -> bool:
        """Whether all nodes run and have applied the same entries to the same effect."""
        statuses = [group.status() for group in self.running().values()]
        return len(statuses) == len(self.names) and (
            len({(status.applied, status.digest) for status in statuses}) == 1
        )


def client_of(
    cluster: SimulatedCluster, name: str, security: Security = PLAIN, *, only: str = ""
) -> Client:
    """A client of a simulated cluster, with randomness of its own; of one node, if ``only``."""
    addresses = cluster.addresses()
    return Client(
        [addresses[only]] if only else list(addresses.values()),
        cluster="sim",
        security=security,
        name=name,
        timeout_s=6.0,
        rng=random.Random(name),
    )


class Bookkeeper:
    """A client that writes each key once and remembers what it was told."""

    def __init__(self, cluster: SimulatedCluster, name: str, *, security: Security = PLAIN) -> None:
        self.cluster = cluster
        self.name = name
        self.security = security
        self.acknowledged: dict[str, int] = {}
        self.unknown: set[str] = set()
        self.rejected: set[str] = set()
        self.stop = self.done = False
        cluster.world.host(name, self.main)

    def client(self) -> Client:
        return client_of(self.cluster, self.name, self.security)

    async def main(self) -> None:
        async with self.client() as client:
            store = KeyValueClient(client)
            number = 0
            while not self.stop:
                number += 1
                key = f"{self.name}/{number}"
                try:
                    self.acknowledged[key] = await store.put(key, str(number))
                except Rejected:
                    self.rejected.add(key)
                except OutcomeUnknown:
                    self.unknown.add(key)
                await asyncio.sleep(0.05)
        self.done = True

    async def audit(self) -> None:
        """Compare what the cluster holds with what it told us."""
        async with self.client() as client:
            found = {
                record.key.decode(): record
                async for record in KeyValueClient(client).scan(f"{self.name}/")
            }
        for key, revision in self.acknowledged.items():
            assert key in found, f"{key} was acknowledged at {revision} and is lost"
            assert found[key].mod_revision == revision, f"{key} moved from {revision}"
            assert found[key].version == 1, f"{key} was written {found[key].version} times"
        for key in self.rejected:
            assert key not in found, f"{key} was rejected and exists"
        assert set(found) <= set(self.acknowledged) | self.unknown
