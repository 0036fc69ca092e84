"""Events of one watch between the connection they came over and the program that takes them.

This module exists so that a program which takes events slowly costs bounded memory and never misses
one without being told. It must never know what an event means.
"""

from __future__ import annotations

import asyncio
from collections import deque

from mcpcore.errors import CoordinationError, WatchOverrun

EVENT_BYTES_MAX = 16 << 20
"""How many bytes of events may wait to be taken; one event always may."""

EVENT_OVERHEAD_BYTES = 64


class EventBuffer:
    """A bounded queue with an end.

    Args:
        bytes_max: how much may wait, each event reckoned 64 bytes longer than it is. The event that
            would exceed it ends the buffer with ``WatchOverrun``; those before it are delivered.
    """

    __slots__ = ("_bytes", "_bytes_max", "_changed", "_events", "_why", "ended")

    def __init__(self, bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._events: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._why: CoordinationError | None = None
        self.ended = False
        """Whether nothing more comes in."""

    def put(self, event: bytes) -> None:
        """Append an event. Nothing happens after the end."""
        if self.ended:
            return
        size = len(event) + EVENT_OVERHEAD_BYTES
        if self._events and self._bytes + size > self._bytes_max:
            self.end(WatchOverrun(self._bytes_max))
            return
        self._events.append(event)
        self._bytes += size
        self._changed.set()

    def end(self, why: CoordinationError | None) -> None:
        """Nothing more comes: ``why``, or None if the watch is simply over. The first counts."""
        if not self.ended:
            self.ended, self._why = True, why
            self._changed.set()

    async def get(self) -> bytes | None:
        """The next event; None after the last one of a watch that is over.

        Raises:
            CoordinationError: why no more events come.
        """
        while not self._events:
            if self.ended:
                if self._why is not None:
                    raise self._why
                return None
            self._changed.clear()
            await self._changed.wait()
        event = self._events.popleft()
        self._bytes -= len(event) + EVENT_OVERHEAD_BYTES
        return event

    def check(self) -> None:
        """Every promise that the buffer makes about itself."""
        assert self._bytes == sum(len(event) + EVENT_OVERHEAD_BYTES for event in self._events)
        assert len(self._events) <= 1 or self._bytes <= self._bytes_max, "what waits is bounded"
        assert self._why is None or self.ended
