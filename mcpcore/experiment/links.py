"""What lies between two sites: delay, jitter, bandwidth, cuts, per direction.

This module exists so that the quality of a network is a value, and so that what a link does to
bytes (when they arrive, whether they pass at all) is decided apart from the sockets that carry
them. Time and randomness are handed in; it must never import asyncio or open anything.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from mcpcore.errors import InvalidInput

_JITTER_CAP: Final = 8.0
"""Jitter is drawn from an exponential distribution, which has no end; this many means is ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkQuality:
    """How good a link is, one way.

    Args:
        one_way_s: the least time a byte takes.
        jitter_s: mean of what comes on top, exponentially distributed, at most eight times this.
        bandwidth_bytes_per_s: shared by all connections over the link; None: no limit.

    Raises:
        InvalidInput: a value is negative, or the bandwidth is not positive.
    """

    one_way_s: float = 0.0
    jitter_s: float = 0.0
    bandwidth_bytes_per_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("one_way_s", "jitter_s"):
            if not 0 <= getattr(self, name) < 3600:
                raise InvalidInput(
                    f"must be a time in [0, 3600) seconds, not {getattr(self, name)!r}",
                    where=f"link, {name}",
                )
        if self.bandwidth_bytes_per_s is not None and not self.bandwidth_bytes_per_s > 0:
            raise InvalidInput(
                f"must be positive, not {self.bandwidth_bytes_per_s!r}",
                where="link, bandwidth_bytes_per_s",
                remedy="Leave it out for no limit; cut the link to let nothing pass",
            )


class Carrier(Protocol):
    """Whatever carries bytes over a link, and hears of what becomes of the link."""

    def link_cut(self, link: Link) -> None:
        """Nothing passes from now on."""
        ...

    def link_healed(self, link: Link) -> None:
        """Bytes pass again."""
        ...

    def link_reset(self) -> None:
        """The connection is to break."""
        ...


class Link:
    """One direction between two sites. Made by a ``Shaper``."""

    def __init__(self, source: str, target: str, quality: LinkQuality, rng: random.Random) -> None:
        self.source = source
        self.target = target
        self.quality = quality
        self.is_cut = False
        self.bytes_delivered = 0
        """What came out at the far end, over all connections and their whole lives."""
        self._rng = rng
        self._busy_until_s = 0.0
        self._carriers: dict[Carrier, None] = {}  # a dict, because a set has no order to repeat

    def __repr__(self) -> str:
        return f"{self.source} -> {self.target}{' (cut)' if self.is_cut else ''}"

    def delay_s(self) -> float:
        """How long a byte takes that starts now and finds the link free: drawn anew each time."""
        quality = self.quality
        if not quality.jitter_s:
            return quality.one_way_s
        extra = min(self._rng.expovariate(1.0), _JITTER_CAP) * quality.jitter_s
        return quality.one_way_s + extra

    def arrival_s(self, now_s: float, size_bytes: int) -> float:
        """When bytes that enter now come out, after those that entered before; books the link.

        HAZARD: jitter may give a later entry an earlier arrival. Within one connection the caller
        keeps the order, as TCP does.
        """
        bandwidth = self.quality.bandwidth_bytes_per_s
        left_s = now_s
        if bandwidth is not None:
            left_s = self._busy_until_s = max(now_s, self._busy_until_s) + size_bytes / bandwidth
        return left_s + self.delay_s()

    def cut(self) -> None:
        """Let nothing pass. Twice is harmless."""
        if not self.is_cut:
            self.is_cut = True
            for carrier in list(self._carriers):
                carrier.link_cut(self)

    def heal(self) -> None:
        """Let everything pass again, beginning with what was held back. Twice is harmless."""
        if self.is_cut:
            self.is_cut = False
            for carrier in list(self._carriers):
                carrier.link_healed(self)

    def reset(self) -> None:
        """Break the connections that use this link, cut or not; new ones may come at once."""
        for carrier in list(self._carriers):
            carrier.link_reset()

    def join(self, carrier: Carrier) -> None:
        """Tell this one of cuts from now on."""
        self._carriers[carrier] = None

    def leave(self, carrier: Carrier) -> None:
        """Tell it no more. Harmless if it never joined."""
        self._carriers.pop(carrier, None)

    @property
    def connections(self) -> int:
        """How many connections use this link."""
        return len(self._carriers)


def both_ways(
    qualities: Mapping[tuple[str, str], LinkQuality],
) -> dict[tuple[str, str], LinkQuality]:
    """The same quality in either direction, unless the other direction is given, too."""
    every = dict(qualities)
    for (a, b), quality in qualities.items():
        every.setdefault((b, a), quality)
    return every


THREE_CLOUDS: Final[Mapping[tuple[str, str], LinkQuality]] = both_ways(
    {
        ("us-east-1", "hangzhou"): LinkQuality(one_way_s=0.110, jitter_s=0.004),
        ("us-east-1", "edge"): LinkQuality(one_way_s=0.035, jitter_s=0.003),
        ("edge", "hangzhou"): LinkQuality(one_way_s=0.090, jitter_s=0.004),
    }
)
"""AWS us-east-1, Alibaba Hangzhou and an edge site: one-way delays as seen over the open internet.

About 220 ms there and back across the Pacific, 70 ms from the edge site to us-east-1, 180 ms from
it to Hangzhou. These are choices of ours within what such lines do, not measurements.
"""
