"""What clients of the key-value machine saw is linearizable, by search and by the log's order."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from mcpcore.check.bylog import check_by_log
from mcpcore.check.history import Operation
from mcpcore.check.linear import check_linearizable
from mcpcore.check.models import KeyValue
from mcpcore.check.verdict import Verdict
from mcpcore.node.group import Consistency
from mcpcore.sim import World
from mcpcore.sim.schedule import Fault, Schedule
from tests.node.history_client import HistoryClient, history
from tests.node.local_cluster import LocalCluster
from tests.node.simulated_cluster import NAMES, SimulatedCluster, client_of

CUT_AND_CRASH = Schedule(
    (
        Fault(2.5, "partition", ("hangzhou",), (), 3.0),
        Fault(4.0, "crash", ("us-east-1",), (), 2.0),
        Fault(7.0, "one_way", ("edge",), ("us-east-1",), 3.0),
        Fault(9.0, "pause", ("hangzhou",), (), 2.5),
    )
)


def simulated(seed: int, consistency: Consistency) -> list[Operation]:
    """The operations of four clients in a world with cuts, a crash and a pause."""
    operations: list[Operation] = []
    with World(seed=seed) as world:
        cluster = SimulatedCluster(world)
        recorders = [
            HistoryClient(f"c{n}", lambda: world.now_ns, operations, consistency=consistency)
            for n in range(4)
        ]
        for recorder in recorders:

            async def main(recorder: HistoryClient = recorder) -> None:
                async with client_of(cluster, recorder.name) as client:
                    if consistency is Consistency.LINEARIZABLE:
                        await recorder.run(client)
                    else:  # one node only, so that a lagging one is asked too
                        node = NAMES[int(recorder.name[1:]) % len(NAMES)]
                        async with client_of(cluster, recorder.name, only=node) as reader:
                            await recorder.run(client, reader=reader)

            world.host(recorder.name, main)
        world.apply(CUT_AND_CRASH)
        world.run(12)
        for recorder in recorders:
            recorder.stop = True
        world.run(10)
    return operations


@pytest.mark.parametrize("seed", range(3))
def test_what_simulated_clients_saw_under_faults_is_linearizable(seed: int) -> None:
    seen = history(simulated(seed, Consistency.LINEARIZABLE))
    assert len(seen) > 300
    for judge in (check_linearizable, check_by_log):
        judgement = judge(seen, KeyValue())
        assert judgement.verdict is Verdict.OK, judgement.summary


def test_stale_reads_are_found_out_by_the_judge() -> None:
    """The test above can fail: the same clients with stale reads are refused."""
    verdicts = (
        check_linearizable(history(simulated(seed, Consistency.STALE)), KeyValue()).verdict
        for seed in range(3)
    )
    assert Verdict.VIOLATED in verdicts


async def test_what_real_clients_saw_while_the_leader_went_is_linearizable(tmp_path: Path) -> None:
    operations: list[Operation] = []
    async with LocalCluster(tmp_path) as cluster, cluster.client() as one, cluster.client() as two:
        recorders = [HistoryClient(f"c{n}", time.monotonic_ns, operations) for n in range(6)]
        running = [
            asyncio.create_task(recorder.run((one, two)[n % 2], pause_s=0.002))
            for n, recorder in enumerate(recorders)
        ]
        await cluster.leader()
        await asyncio.sleep(0.7)
        gone = await cluster.leader()
        await cluster.nodes[gone].stop()
        await cluster.leader()
        await asyncio.sleep(0.7)
        await cluster.start(gone)
        await asyncio.sleep(0.5)
        for recorder in recorders:
            recorder.stop = True
        await asyncio.gather(*running)
    seen = history(operations)
    for judge in (check_linearizable, check_by_log):
        judgement = judge(seen, KeyValue())
        assert judgement.verdict is Verdict.OK, judgement.summary
