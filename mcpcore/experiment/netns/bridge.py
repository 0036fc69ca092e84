"""Namespaces joined by the kernel: a bridge, and what iptables can do to packets.

This module exists so that real partitions need no more than `ip` and `iptables`. Links have no
delay here, since the kernels this is for have nothing that delays a packet; loss and a hole for
large packets are rules on the receiver's side.
"""

from __future__ import annotations

from collections.abc import Mapping

from mcpcore.experiment.netns import rules
from mcpcore.experiment.netns.joints import PEER_PORT, give_address
from mcpcore.experiment.netns.namespace import Namespace
from mcpcore.experiment.network import Hindrance, Pair


class Bridge:
    """A bridge in a namespace of its own, and a veth pair to each node. See ``Joint``.

    Args:
        loss: of each direction, from the beginning.
    """

    def __init__(self, loss: Mapping[Pair, float]) -> None:
        self._loss = {pair: chance for pair, chance in loss.items() if chance > 0}
        self._hub = Namespace("hub")
        self._namespaces: Mapping[str, Namespace] = {}
        self._hosts: Mapping[str, str] = {}

    async def open(self, namespaces: Mapping[str, Namespace], hosts: Mapping[str, str]) -> None:
        """See ``Joint``."""
        self._namespaces, self._hosts = namespaces, hosts
        await self._hub.open()
        lines = ["link add name br0 type bridge", "link set br0 up"]
        for number, namespace in enumerate(namespaces.values(), start=1):
            lines += [
                f"link add port{number} type veth peer name eth0 netns {namespace.pid}",
                f"link set port{number} master br0 up",
            ]
        await self._hub.run("ip", "-batch", "-", text="\n".join(lines) + "\n")
        for name, namespace in namespaces.items():
            await give_address(namespace, "eth0", hosts[name])
        for pair, chance in self._loss.items():
            await self.impose((pair,), rules.losing(chance), add=True)

    async def bend(self, pairs: tuple[Pair, ...], changes: Mapping[str, float]) -> Hindrance | None:
        """See ``Joint``: loss without bursts, and holes for large packets."""
        match changes:
            case {"loss": chance} if len(changes) == 1:
                match_ = rules.losing(chance)
            case {"mtu": size_bytes}:
                match_ = rules.larger_than(round(size_bytes))
            case _:
                return None
        made = _Match(self, pairs, match_, await self.stopped(pairs, match_))
        await self.impose(pairs, match_, add=True)
        return made

    async def close(self) -> None:
        """See ``Joint``."""
        await self._hub.close()

    async def impose(self, pairs: tuple[Pair, ...], match: str, *, add: bool) -> None:
        """Write rules, or take them away."""
        for source, target in pairs:
            await self._namespaces[target].run(
                *("iptables-restore", "-w", "--noflush"),
                text=rules.batch(add, [self._hosts[source]], PEER_PORT, match=match),
            )

    async def stopped(self, pairs: tuple[Pair, ...], match: str) -> int:
        """How many packets rules of this kind count in these directions."""
        total = 0
        for source, target in pairs:
            saved = await self._namespaces[target].run("iptables-save", "-c", "-t", "filter")
            counts = rules.stopped(saved, match=match.split()[1])
            total += counts.get(self._hosts[source], 0)
        return total


class _Match:
    """See ``Hindrance``."""

    def __init__(self, bridge: Bridge, pairs: tuple[Pair, ...], match: str, before: int) -> None:
        self._bridge = bridge
        self._pairs = pairs
        self._match = match
        self._before = before
        self._count: int | None = None

    async def effects(self) -> int:
        """See ``Hindrance``."""
        if self._count is not None:
            return self._count
        return await self._bridge.stopped(self._pairs, self._match) - self._before

    async def lift(self) -> None:
        """See ``Hindrance``."""
        if self._count is None:
            self._count = await self.effects()
            await self._bridge.impose(self._pairs, self._match, add=False)
