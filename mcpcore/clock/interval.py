"""Honest readings: a moment with its uncertainty, and what two of them can say about order.

This module exists so that "too close to tell" is an answer and not an accident. It holds values
and comparisons; it must never estimate anything, nor read a clock.

HAZARD: an interval is a promise about the *cluster's* time, not about UTC. It is as true as the
estimate behind it: see the hazards of ``mcpcore.clock.offset`` and ``mcpcore.clock.agreement``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mcpcore.clock.timestamp import Timestamp
from mcpcore.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Interval:
    """The true value lies in ``[earliest_ns, latest_ns]``, both ends included.

    Raises:
        InvalidInput: the ends are the wrong way round.
    """

    earliest_ns: int
    latest_ns: int

    def __post_init__(self) -> None:
        if self.earliest_ns > self.latest_ns:
            raise InvalidInput(
                f"earliest {self.earliest_ns} ns lies after latest {self.latest_ns} ns",
                where="interval",
            )

    @classmethod
    def around(cls, middle_ns: int, radius_ns: int) -> Interval:
        """``middle_ns`` give or take ``radius_ns``."""
        return cls(middle_ns - radius_ns, middle_ns + radius_ns)

    @property
    def middle_ns(self) -> int:
        """The middle, rounded down."""
        return (self.earliest_ns + self.latest_ns) // 2

    @property
    def radius_ns(self) -> int:
        """Half the width, rounded up, so that ``middle_ns`` give or take it covers everything."""
        return (self.latest_ns - self.earliest_ns + 1) // 2

    def contains(self, value_ns: int) -> bool:
        """Whether ``value_ns`` is possible."""
        return self.earliest_ns <= value_ns <= self.latest_ns

    def overlaps(self, other: Interval) -> bool:
        """Whether some value is possible for both."""
        return self.earliest_ns <= other.latest_ns and other.earliest_ns <= self.latest_ns

    def widened(self, by_ns: int) -> Interval:
        """Both ends moved outward."""
        return Interval(self.earliest_ns - by_ns, self.latest_ns + by_ns)


@dataclass(frozen=True, slots=True)
class Reading:
    """A timestamp and how far its physical half may lie from the cluster's time at its making."""

    timestamp: Timestamp
    uncertainty_ns: int

    @property
    def interval(self) -> Interval:
        """When it was, in the cluster's time."""
        return Interval.around(self.timestamp.physical_ns, self.uncertainty_ns)


class Order(Enum):
    """What two readings say about the real order of their events."""

    BEFORE = "before"
    AFTER = "after"
    UNCERTAIN = "concurrent within uncertainty"


def compare_with_uncertainty(a: Reading, b: Reading) -> Order:
    """Whether ``a`` really happened before ``b``, after it, or too close to tell.

    Only disjoint intervals decide. Where one event *caused* the other, the timestamps alone decide
    and this function may still answer UNCERTAIN: it speaks of time, not of messages.
    """
    if a.interval.latest_ns < b.interval.earliest_ns:
        return Order.BEFORE
    if b.interval.latest_ns < a.interval.earliest_ns:
        return Order.AFTER
    return Order.UNCERTAIN


def wait_until_past_ns(timestamp: Timestamp, now: Interval) -> int:
    """How long to wait until every node's clock must say that ``timestamp`` has passed; 0 if so.

    The commit wait of Spanner (Corbett et al. 2012, section 4.1.2): whoever acts after waiting is
    after the timestamp in real time, whatever clock is asked. Ask again after the wait: the
    uncertainty may have grown meanwhile.
    """
    return max(0, timestamp.physical_ns + 1 - now.earliest_ns)
