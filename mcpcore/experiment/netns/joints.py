"""What joins the nodes' namespaces, and bends the links between them.

This module exists so that the rest of a network of namespaces need not know how packets travel. It
must never cut anything: that is the network's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from mcpcore.experiment.netns.namespace import Namespace
from mcpcore.experiment.network import Hindrance, Pair

PEER_PORT: Final = 7400
"""The port that every node listens on, in its own namespace, and that cuts are made at."""

PREFIX: Final = 24
"""Length of the network prefix: all nodes are neighbours."""


class Joint(Protocol):
    """What joins the nodes' namespaces."""

    async def open(self, namespaces: Mapping[str, Namespace], hosts: Mapping[str, str]) -> None:
        """Give every namespace a device with its address, and join them.

        Raises:
            ToolFailed: the machine does not let us.
        """
        ...

    async def bend(self, pairs: tuple[Pair, ...], changes: Mapping[str, float]) -> Hindrance | None:
        """See ``Network.bend``."""
        ...

    async def close(self) -> None:
        """Let go of what is held outside of the nodes' namespaces. Twice is harmless."""
        ...


async def give_address(namespace: Namespace, device: str, host: str) -> None:
    """Set a device going."""
    lines = f"addr add {host}/{PREFIX} dev {device}\nlink set {device} up\n"
    await namespace.run("ip", "-batch", "-", text=lines)
