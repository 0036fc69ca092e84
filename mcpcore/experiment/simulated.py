"""The simulated world: a scenario on simulated hosts, with the real node, in virtual time.

This module exists so that a scenario can be run thousands of times, each the same way twice. Every
node runs the node's own code over its own log and transport; Raft's safety properties are judged
at every instant. It must never know what a scenario is about.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Final

from mcpcore import __version__
from mcpcore.errors import CoordinationError, PropertyViolated, SimulationStuck
from mcpcore.experiment.convergence import is_converged
from mcpcore.experiment.crew import Crew
from mcpcore.experiment.messages import MessageLog
from mcpcore.experiment.operator import Operator
from mcpcore.experiment.run import FaultRecord, ReplicaEnd, Run
from mcpcore.experiment.scenario import Scenario
from mcpcore.experiment.simulated_nodes import SAMPLE_S, SimulatedNodes
from mcpcore.node.kv.local import KeyValueNode
from mcpcore.node.machine import StateMachine
from mcpcore.node.transport.identity import Role
from mcpcore.raft.invariants import SafetyViolation
from mcpcore.sim import World
from mcpcore.sim.faults import Injected
from mcpcore.sim.schedule import Fault

_START_S: Final = 120.0


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
        self.world = world
        self.scenario = scenario
        self.seed = seed
        self.progress = progress
        self.began_ns = 0
        self.records: list[tuple[Injected, Fault, float, list[float]]] = []
        self.nodes = SimulatedNodes(world, scenario, seed, machine, self._now_s)
        self.crew = Crew(
            scenario,
            seed,
            client=self.nodes.client,
            now_ns=lambda: self.world.now_ns - self.began_ns,
        )
        ops = self.nodes.client("", "operator", Role.ADMIN)
        self.messages = MessageLog({}, 0)
        self.operator = Operator(scenario, self.nodes, ops, self._now_s)

    # --- the run ---------------------------------------------------------------------------------

    def run(self) -> Run:
        world, scenario = self.world, self.scenario
        failure = ""
        healed_s: float | None = None
        replicas: tuple[ReplicaEnd, ...] = ()
        members: tuple[str, ...] = ()
        ended_s = 0.0
        try:
            self.nodes.start()
            self._run_while(lambda: self.nodes.leader() == "", _START_S)
            world.host("operator", _nothing)
            world.call("operator", self.operator.found(), within_s=_START_S)
            self._start_clients()
            self._plan_faults()
            world["operator"].spawn(self.operator.run())
            self._run_for(scenario.duration_s)
            world.heal()
            self._run_while(lambda: not self.operator.idle, scenario.settle_s)
            healed_s = self._healed_s()
            target = max((s.commit for s in self.nodes.latest.values()), default=0)
            self._run_while(lambda: not self._is_converged(healed_s, target), scenario.settle_s)
            ended_s = self._now_s()
            self.crew.stop()
            self._run_while(lambda: self.crew.open_lanes > 0, scenario.settle_s)
            self._run_while(lambda: not self.nodes.agreed(self._members()), scenario.settle_s)
            members = self._members()
            replicas = self.nodes.replicas(members)
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
            samples=tuple(self.nodes.samples),
            replicas=replicas,
            healed_s=healed_s,
            clients_ended_s=ended_s,
            failure=failure,
            steps=tuple(self.operator.records),
            members=members,
            messages=self.messages.kept(),
            windows=tuple(self.messages.windows),
            digest=world.digest,
            environment={
                "mcpcore": __version__,
                "python": platform.python_version(),
                "system": platform.system(),
            },
        )

    def _now_s(self) -> float:
        return (self.world.now_ns - self.began_ns) / 1e9

    def _members(self) -> tuple[str, ...]:
        """Who has to agree: the members, if somebody leads and can name them."""
        return self.nodes.members() or self.scenario.nodes

    def _run_for(self, seconds: float) -> None:
        whole, rest = divmod(seconds, 1.0)
        for _ in range(int(whole)):
            self.world.run(1.0)
            self.progress(self._now_s())
        self.world.run(rest)

    def _run_while(self, busy: Callable[[], bool], at_most_s: float) -> None:
        left = round(at_most_s / SAMPLE_S)
        while busy() and left > 0:
            self.world.run(SAMPLE_S)
            left -= 1

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
        shift_s, samples = self.began_ns / 1e9, self.nodes.samples
        samples[:] = [sample._replace(at_s=sample.at_s - shift_s) for sample in samples]
        nodes = {world[name].address: name for name in self.scenario.nodes}
        self.messages = MessageLog(nodes, self.began_ns)
        self.messages.open_window(world.now_ns, "clients begin")
        world.trace.listener = self.messages.hear
        for region, running, lane in self.crew.lanes():
            hosts[region].spawn(self.crew.work(running, lane))

    # --- faults ----------------------------------------------------------------------------------

    def _plan_faults(self) -> None:
        for fault in self.scenario.schedule(self.seed).faults:
            self.world.at(self.began_ns / 1e9 + fault.at_s, self._begin, fault)

    def _begin(self, fault: Fault) -> None:
        resolved = self.scenario.resolve(fault, self.nodes.leader())
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
        struck = f"{resolved.kind.replace('_', ' ')} {', '.join(resolved.on)}".strip()
        self.messages.open_window(self.world.now_ns, f"{struck} begins")
        if fault.for_s:
            self.world.at(self.world.now_s + fault.for_s, self._end, made, ended)

    def _end(self, made: Injected, ended: list[float]) -> None:
        if not made.over:
            made.end()
            ended.append(self._now_s())
            self.messages.open_window(self.world.now_ns, f"{made.fault.kind} ends")

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
        ends += [step.ended_s for step in self.operator.records if step.ended_s is not None]
        return max(ends, default=None)

    # --- the end ---------------------------------------------------------------------------------

    def _is_converged(self, healed_s: float | None, target: int) -> bool:
        if healed_s is None:
            return True
        latest = (
            found if found is not None and found.at_s >= healed_s else None
            for found in map(self.nodes.latest.get, self._members())
        )
        return is_converged(latest, target, self.crew.served(), round(healed_s * 1e9))


async def _nothing() -> None:
    """What the process of a host does that only carries clients."""
