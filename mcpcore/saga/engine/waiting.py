"""What a saga spends its time on: its budget, and waiting for locks.

This module exists so that the driver's loop stays on one screen. It must never decide what a saga
does when time or patience runs out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mcpcore.errors import CoordinationError, ResourceLocked
from mcpcore.saga.engine.time import Time
from mcpcore.saga.engine.workshop import Workshop
from mcpcore.saga.events import LockWaited

_LOCK_PAUSE_S = 0.2


class Stopwatch:
    """How much of a saga's budget is spent. Stands still while the saga is held."""

    __slots__ = ("_held_ns", "_since_ns", "_spent_ns", "_time")

    def __init__(self, time: Time, spent_ns: int) -> None:
        self._time = time
        self._spent_ns = spent_ns
        self._since_ns = time.monotonic_ns()
        self._held_ns: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether it stands still."""
        return self._held_ns is not None

    def spent_ns(self) -> int:
        """What is spent."""
        until_ns = self._time.monotonic_ns() if self._held_ns is None else self._held_ns
        return self._spent_ns + until_ns - self._since_ns

    def hold(self) -> None:
        """Stand still."""
        if self._held_ns is None:
            self._held_ns = self._time.monotonic_ns()

    def go_on(self) -> int:
        """Run again; returns how long it stood still."""
        assert self._held_ns is not None
        held_ns, self._held_ns = self._time.monotonic_ns() - self._held_ns, None
        self._since_ns += held_ns  # a saga that could not go on was not late
        return held_ns


async def take_locks(shop: Workshop, saga: str, names: Sequence[str]) -> ResourceLocked | None:
    """Take all locks that a saga needs; what stood in the way if patience ran out."""
    assert shop.locks is not None
    give_up_ns = shop.time.monotonic_ns() + round(shop.lock_patience_s * 1e9)
    told = False
    while True:
        try:
            found = await shop.locks.take(names, saga)
        except CoordinationError as error:
            found = names[0], f"nobody knows whom: {error}"
        if found is None:
            return None
        if not told:
            shop.tell(LockWaited(saga, *found))
            told = True
        if shop.time.monotonic_ns() >= give_up_ns:
            return ResourceLocked(*found)
        await asyncio.sleep(_LOCK_PAUSE_S * (0.5 + shop.rng.random()))
