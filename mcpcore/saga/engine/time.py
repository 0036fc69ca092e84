"""The clock seam of an engine.

This module exists so that an engine can be given a cluster's time, or a simulated one, and so that
no other module here reads a clock. It must never hold logic about time.
"""

from __future__ import annotations

import time
from typing import Protocol

from mcpcore.clock import Interval


class Time(Protocol):
    """Where an engine reads the time."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since some fixed moment; never goes back, counts while suspended."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since 1970, as the system believes: for people to read, never to decide."""
        ...

    def cluster(self) -> Interval | None:
        """The cluster's time, surely within this interval; None while nobody can tell."""
        ...


class SystemTime:
    """The machine's own clocks, and no cluster."""

    __slots__ = ()

    def monotonic_ns(self) -> int:
        """See ``Time``."""
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        """See ``Time``."""
        return time.time_ns()

    def cluster(self) -> Interval | None:
        """See ``Time``: one machine alone cannot tell."""
        return None
