"""Coordination for services that span clouds, on asyncio.

Raft groups that know when they are split, hybrid clocks that survive drift, CRDT policies, sagas,
and a simulator that breaks a network the same way twice. "MCP" is the Multi-Cloud Platform control
plane; the library has nothing to do with the Model Context Protocol.

Names are imported when first used, so that ``import mcpcore`` costs next to nothing. Each part is a
package of its own and can be used alone: ``mcpcore.raft`` (the pure protocol), ``mcpcore.node``
(running it), ``mcpcore.clock``, ``mcpcore.check``, ``mcpcore.sim``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mcpcore.errors import CoordinationError, InvalidInput, OutcomeUnknown, Rejected

if TYPE_CHECKING:
    from mcpcore.node.addresses import Address
    from mcpcore.node.client import Client
    from mcpcore.node.group import Consistency, Group
    from mcpcore.node.kv.client import KeyValueClient
    from mcpcore.node.kv.local import KeyValueNode
    from mcpcore.node.machine import StateMachine
    from mcpcore.node.node import GroupConfig, Node, NodeConfig
    from mcpcore.node.security import Plaintext, Tls
    from mcpcore.raft.core import Raft
    from mcpcore.raft.settings import RaftSettings

__version__ = "0.1.0"

_HOMES = {
    "Address": "mcpcore.node.addresses",
    "Client": "mcpcore.node.client",
    "Consistency": "mcpcore.node.group",
    "Group": "mcpcore.node.group",
    "GroupConfig": "mcpcore.node.node",
    "KeyValueClient": "mcpcore.node.kv.client",
    "KeyValueNode": "mcpcore.node.kv.local",
    "Node": "mcpcore.node.node",
    "NodeConfig": "mcpcore.node.node",
    "Plaintext": "mcpcore.node.security",
    "Raft": "mcpcore.raft.core",
    "RaftSettings": "mcpcore.raft.settings",
    "StateMachine": "mcpcore.node.machine",
    "Tls": "mcpcore.node.security",
}

__all__ = [
    "Address",
    "Client",
    "Consistency",
    "CoordinationError",
    "Group",
    "GroupConfig",
    "InvalidInput",
    "KeyValueClient",
    "KeyValueNode",
    "Node",
    "NodeConfig",
    "OutcomeUnknown",
    "Plaintext",
    "Raft",
    "RaftSettings",
    "Rejected",
    "StateMachine",
    "Tls",
    "__version__",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'mcpcore' has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
