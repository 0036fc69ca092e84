"""One set of deadlines for everything on a node that waits for a moment.

This module exists so that a thousand groups cost one timer of the loop. Pure: time is a number
handed in, and whoever is due is handed out; it must never call anybody.

Deadlines are kept in slots of equal width, each slot a dict, and the slots that hold anybody in a
heap. Moving a deadline costs two dict operations, and heartbeats that are due together share one
slot, hence one heap operation. ``python -m benchmarks timer_wheel`` compares it with a heap of
deadlines and lazy deletion: a thousand deadlines set, moved and collected take 1.3 ms against 2.6
if they share a moment, 1.0 against 1.5 if they do not (CPython 3.11).
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

GRAIN_NS = 2_000_000
"""Nobody is woken early, and nobody more than this late."""


class TimerWheel(Generic[K]):
    """Deadlines by key, at most one each.

    Args:
        grain_ns: width of a slot.
    """

    __slots__ = ("_grain_ns", "_heap", "_slot_of", "_slots")

    def __init__(self, grain_ns: int = GRAIN_NS) -> None:
        self._grain_ns = grain_ns
        self._slots: dict[int, dict[K, None]] = {}
        self._heap: list[int] = []
        self._slot_of: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._slot_of)

    def set(self, key: K, due_ns: int) -> None:
        """Hand out ``key`` at ``due_ns``, and not at the moment set before."""
        slot = -(-due_ns // self._grain_ns)
        before = self._slot_of.get(key)
        if before == slot:
            return
        if before is not None:
            self._leave(key, before)
        self._slot_of[key] = slot
        keys = self._slots.get(slot)
        if keys is None:
            keys = self._slots[slot] = {}
            heappush(self._heap, slot)
        keys[key] = None

    def cancel(self, key: K) -> None:
        """Forget ``key``; harmless if it is not here."""
        before = self._slot_of.pop(key, None)
        if before is not None:
            self._leave(key, before)

    def next_ns(self) -> int | None:
        """When ``due`` will hand out somebody; None if nobody waits."""
        heap, slots = self._heap, self._slots
        while heap and not slots.get(heap[0]):
            slots.pop(heappop(heap), None)
        return heap[0] * self._grain_ns if heap else None

    def due(self, now_ns: int) -> list[K]:
        """Take everybody whose moment has come, each once, the earliest slots first."""
        due: list[K] = []
        heap, slots = self._heap, self._slots
        while heap and heap[0] * self._grain_ns <= now_ns:
            due += slots.pop(heappop(heap))
        for key in due:
            del self._slot_of[key]
        return due

    def _leave(self, key: K, slot: int) -> None:
        del self._slots[slot][key]  # an empty slot goes when its turn comes

    def check(self) -> None:
        """Every promise this wheel makes about itself."""
        assert sorted(self._heap) == sorted(self._slots), "a slot is in the heap, once"
        found = {key: slot for slot, keys in self._slots.items() for key in keys}
        assert found == self._slot_of
        assert sum(map(len, self._slots.values())) == len(found), "a key is in one slot"
