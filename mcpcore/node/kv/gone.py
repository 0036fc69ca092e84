"""What a store no longer holds: its latest deletions, up to a bound.

This module exists so that "what changed since?" can be answered for what left no trace. It is each
member's own, no part of the replicated state: two members may remember differently far back.
"""

from __future__ import annotations

from collections import deque
from typing import Final

ENTRIES_MAX: Final = 65_536
"""Deletions remembered..."""
BYTES_MAX: Final = 8 << 20
"""...and bytes of deleted keys."""
_OVERHEAD_BYTES: Final = 64


class Gone:
    """Deleted keys and ended leases, with the log index at which they went.

    Args:
        horizon: whatever went up to here is not known.
    """

    __slots__ = ("_bytes", "_entries", "horizon")

    def __init__(self, horizon: int = 0) -> None:
        self.horizon = horizon
        """Everything that went after this index is still remembered."""
        self._entries: deque[tuple[int, bytes | int]] = deque()
        self._bytes = 0

    def add(self, index: int, what: bytes | int) -> None:
        """A key (bytes) or a lease (int) went at ``index``, which never falls."""
        entries = self._entries
        entries.append((index, what))
        self._bytes += _weight(what)
        while len(entries) > ENTRIES_MAX or self._bytes > BYTES_MAX:
            self.horizon, forgotten = entries.popleft()
            self._bytes -= _weight(forgotten)

    def since(self, index: int) -> tuple[list[bytes], list[int]] | None:
        """Keys and leases that went after ``index``, each once; None if some are forgotten."""
        if index < self.horizon:
            return None
        keys: dict[bytes, None] = {}
        leases: dict[int, None] = {}
        for when, what in reversed(self._entries):
            if when <= index:
                break
            if isinstance(what, bytes):
                keys[what] = None
            else:
                leases[what] = None
        return list(keys), list(leases)

    def check(self) -> None:
        """Every promise that it makes about itself."""
        indexes = [index for index, _ in self._entries]
        assert indexes == sorted(indexes), "in the order of going"
        assert not indexes or self.horizon <= indexes[0], "the horizon lies before all of them"
        assert self._bytes == sum(_weight(what) for _, what in self._entries)
        assert len(indexes) <= ENTRIES_MAX


def _weight(what: bytes | int) -> int:
    return _OVERHEAD_BYTES + (len(what) if isinstance(what, bytes) else 0)
