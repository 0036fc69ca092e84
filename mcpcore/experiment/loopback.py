"""The network between processes on loopback: forwarders of streams, no root needed.

This module exists so that an experiment runs anywhere: delay, jitter, bandwidth and cuts are made
by a ``Shaper`` in our own process. What it cannot do (lose, duplicate or reorder packets) it says.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

from mcpcore.errors import InvalidInput
from mcpcore.experiment.links import Link, LinkQuality
from mcpcore.experiment.network import Hindrance, Pair
from mcpcore.experiment.shaper import Shaper
from mcpcore.node.transport.addresses import Address

_FIRST_PORT: Final = 15_000
_LAST_PORT: Final = 31_999
"""Below the range from which systems take the ports of outgoing connections: a node that is down
for a while must find its port free when it comes back."""


class Loopback:
    """See ``Network``.

    Args:
        shaper: whose links these are. If it has none, everybody talks to everybody directly.
    """

    counts = "links that had carried bytes"

    def __init__(self, shaper: Shaper) -> None:
        self._shaper = shaper
        self._addresses: dict[str, Address] = {}
        self._doors: dict[tuple[str, str], Address] = {}
        self._reasons: dict[Pair, int] = {}

    async def open(self, nodes: tuple[str, ...]) -> Mapping[str, Address]:
        """See ``Network``."""
        for name, port in zip(nodes, free_ports(len(nodes)), strict=True):
            self._addresses[name] = Address("127.0.0.1", port)
        return self._addresses

    def entrance(self, node: str) -> tuple[str, ...]:
        """See ``Network``: there is nothing to enter."""
        return ()

    async def door(self, site: str | None, node: str) -> Address:
        """See ``Network``."""
        if site is None or site == node or not self._shaper.links:
            return self._addresses[node]
        door = self._doors.get((site, node))
        if door is None:
            door = await self._shaper.forward(site, node, self._addresses[node])
            self._doors[site, node] = door
        return door

    async def cut(self, pairs: Iterable[Pair]) -> Hindrance:
        """See ``Network``."""
        links = [self._shaper.link(*pair) for pair in dict.fromkeys(pairs)]
        used = sum(link.connections > 0 or link.bytes_delivered > 0 for link in links)
        for link in links:
            pair = link.source, link.target
            self._reasons[pair] = self._reasons.get(pair, 0) + 1
            link.cut()
        return _Until(used, lambda: self._mend(links))

    async def reset(self, pairs: Iterable[Pair]) -> int:
        """See ``Network``."""
        links = [self._shaper.link(*pair) for pair in dict.fromkeys(pairs)]
        broken = sum(link.connections for link in links)
        for link in links:
            link.reset()
        return broken

    async def bend(self, pairs: Iterable[Pair], changes: Mapping[str, float]) -> Hindrance | None:
        """See ``Network``: what can be bent is ``extra_ms`` and ``bandwidth_bps``."""
        if not changes.keys() <= {"extra_ms", "bandwidth_bps"}:
            return None
        links = [self._shaper.link(*pair) for pair in dict.fromkeys(pairs)]
        before = [(link, link.quality) for link in links]
        for link in links:
            link.quality = _bent(link.quality, changes)
        return _Until(len(links), lambda: _unbend(before))

    async def close(self) -> None:
        """See ``Network``: the shaper is closed by whoever made it."""

    def _mend(self, links: list[Link]) -> None:
        for link in links:
            pair = link.source, link.target
            self._reasons[pair] -= 1
            if not self._reasons[pair]:
                link.heal()


class _Until:
    """See ``Hindrance``."""

    def __init__(self, touched: int, undo: Callable[[], None]) -> None:
        self._touched = touched
        self._undo: Callable[[], None] | None = undo

    async def effects(self) -> int:
        """See ``Hindrance``."""
        return self._touched

    async def lift(self) -> None:
        """See ``Hindrance``."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()


def _bent(quality: LinkQuality, changes: Mapping[str, float]) -> LinkQuality:
    if (extra_ms := changes.get("extra_ms")) is not None:
        quality = replace(quality, one_way_s=quality.one_way_s + extra_ms / 1e3)
    if (bandwidth_bps := changes.get("bandwidth_bps")) is not None:
        quality = replace(quality, bandwidth_bytes_per_s=bandwidth_bps / 8)
    return quality


def _unbend(before: list[tuple[Link, LinkQuality]]) -> None:
    for link, quality in before:
        link.quality = quality


def free_ports(count: int) -> list[int]:
    """Ports of loopback on which nobody listens, and which no outgoing connection will take.

    Raises:
        InvalidInput: there are not so many.
    """
    rng = random.SystemRandom()  # two experiments at the same time should not try the same ones
    found: list[int] = []
    every = range(_FIRST_PORT, _LAST_PORT + 1)
    for port in rng.sample(every, len(every)):
        if len(found) == count:
            break
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    if len(found) < count:
        raise InvalidInput(f"no {count} ports are free", where=f"{_FIRST_PORT} to {_LAST_PORT}")
    return found
