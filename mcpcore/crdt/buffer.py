"""What has changed lately, in order, until the peers have it: a delta buffer bounded in bytes.

This module exists so that one list serves all peers: each keeps a place in it, and a delta is held
once. A peer is never sent what came from it (BP). When the buffer is full the oldest go, whoever
still waits for them: such a peer is repaired by comparison later, and a peer that stays away costs
nothing. It must never hold a delta that its state had already; see ``AntiEntropy`` (RR).

Source: Enes et al., ICDE 2019, algorithm 1.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic

from mcpcore.crdt.lattice import L


@dataclass(frozen=True, slots=True)
class Item(Generic[L]):
    """One delta, where it came from, and about how many bytes it takes."""

    number: int
    origin: str
    delta: L
    size_bytes: int


class DeltaBuffer(Generic[L]):
    """Numbered deltas, oldest first. Numbers start at 1 and have no gaps."""

    __slots__ = ("_items", "bytes_max", "newest", "size_bytes")

    def __init__(self, bytes_max: int) -> None:
        self._items: deque[Item[L]] = deque()
        self.bytes_max = bytes_max
        self.size_bytes = 0
        self.newest = 0

    @property
    def oldest(self) -> int:
        """The number of the oldest delta still here; one above the newest if there is none."""
        return self.newest - len(self._items) + 1

    def add(self, delta: L, origin: str, size_bytes: int) -> None:
        """Append a delta; the oldest leave until the bound holds again."""
        self.newest += 1
        self._items.append(Item(self.newest, origin, delta, size_bytes))
        self.size_bytes += size_bytes
        while self.size_bytes > self.bytes_max:
            self._drop_oldest()

    def forget(self, number: int) -> None:
        """Drop everything up to a number that every peer has."""
        while self._items and self._items[0].number <= number:
            self._drop_oldest()

    def group(self, peer: str, after: int, bytes_max: int) -> tuple[int, L | None]:
        """The join of what follows ``after`` and did not come from ``peer``, up to a size.

        Returns:
            (number of the last delta considered, the group); None for the group if all of them
            came from the peer.
        """
        group: L | None = None
        last, size = after, 0
        for i in range(after + 1 - self.oldest, len(self._items)):
            item = self._items[i]
            if item.origin != peer:
                if group is not None and size + item.size_bytes > bytes_max:
                    break
                size += item.size_bytes
                if group is None:
                    group = item.delta.copy()
                else:
                    group.join(item.delta)
            last = item.number
        return last, group

    def check(self) -> None:
        """Every promise this structure makes about itself."""
        assert self.size_bytes == sum(item.size_bytes for item in self._items)
        assert self.size_bytes <= self.bytes_max
        numbers = [item.number for item in self._items]
        assert numbers == list(range(self.oldest, self.newest + 1))

    def _drop_oldest(self) -> None:
        self.size_bytes -= self._items.popleft().size_bytes
