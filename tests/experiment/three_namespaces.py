"""Three real nodes in namespaces of their own, for tests that need a real partition.

    async def test_something(three_namespaces: ProcessCluster) -> None:
        leader = await three_namespaces.leader()
        cut = await three_namespaces.isolate(leader)   # or .cut(a, b, one_way=True)
        ...
        account = await three_namespaces.status(leader)   # no cut stops this
        await three_namespaces.heal()
        assert await cut.effects() > 0                    # packets that iptables dropped

Without root, `ip` or `iptables` such tests are skipped, and say why.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mcpcore.experiment.network import Isolation
from mcpcore.experiment.networks import obstacle
from mcpcore.experiment.process_cluster import ClusterPlan, ProcessCluster

PLAN = ClusterPlan(nodes=("a", "b", "c"), election_timeout_s=1.0, heartbeat_s=0.2)


async def skip_unless(isolation: Isolation) -> None:
    """Skip the running test where this machine does not offer it."""
    if why_not := await obstacle(isolation):
        pytest.skip(why_not)


@pytest_asyncio.fixture
async def three_namespaces(tmp_path: Path) -> AsyncIterator[ProcessCluster]:
    """A cluster of three, ready; all of it is gone after the test."""
    await skip_unless(Isolation.NETNS)
    async with ProcessCluster(PLAN, tmp_path, Isolation.NETNS) as cluster:
        yield cluster


async def until(
    cluster: ProcessCluster,
    wanted: Callable[[Mapping[str, Any]], bool],
    what: str,
    timeout_s: float = 30.0,
) -> dict[str, Any]:
    """Wait for the nodes' accounts of the group to be as wanted; return them.

    Args:
        wanted: of the accounts of those nodes that answer, by name.
    """
    accounts: dict[str, Any] = {}
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                found = await cluster.statuses()
                accounts = {
                    name: account["groups"][cluster.plan.groups[0]]
                    for name, account in found.items()
                    if isinstance(account, dict)
                }
                if wanted(accounts):
                    return accounts
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{what}: not within {timeout_s} s; last seen: {accounts}") from None
