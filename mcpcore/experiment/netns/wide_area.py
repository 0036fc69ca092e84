"""Namespaces joined by our own switch: a wide-area network of packets on one machine.

This module exists so that whoever bends a link need not know what the switch counts or how it is
told. What a link does to a packet stands in `mcpcore.experiment.netns.crossing`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from mcpcore.experiment.netns.channel import Channel
from mcpcore.experiment.netns.joints import give_address
from mcpcore.experiment.netns.namespace import Namespace
from mcpcore.experiment.network import Hindrance, Pair
from mcpcore.sim.delay import Delay, Link

_DEVICE: Final = "wan0"
_PERFECT: Final = Link(delay=Delay("constant", 0.0))
_COUNTED: Final = {
    "loss": "lost",
    "duplicate": "duplicated",
    "reorder": "reordered",
    "mtu": "too_large",
    "extra_ms": "packets",
    "bandwidth_bps": "packets",
}
"""What shows that a change of a field had an effect."""
_WHOLE: Final = frozenset(("mtu", "bandwidth_bps"))


class WideArea:
    """A switch, and a TUN device in each node's namespace. See ``Joint``.

    Args:
        shapes: what each direction is like; nothing in the way where none is named.
        seed: of every chance and delay.
    """

    def __init__(self, shapes: Mapping[Pair, Link], seed: int) -> None:
        self._shapes = dict(shapes)
        self._seed = seed
        self._switch = Channel("switch")
        self._bends: dict[Pair, list[Mapping[str, float]]] = {}

    async def open(self, namespaces: Mapping[str, Namespace], hosts: Mapping[str, str]) -> None:
        """See ``Joint``."""
        fds: dict[str, int] = {}
        try:
            for name, namespace in namespaces.items():
                fds[name] = await namespace.tun(_DEVICE)
            ports = [f"{name}={hosts[name]}={fd}" for name, fd in fds.items()]
            module = "mcpcore.experiment.netns.switch"
            command = ("-m", module, "{channel}", str(self._seed), *ports)
            await self._switch.open(command, tuple(fds.values()))
        finally:
            for fd in fds.values():
                os.close(fd)  # the switch has its own now
        for name, namespace in namespaces.items():
            await give_address(namespace, _DEVICE, hosts[name])
        await self._tell(tuple((a, b) for a in hosts for b in hosts if a != b))

    async def bend(self, pairs: tuple[Pair, ...], changes: Mapping[str, float]) -> Hindrance | None:
        """See ``Joint``."""
        if not changes.keys() & _COUNTED.keys():
            return None
        counted = next(_COUNTED[name] for name in changes if name in _COUNTED)
        made = _Bend(self, pairs, changes, counted, await self.counted(pairs, counted))
        for pair in pairs:
            self._bends.setdefault(pair, []).append(changes)
        await self._tell(pairs)
        return made

    async def unbend(self, pairs: tuple[Pair, ...], changes: Mapping[str, float]) -> None:
        """Take one change back."""
        for pair in pairs:
            self._bends[pair] = [each for each in self._bends[pair] if each is not changes]
        await self._tell(pairs)

    async def counted(self, pairs: tuple[Pair, ...], what: str) -> int:
        """One of the switch's counts, over some directions."""
        answer, _ = await self._switch.ask({"do": "counts"})
        return sum(counts[what] for a, b, counts in answer["counts"] if (a, b) in pairs)

    async def close(self) -> None:
        """See ``Joint``."""
        await self._switch.close()

    async def _tell(self, pairs: tuple[Pair, ...]) -> None:
        for pair in pairs:
            link = self._shapes.get(pair, _PERFECT)
            for changes in self._bends.get(pair, ()):
                link = _bent(link, changes)
            await self._switch.ask({"do": "link", "pairs": [pair], "fields": asdict(link)})


class _Bend:
    """See ``Hindrance``."""

    def __init__(
        self,
        joint: WideArea,
        pairs: tuple[Pair, ...],
        changes: Mapping[str, float],
        counted: str,
        before: int,
    ) -> None:
        self._joint = joint
        self._pairs = pairs
        self._changes = changes
        self._counted = counted
        self._before = before
        self._count: int | None = None

    async def effects(self) -> int:
        """See ``Hindrance``."""
        if self._count is not None:
            return self._count
        return await self._joint.counted(self._pairs, self._counted) - self._before

    async def lift(self) -> None:
        """See ``Hindrance``."""
        if self._count is None:
            self._count = await self.effects()
            await self._joint.unbend(self._pairs, self._changes)


def _bent(link: Link, changes: Mapping[str, float]) -> Link:
    fields: dict[str, Any] = {
        name: round(value) if name in _WHOLE else value for name, value in changes.items()
    }
    if "extra_ms" in fields:
        fields["extra_ms"] += link.extra_ms
    return replace(link, **fields)
