"""Simulated clusters whose members come and go: the real node, on hosts of a world."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mcpcore.errors import CoordinationError, StorageFailed
from mcpcore.node.client.client import Client
from mcpcore.node.kv.client import KeyValueClient
from mcpcore.node.kv.local import KeyValueNode
from mcpcore.node.machine import StateMachine
from mcpcore.node.node import GroupConfig, Node, NodeConfig
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.handshake import SPOKEN, Versions
from mcpcore.node.transport.identity import Role
from mcpcore.raft.invariants import FigureThree
from mcpcore.raft.membership import AddLearner, Change
from mcpcore.raft.settings import MILLISECOND, RaftSettings
from mcpcore.raft.types import Member
from mcpcore.sim import Host, World
from tests.node.simulated_cluster import PLAIN, PORT

SETTINGS = RaftSettings(election_timeout_ns=1000 * MILLISECOND, heartbeat_ns=200 * MILLISECOND)


class Town:
    """Nodes that are founders or newcomers. ``founders`` know each other; a newcomer's file names
    the founders, as an operator would copy it.
    """

    def __init__(
        self,
        world: World,
        founders: str = "abc",
        newcomers: str = "",
        *,
        machine: Callable[[str], Callable[[str], StateMachine]] | None = None,
        versions: dict[str, Versions] | None = None,
        bootstrap: bool = True,
    ) -> None:
        self.world = world
        self.founders = founders
        self.machine = machine or (lambda node: lambda group: KeyValueNode())
        self.versions = versions or {}
        self.bootstrap = bootstrap
        self.judge = FigureThree()
        self.nodes: dict[str, Node] = {}
        self.hosts: dict[str, Host] = {}
        self._seen: dict[str, object] = {}
        for name in founders + newcomers:
            self.hosts[name] = world.host(name, self._main(name), start=False)
        for host in self.hosts.values():
            host.start()
        self.client_host = world.host("client", None)
        world.check_each_instant(self._observe)

    def address(self, name: str) -> Address:
        return Address(self.hosts[name].address, PORT)

    def config(self, name: str) -> NodeConfig:
        return NodeConfig(
            cluster="sim",
            name=name,
            listen=self.address(name),
            peers={peer: self.address(peer) for peer in self._known_to(name)},
            data="data/log",
            security=PLAIN,
            groups={"main": GroupConfig(tuple(self.founders), SETTINGS)},
            bootstrap=self.bootstrap and name in self.founders,
            zone=f"zone-{name}",
            versions=self.versions.get(name, SPOKEN),
        )

    def _main(self, name: str) -> Any:
        async def main() -> None:
            host = self.hosts[name]
            while True:  # as a process supervisor would: a node that stopped is started again
                node = Node(self.config(name), self.machine(name), disk=host.disk, rng=host.random)
                self.judge.restarted(name)
                self.nodes[name] = node
                try:
                    async with node:
                        await node.stopped.wait()
                except StorageFailed:
                    pass  # the disk is still broken
                await asyncio.sleep(0.5)

        return main

    def _observe(self) -> None:
        for name, node in self.nodes.items():
            if "main" in node.groups:
                state = node.group("main").raft.state
                seen = (state.term, state.role, state.commit, state.log.last)
                if self._seen.get(name) != (node, seen):
                    self._seen[name] = (node, seen)
                    self.judge.observe(state)

    # --- looking -----------------------------------------------------------------------------

    def state(self, name: str) -> Any:
        return self.nodes[name].group("main").raft.state

    def running(self) -> list[str]:
        return [
            name
            for name, node in self.nodes.items()
            if self.hosts[name].is_alive and not node.stopped.is_set() and "main" in node.groups
        ]

    def leader(self) -> str:
        """Who leads the newest term, if a majority of its voters follows it."""
        for name in sorted(self.running(), key=lambda n: -self.state(n).term):
            state = self.state(name)
            if state.is_leader:
                voters = state.configuration.voters & set(self.running())
                followers = [v for v in voters if self.state(v).leader == name]
                if 2 * len(followers) > len(state.configuration.voters):
                    return name
        return ""

    def voters(self) -> str:
        """The voters, as the leader's applied configuration says; empty while anything is open."""
        leader = self.leader()
        if not leader:
            return ""
        state = self.state(leader)
        index, configuration = state.configurations[-1]
        if configuration.joint or index > state.handed:
            return ""
        return "".join(sorted(configuration.voters))

    def agreed(self, names: str) -> bool:
        told = {
            (status.applied, status.digest)
            for name in names
            if name in self.running()
            for status in [self.nodes[name].group("main").status()]
        }
        return len(told) == 1 and all(name in self.running() for name in names)

    def standing(self, name: str) -> str:
        async def ask() -> str:
            return str(self.nodes[name].status()["groups"]["main"]["standing"])

        found: str = self.world.call(name, ask())
        return found

    def _known_to(self, name: str) -> list[str]:
        """Whom its file names: a newcomer's is written when it comes, with all who are there."""
        known = self.founders if name in self.founders else self.hosts
        return [peer for peer in known if peer != name]

    def peers(self, name: str) -> dict[str, str]:
        """Whom a node calls its peers, and where."""

        async def ask() -> dict[str, str]:
            return {p: s["address"] for p, s in self.nodes[name].status()["peers"].items()}

        found: dict[str, str] = self.world.call(name, ask())
        return found

    # --- acting ------------------------------------------------------------------------------

    def client(self, name: str = "ops", *, only: str = "", role: Role = Role.ADMIN) -> Client:
        names = only or "".join(self.hosts)
        return Client(
            [self.address(each) for each in names],
            cluster="sim",
            security=PLAIN,
            name=name,
            role=role,
            timeout_s=8.0,
            rng=random.Random(name),
        )

    def change(self, *changes: Change, force: bool = False, within_s: float = 30) -> int:
        async def ask() -> int:
            async with self.client() as client:
                return await client.change_members(changes, force=force)

        index: int = self.world.call("client", ask(), within_s=within_s)
        return index

    def newcomer(self, name: str, *, promote: bool = True) -> AddLearner:
        """What `mcpctl member add` asks for."""
        address = str(self.address(name))
        return AddLearner(name, Member(address, f"zone-{name}", "", promote))

    def add(self, name: str) -> None:
        self.change(self.newcomer(name))
        self.world.run_until(lambda: name in self.voters(), within_s=60)

    def put(self, key: str, value: str) -> int:
        async def ask() -> int:
            async with self.client() as client:
                return await KeyValueClient(client).put(key, value)

        revision: int = self.world.call("client", ask(), within_s=30)
        return revision


class Writer:
    """Writes each key once, and remembers what it was told; asks all nodes there may ever be."""

    def __init__(self, town: Town, name: str = "writer") -> None:
        self.town = town
        self.name = name
        self.acknowledged: dict[str, int] = {}
        self.stop = self.done = False
        town.world.host(name, self.main)

    async def main(self) -> None:
        async with self.town.client(self.name, role=Role.CLIENT) as client:
            store, number = KeyValueClient(client), 0
            while not self.stop:
                number += 1
                key = f"{self.name}/{number}"
                with suppress(CoordinationError):  # whatever becomes of what nobody acknowledged
                    self.acknowledged[key] = await store.put(key, str(number))
                await asyncio.sleep(0.05)
        self.done = True

    def finish(self) -> None:
        """Stop, and see that everything acknowledged is there, at its revision."""
        self.stop = True
        world = self.town.world
        world.run_until(lambda: self.done, within_s=30)

        async def audit() -> dict[str, int]:
            async with self.town.client("auditor") as client:
                return {
                    record.key.decode(): record.mod_revision
                    async for record in KeyValueClient(client).scan(f"{self.name}/")
                }

        found = world.call("client", audit(), within_s=60)
        lost = {k: r for k, r in self.acknowledged.items() if found.get(k) != r}
        assert not lost, f"acknowledged and not there: {lost}"
        assert len(self.acknowledged) > 20, "a world in which nobody was served proves nothing"
