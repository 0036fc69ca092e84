"""What an experiment asks of the network between real processes, however that is made.

This module exists so that faults are carried out the same way on namespaces and on forwarders of
streams, and so that each can say whether it had an effect. Only shapes stand here; it must never
open anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Protocol

from mcpcore.node.transport.addresses import Address


class Isolation(StrEnum):
    """How nodes are kept apart, from the best to the least."""

    TUN = "tun"
    """A network namespace for each node; packets go through a switch of ours that delays, loses,
    duplicates and reorders them. Cuts are iptables rules."""
    NETNS = "netns"
    """The same namespaces, joined by the kernel: cuts and loss by iptables, no delay."""
    LOOPBACK = "loopback"
    """No namespaces and no root: forwarders of streams on loopback give delay and cuts."""


Pair = tuple[str, str]
"""A direction: from whom, to whom."""


class Hindrance(Protocol):
    """Something that stands in the network's way until it is lifted."""

    async def effects(self) -> int:
        """How many packets, or what else the network counts, it has touched so far."""
        ...

    async def lift(self) -> None:
        """Take it away. Twice is harmless; effects can still be asked for."""
        ...


class Network(Protocol):
    """A network between nodes."""

    @property
    def counts(self) -> str:
        """What ``Hindrance.effects`` counts, in words."""
        ...

    async def open(self, nodes: tuple[str, ...]) -> Mapping[str, Address]:
        """Make it; return where each node is to listen.

        Raises:
            ToolFailed: the machine does not let us; nothing is left of it.
        """
        ...

    def entrance(self, node: str) -> tuple[str, ...]:
        """Files of the namespaces that a node's process must enter; none: it stays in ours."""
        ...

    async def door(self, site: str | None, node: str) -> Address:
        """Where somebody at a site reaches a node.

        Args:
            site: a node, a place of clients, or None for the experiment itself, whom no cut stops.
        """
        ...

    async def cut(self, pairs: Iterable[Pair]) -> Hindrance:
        """Let nothing pass in these directions. Cuts add up."""
        ...

    async def reset(self, pairs: Iterable[Pair]) -> int:
        """Break open connections in these directions; return how many things that touched."""
        ...

    async def bend(self, pairs: Iterable[Pair], changes: Mapping[str, float]) -> Hindrance | None:
        """Change fields of ``mcpcore.sim.delay.Link`` for these directions.

        Returns:
            None if this network cannot do such a thing.
        """
        ...

    async def close(self) -> None:
        """Leave nothing behind. The nodes' processes must have ended. Twice is harmless."""
        ...
