"""What every node holds in the end, fetched from each of them apart.

This module exists so that the verdict looks at the replicas themselves, not at what the leader says
about them. It waits until all have applied the same log; it judges nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from mcpcore.errors import CoordinationError, InvalidInput
from mcpcore.experiment.operations import Replica, Stored
from mcpcore.experiment.process_cluster import GROUP, ProcessCluster
from mcpcore.node.client.client import Client
from mcpcore.node.group import Consistency
from mcpcore.node.kv.client import KeyValueClient

_POLL_S: Final = 0.1


async def settled_replicas(cluster: ProcessCluster, timeout_s: float = 20.0) -> list[Replica]:
    """Wait until no node is behind, then fetch the whole store from each.

    If they don't come to the same index in time they are fetched as they are: a verdict finds them
    different, which is better than no verdict.

    Raises:
        InvalidInput: a node gives no account of itself, so there is nothing to fetch.
    """
    await settle(cluster, timeout_s)
    return list(await asyncio.gather(*(_fetch(cluster, name) for name in cluster.nodes)))


async def settle(cluster: ProcessCluster, timeout_s: float = 20.0) -> None:
    """Return when no node is behind, or when the time is up and every node gave an account.

    Raises:
        InvalidInput: a node gave no account of itself.
    """
    accounts: dict[str, dict[str, Any]] = {}
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                answers = await cluster.statuses()
                groups = {
                    name: answer["groups"][GROUP]
                    for name, answer in answers.items()
                    if isinstance(answer, dict)
                }
                accounts |= groups
                if len(groups) == len(answers) and _agree(groups):
                    break
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        silent = sorted(cluster.nodes.keys() - accounts.keys())
        if silent:
            raise InvalidInput(
                f"{', '.join(silent)} gave no account within {timeout_s:g} s",
                where="replicas",
                remedy="Start every node and heal every link before asking for replicas",
            ) from None


def _agree(groups: dict[str, dict[str, Any]]) -> bool:
    indexes = {
        number
        for group in groups.values()
        for number in (group["applied"], group["commit"], group["last_index"])
    }
    return len(indexes) == 1


async def _fetch(cluster: ProcessCluster, name: str) -> Replica:
    async with Client(
        [await cluster.network.door(None, name)],
        cluster=cluster.cluster,
        security=cluster.security(),
        name="experiment",
    ) as client:
        store = KeyValueClient(client, GROUP)
        records = {
            record.key.decode(): Stored(
                record.value.decode(),
                record.create_revision,
                record.mod_revision,
                record.version,
            )
            async for record in store.scan(consistency=Consistency.STALE)
        }
    status = await cluster.status(name)
    if not isinstance(status, dict):
        raise CoordinationError(f"node {name} fell silent while its replica was read: {status}")
    group = status["groups"][GROUP]
    return Replica(name, group["term"], group["applied"], group["digest"], records)
