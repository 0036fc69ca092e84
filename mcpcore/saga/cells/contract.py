"""The seam for marks that everybody sees: small values that are set only if they are as expected.

This module exists so that claims and locks are written once, and work in memory, SQLite, Redis and
a Raft group alike. It must never know what the values mean.
"""

from __future__ import annotations

from typing import Protocol


class Cells(Protocol):
    """Values by key, changed by compare-and-exchange alone."""

    async def swap(self, key: str, expected: bytes | None, new: bytes | None) -> bytes | None:
        """Set a key to ``new`` if it holds ``expected``; None stands for no value.

        Returns:
            What it held before: equal to ``expected`` if, and only if, it was set.

        Raises:
            JournalUnavailable: the store does not answer: it may have been set.
        """
        ...

    async def get(self, key: str) -> bytes | None:
        """What a key holds; None if nothing."""
        ...
