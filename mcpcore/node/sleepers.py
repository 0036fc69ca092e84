"""The groups that sleep on this node, and on whose word.

This module exists so that a beat between two nodes can vouch for all groups that sleep on it in two
numbers: how many, and a checksum of which. Pure bookkeeping; it wakes nobody itself.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from mcpcore.node.liveness import Liveness


class Sleeper(NamedTuple):
    """A group that sleeps here.

    Args:
        leader: who leads it; ``peers`` are the other members if that is us, else just the leader.
        window_ns: its election timeout: silence of this length wakes it.
        mark: a number that members agree on only if they sleep at the same term and index.
    """

    name: str
    leads: bool
    peers: tuple[str, ...]
    window_ns: int
    mark: int


def mark_of(name: str, term: int, index: int) -> int:
    """The checksum of one sleeping group; those of several are combined with exclusive or."""
    digest = blake2b(f"{term}/{index}/{name}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")


class Tally(NamedTuple):
    """How many groups, and the combination of their marks."""

    count: int = 0  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    mark: int = 0


class Sleepers:
    """All groups that sleep on one node."""

    __slots__ = ("_by_name", "_doubted", "_followed", "_led")

    def __init__(self) -> None:
        self._by_name: dict[str, Sleeper] = {}
        self._led: dict[str, _Side] = {}
        self._followed: dict[str, _Side] = {}
        self._doubted: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def add(self, sleeper: Sleeper) -> None:
        """A group has fallen asleep."""
        self.discard(sleeper.name)
        self._by_name[sleeper.name] = sleeper
        sides = self._led if sleeper.leads else self._followed
        for peer in sleeper.peers:
            sides.setdefault(peer, _Side()).add(sleeper)

    def discard(self, name: str) -> None:
        """A group has woken up or ended; harmless if it did not sleep."""
        sleeper = self._by_name.pop(name, None)
        if sleeper is not None:
            sides = self._led if sleeper.leads else self._followed
            for peer in sleeper.peers:
                sides[peer].discard(sleeper)

    def vouched_for(self, peer: str) -> Tally:
        """The groups that we lead and ``peer`` sleeps in, for our beat to it."""
        side = self._led.get(peer)
        return Tally() if side is None else Tally(len(side.names), side.mark)

    def led_with(self, peer: str) -> list[str]:
        """Sleeping groups that we lead and ``peer`` is a member of."""
        side = self._led.get(peer)
        return [] if side is None else list(side.names)

    def led_by(self, peer: str) -> list[str]:
        """Sleeping groups that ``peer`` leads."""
        side = self._followed.get(peer)
        return [] if side is None else list(side.names)

    def doubt(self, peer: str, said: Tally, now_ns: int, patience_ns: int) -> bool:
        """Compare what a beat of ``peer`` vouches for with who sleeps here on its word.

        Returns whether they have disagreed for longer than a word on its way can explain.
        """
        side = self._followed.get(peer)
        ours = Tally() if side is None else Tally(len(side.names), side.mark)
        if ours == said:
            self._doubted.pop(peer, None)
            return False
        if now_ns - self._doubted.setdefault(peer, now_ns) < patience_ns:
            return False
        del self._doubted[peer]
        return True

    def overdue(self, liveness: Liveness, now_ns: int) -> list[str]:
        """Groups whose leader's node has been silent for their election timeout, or, where we
        lead, that a member's node does not hear from us.
        """
        names: dict[str, None] = {}
        for peer, side in self._followed.items():
            if side.names:
                names |= side.with_window_up_to(now_ns - liveness.heard_ns(peer))
        for peer, side in self._led.items():
            if side.names:
                names |= side.with_window_up_to(now_ns - liveness.answered_ns(peer))
        return list(names)

    def check(self) -> None:
        """Every promise this bookkeeping makes about itself."""
        for sides, leads in ((self._led, True), (self._followed, False)):
            for peer, side in sides.items():
                here = {s.name: s for s in self._by_name.values() if s.leads is leads}
                names = {name for name, sleeper in here.items() if peer in sleeper.peers}
                assert side.names.keys() == names
                mark = 0
                for name in names:
                    mark ^= here[name].mark
                assert side.mark == mark


class _Side:
    """The groups that sleep on the word of one peer, or whom it hears of from us."""

    __slots__ = ("mark", "names")

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.mark = 0

    def add(self, sleeper: Sleeper) -> None:
        self.names[sleeper.name] = sleeper.window_ns
        self.mark ^= sleeper.mark

    def discard(self, sleeper: Sleeper) -> None:
        del self.names[sleeper.name]
        self.mark ^= sleeper.mark

    def with_window_up_to(self, silent_ns: int) -> dict[str, None]:
        if silent_ns < SHORTEST_WINDOW_NS:
            return {}
        return {name: None for name, window_ns in self.names.items() if window_ns <= silent_ns}


SHORTEST_WINDOW_NS = 50_000_000
"""No group is woken by a silence shorter than this; spares looking at a thousand groups each beat.
"""
