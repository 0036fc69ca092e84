"""Commit wait: sleep until a timestamp has passed on every clock.

This module exists so that the decision (how long) stays pure and the sleeping stays here, on the
event loop, whose timers are monotonic. It must never read the system clock.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from mcpcore.clock.timestamp import Timestamp
from mcpcore.errors import ClockUncertain, CommitWaitTooLong

SLEEP_NS_MIN = 100_000
"""A shorter sleep would be a spin: event loops do not resolve it."""


class _Waitable(Protocol):
    def wait_until_past_ns(self, timestamp: Timestamp) -> int | None: ...


async def wait_until_past(clock: _Waitable, timestamp: Timestamp, *, limit_ns: int) -> None:
    """Return once ``timestamp`` has passed on every clock of the cluster.

    Args:
        clock: a node's clock.
        limit_ns: the longest wait worth starting, and the longest in all.

    Raises:
        CommitWaitTooLong: it would take, or has taken, longer.
        ClockUncertain: no majority of clocks agrees; wait for the clock to be synchronised.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + limit_ns / 1e9
    while (wait_ns := clock.wait_until_past_ns(timestamp)) != 0:
        if wait_ns is None:
            raise ClockUncertain(f"commit wait for {timestamp}")
        left_ns = max(0, round((deadline_s - loop.time()) * 1e9))
        if wait_ns > left_ns:
            raise CommitWaitTooLong(wait_ns, left_ns)
        await asyncio.sleep(max(wait_ns, SLEEP_NS_MIN) / 1e9)
