"""The clock seam: the two clocks a node reads, and nothing more.

This module exists so that a simulated or a faulty clock can be handed to a node, and so that no
other module of the node floor reads the time. It must never hold logic about time.
"""

from __future__ import annotations

import time
from typing import Protocol

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class Clocks(Protocol):
    """Where a node reads the time."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since some fixed moment; never goes back, counts while suspended."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch, as the system believes; may step either way."""
        ...


class SystemClocks:
    """The machine's own clocks.

    The monotonic clock is CLOCK_BOOTTIME where there is one: a lease must run out while the
    machine is suspended, and CLOCK_MONOTONIC stands still then.
    """

    __slots__ = ()

    def monotonic_ns(self) -> int:
        """See ``Clocks``."""
        if _BOOTTIME is not None:
            return time.clock_gettime_ns(_BOOTTIME)
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        """See ``Clocks``."""
        return time.time_ns()
