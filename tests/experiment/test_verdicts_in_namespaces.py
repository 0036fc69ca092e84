"""The same schedule in two worlds gives the same sequence of verdicts."""

from __future__ import annotations

import asyncio

import pytest

from mcpcore.experiment.process_cluster import ProcessCluster
from mcpcore.node.requests import Op
from tests.experiment.three_namespaces import three_namespaces, until
from tests.node.test_verdicts_in_simulator import settled, told

__all__ = ["three_namespaces"]

CUT_S = 5.0
"""For so long a leader is cut off from both others; the election timeout is 1 s in both worlds."""


def simulated() -> list[str]:
    """What a leader says of itself that is cut off, in the simulator."""
    world, cluster, leader, others = settled()
    try:
        cut = world.inject("partition", leader, to=tuple(others))
        world.run(CUT_S)
        cut.end()
        world.run(15)
        return since_well([state.value for state in told(cluster, leader)])
    finally:
        world.__exit__(None, None, None)


def since_well(states: list[str]) -> list[str]:
    """The story from the last moment before the cut on: what is said at the start is no part."""
    refused = next(at for at, state in enumerate(states) if state == "read_only")
    begun = max(at for at in range(refused) if states[at] == "healthy")
    return states[begun:]


@pytest.mark.processes
async def test_a_leader_cut_off_at_the_peer_port_says_what_it_says_in_the_simulator(
    three_namespaces: ProcessCluster,
) -> None:
    cluster = three_namespaces
    leader = await cluster.leader()

    def all_well(found: object) -> bool:
        assert isinstance(found, dict)
        return len(found) == 3 and all(
            account["verdict"].get("state") == "healthy" for account in found.values()
        )

    await until(cluster, all_well, "all is well before the cut")
    cut = await cluster.isolate(leader)
    await asyncio.sleep(CUT_S)
    assert await cut.effects() > 0
    await cluster.heal()
    await until(cluster, all_well, "all is well after the cut")
    client = await cluster.client(None)
    try:
        answers = await client.ask_each(Op.VERDICT, cluster.plan.groups[0], timeout_s=5)
        histories = [a["history"] for a in answers.values() if isinstance(a, dict)]
        stories = [[each["state"] for each in history] for history in histories]
    finally:
        await client.close()
    assert len(stories) == 3, answers
    mine = [since_well(story) for story in stories if "read_only" in story]
    assert mine == [simulated()]
