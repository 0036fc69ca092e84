"""The world of real processes: a scenario on real nodes, in real time, over shaped links.

This module exists so that what the simulator says about a scenario can be held against real
processes, sockets and disks. Every node is an ``mcpctl serve``; links are forwarders in this
process (``Shaper``), so no root is needed. What cannot be done this way is told, never left out in
silence.
"""

from __future__ import annotations

import asyncio
import os
import platform
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mcpcore import __version__
from mcpcore.errors import CoordinationError, InvalidInput
from mcpcore.experiment.convergence import is_converged
from mcpcore.experiment.crew import Crew
from mcpcore.experiment.links import LinkQuality
from mcpcore.experiment.process_cluster import ClusterPlan, ProcessCluster
from mcpcore.experiment.run import FaultRecord, NodeSample, ReplicaEnd, Run
from mcpcore.experiment.sampling import sample_of_account
from mcpcore.experiment.scenario import Scenario
from mcpcore.node.client.client import Client
from mcpcore.node.transport.identity import Role
from mcpcore.sim.delay import Link as LinkShape
from mcpcore.sim.schedule import Fault

_SAMPLE_S: Final = 0.2
_NODES_MAX: Final = 15
_JITTER_OF: Final = {"uniform": 0.5, "normal": 0.8, "lognormal": 1.2, "pareto": 2.0}
"""Mean of what comes on top of the least delay, for a spread of one."""


async def run_processes(
    scenario: Scenario,
    directory: Path,
    seed: int = 0,
    *,
    progress: Callable[[float], None] | None = None,
) -> Run:
    """Run a scenario on real processes; it takes as long as it says.

    Args:
        directory: for certificates, configurations, data and logs of the nodes.
        seed: of the clients' choices, the nemesis and the links' jitter.
        progress: called with the seconds since the clients began, now and then.

    Raises:
        InvalidInput: it is too large for one machine.
        NodeDied: a node ended by itself. NotReady: the cluster did not come up.
    """
    if len(scenario.nodes) > _NODES_MAX:
        raise InvalidInput(
            f"{len(scenario.nodes)} nodes are too many processes for one machine",
            where=f"scenario {scenario.name}",
            remedy=f"Run it simulated, or with at most {_NODES_MAX} nodes",
        )
    return await _Reality(scenario, directory, seed, progress or (lambda _: None)).run()


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


@dataclass(slots=True)
class _Strike:
    """A fault in force."""

    fault: Fault
    began_s: float
    undo: Callable[[], Awaitable[None]]
    effects: int
    proof: str
    ended_s: float | None = None


class _Reality:
    def __init__(
        self, scenario: Scenario, directory: Path, seed: int, progress: Callable[[float], None]
    ) -> None:
        self.scenario = scenario
        self.seed = seed
        self.progress = progress
        self.cluster = ProcessCluster(
            ClusterPlan(
                nodes=scenario.nodes,
                links=_links(scenario),
                groups=scenario.groups.names,
                election_timeout_s=scenario.groups.election_timeout_s,
                heartbeat_s=scenario.groups.heartbeat_s,
                limits={"backoff_max_s": 0.5, "connect_timeout_s": 2.0},
                seed=seed,
            ),
            directory,
        )
        self.began_s = 0.0
        self.samples: list[NodeSample] = []
        self.latest: dict[str, NodeSample] = {}
        self.strikes: list[_Strike] = []
        self.impossible: list[str] = []

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
                await self._strike_and_wait()
                healed_s = max((s.ended_s or s.began_s for s in self.strikes), default=None)
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
            faults=tuple(
                FaultRecord(s.fault, s.began_s, s.ended_s, s.effects, s.proof) for s in self.strikes
            ),
            samples=tuple(self.samples),
            replicas=replicas,
            healed_s=healed_s,
            clients_ended_s=ended_s,
            failure=failure,
            impossible=tuple(self.impossible),
            environment={
                "mcpcore": __version__,
                "python": platform.python_version(),
                "system": f"{platform.system()} {platform.release()}",
                "cores": os.cpu_count(),
            },
        )

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time() - self.began_s

    async def _until(self, reached: Callable[[], bool], at_most_s: float) -> None:
        deadline_s = self._now_s() + at_most_s
        while not reached() and self._now_s() < deadline_s:
            await asyncio.sleep(_SAMPLE_S / 2)

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

    # --- faults ----------------------------------------------------------------------------------

    async def _strike_and_wait(self) -> None:
        """Carry out the schedule, then wait for the end of the clients' time."""
        ends: list[asyncio.Task[None]] = []
        for fault in self.scenario.schedule(self.seed).faults:
            await asyncio.sleep(max(0.0, fault.at_s - self._now_s()))
            strike = await self._begin(fault)
            if strike is not None:
                ends.append(asyncio.get_running_loop().create_task(self._end_later(strike)))
        await asyncio.sleep(max(0.0, self.scenario.duration_s - self._now_s()))
        for strike in self.strikes:
            await self._end(strike)
        await asyncio.gather(*ends)

    async def _end_later(self, strike: _Strike) -> None:
        if strike.fault.for_s:
            await asyncio.sleep(strike.fault.for_s)
            await self._end(strike)

    async def _end(self, strike: _Strike) -> None:
        if strike.ended_s is None and strike.fault.for_s:
            strike.ended_s = self._now_s()
            await strike.undo()

    async def _begin(self, fault: Fault) -> _Strike | None:
        leader = ""
        if {"leader", "followers"} & {*fault.on, *fault.to}:
            leader = await self.cluster.leader(timeout_s=5.0)
        resolved = self.scenario.resolve(fault, leader)
        nodes = self.cluster.nodes
        on = resolved.on or tuple(nodes)
        pairs = _pairs(resolved, tuple(nodes))
        if pairs:
            return self._cut(resolved, pairs)
        if resolved.kind in ("kill", "crash"):
            if resolved.kind == "crash":
                self._note("a crash is a kill here: the page cache of this machine survives it")
            for name in on:
                await nodes[name].kill()
            killed = [n for n in on if nodes[n].lives[-1].status == -signal.SIGKILL]
            return self._keep(resolved, lambda: self._restart(on), len(killed), "ended by SIGKILL")
        if resolved.kind == "pause":
            for name in on:
                nodes[name].pause()
            stopped = [name for name in on if await _is_stopped(nodes[name].pid)]

            async def resume() -> None:
                for name in on:
                    nodes[name].resume()

            return self._keep(resolved, resume, len(stopped), "stopped by SIGSTOP")
        if resolved.kind in ("slow_link", "narrow"):
            return self._bend(resolved, on)
        self._note(f"{resolved.kind} cannot be done to processes without root; it was left out")
        return None

    def _note(self, text: str) -> None:
        if text not in self.impossible:
            self.impossible.append(text)

    def _keep(
        self, fault: Fault, undo: Callable[[], Awaitable[None]], effects: int, proof: str
    ) -> _Strike:
        strike = _Strike(fault, self._now_s(), undo, effects, proof)
        self.strikes.append(strike)
        return strike

    def _cut(self, fault: Fault, pairs: list[tuple[str, str]]) -> _Strike:
        shaper = self.cluster.shaper
        if fault.kind == "reset":
            for source, target in pairs:
                shaper.reset(source, target)
            return self._keep(fault, _nothing, len(pairs), "connections reset")
        links = [shaper.link(*pair) for pair in pairs]
        used = sum(link.connections > 0 or link.bytes_delivered > 0 for link in links)
        over = False

        def each(cut: bool) -> None:
            for link in links:
                (link.cut if cut else link.heal)()

        async def flap() -> None:
            closed = True
            while not over:
                await asyncio.sleep(fault.value)
                closed = not closed
                if not over:
                    each(closed)

        each(True)
        flapping = (
            asyncio.get_running_loop().create_task(flap()) if fault.kind == "flapping" else None
        )

        async def mend() -> None:
            nonlocal over
            over = True
            if flapping is not None:
                flapping.cancel()
            each(False)

        return self._keep(fault, mend, used, "links that had carried bytes")

    def _bend(self, fault: Fault, on: tuple[str, ...]) -> _Strike:
        others = fault.to or tuple(name for name in self.cluster.nodes if name not in on)
        pairs = [(a, b) for a in on for b in others if a != b]
        links = [self.cluster.shaper.link(a, b) for pair in pairs for a, b in (pair, pair[::-1])]
        before = [link.quality for link in links]
        for link in links:
            if fault.kind == "slow_link":
                slower_s = link.quality.one_way_s + fault.value / 1e3
                link.quality = replace(link.quality, one_way_s=slower_s)
            else:
                link.quality = replace(link.quality, bandwidth_bytes_per_s=fault.value / 8)

        async def unbend() -> None:
            for link, quality in zip(links, before, strict=True):
                link.quality = quality

        return self._keep(fault, unbend, len(links), "links changed")

    async def _restart(self, names: tuple[str, ...]) -> None:
        for name in names:
            if not self.cluster.nodes[name].is_running:
                await self.cluster.nodes[name].start()
        for name in names:
            await self.cluster.wait_ready(name, timeout_s=60.0)


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


def _pairs(fault: Fault, nodes: tuple[str, ...]) -> list[tuple[str, str]]:
    """The directions that a fault between nodes closes; none for other faults."""
    on = fault.on or nodes
    to = fault.to or tuple(name for name in nodes if name not in on)
    both = [(a, b) for a in on for b in to] + [(b, a) for a in on for b in to]
    match fault.kind:
        case "partition" | "flapping" | "reset":
            return both
        case "one_way":
            return [(a, b) for a in on for b in to]
        case "isolate":
            return [(a, b) for a in nodes for b in nodes if a != b and (a in on or b in on)]
        case "bridge":
            others = [name for name in nodes if name not in on]
            half = len(others) // 2
            left, right = others[:half], others[half:]
            return [(a, b) for x, y in ((left, right), (right, left)) for a in x for b in y]
        case "majority_ring":
            count = len(nodes)
            reach = (count // 2 + 1) // 2
            return [
                (a, b)
                for i, a in enumerate(nodes)
                for j, b in enumerate(nodes)
                if min((i - j) % count, (j - i) % count) > reach
            ]
        case _:
            return []


async def _is_stopped(pid: int | None) -> bool:
    """Whether the kernel says that a process is stopped; it may take a moment."""
    path = Path(f"/proc/{pid}/stat")
    for _ in range(50):
        if path.exists() and path.read_text().rpartition(")")[2].split()[0] == "T":
            return True
        await asyncio.sleep(0.01)
    return False


async def _nothing() -> None:
    """Undo a fault that is over as soon as it happened."""


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
