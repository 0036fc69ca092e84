"""The clients of a run: every workload, every lane, and how far each region is served.

This module exists so that both worlds put the same clients to work, from the same seed. How a
client reaches the cluster is handed in.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping

from mcpcore.check import History
from mcpcore.experiment.scenario import Scenario
from mcpcore.experiment.workloads import KINDS, Lane, Running, Store
from mcpcore.node.client.client import Client


class Crew:
    """All clients of one run.

    Args:
        scenario: says what they do. seed: of their choices.
        client: makes a client in a region, under a name.
        now_ns: the clock of the histories.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        *,
        client: Callable[[str, str], Client],
        now_ns: Callable[[], int],
    ) -> None:
        self.workloads: list[Running] = []
        self.open_lanes = 0
        """Lanes that have not said their last word."""
        for spec in scenario.workloads:
            regions = {
                f"{spec.kind}/{region.name}/{number}": region.name
                for region in scenario.regions
                for number in range(1, spec.clients + 1)
            }
            lanes = []
            for name, region_name in regions.items():
                connection = client(region_name, name.replace("/", "-"))
                stores = [Store(connection, group) for group in scenario.groups.names]
                lanes.append(Lane(name, stores, random.Random(f"{seed} {name}"), now_ns))
            self.workloads.append(
                Running(
                    spec.kind,
                    KINDS[spec.kind](spec.keys),
                    lanes,
                    rate_per_s=spec.rate_per_s,
                    now_ns=now_ns,
                    regions=regions,
                )
            )

    async def prepare(self) -> None:
        """Let stand what must stand before the first operation."""
        for running in self.workloads:
            await running.work.prepare(running.lanes[0].stores)

    def lanes(self) -> Iterator[tuple[str, Running, Lane]]:
        """Every lane with its region and its workload."""
        for running in self.workloads:
            for lane in running.lanes:
                yield running.regions[lane.name], running, lane

    async def work(self, running: Running, lane: Lane) -> None:
        """One lane's whole life: ask until told to stop, then the last questions."""
        self.open_lanes += 1
        try:
            await running.run(lane)
            if lane is running.lanes[0]:
                await running.finish(lane)
        finally:
            self.open_lanes -= 1
            await lane.stores[0].close()

    def stop(self) -> None:
        """Begin nothing new."""
        for running in self.workloads:
            running.stop()

    def served(self) -> list[int]:
        """Per region, when the latest acknowledged write had been called; -1: never."""
        latest: dict[str, int] = {}
        for region, running, lane in self.lanes():
            latest[region] = max(latest.get(region, -1), running.served.get(lane.name, -1))
        return list(latest.values())

    @property
    def histories(self) -> Mapping[str, History]:
        """What was seen so far, by workload."""
        return {running.kind: running.history() for running in self.workloads}

    @property
    def regions(self) -> Mapping[str, Mapping[str, str]]:
        """The region of each lane, by workload and lane."""
        return {running.kind: dict(running.regions) for running in self.workloads}
