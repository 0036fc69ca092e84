"""So many operations in flight for so long: how many ended, and how long each took.

This module exists so that every system is loaded in the same way. Operations are started by
callbacks, never by a task each, so that as little as possible of what is measured is the load
itself; where a system has only coroutines, ``drive_calls`` makes the tasks that its users would.
It imports nothing of ours and nothing of a peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any

from benchmarks.harness.spread import quantiles

Done = Callable[[BaseException | None], None]

WARM_SHARE = 0.2
"""How much of the measured time is spent warming up before it."""


class Window:
    """What ended within a time that opens after a warm-up.

    Args:
        seconds: how long it is open. If nothing at all ends within it, what was in flight when it
            closed counts, and the time that took: a system that is so slow still gets its figure.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._opens_s = perf_counter() + WARM_SHARE * seconds
        self.closes_s = self._opens_s + seconds
        self._latencies_s: list[float] = []
        self._late_s: list[float] = []
        self._last_s = self.closes_s

    def ended(self, began_s: float, now_s: float) -> None:
        """An operation has ended."""
        if self._opens_s <= now_s < self.closes_s:
            self._latencies_s.append(now_s - began_s)
        elif now_s >= self.closes_s:
            self._late_s.append(now_s - began_s)
            self._last_s = now_s

    def told(self) -> dict[str, Any]:
        """The answer to an order."""
        if self._latencies_s:
            return summary(self._latencies_s, self._seconds)
        return summary(self._late_s, self._last_s - self._opens_s)


class Meter:
    """Counts what ends within its window. Call ``go`` once for each operation in flight.

    Args:
        fire: starts one operation and calls back when it has ended.
        seconds: the window's length.
        idle: called once, when the window is over and the last operation has ended.
    """

    def __init__(
        self, fire: Callable[[Done], None], seconds: float, idle: Callable[[], None]
    ) -> None:
        self._fire, self._idle = fire, idle
        self._window = Window(seconds)
        self._running = 0
        self.failure: BaseException | None = None

    def go(self) -> None:
        """Start one operation, and another whenever one ends, until the window closes."""
        self._running += 1
        self._next()

    def _next(self) -> None:
        began_s = perf_counter()

        def done(error: BaseException | None) -> None:
            now_s = perf_counter()
            if error is not None:
                self.failure = self.failure or error
            else:
                self._window.ended(began_s, now_s)
            if now_s < self._window.closes_s and self.failure is None:
                self._next()
                return
            self._running -= 1
            if not self._running:
                self._idle()

        self._fire(done)

    def told(self) -> dict[str, Any]:
        """The answer to an order, or the error."""
        if self.failure is not None:
            return {"error": f"{type(self.failure).__name__}: {self.failure}"}
        return self._window.told()


async def drive(fire: Callable[[Done], None], in_flight: int, seconds: float) -> dict[str, Any]:
    """Load a system that calls back."""
    over = asyncio.Event()
    meter = Meter(fire, seconds, over.set)
    for _ in range(in_flight):
        meter.go()
    await over.wait()
    return meter.told()


async def drive_calls(
    call: Callable[[], Awaitable[object]], in_flight: int, seconds: float
) -> dict[str, Any]:
    """Load a system that has coroutines: as many tasks as operations in flight."""
    window = Window(seconds)

    async def one() -> None:
        began_s = perf_counter()
        while True:  # once at least, however late the loop comes to it
            await call()
            now_s = perf_counter()
            window.ended(began_s, now_s)
            if now_s >= window.closes_s:
                return
            began_s = now_s

    await asyncio.gather(*(one() for _ in range(in_flight)))
    return window.told()


def summary(latencies_s: Sequence[float], seconds: float) -> dict[str, Any]:
    """What a load program answers."""
    if not latencies_s:
        return {"error": f"nothing ended within {seconds:g} s"}
    return {
        "operations": len(latencies_s),
        "seconds": seconds,
        "quantiles_ms": [(q, s * 1e3) for q, s in quantiles(latencies_s)],
    }
