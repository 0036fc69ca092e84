"""Cells in memory: for tests, and for effects that die with their process."""

from __future__ import annotations

from mcpcore.saga.cells.contract import Cells


class MemoryCells(Cells):
    """Cells of one process."""

    def __init__(self) -> None:
        self._cells: dict[str, bytes] = {}

    async def swap(self, key: str, expected: bytes | None, new: bytes | None) -> bytes | None:
        """See ``Cells``."""
        held = self._cells.get(key)
        if held == expected:
            if new is None:
                self._cells.pop(key, None)
            else:
                self._cells[key] = new
        return held

    async def get(self, key: str) -> bytes | None:
        """See ``Cells``."""
        return self._cells.get(key)
