"""Kill real nodes under load, again and again, and count what was lost.

python -m tests.experiment.kill_campaign --kills 200 [--seed 1] [--keep DIRECTORY]

Three processes, durable logs, mutual TLS, about 200 operations a second. One node or two at once
get SIGKILL, some again while they start. Afterwards every acknowledged write must stand on every
replica, unchanged, once and in order, and what clients saw must be linearizable, by search and by
the order of the log. Exit status 0 only then.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from mcpcore.check import Budget, Judgement, check_by_log, check_linearizable
from mcpcore.check.models import KeyValue
from mcpcore.experiment.history import as_history
from mcpcore.experiment.operations import Operation
from mcpcore.experiment.process_cluster import ClusterPlan, ProcessCluster
from mcpcore.experiment.pulse import Pulse
from mcpcore.experiment.replicas import settled_replicas
from mcpcore.experiment.verdict import Verdict, judge, longest_silence_s
from mcpcore.experiment.workload import Workload, WorkloadPlan

NODES = ("a", "b", "c")
PLAN = ClusterPlan(nodes=NODES, election_timeout_s=1.0, heartbeat_s=0.2)

Say = Callable[[str], object]


@dataclass
class Report:
    """What a campaign did and found."""

    verdict: Verdict
    judgements: list[Judgement]
    operations: list[Operation]
    kills: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    longest_silence_s: float = 0.0
    took_s: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether every promise was kept, by our own rules and by the judges of histories."""
        return self.verdict.holds and all(judged.ok for judged in self.judgements)

    def lines(self) -> list[str]:
        verdict = self.verdict
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kills.items())
        lines = [
            f"{self.kills.total()} kills ({kinds}), {self.restarts} restarts, {self.took_s:.0f} s",
            f"{verdict.writes_acknowledged} writes acknowledged, {verdict.writes_unknown} unknown, "
            f"{verdict.writes_failed} failed; {verdict.reads} linearizable reads",
            f"longest time without an acknowledged write: {self.longest_silence_s:.1f} s",
        ]
        lines += [
            f"{judged.judge}: {judged.verdict}, {judged.summary}" for judged in self.judgements
        ]
        for rule in verdict.rules:
            lines.append(f"{'BROKEN' if rule.broken else 'kept  '}  {rule.name}: {rule.broken}")
            lines += [f"          {example}" for example in rule.examples]
        return lines


class _Killer:
    def __init__(self, cluster: ProcessCluster, rng: random.Random) -> None:
        self.cluster = cluster
        self.rng = rng
        self.kills: Counter[str] = Counter()
        self.restarts = 0

    async def strike(self) -> str:
        """One fault: kill, leave it dead for a moment, restart, wait until all answer."""
        rng = self.rng
        shape = rng.choices(
            ("one", "the leader", "two at once", "again while starting"), (3, 3, 2, 2)
        )
        kind = shape[0]
        if kind == "the leader":
            victims = [await self.cluster.leader()]
        else:
            victims = rng.sample(NODES, 2 if kind == "two at once" else 1)
        await asyncio.gather(*(self._kill(name, kind) for name in victims))
        await asyncio.sleep(rng.uniform(0.0, 0.8))
        if kind == "again while starting":
            await self._start(victims[0])
            await asyncio.sleep(rng.uniform(0.05, 1.5))
            await self._kill(victims[0], kind)
        await asyncio.gather(*(self._start(name) for name in victims))
        await asyncio.gather(*(self.cluster.wait_ready(name) for name in victims))
        await self.cluster.leader()
        return f"{kind}: {', '.join(victims)}"

    async def _kill(self, name: str, kind: str) -> None:
        node = self.cluster.nodes[name]
        node.expect_running()
        await node.kill()
        assert node.lives[-1].status == -signal.SIGKILL, "the fault had no effect"
        self.kills[kind] += 1

    async def _start(self, name: str) -> None:
        await self.cluster.nodes[name].start()
        self.restarts += 1


async def campaign(directory: Path, *, kills: int, seed: int, say: Say) -> Report:
    """Run one campaign.

    Args:
        kills: how many SIGKILLs at least.
        say: hears of the progress.
    """
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(ProcessCluster(PLAN, directory))
        await cluster.leader()
        clients = {f"{number}/": await cluster.client(timeout_s=20.0) for number in range(4)}
        for client in clients.values():
            stack.push_async_callback(client.close)
        pulse = Pulse(tuple(str(number) for number in range(4)), loop.time())
        plan = WorkloadPlan(rate_per_s=200.0, seed=seed)
        workload = Workload(clients, plan, pulse)
        killer = _Killer(cluster, random.Random(seed))
        workload.start()
        try:
            load_began_s = loop.time()
            while killer.kills.total() < kills:
                struck = await killer.strike()
                await asyncio.sleep(killer.rng.uniform(0.1, 0.8))
                say(
                    f"{loop.time() - began_s:6.1f} s  {killer.kills.total():3d} kills  "
                    f"{pulse.acknowledged:6d} writes acknowledged  ({struck})"
                )
            load_ended_s = loop.time()
            operations = await workload.stop()
        except BaseException:
            await workload.abandon()
            raise
        for client in clients.values():
            await client.close()
        replicas = await settled_replicas(cluster)
    history = as_history(operations)
    budget = Budget(time_ns=60 * 10**9, monotonic_ns=time.monotonic_ns)
    return Report(
        judge(operations, replicas),
        [check_linearizable(history, KeyValue(), budget), check_by_log(history, KeyValue())],
        operations,
        killer.kills,
        killer.restarts,
        longest_silence_s(operations, load_began_s, load_ended_s),
        loop.time() - began_s,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="leave data and logs in this directory")
    given = parser.parse_args()

    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="mcpcore-kills-") as temporary:
        directory = given.keep or Path(temporary)
        report = asyncio.run(campaign(directory, kills=given.kills, seed=given.seed, say=say))
    for line in report.lines():
        say(line)
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
