"""The simulated world: a scenario on simulated hosts, with the real node, in virtual time.

This module exists so that a scenario can be run thousands of times, each the same way twice. Every
node runs the node's own code over its own log and transport; Raft's safety properties are judged
at every instant. It must never know what a scenario is about.
"""

from __future__ import annotations

import asyncio
import platform
import random
from collections.abc import Callable
from typing import Any, Final

from mcpcore import __version__
from mcpcore.errors import CoordinationError, PropertyViolated, SimulationStuck, StorageFailed
from mcpcore.experiment.convergence import is_converged
from mcpcore.experiment.crew import Crew
from mcpcore.experiment.run import FaultRecord, NodeSample, ReplicaEnd, Run
from mcpcore.experiment.sampling import sample
from mcpcore.experiment.scenario import Scenario
from mcpcore.node.client.client import Client
from mcpcore.node.kv.local import KeyValueNode
from mcpcore.node.machine import StateMachine
from mcpcore.node.node import GroupConfig, Node, NodeConfig
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.security import Plaintext
from mcpcore.raft.invariants import FigureThree, SafetyViolation
from mcpcore.raft.settings import RaftSettings
from mcpcore.sim import World
from mcpcore.sim.faults import Injected
from mcpcore.sim.schedule import Fault

_PORT: Final = 7000
_PLAIN: Final = Plaintext(allow_plaintext=True, networks=("10.0.0.0/8",))
_SAMPLE_S: Final = 0.1
_START_S: Final = 120.0
_RESTART_S: Final = 0.5
_WATCHED_GROUPS_MAX: Final = 20
"""Groups whose safety is judged at every instant; more would cost more than the run itself."""


def run_simulated(
    scenario: Scenario,
    seed: int = 0,
    *,
    progress: Callable[[float], None] | None = None,
    machine: Callable[[], StateMachine] = KeyValueNode,
) -> Run:
    """Run a scenario in the simulator.

    Args:
        seed: of everything: the same seed gives the same run.
        progress: called with the virtual seconds since the clients began, now and then.
        machine: what the groups replicate; a broken one shows whether the judges notice.
    """
    with World(seed) as world:
        return _Simulation(world, scenario, seed, progress or (lambda _: None), machine).run()


class _Simulation:
    def __init__(
        self,
        world: World,
        scenario: Scenario,
        seed: int,
        progress: Callable[[float], None],
        machine: Callable[[], StateMachine],
    ) -> None:
        self.machine = machine
        self.world = world
        self.scenario = scenario
        self.seed = seed
        self.progress = progress
        self.began_ns = 0
        self.nodes: dict[str, Node] = {}
        self.samples: list[NodeSample] = []
        self.latest: dict[str, NodeSample] = {}
        self.records: list[tuple[Injected, Fault, float, list[float]]] = []
        self.judges = {name: FigureThree() for name in scenario.groups.names[:_WATCHED_GROUPS_MAX]}
        self.seen: dict[tuple[str, str], object] = {}
        draw = random.Random(f"clocks {seed}")
        for region in scenario.regions:
            for other in scenario.regions:
                world.network.link_regions(
                    region.name, other.name, scenario.link(region.name, other.name), both=False
                )
            for name in region.node_names:
                world.host(
                    name,
                    self._node_main(name),
                    region=region.name,
                    offset_ns=round(draw.uniform(-1, 1) * scenario.clocks.offset_ms * 1e6),
                    drift_ppm=draw.uniform(-1, 1) * scenario.clocks.drift_ppm,
                    start=False,
                )
        self.crew = Crew(
            scenario,
            seed,
            client=self._client,
            now_ns=lambda: self.world.now_ns - self.began_ns,
        )

    # --- the run ---------------------------------------------------------------------------------

    def run(self) -> Run:
        world, scenario = self.world, self.scenario
        failure = ""
        healed_s: float | None = None
        replicas: tuple[ReplicaEnd, ...] = ()
        ended_s = 0.0
        try:
            for name in scenario.nodes:
                world[name].start()
            world.check_each_instant(self._judge)
            world.run_until(lambda: self._leader() != "", within_s=_START_S)
            self._start_clients()
            self._plan_faults()
            self._run_for(scenario.duration_s)
            world.heal()
            healed_s = self._healed_s()
            target = max((s.commit for s in self.latest.values()), default=0)
            self._run_while(lambda: not self._is_converged(healed_s, target), scenario.settle_s)
            ended_s = self._now_s()
            self.crew.stop()
            self._run_while(lambda: self.crew.open_lanes > 0, scenario.settle_s)
            self._run_while(lambda: not self._agreed(), scenario.settle_s)
            replicas = self._replicas()
        except (SafetyViolation, PropertyViolated, SimulationStuck, CoordinationError) as error:
            failure = f"{type(error).__name__}: {error}"
            ended_s = ended_s or self._now_s()
        return Run(
            scenario=scenario,
            world="simulated",
            seed=self.seed,
            histories=self.crew.histories,
            lanes=self.crew.regions,
            faults=tuple(self._records()),
            samples=tuple(self.samples),
            replicas=replicas,
            healed_s=healed_s,
            clients_ended_s=ended_s,
            failure=failure,
            digest=world.digest,
            environment={"mcpcore": __version__, "python": platform.python_version()},
        )

    def _now_s(self) -> float:
        return (self.world.now_ns - self.began_ns) / 1e9

    def _run_for(self, seconds: float) -> None:
        whole, rest = divmod(seconds, 1.0)
        for _ in range(int(whole)):
            self.world.run(1.0)
            self.progress(self._now_s())
        self.world.run(rest)

    def _run_while(self, busy: Callable[[], bool], at_most_s: float) -> None:
        left = round(at_most_s / _SAMPLE_S)
        while busy() and left > 0:
            self.world.run(_SAMPLE_S)
            left -= 1

    # --- nodes -----------------------------------------------------------------------------------

    def _node_main(self, name: str) -> Any:
        scenario = self.scenario
        settings = RaftSettings(
            election_timeout_ns=round(scenario.groups.election_timeout_s * 1e9),
            heartbeat_ns=round(scenario.groups.heartbeat_s * 1e9),
        )

        async def main() -> None:
            host = self.world[name]
            addresses = {node: Address(self.world[node].address, _PORT) for node in scenario.nodes}
            config = NodeConfig(
                cluster="experiment",
                name=name,
                listen=addresses[name],
                peers={peer: at for peer, at in addresses.items() if peer != name},
                data="data/log",
                security=_PLAIN,
                groups={
                    group: GroupConfig(scenario.nodes, settings) for group in scenario.groups.names
                },
                bootstrap=True,
            )
            while True:  # as a process supervisor would: a node that stopped is started again
                node = Node(config, lambda _: self.machine(), disk=host.disk, rng=host.random)
                for judge in self.judges.values():
                    judge.restarted(name)
                self.nodes[name] = node
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
            found = sample(self._now_s(), node)
            self.samples.append(found)
            self.latest[name] = found
            await asyncio.sleep(_SAMPLE_S)

    def _running(self) -> dict[str, Node]:
        return {
            name: node
            for name, node in self.nodes.items()
            if self.world[name].is_alive and not node.stopped.is_set() and node.groups
        }

    def _leader(self) -> str:
        """The node that leads the first group and that a majority follows, or empty."""
        running = self._running()
        group = self.scenario.groups.names[0]
        for name, node in running.items():
            if not node.group(group).raft.is_leader:
                continue
            followers = sum(n.group(group).raft.leader == name for n in running.values())
            if followers > len(self.scenario.nodes) // 2:
                return name
        return ""

    def _judge(self) -> None:
        for name, node in self.nodes.items():
            for group, judge in self.judges.items():
                if group not in node.groups:
                    continue
                state = node.group(group).raft.state
                seen = (node, state.term, state.role, state.commit, state.log.last)
                if self.seen.get((name, group)) != seen:
                    self.seen[name, group] = seen
                    judge.observe(state)

    # --- clients ---------------------------------------------------------------------------------

    def _start_clients(self) -> None:
        """Prepare every workload, then set all lanes going: times count from here."""
        world = self.world
        hosts = {
            region.name: world.host(f"clients-{region.name}", _nothing, region=region.name)
            for region in self.scenario.regions
        }
        world.call(next(iter(hosts.values())), self.crew.prepare())
        self.began_ns = world.now_ns
        self.samples[:] = [s._replace(at_s=s.at_s - self.began_ns / 1e9) for s in self.samples]
        for region, running, lane in self.crew.lanes():
            hosts[region].spawn(self.crew.work(running, lane))

    def _client(self, region: str, name: str) -> Client:
        """A client that asks the nodes of its own region first."""
        scenario = self.scenario
        near = sorted(scenario.nodes, key=lambda node: scenario.region_of(node) != region)
        return Client(
            [Address(self.world[node].address, _PORT) for node in near],
            cluster="experiment",
            security=_PLAIN,
            name=name,
            timeout_s=scenario.client_timeout_s,
            rng=random.Random(f"{self.seed} client {name}"),
        )

    # --- faults ----------------------------------------------------------------------------------

    def _plan_faults(self) -> None:
        for fault in self.scenario.schedule(self.seed).faults:
            self.world.at(self.began_ns / 1e9 + fault.at_s, self._begin, fault)

    def _begin(self, fault: Fault) -> None:
        resolved = self.scenario.resolve(fault, self._leader())
        # Among nodes: clients beside a node reach it, whatever is cut between nodes.
        made = self.world.inject(
            resolved.kind,
            *resolved.on,
            among=self.scenario.nodes,
            to=resolved.to,
            value=resolved.value,
        )
        ended: list[float] = []
        self.records.append((made, resolved, self._now_s(), ended))
        if fault.for_s:
            self.world.at(self.world.now_s + fault.for_s, self._end, made, ended)

    def _end(self, made: Injected, ended: list[float]) -> None:
        if not made.over:
            made.end()
            ended.append(self._now_s())

    def _records(self) -> list[FaultRecord]:
        return [
            FaultRecord(
                fault,
                began_s,
                ended[0] if ended else (self.scenario.duration_s if fault.for_s else None),
                made.touched(),
            )
            for made, fault, began_s, ended in self.records
        ]

    def _healed_s(self) -> float | None:
        ends = [record.ended_s or record.began_s for record in self._records()]
        return max(ends, default=None)

    # --- the end ---------------------------------------------------------------------------------

    def _is_converged(self, healed_s: float | None, target: int) -> bool:
        if healed_s is None:
            return True
        latest = (
            found if found is not None and found.at_s >= healed_s else None
            for found in map(self.latest.get, self.scenario.nodes)
        )
        return is_converged(latest, target, self.crew.served(), round(healed_s * 1e9))

    def _replicas(self) -> tuple[ReplicaEnd, ...]:
        found = []
        for name, node in self._running().items():
            for group in self.scenario.groups.names:
                status = node.group(group).status()
                found.append(ReplicaEnd(name, group, status.term, status.applied, status.digest))
        return tuple(found)

    def _agreed(self) -> bool:
        ends = self._replicas()
        views: dict[str, set[tuple[int, str]]] = {}
        for end in ends:
            views.setdefault(end.group, set()).add((end.applied, end.digest))
        complete = len(ends) == len(self.scenario.nodes) * self.scenario.groups.count
        return complete and all(len(found) == 1 for found in views.values())


async def _nothing() -> None:
    """What the process of a host does that only carries clients."""
