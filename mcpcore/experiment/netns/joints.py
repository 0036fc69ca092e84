"""How packets travel between namespaces: the kernel's own bridge, or a switch of ours.

This module exists so that the rest of a network of namespaces need not know. It must never make a
rule: cuts are the network's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from mcpcore.experiment.netns.namespace import Namespace
from mcpcore.experiment.network import Hindrance, Pair

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


class Bridge:
    """A bridge in a namespace of its own, and a veth pair to each node."""

    def __init__(self) -> None:
        self._hub = Namespace("hub")

    async def open(self, namespaces: Mapping[str, Namespace], hosts: Mapping[str, str]) -> None:
        """See ``Joint``."""
        await self._hub.open()
        lines = ["link add name br0 type bridge", "link set br0 up"]
        for number, namespace in enumerate(namespaces.values(), start=1):
            lines += [
                f"link add port{number} type veth peer name eth0 netns {namespace.pid}",
                f"link set port{number} master br0 up",
            ]
        await self._hub.run("ip", "-batch", "-", text="\n".join(lines) + "\n")
        for name, namespace in namespaces.items():
            lines = [f"addr add {hosts[name]}/{PREFIX} dev eth0", "link set eth0 up"]
            await namespace.run("ip", "-batch", "-", text="\n".join(lines) + "\n")

    async def bend(self, pairs: tuple[Pair, ...], changes: Mapping[str, float]) -> Hindrance | None:
        """See ``Joint``: not here; the kernel has nothing that delays packets."""
        return None

    async def close(self) -> None:
        """See ``Joint``."""
        await self._hub.close()
