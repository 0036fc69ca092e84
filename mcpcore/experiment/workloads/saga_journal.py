"""Journals of sagas in the keys of a Raft group, so that a saga survives its engine's machine.

This module exists so that the saga workload puts engine, journal and effects under the same faults.
A journal is one key, changed by compare-and-set on its revision, which makes the log index of a
change the fence of an attempt. One engine at a time has a name, and its journals. It must never
look into a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final, TypeVar

import msgpack

from mcpcore.errors import JournalMoved, JournalUnavailable, OutcomeUnknown, Rejected
from mcpcore.experiment.workloads.store import Store
from mcpcore.node.kv.commands import Compare, Put
from mcpcore.node.kv.records import KeyValue
from mcpcore.saga.journals.contract import Head, Journal, Query, Story
from mcpcore.saga.state import Status
from mcpcore.saga.tokens import Fence

T = TypeVar("T")

_PAUSE_S: Final = 0.5


class KeyValueJournal(Journal):
    """The journals of one engine's name.

    Args:
        store: the group that holds them.
        name: keys begin with it; engines that follow each other share it.
    """

    patrol_s: float | None = None

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._prefix = f"journal/{name}/"
        self._owner = ""

    async def open(self, owner: str) -> None:
        """See ``Journal``."""
        self._owner = owner

    async def close(self) -> None:
        """See ``Journal``."""

    async def append(self, head: Head, expected: int, rows: Sequence[bytes]) -> Fence:
        """See ``Journal``."""
        key = f"{self._prefix}{head.saga}"
        try:
            record, _ = await self._store.get(key)
            old = [] if record is None else _story(record).rows
            if expected != len(old):
                if list(old[expected:]) != list(rows) or record is None:
                    raise JournalMoved(head.saga, expected)
                return Fence(1, record.mod_revision)
            value = msgpack.packb((tuple(head), [*old, *rows]))
            unchanged = Compare.unchanged(key.encode(), record.mod_revision if record else 0)
            done, _ = await self._store.txn([unchanged], [Put(key.encode(), value)])
        except JournalMoved:
            raise
        except (Rejected, OutcomeUnknown) as error:
            raise JournalUnavailable(str(error)) from error
        if not done.succeeded:
            raise JournalUnavailable("somebody else wrote at the same time; ask again")
        return Fence(1, done.revision)

    async def read(self, saga: str) -> Story | None:
        """See ``Journal``."""
        record, _ = await _persist(lambda: self._store.get(f"{self._prefix}{saga}"))
        return None if record is None else _story(record)

    async def heads(self, query: Query) -> list[Head]:
        """See ``Journal``."""
        records, _ = await _persist(lambda: self._store.scan(self._prefix))
        return query.pick([_story(record).head for record in records])

    async def delete(self, saga: str) -> None:
        """See ``Journal``."""
        key = f"{self._prefix}{saga}"
        record, _ = await _persist(lambda: self._store.get(key))
        if record is not None:
            revision = record.mod_revision
            await _persist(lambda: self._store.compare_and_set(key, revision, None))

    async def gone(self, owners: Collection[str]) -> set[str]:
        """See ``Journal``: whoever opened the name last has replaced all others."""
        return {owner for owner in owners if owner != self._owner}

    async def disturbed(self) -> set[str]:
        """See ``Journal``: nobody else writes here."""
        await asyncio.Event().wait()
        return set()


async def _persist(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until somebody answers; whoever waits bounds the wait."""
    while True:
        try:
            return await ask()
        except (Rejected, OutcomeUnknown):
            await asyncio.sleep(_PAUSE_S)


def _story(record: KeyValue) -> Story:
    head, rows = msgpack.unpackb(record.value)
    fields: list[Any] = list(head)
    fields[3] = Status(fields[3])
    return Story(Head(*fields), rows)
