"""How long and how large a search may grow, enforced to within a few percent.

This module exists so that no judge ever runs for an hour because somebody gave it five minutes.
The clock is handed in as a function, since judges have none. It must never import one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mcpcore.errors import InvalidInput

MEBIBYTE = 1 << 20
_KEPT_BACK_PERCENT = 3
"""Of the time: giving back the tables of a search takes a while, too."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits for one judgement. When one is reached the verdict is ``unknown``, never ``ok``.

    Args:
        time_ns: how long the judge may think; None for as long as it takes.
        monotonic_ns: the clock, for example ``time.monotonic_ns``; needed with ``time_ns``.
        memory_bytes: how much its tables may hold, by its own estimate; None for no limit.
        memory_in_use: measures memory exactly, in bytes, in place of the estimate.

    Raises:
        InvalidInput: a limit is not positive, or there is a time limit and no clock.
    """

    time_ns: int | None = None
    monotonic_ns: Callable[[], int] | None = None
    memory_bytes: int | None = 320 * MEBIBYTE
    memory_in_use: Callable[[], int] | None = None

    def __post_init__(self) -> None:
        if self.time_ns is not None:
            if self.monotonic_ns is None:
                raise InvalidInput(
                    "a time budget needs a clock",
                    where="Budget.monotonic_ns",
                    remedy="Hand one in: Budget(time_ns=..., monotonic_ns=time.monotonic_ns).",
                )
            if self.time_ns <= 0:
                raise InvalidInput("must be positive", where="Budget.time_ns")
        if self.memory_bytes is not None and self.memory_bytes <= 0:
            raise InvalidInput("must be positive", where="Budget.memory_bytes")


class Meter:
    """A budget that is being spent. Made when a judgement starts."""

    def __init__(self, budget: Budget | None) -> None:
        budget = budget or Budget()
        self._clock = budget.monotonic_ns
        self._deadline_ns: int | None = None
        if budget.time_ns is not None and self._clock is not None:
            self._deadline_ns = self._clock() + budget.time_ns * (100 - _KEPT_BACK_PERCENT) // 100
        self._memory_bytes = budget.memory_bytes
        self._memory_in_use = budget.memory_in_use

    def out_of_time(self) -> bool:
        """Whether the time is spent."""
        return (
            self._deadline_ns is not None
            and self._clock is not None
            and self._clock() >= self._deadline_ns
        )

    def out_of_memory(self, estimate_bytes: int) -> bool:
        """Whether the tables, ``estimate_bytes`` large by their own count, hold too much."""
        if self._memory_bytes is None:
            return False
        held = estimate_bytes if self._memory_in_use is None else self._memory_in_use()
        return held >= self._memory_bytes
