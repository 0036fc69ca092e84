"""What a node counts of its own work: how long things took, and how often they happened.

This module exists so that the hot path pays a few integer operations for what it tells, and so that
nothing here depends on who reads it: exporting is the business of ``mcpcore.observe``. It must
never decide anything, nor read a clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

from mcpcore.raft.outcome import Role, RoleChanged

MICROSECOND: Final = 1_000
BOUNDS_NS: Final = tuple(
    base * 10**exponent * MICROSECOND for exponent in range(2, 8) for base in (1, 2, 5)
)
"""100 us, 200 us, 500 us, 1 ms, ... 50 s: from a sync to a write that waits for a cut to heal."""


class Distribution:
    """How often something took how long, in buckets. Adding costs one search among eighteen."""

    __slots__ = ("counts", "sum_ns")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_NS) + 1)
        """How many lie in each bucket, not cumulated; the last one has no upper bound."""
        self.sum_ns = 0

    def add(self, took_ns: int) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS_NS, took_ns)] += 1
        self.sum_ns += took_ns

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.counts)

    def check(self) -> None:
        """Every promise it makes about itself."""
        assert len(self.counts) == len(BOUNDS_NS) + 1
        assert all(count >= 0 for count in self.counts)
        assert self.sum_ns >= 0


class Probe:
    """Times one proposal of a group at a time, so that the others cost nothing.

    While one is under way, later ones are not timed: under load this is a sample, taken at moments
    that do not depend on how long proposals take.
    """

    __slots__ = ("_index", "_since_ns", "_times")

    def __init__(self, times: Distribution) -> None:
        self._times = times
        self._index = 0
        self._since_ns = 0

    def proposed(self, index: int, now_ns: int) -> None:
        """An entry was appended, to be applied at ``index``."""
        if not self._index:
            self._index, self._since_ns = index, now_ns

    @property
    def index(self) -> int:
        """Where the one stands that is under way; 0: none is."""
        return self._index

    def applied(self, now_ns: int) -> None:
        """That index is applied."""
        self._times.add(max(0, now_ns - self._since_ns))
        self._index = 0

    def abandon(self) -> None:
        """Whoever appended it does not lead any more: when it is applied says nothing."""
        self._index = 0


class Meters:
    """The counts of one node, over all its groups, since it started."""

    __slots__ = ("elections", "leaders_seen", "offices_won", "proposals", "refusals")

    def __init__(self) -> None:
        self.proposals = Distribution()
        """From appending to applying, on leaders."""
        self.elections = 0
        """Elections that a member here stood in."""
        self.offices_won = 0
        """Of these, won."""
        self.leaders_seen = 0
        """How often a group here learned of another leader, itself included."""
        self.refusals: Counter[str] = Counter()
        """What clients were refused, by the name of the error."""

    def role_changed(self, event: RoleChanged) -> None:
        """A member here changed its role, its term or its leader."""
        if event.role is Role.CANDIDATE:
            self.elections += 1
        elif event.role is Role.LEADER:
            self.offices_won += 1
        if event.leader:
            self.leaders_seen += 1
