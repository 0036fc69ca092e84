"""The nodes of a simulated run: the real node on simulated hosts, and what can be seen of them.

This module exists so that running nodes and running an experiment are two things. Nodes are
restarted as a process supervisor would, looked at ten times a second, and held against Raft's
safety properties at every instant. It must never know of workloads or faults.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

from mcpcore.errors import StorageFailed
from mcpcore.experiment.run import NodeSample, ReplicaEnd
from mcpcore.experiment.sampling import sample
from mcpcore.experiment.scenario import VOTER, Scenario
from mcpcore.node.client.client import Client
from mcpcore.node.machine import StateMachine
from mcpcore.node.node import GroupConfig, Node, NodeConfig
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.handshake import SPOKEN, Versions
from mcpcore.node.transport.identity import Role
from mcpcore.node.transport.security import Plaintext
from mcpcore.raft.invariants import FigureThree
from mcpcore.raft.settings import RaftSettings
from mcpcore.raft.state import RaftState
from mcpcore.raft.types import Member
from mcpcore.sim import World

SAMPLE_S: Final = 0.1
_PORT: Final = 7000
_PLAIN: Final = Plaintext(allow_plaintext=True, networks=("10.0.0.0/8",))
_RESTART_S: Final = 0.5
_DOWN_S: Final = 1.0
"""How long an upgrade takes from stop to start."""
_CAUGHT_UP: Final = 50
"""Entries that a learner may lack and still count as caught up."""
_WATCHED_GROUPS_MAX: Final = 20
"""Groups whose safety is judged at every instant; more would cost more than the run itself."""


class _Watched:
    """A member whose safety is judged whenever any of these facts about it changes."""

    __slots__ = ("facts", "judge", "state")

    def __init__(self, judge: FigureThree, state: RaftState) -> None:
        self.judge = judge
        self.state = state
        self.facts: tuple[object, ...] = ()


class SimulatedNodes:
    """The nodes of a scenario, on hosts of a world.

    Args:
        machine: makes what the groups replicate.
        now_s: the run's clock.
    """

    def __init__(
        self,
        world: World,
        scenario: Scenario,
        seed: int,
        machine: Callable[[], StateMachine],
        now_s: Callable[[], float],
    ) -> None:
        self.world = world
        self.scenario = scenario
        self.nodes: dict[str, Node] = {}
        self.samples: list[NodeSample] = []
        self.latest: dict[str, NodeSample] = {}
        self._machine = machine
        self._now_s = now_s
        self._first = scenario.groups.names[0]
        old = Versions(SPOKEN.oldest, scenario.groups.protocol)
        self._versions = dict.fromkeys(scenario.nodes, old)
        self._judges = {g: FigureThree() for g in scenario.groups.names[:_WATCHED_GROUPS_MAX]}
        self._watched: dict[str, list[_Watched]] = {}
        self.sample_s = max(SAMPLE_S, len(scenario.nodes) / 100)
        """How often a node is looked at: fifty nodes need not be looked at as often as three."""
        self._seed = seed
        draw = random.Random(f"clocks {seed}")
        for region in scenario.regions:
            for other in scenario.regions:
                world.network.link_regions(
                    region.name, other.name, scenario.link(region.name, other.name), both=False
                )
            for name in region.node_names:
                world.host(
                    name,
                    self._main(name),
                    region=region.name,
                    offset_ns=round(draw.uniform(-1, 1) * scenario.clocks.offset_ms * 1e6),
                    drift_ppm=draw.uniform(-1, 1) * scenario.clocks.drift_ppm,
                    start=False,
                )

    def start(self) -> None:
        """Start all nodes."""
        for name in self.scenario.nodes:
            self.world[name].start()
        self.world.check_each_instant(self._judge)

    # --- running ---------------------------------------------------------------------------------

    def _config(self, name: str) -> NodeConfig:
        scenario = self.scenario
        settings = RaftSettings(
            election_timeout_ns=round(scenario.groups.election_timeout_s * 1e9),
            heartbeat_ns=round(scenario.groups.heartbeat_s * 1e9),
        )
        return NodeConfig(
            cluster="experiment",
            name=name,
            listen=self._address(name),
            peers={peer: self._address(peer) for peer in scenario.nodes if peer != name},
            data="data/log",
            security=_PLAIN,
            groups={
                group: GroupConfig(scenario.voters, settings) for group in scenario.groups.names
            },
            bootstrap=name in scenario.voters,
            versions=self._versions[name],
        )

    def _address(self, name: str) -> Address:
        return Address(self.world[name].address, _PORT)

    def _main(self, name: str) -> Any:
        async def main() -> None:
            host = self.world[name]
            while True:  # as a process supervisor would: a node that stopped is started again
                node = Node(
                    self._config(name), lambda _: self._machine(), disk=host.disk, rng=host.random
                )
                for judge in self._judges.values():
                    judge.restarted(name)
                self.nodes[name] = node
                self._watched.pop(name, None)
                try:
                    async with node:
                        sampling = asyncio.get_running_loop().create_task(self._sample(name, node))
                        await node.stopped.wait()
                        sampling.cancel()
                except StorageFailed:
                    pass  # the disk is still broken
                await asyncio.sleep(_RESTART_S)

        return main

    async def _sample(self, name: str, node: Node) -> None:
        while True:
            self._watch(name, node)
            if self._first in node.groups:
                found = sample(self._now_s(), node)
                self.samples.append(found)
                self.latest[name] = found
            await asyncio.sleep(self.sample_s)

    def client(self, region: str, name: str, role: Role = Role.CLIENT) -> Client:
        """A client that asks the nodes of its own region first; voters before others."""
        scenario = self.scenario
        roles = {name: where.role for where in scenario.regions for name in where.node_names}
        near = sorted(
            scenario.nodes,
            key=lambda node: (scenario.region_of(node) != region, roles[node] != VOTER),
        )
        return Client(
            [self._address(node) for node in near],
            cluster="experiment",
            security=_PLAIN,
            name=name,
            role=role,
            timeout_s=scenario.client_timeout_s,
            rng=random.Random(f"{self._seed} client {name}"),
        )

    # --- looking ---------------------------------------------------------------------------------

    def running(self) -> dict[str, Node]:
        """Nodes that are up, by name."""
        return {
            name: node
            for name, node in self.nodes.items()
            if self.world[name].is_alive and not node.stopped.is_set() and node.groups
        }

    def leader(self, group: str = "") -> str:
        """The node that leads a group (the first one) and that most voters follow, or empty."""
        running, group = self.running(), group or self._first
        for name, node in running.items():
            if group not in node.groups or not node.group(group).raft.is_leader:
                continue
            voters = node.group(group).raft.state.configuration.voters
            followers = sum(
                group in running[voter].groups and running[voter].group(group).raft.leader == name
                for voter in voters
                if voter in running
            )
            if followers > len(voters) // 2:
                return name
        return ""

    def roles(self, group: str) -> tuple[frozenset[str], frozenset[str]]:
        """See ``Site``."""
        leader = self.leader(group)
        if not leader:
            return frozenset(), frozenset()
        state = self.nodes[leader].group(group).raft.state
        index, configuration = state.configurations[-1]
        if configuration.joint or index > state.handed:
            return frozenset(), frozenset()
        return frozenset(configuration.voters), frozenset(configuration.learners)

    def caught_up(self, group: str, node: str) -> bool:
        """See ``Site``."""
        leader = self.leader(group)
        if not leader:
            return False
        state = self.nodes[leader].group(group).raft.state
        progress = state.progress.get(node)
        return progress is not None and progress.match + _CAUGHT_UP >= state.log.last_index > 0

    def member(self, node: str) -> Member:
        """See ``Site``."""
        return Member(str(self._address(node)))

    async def upgrade(self, node: str) -> None:
        """See ``Site``."""
        host = self.world[node]
        self._versions[node] = SPOKEN
        host.kill()
        await asyncio.sleep(_DOWN_S)
        host.restart()
        while True:
            await asyncio.sleep(SAMPLE_S)
            if node in self.running() and self.leader():
                return

    def members(self) -> tuple[str, ...]:
        """Members of the first group, as its leader says; empty while nobody leads."""
        voters, learners = self.roles(self._first)
        return tuple(node for node in self.scenario.nodes if node in voters | learners)

    def replicas(self, members: tuple[str, ...]) -> tuple[ReplicaEnd, ...]:
        """What these nodes hold of every group, as far as they run."""
        running, found = self.running(), []
        for name in members:
            for group in self.scenario.groups.names if name in running else ():
                if group in running[name].groups:
                    status = running[name].group(group).status()
                    end = ReplicaEnd(name, group, status.term, status.applied, status.digest)
                    found.append(end)
        return tuple(found)

    def agreed(self, members: tuple[str, ...]) -> bool:
        """Whether these nodes hold the same of every group."""
        ends = self.replicas(members)
        views: dict[str, set[tuple[int, str]]] = {}
        for end in ends:
            views.setdefault(end.group, set()).add((end.applied, end.digest))
        complete = len(ends) == len(members) * self.scenario.groups.count
        return complete and all(len(found) == 1 for found in views.values())

    def _watch(self, name: str, node: Node) -> None:
        """See which groups a node has now, so that the judge need not ask at every instant."""
        held = set(node.groups)
        found = [
            (judge, node.group(group).raft.state)
            for group, judge in self._judges.items()
            if group in held
        ]
        watched = self._watched.get(name, [])
        if [each.state for each in watched] != [state for _, state in found]:
            self._watched[name] = [_Watched(judge, state) for judge, state in found]

    def _judge(self) -> None:
        for watched in self._watched.values():
            for each in watched:
                state = each.state
                facts = (state.term, state.role, state.commit, state.log.last)
                if facts != each.facts:
                    each.facts = facts
                    each.judge.observe(state)
