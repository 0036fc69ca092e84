"""What waits for one connection, and what gives way when too much does.

This module exists so that "a slow peer never blocks us, and costs at most so much memory" is a
property of one small structure. Pure: no socket, no clock, no asyncio.
"""

from __future__ import annotations

from collections import deque

from mcpcore.node.framing import HEADER_BYTES, pack_header


class SendQueue:
    """Payloads in the order of sending, bounded in frames and in bytes.

    When full, the oldest droppable payloads make room: a heartbeat that waits is a heartbeat whose
    news is old. If that cannot make enough room nothing is dropped, and the new payload is refused.

    Args:
        max_frames: how many payloads may wait.
        max_bytes: how many bytes may wait, headers included.
    """

    __slots__ = (
        "_droppable",
        "_droppable_bytes",
        "_max_bytes",
        "_max_frames",
        "_next",
        "_payloads",
        "dropped",
        "queued_bytes",
        "refused",
    )

    def __init__(self, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        # Keyed by number of arrival: a dict keeps that order and gives up its middle at no cost.
        self._payloads: dict[int, bytes] = {}
        self._droppable: deque[int] = deque()
        self._droppable_bytes = 0
        self._next = 0
        self.queued_bytes = 0
        """Bytes that wait, headers included."""
        self.dropped = 0
        """Payloads that were accepted and gave way later."""
        self.refused = 0
        """Payloads that found no room."""

    def __len__(self) -> int:
        """How many payloads wait."""
        return len(self._payloads)

    def push(self, payload: bytes, droppable: bool = False) -> bool:
        """Append one payload. False, and nothing changed, if there is no room for it."""
        size = len(payload) + HEADER_BYTES
        payloads = self._payloads
        if (
            self.queued_bytes + size > self._max_bytes or len(payloads) >= self._max_frames
        ) and not self._make_room(size):
            self.refused += 1
            return False
        number = self._next
        self._next = number + 1
        payloads[number] = payload
        self.queued_bytes += size
        if droppable:
            self._droppable.append(number)
            self._droppable_bytes += size
        return True

    def take(self, max_bytes: int) -> bytes:
        """Remove the oldest payloads and return them as frames, ready for the wire.

        As many as fit into ``max_bytes``, and one at least if any waits.
        """
        payloads = self._payloads
        parts: list[bytes] = []
        if self.queued_bytes <= max_bytes:
            for payload in payloads.values():
                parts += (pack_header(len(payload)), payload)
            self.clear()
            return b"".join(parts)
        taken, size = [], 0
        for number, payload in payloads.items():
            size += len(payload) + HEADER_BYTES
            if parts and size > max_bytes:
                break
            parts += (pack_header(len(payload)), payload)
            taken.append(number)
        for number in taken:
            if self._droppable and self._droppable[0] == number:
                self._droppable.popleft()
                self._droppable_bytes -= len(payloads[number]) + HEADER_BYTES
            self.queued_bytes -= len(payloads.pop(number)) + HEADER_BYTES
        return b"".join(parts)

    def clear(self) -> None:
        """Forget everything that waits."""
        self._payloads.clear()
        self._droppable.clear()
        self._droppable_bytes = 0
        self.queued_bytes = 0

    def _make_room(self, size: int) -> bool:
        payloads, droppable = self._payloads, self._droppable
        if (
            self.queued_bytes - self._droppable_bytes + size > self._max_bytes
            or len(payloads) - len(droppable) >= self._max_frames
        ):
            return False
        while self.queued_bytes + size > self._max_bytes or len(payloads) >= self._max_frames:
            gone = len(payloads.pop(droppable.popleft())) + HEADER_BYTES
            self.queued_bytes -= gone
            self._droppable_bytes -= gone
            self.dropped += 1
        return True

    def check(self) -> None:
        """Every promise this queue makes about itself."""
        sizes = {number: len(p) + HEADER_BYTES for number, p in self._payloads.items()}
        assert self.queued_bytes == sum(sizes.values())
        assert self.queued_bytes <= self._max_bytes
        assert len(sizes) <= self._max_frames
        assert list(sizes) == sorted(sizes), "order of arrival is order of sending"
        assert set(self._droppable) <= sizes.keys(), "what may be dropped is still here"
        assert self._droppable_bytes == sum(sizes[number] for number in self._droppable)
