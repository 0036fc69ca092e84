"""Semantic locks: a resource that a saga is in the middle of changing.

This module exists so that a saga which needs isolation can say so: steps of a saga commit one by
one, so others would see half of it (Richardson's countermeasure "semantic lock"). A lock is held by
a saga, not by a process: it survives crashes, and goes with the saga's end. A parked saga keeps its
locks, since its resources are in no state to be used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from mcpcore.saga.cells.contract import Cells


class Locks:
    """Locks by the name of a resource.

    Args:
        has_ended: whether a saga is over (or forgotten); its locks may then be taken from it.
    """

    def __init__(self, cells: Cells, has_ended: Callable[[str], Awaitable[bool]]) -> None:
        self._cells = cells
        self._has_ended = has_ended

    async def take(self, resources: Sequence[str], saga: str) -> tuple[str, str] | None:
        """Take all locks, in the order of their names, so that two sagas never wait for each other.

        Returns:
            None; or the first resource that another saga holds, and that saga. Locks that were
            taken before it are kept: ask again.
        """
        ours = saga.encode()
        for resource in sorted(resources):
            held = await self._cells.swap(_key(resource), None, ours)
            if held is None or held == ours:
                continue
            holder = held.decode("utf-8", "replace")
            if not await self._has_ended(holder):
                return resource, holder
            # Its engine died between the end of the saga and letting go.
            if await self._cells.swap(_key(resource), held, ours) != held:
                return resource, holder
        return None

    async def release(self, resources: Sequence[str], saga: str) -> None:
        """Let go of what the saga holds. Twice is harmless."""
        for resource in resources:
            await self._cells.swap(_key(resource), saga.encode(), None)

    async def holder(self, resource: str) -> str:
        """The saga that holds a resource; empty if none."""
        return (await self._cells.get(_key(resource)) or b"").decode("utf-8", "replace")


def _key(resource: str) -> str:
    return f"lock/{resource}"
