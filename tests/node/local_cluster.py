"""A cluster of nodes in this process, on real loopback sockets and real files."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mcpcore.node.client.client import Client
from mcpcore.node.group import Group
from mcpcore.node.kv.client import KeyValueClient
from mcpcore.node.kv.local import KeyValueNode
from mcpcore.node.node import GroupConfig, Node, NodeConfig
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.handshake import SPOKEN, Versions
from mcpcore.node.transport.limits import Limits
from mcpcore.node.transport.security import Plaintext
from mcpcore.raft.settings import MILLISECOND, RaftSettings

SECURITY = Plaintext(allow_plaintext=True)
SETTINGS = RaftSettings(election_timeout_ns=500 * MILLISECOND, heartbeat_ns=100 * MILLISECOND)


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class LocalCluster:
    """Nodes by name; ``async with`` starts and stops them all."""

    def __init__(
        self,
        directory: Path,
        names: str = "abc",
        *,
        settings: RaftSettings = SETTINGS,
        machine: Callable[[str], Any] = lambda group: KeyValueNode(),
        groups: tuple[str, ...] = ("main",),
        limits: Limits | None = None,
    ) -> None:
        self.directory = directory
        self.settings = settings
        self.machine = machine
        self.groups = groups
        self.limits = limits or Limits()
        self.addresses = {
            name: Address("127.0.0.1", port)
            for name, port in zip(names, free_ports(len(names)), strict=True)
        }
        self.nodes: dict[str, Node] = {}
        self.versions: dict[str, Versions] = {}

    def config(self, name: str) -> NodeConfig:
        voters = tuple(self.addresses)
        return NodeConfig(
            cluster="test",
            name=name,
            listen=self.addresses[name],
            peers={peer: at for peer, at in self.addresses.items() if peer != name},
            data=str(self.directory / name),
            security=SECURITY,
            groups={group: GroupConfig(voters, self.settings) for group in self.groups},
            limits=self.limits,
            bootstrap=True,
            versions=self.versions.get(name, SPOKEN),
        )

    async def start(self, name: str, **seams: Any) -> Node:
        seams.setdefault("rng", random.Random(name))
        node = self.nodes[name] = Node(self.config(name), self.machine, **seams)
        await node.start()
        return node

    async def __aenter__(self) -> Self:
        for name in self.addresses:
            await self.start(name)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))

    def client(self, **options: Any) -> Client:
        options.setdefault("timeout_s", 8.0)
        options.setdefault("attempt_s", 1.0)
        return Client(list(self.addresses.values()), cluster="test", security=SECURITY, **options)

    async def leader(self, group: str = "main") -> str:
        """The leader that a majority of the running nodes follow."""
        async with asyncio.timeout(10):
            while True:
                running = [n for n in self.nodes.values() if not n.stopped.is_set()]
                for node in running:
                    if node.group(group).raft.is_leader:
                        name = node.config.name
                        followers = [n.group(group).raft.leader == name for n in running]
                        if sum(followers) > len(self.addresses) // 2:
                            return name
                await asyncio.sleep(0.01)

    def group(self, name: str, group: str = "main") -> Group:
        return self.nodes[name].group(group)

    async def clocks_agree(self) -> None:
        """Wait until every running node's clock is fit for leases."""
        async with asyncio.timeout(10):
            for node in self.nodes.values():
                while not node.stopped.is_set() and not node.clock.health().may_lease:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)

    async def agree(self, group: str = "main") -> None:
        """Wait until all running nodes have applied the same entries to the same effect."""
        async with asyncio.timeout(10):
            while True:
                seen = {
                    (status.applied, status.digest)
                    for node in self.nodes.values()
                    if not node.stopped.is_set()
                    for status in [node.group(group).status()]
                }
                if len(seen) == 1:
                    return
                await asyncio.sleep(0.01)


def kv(client: Client, group: str = "main") -> KeyValueClient:
    return KeyValueClient(client, group)


async def until(condition: Callable[[], bool], *, within_s: float = 5.0) -> None:
    """Wait for something that nobody announces."""
    async with asyncio.timeout(within_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)
