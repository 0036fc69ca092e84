"""Who should rather lead, and when leadership goes there by itself.

This module exists so that leadership returns to where it is cheapest without ever oscillating, by a
decision that a table can test. A member is better placed if its priority is higher, or, at equal
priority, if its round trip to a quorum is clearly shorter: commits and reads then take that much
less time. It must never decide who *can* lead: that is the election's business, and nothing is
taken from a leader before the other one is ready.

Against oscillation: "clearly shorter" is a margin that cannot hold in both directions; the better
member must have been there and fit the whole time; a new leader is left alone for that time too;
and after each attempt that failed the leader waits twice as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

MILLISECOND = 1_000_000

MARGIN_NS = 5 * MILLISECOND
"""A round trip is clearly shorter if it is so by this much and by a quarter."""

PATIENCE_DOUBLINGS = 6
"""The wait after failed attempts grows to 64 times its length and no further."""


class Standing(NamedTuple):
    """How well one member would lead.

    Args:
        priority: as the configuration states it.
        round_trip_ns: from it to a quorum and back; 0 if nobody measured it.
        fit: whether it could take over now: it answers, holds what is committed, and may stand.
    """

    priority: int
    round_trip_ns: int
    fit: bool


@dataclass(slots=True)
class Preference:
    """What a leader remembers about better placed members, during one term of office.

    Args:
        round_trips_ns: from each member to a quorum, as the driver was told; of others than the
            leader nobody here can measure it.
        heir: who has been better placed, without a break, since ``since_ns``.
        attempts: times that leadership was offered in vain.
    """

    round_trips_ns: dict[str, int] = field(default_factory=dict)
    heir: str = ""
    since_ns: int = 0
    attempts: int = 0

    def forget(self) -> None:
        """The term of office is over; the distances stay what they are."""
        self.heir, self.since_ns, self.attempts = "", 0, 0

    def consider(self, heir: str, now_ns: int, patience_ns: int) -> bool:
        """Whether leadership should be offered to ``heir``, the best placed member now.

        ``heir`` is empty if nobody is better placed than the leader.
        """
        if heir != self.heir:
            self.heir, self.since_ns = heir, now_ns
        if not heir:
            return False
        patience_ns <<= min(self.attempts, PATIENCE_DOUBLINGS)
        if now_ns - self.since_ns < patience_ns:
            return False
        self.since_ns = now_ns
        self.attempts += 1
        return True


def better_placed(own: Standing, others: Mapping[str, Standing]) -> str:
    """The member that should rather lead than we, or empty if there is none."""
    better = {name: other for name, other in others.items() if _outranks(other, own)}

    def rank(name: str) -> tuple[int, bool, int, str]:
        _, round_trip_ns, _ = standing = better[name]
        return -standing.priority, round_trip_ns == 0, round_trip_ns, name

    return min(better, key=rank, default="")


def _outranks(other: Standing, own: Standing) -> bool:
    if not other.fit or other.priority < own.priority:
        return False
    if other.priority > own.priority:
        return True
    if not other.round_trip_ns or not own.round_trip_ns:
        return False
    saved_ns = own.round_trip_ns - other.round_trip_ns
    return saved_ns >= MARGIN_NS and saved_ns * 4 >= own.round_trip_ns
