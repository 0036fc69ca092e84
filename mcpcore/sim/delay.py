"""What a link between two hosts is like: how slow, how lossy, how narrow.

This module exists so that a link is a value: written in a test, drawn by Hypothesis, read from a
file, compared and printed. Nothing here knows a host, a packet or the time.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import ClassVar

from mcpcore.errors import InvalidInput

_MS = 1_000_000
_LIFETIME_MS = 120_000.0


@dataclass(frozen=True, slots=True)
class Delay:
    """A distribution of one-way delays, all parameters in milliseconds.

    Args:
        kind: ``constant``, ``uniform``, ``normal``, ``lognormal``, ``pareto`` or ``bimodal``.
        least_ms: no delay is shorter; the constant delay itself.
        spread_ms: width (uniform), standard deviation (normal), median above the least
            (lognormal), scale (pareto), distance of the slow mode (bimodal).
        shape: sigma of the logarithm (lognormal), tail index (pareto), chance of the slow mode
            (bimodal).

    Raises:
        InvalidInput: an unknown kind, or a parameter out of range.
    """

    kind: str = "constant"
    least_ms: float = 1.0
    spread_ms: float = 0.0
    shape: float = 1.0

    KINDS: ClassVar[tuple[str, ...]] = (
        "constant",
        "uniform",
        "normal",
        "lognormal",
        "pareto",
        "bimodal",
    )

    def __post_init__(self) -> None:
        if self.kind not in self.KINDS:
            raise InvalidInput(
                f"no delay distribution {self.kind!r}",
                where="delay.kind",
                remedy=f"Choose one of {', '.join(self.KINDS)}.",
            )
        if self.least_ms < 0 or self.spread_ms < 0:
            raise InvalidInput("a negative delay", where="delay")
        if self.kind == "pareto" and self.shape <= 0:
            raise InvalidInput("the tail index must be positive", where="delay.shape")
        if self.kind == "bimodal" and not 0 <= self.shape <= 1:
            raise InvalidInput("a chance lies between 0 and 1", where="delay.shape")

    def draw_ns(self, draw: random.Random) -> int:
        """Draw one delay in nanoseconds; no packet lives longer than two minutes (RFC 9293)."""
        extra = 0.0
        match self.kind:
            case "uniform":
                extra = draw.random() * self.spread_ms
            case "normal":
                extra = max(0.0, draw.gauss(0.0, self.spread_ms))
            case "lognormal":
                extra = self.spread_ms * draw.lognormvariate(0.0, self.shape)
            case "pareto":
                extra = self.spread_ms * (draw.paretovariate(self.shape) - 1.0)
            case "bimodal":
                extra = self.spread_ms if draw.random() < self.shape else 0.0
        return int(min(self.least_ms + extra, _LIFETIME_MS) * _MS)


@dataclass(frozen=True, slots=True)
class Link:
    """One direction of a link.

    Args:
        delay: one-way delay of each packet.
        loss: chance that a packet is lost. A stream sends it again, later.
        burst: chance that a loss is followed by another (mean burst length ``1 / (1 - burst)``).
        duplicate: chance that a datagram arrives twice.
        reorder: chance that a datagram is held back by a further delay of up to ``reorder_ms``.
        reorder_ms: see ``reorder``.
        fragment: chance that a piece of a stream arrives in two parts.
        bandwidth_bps: bits per second; 0 for "no limit".
        queue_bytes: what may wait for the bandwidth; a datagram beyond it is lost.
        mtu: largest datagram that passes, bytes. Larger ones vanish without a word.
        extra_ms: a further delay for every packet, as a fault adds it.

    Raises:
        InvalidInput: a chance outside of 0 to 1, or a negative size.
    """

    delay: Delay = field(default_factory=lambda: Delay("uniform", 0.4, 0.2))
    loss: float = 0.0
    burst: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_ms: float = 5.0
    fragment: float = 0.0
    bandwidth_bps: int = 0
    queue_bytes: int = 1_000_000
    mtu: int = 65_507
    extra_ms: float = 0.0

    def __post_init__(self) -> None:
        for name in ("loss", "burst", "duplicate", "reorder", "fragment"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInput("a chance lies between 0 and 1", where=f"link.{name}")
        for name in ("reorder_ms", "bandwidth_bps", "queue_bytes", "mtu", "extra_ms"):
            if getattr(self, name) < 0:
                raise InvalidInput("must not be negative", where=f"link.{name}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, object], *, where: str = "link") -> Link:
        """Build a link from plain data, such as a TOML table. ``delay_ms`` may be a number.

        Raises:
            InvalidInput: a field that does not exist or cannot be used.
        """
        return _build(cls, values, where)


LOOPBACK = Link(delay=Delay("constant", 0.02))


def _build(cls: type[Link], values: Mapping[str, object], where: str) -> Link:
    given = dict(values)
    if (delay_ms := given.pop("delay_ms", None)) is not None:
        given["delay"] = {"kind": "constant", "least_ms": delay_ms}
    known = {each.name for each in fields(cls)}
    if unknown := sorted(set(given) - known):
        raise InvalidInput(
            f"no such field: {', '.join(unknown)}",
            where=where,
            remedy=f"Fields are {', '.join(sorted(known))} and delay_ms.",
        )
    delay = given.get("delay")
    if isinstance(delay, Mapping):
        try:
            given["delay"] = Delay(**delay)
        except TypeError as error:
            raise InvalidInput(str(error), where=f"{where}.delay") from error
    try:
        return cls(**given)  # type: ignore[arg-type]
    except TypeError as error:
        raise InvalidInput(str(error), where=where) from error
