"""A network of namespaces: one for each node, a hub that joins them, cuts in their INPUT chains.

This module exists so that an experiment meets the kernel's own TCP, packet loss and firewall, and
leaves nothing of it behind. How packets travel between the nodes is the joint's business
(`mcpcore.experiment.netns.joints`). It must never know what the packets carry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from mcpcore.experiment.netns import rules
from mcpcore.experiment.netns.joints import PEER_PORT, Joint
from mcpcore.experiment.netns.namespace import Namespace
from mcpcore.experiment.network import Hindrance, Pair
from mcpcore.experiment.shaper import Shaper
from mcpcore.node.transport.addresses import Address

_RESET_S: Final = 1.0
"""How long packets are answered with resets: longer than between two heartbeats."""


class NamespaceNetwork:
    """See ``Network``.

    Args:
        joint: what the nodes' packets travel over.
        shaper: the links of clients, whose words no fault stops.
    """

    counts = "packets"

    def __init__(self, joint: Joint, shaper: Shaper) -> None:
        self.namespaces: dict[str, Namespace] = {}
        self.hosts: dict[str, str] = {}
        """The nodes' addresses between each other."""
        self._joint = joint
        self._shaper = shaper
        self._doors: dict[tuple[str | None, str], Address] = {}
        self._reasons: dict[Pair, int] = {}
        self._stopped: dict[Pair, int] = {}
        self._turn = asyncio.Lock()

    async def open(self, nodes: tuple[str, ...]) -> Mapping[str, Address]:
        """See ``Network``."""
        try:
            for number, name in enumerate(nodes, start=1):
                self.hosts[name] = f"10.0.0.{number}"
                self.namespaces[name] = Namespace(f"namespace of {name}")
                await self.namespaces[name].open()
            await self._joint.open(self.namespaces, self.hosts)
        except BaseException:
            await self.close()
            raise
        return {name: Address(host, PEER_PORT) for name, host in self.hosts.items()}

    def entrance(self, node: str) -> tuple[str, ...]:
        """See ``Network``."""
        return self.namespaces[node].doors

    async def door(self, site: str | None, node: str) -> Address:
        """See ``Network``. Nodes meet each other directly; others come in by a forwarder."""
        there = Address(self.hosts[node], PEER_PORT)
        if site in self.hosts:
            return there
        door = self._doors.get((site, node))
        if door is None:
            dial = self.namespaces[node].socket
            if site is None:
                door = await self._shaper.pass_through(there, dial)
            else:
                door = await self._shaper.forward(site, node, there, dial)
            self._doors[site, node] = door
        return door

    async def cut(self, pairs: Iterable[Pair]) -> Hindrance:
        """See ``Network``."""
        wanted = tuple(dict.fromkeys(pairs))
        made = _Cut(self, wanted, await self.stopped(wanted))
        await self.impose(wanted)
        return made

    async def reset(self, pairs: Iterable[Pair]) -> int:
        """See ``Network``: for a moment, whatever comes is answered with a reset."""
        senders = _by_receiver(pairs)
        await self._write(senders, add=True, target=rules.REJECT)
        await asyncio.sleep(_RESET_S)
        counts = [await self._count(to, rules.REJECT) for to in senders]
        await self._write(senders, add=False, target=rules.REJECT)
        return sum(sum(found.values()) for found in counts)

    async def bend(self, pairs: Iterable[Pair], changes: Mapping[str, float]) -> Hindrance | None:
        """See ``Network``."""
        return await self._joint.bend(tuple(dict.fromkeys(pairs)), changes)

    async def close(self) -> None:
        """See ``Network``."""
        await self._joint.close()
        namespaces, self.namespaces = self.namespaces, {}
        for namespace in namespaces.values():
            await namespace.close()

    # --- rules -----------------------------------------------------------------------------------

    async def impose(self, pairs: tuple[Pair, ...]) -> None:
        """Count one more reason why nothing passes; the first one writes the rules."""
        async with self._turn:
            new = [pair for pair in pairs if pair not in self._reasons]
            await self._write(_by_receiver(new), add=True)
            for pair in pairs:
                self._reasons[pair] = self._reasons.get(pair, 0) + 1

    async def relieve(self, pairs: tuple[Pair, ...]) -> None:
        """Count one reason less; the last one takes the rules away."""
        async with self._turn:
            last = [pair for pair in pairs if self._reasons.get(pair) == 1]
            for pair, count in (await self._live(last)).items():
                self._stopped[pair] = self._stopped.get(pair, 0) + count
            await self._write(_by_receiver(last), add=False)
            for pair in pairs:
                self._reasons[pair] -= 1
                if not self._reasons[pair]:
                    del self._reasons[pair]

    async def stopped(self, pairs: tuple[Pair, ...]) -> int:
        """How many packets cuts have stopped in these directions since the beginning."""
        async with self._turn:
            live = await self._live([pair for pair in pairs if pair in self._reasons])
        return sum(self._stopped.get(pair, 0) + live.get(pair, 0) for pair in pairs)

    async def _live(self, pairs: list[Pair]) -> dict[Pair, int]:
        found: dict[Pair, int] = {}
        for to, senders in _by_receiver(pairs).items():
            counts = await self._count(to)
            found |= {(name, to): counts.get(self.hosts[name], 0) for name in senders}
        return found

    async def _count(self, node: str, target: str = rules.DROP) -> dict[str, int]:
        saved = await self.namespaces[node].run("iptables-save", "-c", "-t", "filter")
        return rules.stopped(saved, target)

    async def _write(
        self, senders: Mapping[str, list[str]], *, add: bool, target: str = rules.DROP
    ) -> None:
        await asyncio.gather(
            *(
                self.namespaces[to].run(
                    *("iptables-restore", "-w", "--noflush"),
                    text=rules.batch(add, [self.hosts[n] for n in names], PEER_PORT, target),
                )
                for to, names in senders.items()
            )
        )


class _Cut:
    """See ``Hindrance``."""

    def __init__(self, network: NamespaceNetwork, pairs: tuple[Pair, ...], before: int) -> None:
        self._network = network
        self._pairs = pairs
        self._before = before
        self._count: int | None = None

    async def effects(self) -> int:
        """See ``Hindrance``."""
        if self._count is not None:
            return self._count
        return await self._network.stopped(self._pairs) - self._before

    async def lift(self) -> None:
        """See ``Hindrance``."""
        if self._count is None:
            self._count = await self.effects()
            await self._network.relieve(self._pairs)


def _by_receiver(pairs: Iterable[Pair]) -> dict[str, list[str]]:
    senders: dict[str, list[str]] = {}
    for source, target in pairs:
        senders.setdefault(target, []).append(source)
    return senders
