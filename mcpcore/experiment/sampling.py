"""One look at a node: what it says of itself, as a sample.

This module exists so that both worlds look at a node in the same way, whether it is an object in
the same process or an account sent over a connection. It must never ask anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mcpcore.experiment.run import NodeSample
from mcpcore.node.node import Node


def sample(at_s: float, node: Node) -> NodeSample:
    """Look at a node in this process: its first group and its clock."""
    name = node.config.name
    group = "main" if "main" in node.groups else node.groups[0]
    return _sample(
        at_s,
        name,
        asdict(node.group(group).status()),
        [asdict(node.clock.own_row())],
    )


def sample_of_account(at_s: float, account: Mapping[str, Any], group: str) -> NodeSample:
    """Read the account a node sent (``Node.status``)."""
    name = account["node"]
    rows = [row for row in account["clock"]["view"] if row["node"] == name]
    return _sample(at_s, name, account["groups"][group], rows)


def _sample(
    at_s: float, name: str, status: Mapping[str, Any], clock: list[dict[str, Any]]
) -> NodeSample:
    row = clock[0] if clock else {}
    offset_ns, uncertainty_ns = row.get("offset_ns"), row.get("uncertainty_ns")
    return NodeSample(
        at_s,
        name,
        status["role"],
        status["term"],
        status["leader"],
        status["commit"],
        status["applied"],
        status["last_index"],
        str(status.get("verdict", {}).get("state", "")),
        None if offset_ns is None else offset_ns / 1e6,
        None if uncertainty_ns is None else uncertainty_ns / 1e6,
    )
