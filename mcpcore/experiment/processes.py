"""The world of real processes: a scenario on real nodes, in real time, over shaped links.

This module exists so that what the simulator says about a scenario can be held against real
processes, sockets and disks. Every node is an ``mcpctl serve``; what lies between them depends on
what the machine lets us do (``Isolation``), down to forwarders of streams that need no root. What
cannot be done is told, never left out in silence.
"""

from __future__ import annotations

import asyncio
import os
import platform
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from mcpcore import __version__
from mcpcore.errors import CoordinationError, InvalidInput
from mcpcore.experiment.convergence import is_converged
from mcpcore.experiment.crew import Crew
from mcpcore.experiment.links import LinkQuality
from mcpcore.experiment.network import Isolation
from mcpcore.experiment.networks import choose
from mcpcore.experiment.node_faults import STEERED
from mcpcore.experiment.process_cluster import ClusterPlan, ProcessCluster
from mcpcore.experiment.process_faults import ProcessFaults
from mcpcore.experiment.run import NodeSample, ReplicaEnd, Run
from mcpcore.experiment.sampling import sample_of_account
from mcpcore.experiment.scenario import Scenario
from mcpcore.node.client.client import Client
from mcpcore.node.transport.identity import Role
from mcpcore.sim.delay import Link as LinkShape

_SAMPLE_S: Final = 0.2
_SMALL_DISK_BYTES: Final = 64 << 20
"""Of memory, at most: a disk that an experiment can fill."""
_NODES_MAX: Final = 15
_JITTER_OF: Final = {"uniform": 0.5, "normal": 0.8, "lognormal": 1.2, "pareto": 2.0}
"""Mean of what comes on top of the least delay, for a spread of one."""


async def run_processes(
    scenario: Scenario,
    directory: Path,
    seed: int = 0,
    *,
    progress: Callable[[float], None] | None = None,
    isolation: Isolation | None = None,
) -> Run:
    """Run a scenario on real processes; it takes as long as it says.

    Args:
        directory: for certificates, configurations, data and logs of the nodes.
        seed: of the clients' choices, the nemesis and the links' jitter.
        progress: called with the seconds since the clients began, now and then.
        isolation: how nodes are kept apart; None: the best that this machine lets us.

    Raises:
        InvalidInput: it is too large for one machine, or such isolation is not to be had.
        NodeDied: a node ended by itself. NotReady: the cluster did not come up.
    """
    if len(scenario.nodes) > _NODES_MAX:
        raise InvalidInput(
            f"{len(scenario.nodes)} nodes are too many processes for one machine",
            where=f"scenario {scenario.name}",
            remedy=f"Run it simulated, or with at most {_NODES_MAX} nodes",
        )
    level, why_no_better = await choose(isolation)
    return await _Reality(
        scenario, directory, seed, progress or (lambda _: None), level, why_no_better
    ).run()


def quality_of(link: LinkShape) -> LinkQuality:
    """The nearest thing to a link that forwarders can do: least delay, mean jitter, bandwidth."""
    delay = link.delay
    jitter_ms = delay.spread_ms * _JITTER_OF.get(delay.kind, 0.0)
    if delay.kind == "bimodal":
        jitter_ms = delay.spread_ms * delay.shape
    return LinkQuality(
        one_way_s=(delay.least_ms + link.extra_ms) / 1e3,
        jitter_s=jitter_ms / 1e3,
        bandwidth_bytes_per_s=link.bandwidth_bps / 8 if link.bandwidth_bps else None,
    )


class _Reality:
    def __init__(
        self,
        scenario: Scenario,
        directory: Path,
        seed: int,
        progress: Callable[[float], None],
        isolation: Isolation,
        why_no_better: str,
    ) -> None:
        self.scenario = scenario
        self.seed = seed
        self.progress = progress
        self.impossible = _impossible(scenario, isolation, why_no_better)
        kinds = {fault.kind for fault in scenario.schedule(seed).faults}
        namespaced = isolation is not Isolation.LOOPBACK
        self.cluster = ProcessCluster(
            ClusterPlan(
                nodes=scenario.nodes,
                links=_links(scenario),
                groups=scenario.groups.names,
                election_timeout_s=scenario.groups.election_timeout_s,
                heartbeat_s=scenario.groups.heartbeat_s,
                limits={"backoff_max_s": 0.5, "connect_timeout_s": 2.0},
                shapes=_shapes(scenario),
                clocks=_clocks(scenario, seed),
                steered=bool(kinds & STEERED),
                small_disk_bytes=_SMALL_DISK_BYTES if namespaced and "disk_full" in kinds else 0,
                seed=seed,
            ),
            directory,
            isolation,
        )
        self.began_s = 0.0
        self.samples: list[NodeSample] = []
        self.latest: dict[str, NodeSample] = {}
        self.faults = ProcessFaults(scenario, self.cluster, seed, self._now_s)

    # --- the run ---------------------------------------------------------------------------------

    async def run(self) -> Run:
        scenario, loop = self.scenario, asyncio.get_running_loop()
        failure = ""
        replicas: tuple[ReplicaEnd, ...] = ()
        healed_s: float | None = None
        async with AsyncExitStack() as stack:
            cluster = await stack.enter_async_context(self.cluster)
            self.began_s = loop.time()
            stack.push_async_callback(_end, loop.create_task(self._watch(), name="watch the nodes"))
            await cluster.leader(timeout_s=60.0)
            clients: dict[str, Client] = {}
            for region in scenario.regions:
                for spec in scenario.workloads:
                    for number in range(1, spec.clients + 1):
                        name = f"{spec.kind}-{region.name}-{number}"
                        clients[name] = await self._client(region.name)
            crew = Crew(
                scenario,
                self.seed,
                client=lambda _, name: clients[name],
                now_ns=lambda: round(self._now_s() * 1e9),
            )
            await crew.prepare()
            shift_s, self.began_s = loop.time() - self.began_s, loop.time()
            self.samples[:] = [s._replace(at_s=s.at_s - shift_s) for s in self.samples]
            lanes = [
                loop.create_task(crew.work(running, lane), name=lane.name)
                for _, running, lane in crew.lanes()
            ]
            stack.push_async_callback(_end, *lanes)
            try:
                await self.faults.run()
                healed_s = self.faults.healed_s()
                target = max((s.commit for s in self.latest.values()), default=0)
                await self._until(
                    lambda: self._is_converged(crew, healed_s, target), scenario.settle_s
                )
                for node in cluster.nodes.values():
                    node.expect_running()
            except CoordinationError as error:
                failure = f"{type(error).__name__}: {error}"
            ended_s = self._now_s()
            crew.stop()
            done, late = await asyncio.wait(lanes, timeout=scenario.settle_s)
            for task in done:
                if (bug := task.exception()) is not None:
                    failure = failure or f"{type(bug).__name__}: {bug}"
            if late:
                failure = failure or f"{len(late)} clients did not come to an end"
            replicas = await self._settled(scenario.settle_s)
        return Run(
            scenario=scenario,
            world="processes",
            seed=self.seed,
            histories=crew.histories,
            lanes=crew.regions,
            faults=self.faults.records(),
            samples=tuple(self.samples),
            replicas=replicas,
            healed_s=healed_s,
            clients_ended_s=ended_s,
            failure=failure,
            impossible=(*self.impossible, *self.faults.impossible, *scenario.beyond_processes),
            environment={
                "isolation": self.cluster.isolation.value,
                "mcpcore": __version__,
                "python": platform.python_version(),
                "system": f"{platform.system()} {platform.release()}",
                "cores": os.cpu_count(),
            },
        )

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time() - self.began_s

    async def _until(self, reached: Callable[[], bool], at_most_s: float) -> None:
        for _ in range(round(at_most_s / _SAMPLE_S)):
            if reached():
                return
            await asyncio.sleep(_SAMPLE_S)

    def _is_converged(self, crew: Crew, healed_s: float | None, target: int) -> bool:
        if healed_s is None:
            return True
        latest = (
            found if found is not None and found.at_s >= healed_s else None
            for found in map(self.latest.get, self.scenario.nodes)
        )
        return is_converged(latest, target, crew.served(), round(healed_s * 1e9))

    # --- looking ---------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Ask every node how it is, through doors that no cut closes."""
        group = self.scenario.groups.names[0]
        while True:
            accounts = await self.cluster.statuses()
            at_s = self._now_s()
            for name, account in accounts.items():
                if isinstance(account, dict) and group in account["groups"]:
                    found = sample_of_account(at_s, account, group)
                    self.samples.append(found)
                    self.latest[name] = found
            self.progress(at_s)
            await asyncio.sleep(_SAMPLE_S)

    async def _client(self, region: str) -> Client:
        """A client in a region: its words to other regions go over links that no fault cuts."""
        scenario = self.scenario
        return await self.cluster.client(
            f"clients-{region}",
            first=[n for n in scenario.nodes if scenario.region_of(n) == region],
            role=Role.CLIENT,
            timeout_s=scenario.client_timeout_s,
        )

    async def _settled(self, at_most_s: float) -> tuple[ReplicaEnd, ...]:
        """What every node holds, once all hold the same, or when patience is over."""
        deadline_s = self._now_s() + at_most_s
        while True:
            ends = [
                ReplicaEnd(name, group, status["term"], status["applied"], status["digest"])
                for name, account in (await self.cluster.statuses()).items()
                if isinstance(account, dict)
                for group, status in account["groups"].items()
            ]
            views = {(end.group, end.applied, end.digest) for end in ends}
            count = self.scenario.groups.count
            complete = len(ends) == len(self.scenario.nodes) * count
            if (complete and len(views) == count) or self._now_s() > deadline_s:
                return tuple(ends)
            await asyncio.sleep(_SAMPLE_S)


def _links(scenario: Scenario) -> dict[tuple[str, str], LinkQuality]:
    """A link between any two nodes, and from each region's clients to every node."""
    links: dict[tuple[str, str], LinkQuality] = {}
    for a in scenario.nodes:
        for b in scenario.nodes:
            if a != b:
                shape = scenario.link(scenario.region_of(a), scenario.region_of(b))
                links[a, b] = quality_of(shape)
    for region in scenario.regions:
        for node in scenario.nodes:
            quality = quality_of(scenario.link(region.name, scenario.region_of(node)))
            site = f"clients-{region.name}"
            links[site, node] = links[node, site] = quality
    return links


def _shapes(scenario: Scenario) -> dict[tuple[str, str], LinkShape]:
    """What lies between any two nodes, for a network that carries packets."""
    return {
        (a, b): scenario.link(scenario.region_of(a), scenario.region_of(b))
        for a in scenario.nodes
        for b in scenario.nodes
        if a != b
    }


def _clocks(scenario: Scenario, seed: int) -> dict[str, tuple[float, float]]:
    """How wrong each node's clocks are from the beginning: drawn as in the simulated world."""
    clocks = scenario.clocks
    if not clocks.offset_ms and not clocks.drift_ppm:
        return {}
    draw = random.Random(f"clocks {seed}")
    return {
        name: (draw.uniform(-1, 1) * clocks.offset_ms, draw.uniform(-1, 1) * clocks.drift_ppm)
        for name in scenario.nodes
    }


def _impossible(scenario: Scenario, isolation: Isolation, why_no_better: str) -> list[str]:
    """What of the scenario this level of isolation leaves out, in words."""
    found = []
    if why_no_better:
        found.append(f"isolation is {isolation.value} only: {why_no_better}")
    shapes = [*scenario.links.values(), scenario.local]
    if isolation is Isolation.NETNS:
        found.append("links between nodes have no delay, jitter or bandwidth (isolation netns)")
    if isolation is Isolation.LOOPBACK and any(
        link.loss or link.duplicate or link.reorder for link in shapes
    ):
        found.append("links carry streams: none is lost, duplicated or reordered (loopback)")
    return found


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
