"""What logs gave up in a run, fetched from the quarantine of every node.

This module exists so that "not committed" has an end that can be counted: what a leader accepted
and nobody confirmed is kept on its disk, and a person decides. It asks and counts; it must never
decide about an entry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcpcore.experiment.process_cluster import GROUP, ProcessCluster
from mcpcore.node.client.custody import quarantines
from mcpcore.node.transport.identity import Role


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """What one node has in quarantine, and nobody has decided upon.

    Args:
        node: where it lies.
        entries: how many commands.
        first_index, last_index: where they stood in its log.
        prospects: what would come of proposing them again, as the node says, most frequent first.
        problem: what could not be kept or read, in words; else empty.
    """

    node: str
    entries: int
    first_index: int
    last_index: int
    prospects: tuple[tuple[str, int], ...]
    problem: str = ""


async def left_behind(cluster: ProcessCluster) -> tuple[LeftBehind, ...]:
    """Ask every node; those with nothing in quarantine and no trouble are left out.

    Raises:
        CoordinationError: a node does not answer, so that nobody can say what it holds.
    """
    async with await cluster.client(None, role=Role.ADMIN) as client:
        accounts = await quarantines(client, GROUP)
    for silence in accounts.silent.values():
        raise silence
    told = (read(node, accounts.nodes[node]) for node in cluster.nodes)
    return tuple(each for each in told if each.entries or each.problem)


def read(node: str, account: Mapping[str, Any]) -> LeftBehind:
    """One node's account (``QuarantineKeeper.described``), counted."""
    entries = account["entries"]
    indexes = [entry["index"] for entry in entries]
    return LeftBehind(
        node,
        len(entries),
        min(indexes, default=0),
        max(indexes, default=0),
        tuple(Counter(str(entry["prospect"]) for entry in entries).most_common()),
        str(account["problem"]),
    )
