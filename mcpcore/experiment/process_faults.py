"""Faults of a scenario, carried out on real processes and on the links between them.

This module exists so that the words of a scenario (partition, kill, pause...) mean the same here as
in the simulator, and so that each fault's effect is confirmed. What cannot be done to processes is
noted in ``impossible``. It must never judge what came of a fault.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from mcpcore.experiment.network import Hindrance, Network, Pair
from mcpcore.experiment.node_faults import NodeFaults, Struck
from mcpcore.experiment.process_cluster import ProcessCluster
from mcpcore.experiment.run import FaultRecord
from mcpcore.experiment.scenario import FOLLOWERS, LEADER, Scenario
from mcpcore.sim.schedule import Fault


@dataclass(slots=True)
class _Strike:
    """A fault in force, or over."""

    fault: Fault
    began_s: float
    struck: Struck
    effects: int = 0
    ended_s: float | None = None


class ProcessFaults:
    """The faults of one run.

    Args:
        scenario: says what goes wrong. cluster: to whom. seed: of the nemesis.
        now_s: seconds since the clients began.
    """

    def __init__(
        self, scenario: Scenario, cluster: ProcessCluster, seed: int, now_s: Callable[[], float]
    ) -> None:
        self.scenario = scenario
        self.cluster = cluster
        self.impossible: list[str] = []
        """What could not be done here, in words."""
        self._seed = seed
        self._now_s = now_s
        self._strikes: list[_Strike] = []
        self._machines = NodeFaults(cluster, random.Random(f"damage {seed}"), self._note)

    async def run(self) -> None:
        """Carry out the schedule, then wait for the end of the clients' time."""
        ends: list[asyncio.Task[None]] = []
        for fault in self.scenario.schedule(self._seed).faults:
            await asyncio.sleep(max(0.0, fault.at_s - self._now_s()))
            strike = await self._begin(fault)
            if strike is not None:
                ends.append(asyncio.get_running_loop().create_task(self._end_later(strike)))
        await asyncio.sleep(max(0.0, self.scenario.duration_s - self._now_s()))
        for strike in self._strikes:
            await self._end(strike)
        await asyncio.gather(*ends)

    def healed_s(self) -> float | None:
        """When the last fault had ended; None if there was none."""
        return max((s.ended_s or s.began_s for s in self._strikes), default=None)

    def records(self) -> tuple[FaultRecord, ...]:
        """What was done."""
        return tuple(
            FaultRecord(s.fault, s.began_s, s.ended_s, s.effects, s.struck.proof)
            for s in self._strikes
        )

    # --- inside ----------------------------------------------------------------------------------

    async def _end_later(self, strike: _Strike) -> None:
        if strike.fault.for_s:
            await asyncio.sleep(strike.fault.for_s)
            await self._end(strike)

    async def _end(self, strike: _Strike) -> None:
        if strike.ended_s is not None:
            return
        struck = strike.struck
        if strike.fault.for_s:
            strike.ended_s = self._now_s()
            strike.effects = await struck.effects()
            await struck.lift()
        strike.effects = max(strike.effects, await struck.effects())

    async def _begin(self, fault: Fault) -> _Strike | None:
        leader = ""
        if {LEADER, FOLLOWERS} & {*fault.on, *fault.to}:
            leader = await self.cluster.leader(timeout_s=5.0)
        resolved = self.scenario.resolve(fault, leader)
        began_s = self._now_s()
        struck = await self._strike(resolved)
        if struck is None:
            return None
        strike = _Strike(resolved, began_s, struck)
        self._strikes.append(strike)
        return strike

    async def _strike(self, fault: Fault) -> Struck | None:
        nodes = tuple(self.cluster.nodes)
        network = self.cluster.network
        on = fault.on or nodes
        if fault.kind == "reset":
            broken = await network.reset(_pairs(fault, nodes))
            return Struck("answered with resets", _known(broken), _nothing)
        if pairs := _pairs(fault, nodes):
            if fault.kind == "flapping":
                return self._counted(_Flapping(network, pairs, fault.value))
            if fault.kind == "clog" and network.counts == "packets":
                self._note("a clog is a cut here: packets are lost, and TCP sends them again")
            return self._counted(await network.cut(pairs))
        if fault.kind in _BENDS:
            others = fault.to or tuple(name for name in nodes if name not in on)
            pairs = [each for a in on for b in others if a != b for each in ((a, b), (b, a))]
            made = await network.bend(pairs, _changes(fault))
            if made is None:
                self._note(f"{fault.kind} cannot be done with --isolation {self.cluster.isolation}")
                return None
            return self._counted(made)
        struck = await self._machines.begin(fault, on)
        if struck is None:
            self._note(f"{fault.kind} cannot be done to processes; it was left out")
        return struck

    def _note(self, text: str) -> None:
        if text not in self.impossible:
            self.impossible.append(text)

    def _counted(self, made: Hindrance) -> Struck:
        return Struck(self.cluster.network.counts, made.effects, made.lift)


_BENDS: Final = {
    "slow_link": "extra_ms",
    "lossy": "loss",
    "bursty": "loss",
    "duplicate": "duplicate",
    "reorder": "reorder",
    "narrow": "bandwidth_bps",
    "mtu_hole": "mtu",
}
"""The field of a link that a fault changes."""


def _changes(fault: Fault) -> dict[str, float]:
    changes = {_BENDS[fault.kind]: fault.value}
    if fault.kind == "bursty":
        changes["burst"] = 0.8
    return changes


class _Flapping:
    """A cut that comes and goes. See ``Hindrance``."""

    def __init__(self, network: Network, pairs: list[Pair], period_s: float) -> None:
        self._count = 0
        self._cut: Hindrance | None = None
        self._task = asyncio.get_running_loop().create_task(self._flap(network, pairs, period_s))

    async def effects(self) -> int:
        """See ``Hindrance``."""
        return self._count

    async def lift(self) -> None:
        """See ``Hindrance``."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            raise error
        await self._open()

    async def _flap(self, network: Network, pairs: list[Pair], period_s: float) -> None:
        while True:
            self._cut = await asyncio.shield(network.cut(pairs))
            await asyncio.sleep(period_s)
            await self._open()
            await asyncio.sleep(period_s)

    async def _open(self) -> None:
        cut, self._cut = self._cut, None
        if cut is not None:
            await cut.lift()
            self._count += await cut.effects()


def _pairs(fault: Fault, nodes: tuple[str, ...]) -> list[Pair]:
    """The directions that a fault between nodes closes; none for other faults."""
    on = fault.on or nodes
    to = fault.to or tuple(name for name in nodes if name not in on)
    both = [(a, b) for a in on for b in to] + [(b, a) for a in on for b in to]
    match fault.kind:
        case "partition" | "flapping" | "reset":
            return both
        case "one_way" | "clog":
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


async def _nothing() -> None:
    """Take back a fault that is over as soon as it happened."""


def _known(count: int) -> Callable[[], Awaitable[int]]:
    async def effects() -> int:
        return count

    return effects
