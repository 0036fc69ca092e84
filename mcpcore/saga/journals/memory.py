"""Journals in memory: for tests, and for sagas that may die with their process.

This module exists so that an engine can be tried without a disk. It outlives engines, not
processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from mcpcore.errors import JournalMoved
from mcpcore.saga.journals.contract import Head, Journal, Query, Story
from mcpcore.saga.tokens import Fence


class MemoryJournal(Journal):
    """Journals of one process. An engine that opens it takes over the sagas of those before."""

    patrol_s: float | None = None

    def __init__(self) -> None:
        self._stories: dict[str, tuple[Head, list[bytes]]] = {}
        self._owner = ""
        self._term = 0
        self._sequence = 0
        self._disturbed: set[str] = set()
        self._disturbance = asyncio.Event()

    async def open(self, owner: str) -> None:
        """See ``Journal``."""
        self._term += 1
        self._owner = owner
        self._disturbed.clear()
        self._disturbance = asyncio.Event()

    async def close(self) -> None:
        """See ``Journal``."""

    async def append(self, head: Head, expected: int, rows: Sequence[bytes]) -> Fence:
        """See ``Journal``."""
        found = self._stories.get(head.saga)
        old = [] if found is None else found[1]
        if expected != len(old):
            if old[expected:] != list(rows):
                raise JournalMoved(head.saga, expected)
        else:
            self._stories[head.saga] = (head, [*old, *rows])
            self._sequence += 1
        return Fence(self._term, self._sequence)

    def disturb(self, saga: str) -> None:
        """Tell the engine that a tool wrote to a saga's journal."""
        self._disturbed.add(saga)
        self._disturbance.set()

    async def read(self, saga: str) -> Story | None:
        """See ``Journal``."""
        found = self._stories.get(saga)
        return None if found is None else Story(found[0], tuple(found[1]))

    async def heads(self, query: Query) -> list[Head]:
        """See ``Journal``."""
        return query.pick([head for head, _ in self._stories.values()])

    async def delete(self, saga: str) -> None:
        """See ``Journal``."""
        self._stories.pop(saga, None)

    async def gone(self, owners: Collection[str]) -> set[str]:
        """See ``Journal``: whoever has it open has replaced all others."""
        return {owner for owner in owners if owner != self._owner}

    async def disturbed(self) -> set[str]:
        """See ``Journal``."""
        await self._disturbance.wait()
        self._disturbance.clear()
        found, self._disturbed = self._disturbed, set()
        return found
