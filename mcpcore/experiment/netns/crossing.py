"""What becomes of a packet that crosses a link: when it comes out, twice, or never.

This module exists so that the switch's decisions can be made a million times without a network,
and mean the same as the simulator's: a link is described by the very same ``Link``. Time and
randomness are handed in; it must never import a socket or read a clock.

Packets keep their order, as in the queue of a router, whatever jitter is drawn; only ``reorder``
lets one be overtaken. Otherwise jitter alone would make TCP take every packet for a lost one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from mcpcore.sim.delay import Link

_MS: Final = 1_000_000
_S: Final = 1_000_000_000


@dataclass(slots=True)
class Counts:
    """What one direction has done to packets so far."""

    packets: int = 0
    """Everything that came in."""
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    too_large: int = 0
    overflowed: int = 0
    """Found the queue for the bandwidth full."""


class Crossing:
    """One direction between two nodes.

    Args:
        link: what it is like; may be changed at any time, for the packets that come after.
        draw: where chances are drawn from, this direction's own.
    """

    __slots__ = ("_burst", "_draw", "_free_ns", "_last_ns", "counts", "link")

    def __init__(self, link: Link, draw: random.Random) -> None:
        self.link = link
        self.counts = Counts()
        self._draw = draw
        self._burst = False
        self._free_ns = 0
        """When the wire is free again."""
        self._last_ns = 0
        """When the latest packet that keeps its place comes out."""

    def enter(self, now_ns: int, size_bytes: int) -> tuple[int, ...]:
        """A packet enters; return when it comes out, once for each copy."""
        link, counts = self.link, self.counts
        counts.packets += 1
        if size_bytes > link.mtu:
            counts.too_large += 1
            return ()
        if self._is_lost():
            counts.lost += 1
            return ()
        out_ns = now_ns
        if link.bandwidth_bps:
            begin_ns = max(now_ns, self._free_ns)
            waiting_bytes = (begin_ns - now_ns) * link.bandwidth_bps // (8 * _S)
            if waiting_bytes + size_bytes > link.queue_bytes:
                counts.overflowed += 1
                return ()
            out_ns = self._free_ns = begin_ns + size_bytes * 8 * _S // link.bandwidth_bps
        out_ns += link.delay.draw_ns(self._draw) + round(link.extra_ms * _MS)
        if link.reorder and self._draw.random() < link.reorder:
            counts.reordered += 1
            out_ns += round(self._draw.random() * link.reorder_ms * _MS)
        else:
            out_ns = self._last_ns = max(out_ns, self._last_ns)
        if link.duplicate and self._draw.random() < link.duplicate:
            counts.duplicated += 1
            return (out_ns, out_ns)
        return (out_ns,)

    def _is_lost(self) -> bool:
        link = self.link
        chance = link.burst if self._burst else link.loss
        lost = chance > 0 and self._draw.random() < chance
        self._burst = lost and link.burst > 0
        return lost
