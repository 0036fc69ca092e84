"""How fast a snapshot may leave: within a bandwidth, and never in the way of heartbeats.

This module exists so that two questions are answered by arithmetic that a test can hold in its
hand: how long must these bytes wait, and how many may be under way. Pure: times are handed in.
"""

from __future__ import annotations

from collections import deque
from typing import Final

SECOND_NS: Final = 1_000_000_000
PIECE_BYTES_MIN: Final = 4 << 10
PIECE_BYTES_MAX: Final = 64 << 10
WINDOW_BYTES_MIN: Final = 2 * PIECE_BYTES_MIN
WINDOW_BYTES_MAX: Final = 8 << 20


class TokenBucket:
    """A bandwidth, shared by everything that asks it.

    Args:
        bytes_per_s: the rate; 0 means without limit.
        burst_bytes: what may leave at once after a pause.
    """

    __slots__ = ("_burst_bytes", "_bytes_per_s", "_free_at_ns")

    def __init__(self, bytes_per_s: int, burst_bytes: int = 4 * PIECE_BYTES_MAX) -> None:
        self._bytes_per_s = bytes_per_s
        self._burst_bytes = burst_bytes
        self._free_at_ns = 0

    def reserve(self, size: int, now_ns: int) -> int:
        """Take a place in the order of asking; how many ns to wait before ``size`` bytes leave."""
        rate = self._bytes_per_s
        if not rate:
            return 0
        earliest_ns = now_ns - self._burst_bytes * SECOND_NS // rate
        start_ns = max(self._free_at_ns, earliest_ns)
        self._free_at_ns = start_ns + size * SECOND_NS // rate
        return max(0, self._free_at_ns - now_ns)


class Window:
    """How many bytes may be under way to one member: as many as do not queue up for long.

    A link carries heartbeats and chunks in the order of sending, so a heartbeat waits for the
    chunks before it. Their answers tell how long that is: what an answer takes beyond the shortest
    one seen is time spent in queues. Above ``target_ns`` of it the window shrinks, below it grows.
    (The idea of delay-based congestion control, as in RFC 6817, LEDBAT.)

    Args:
        target_ns: queueing that heartbeats can live with.
    """

    __slots__ = ("_base_ns", "_growing", "_inflight", "_shrunk_until", "_target_ns", "bytes")

    def __init__(self, target_ns: int) -> None:
        self._target_ns = target_ns
        self._base_ns = 0
        self._growing = True
        self._shrunk_until = 0
        self._inflight: deque[tuple[int, int, int]] = deque()
        self.bytes = 8 * PIECE_BYTES_MIN
        """How many bytes may be under way now."""

    @property
    def piece_bytes(self) -> int:
        """How much to send in one message."""
        return max(PIECE_BYTES_MIN, min(PIECE_BYTES_MAX, self.bytes // 4))

    def sent(self, end: int, size: int, now_ns: int) -> None:
        """``size`` bytes that end at offset ``end`` have left."""
        self._inflight.append((end, size, now_ns))

    def restart(self) -> None:
        """What was under way is lost or answered otherwise."""
        self._inflight.clear()
        self._shrunk_until = 0

    def acked(self, offset: int, now_ns: int) -> None:
        """Everything before ``offset`` has arrived."""
        inflight = self._inflight
        while inflight and inflight[0][0] <= offset:
            end, size, sent_ns = inflight.popleft()
            self._learn(end, size, now_ns - sent_ns)

    def _learn(self, end: int, size: int, delay_ns: int) -> None:
        if not self._base_ns or delay_ns < self._base_ns:
            self._base_ns = max(1, delay_ns)
        if delay_ns - self._base_ns > self._target_ns:
            self._growing = False
            if end > self._shrunk_until:  # once for all that is under way: it left before we knew
                self._shrunk_until = self._inflight[-1][0] if self._inflight else end
                self.bytes = max(WINDOW_BYTES_MIN, self.bytes * 3 // 4)
        else:
            grown = size if self._growing else max(1, size * size // self.bytes)
            self.bytes = min(WINDOW_BYTES_MAX, self.bytes + grown)
