"""A wheel of deadlines against a heap of them, for a node with very many groups."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable

from benchmarks.harness.bench import Bench, Contestant, Measure, Measured
from mcpcore.node.timer_wheel import TimerWheel

KEYS = (100, 1_000, 10_000, 100_000)
BEAT = {"a beat": Measure("ms", "less")}


class HeapOfDeadlines:
    """What the wheel is compared with: a heap, and lazy deletion."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        self._due: dict[int, int] = {}

    def set(self, key: int, due_ns: int) -> None:
        self._due[key] = due_ns
        heapq.heappush(self._heap, (due_ns, key))

    def due(self, now_ns: int) -> list[int]:
        due = []
        while self._heap and self._heap[0][0] <= now_ns:
            due_ns, key = heapq.heappop(self._heap)
            if self._due.get(key) == due_ns:
                del self._due[key]
                due.append(key)
        return due


def measure(bench: Bench) -> None:
    """Deadlines at one moment, as groups of one leader have them, and at random ones."""
    bench.answer.method = (
        "A beat: every deadline is set, moved once, and collected when due. Processor time."
    )
    bench.answer.references = ("a heap",)
    draw = random.Random(1)
    for keys in KEYS:
        for name, moments in (
            ("one moment", [10**9] * keys),
            ("random", draw.sample(range(10**9), keys)),
        ):
            kinds = {"mcpcore, TimerWheel": TimerWheel, "a heap": HeapOfDeadlines}
            contestants = {who: beat(kind, moments) for who, kind in kinds.items()}
            bench.interleave("", {"deadlines": name, "groups": keys}, BEAT, contestants)


def beat(kind: Callable[[], TimerWheel | HeapOfDeadlines], moments: list[int]) -> Contestant:
    """One beat of all groups."""

    def run() -> Measured:
        timers = kind()
        began_s = time.process_time()
        for key, due_ns in enumerate(moments):
            timers.set(key, due_ns // 2)
        for key, due_ns in enumerate(moments):
            timers.set(key, due_ns)
        assert len(timers.due(2 * 10**9)) == len(moments)
        return Measured({"a beat": (time.process_time() - began_s) * 1e3})

    return run
