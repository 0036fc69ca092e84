"""One group's keys and values, as a workload asks for them: the answer and its log position.

This module exists so that a workload says what it wants in one line, and so that every operation of
a history carries the log position that judges can use. It must never record anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing, suppress
from typing import Any, NamedTuple

from mcpcore.check import LogPosition
from mcpcore.errors import InvalidInput
from mcpcore.node.client.client import Client
from mcpcore.node.kv.client import KeyValueClient
from mcpcore.node.kv.commands import (
    Command,
    Compare,
    CompareAndSet,
    Get,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseRevoke,
    Put,
    Request,
    Scan,
    Txn,
    TxnOperation,
    encode_command,
    encode_request,
)
from mcpcore.node.kv.records import Event, KeyValue
from mcpcore.node.kv.results import (
    Found,
    LeaseAlive,
    LeaseGranted,
    LeasesEnded,
    NotSwapped,
    PutDone,
    Refused,
    Scanned,
    Swapped,
    TxnDone,
    decode_result,
)


class Answer(NamedTuple):
    """What came back, and where in the log."""

    value: Any
    position: LogPosition


class Store:
    """Keys of one group.

    Args:
        client: the connection; its session makes retries safe.
        group: which group.
    """

    def __init__(self, client: Client, group: str) -> None:
        self.group = group
        self._client = client

    async def put(self, key: str, value: str) -> Answer:
        """Set a key; the answer is the revision."""
        done, position = await self._do(Put(key.encode(), value.encode()))
        if not isinstance(done, PutDone):
            raise InvalidInput(f"a put was answered with {done}", where=key)
        return Answer(done.revision, position)

    async def compare_and_set(
        self, key: str, expected: str | int | None, value: str | None
    ) -> Answer:
        """Set a key, or remove it, if its value or revision is as expected; answers whether."""
        wanted = expected.encode() if isinstance(expected, str) else expected
        new = None if value is None else value.encode()
        done, position = await self._do(CompareAndSet(key.encode(), wanted, new))
        if not isinstance(done, Swapped | NotSwapped):
            raise InvalidInput(f"a compare-and-set was answered with {done}", where=key)
        return Answer(isinstance(done, Swapped), position)

    async def get(self, key: str) -> tuple[KeyValue | None, LogPosition]:
        """The record of a key, or None, read linearizably."""
        found, position = await self._ask(Get(key.encode()))
        if not isinstance(found, Found):
            raise InvalidInput(f"a read was answered with {found}", where=key)
        return found.record, position

    async def scan(self, prefix: str, limit: int = 0) -> tuple[list[KeyValue], LogPosition]:
        """The records whose keys begin with ``prefix``.

        In several reads if one answer cannot hold them; the position is the first one's, so that
        nothing acknowledged before the call is missing.
        """
        request = Scan.of_prefix(prefix.encode(), limit)
        records: list[KeyValue] = []
        first: LogPosition | None = None
        while True:
            found, position = await self._ask(request)
            if not isinstance(found, Scanned):
                raise InvalidInput(f"a scan was answered with {found}", where=prefix)
            first = first or position
            records.extend(found.records)
            if found.next_key is None or (limit and len(records) >= limit):
                return records, first
            request = request._replace(start=found.next_key)

    async def txn(
        self,
        compare: Iterable[Compare],
        then: Iterable[TxnOperation],
        otherwise: Iterable[TxnOperation] = (),
    ) -> tuple[TxnDone, LogPosition]:
        """Do several things at once, or nothing."""
        done, position = await self._do(Txn(tuple(compare), tuple(then), tuple(otherwise)))
        if not isinstance(done, TxnDone):
            raise InvalidInput(f"a transaction was answered with {done}", where=self.group)
        return done, position

    async def lease_grant(self, ttl_ms: int) -> int:
        """Make a lease; its id."""
        done, _ = await self._do(LeaseGrant(ttl_ms))
        if not isinstance(done, LeaseGranted):
            raise InvalidInput(f"a grant was answered with {done}", where=self.group)
        return done.lease

    async def lease_keep_alive(self, lease: int) -> bool:
        """Let a lease run in full again; False if there is none any more."""
        found, _ = await self._ask(LeaseKeepAlive(lease))
        if not isinstance(found, LeaseAlive | Refused):
            raise InvalidInput(f"a keep-alive was answered with {found}", where=f"lease {lease}")
        return isinstance(found, LeaseAlive)

    async def lease_revoke(self, lease: int) -> LogPosition:
        """End a lease, if it is still there, and with it its keys."""
        done, position = await self._do(LeaseRevoke(lease))
        if not isinstance(done, LeasesEnded | Refused):
            raise InvalidInput(f"a revocation was answered with {done}", where=f"lease {lease}")
        return position

    async def changes(
        self, prefix: str, after_revision: int, *, most: int, patience_s: float
    ) -> list[Event]:
        """What changes under a prefix after a revision: ``most`` of it, or what comes in time."""
        heard: list[Event] = []
        watching = KeyValueClient(self._client, self.group).watch(
            prefix, prefix=True, after_revision=after_revision
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s), aclosing(watching) as events:
                async for event in events:
                    heard.append(event)
                    if len(heard) >= most:
                        break
        return heard

    async def close(self) -> None:
        """Close the connection, which the stores of one client share."""
        await self._client.close()

    async def _do(self, command: Command) -> tuple[Any, LogPosition]:
        applied = await self._client.propose(encode_command(command), group=self.group)
        position = LogPosition(self.group, applied.term, applied.index)
        return decode_result(applied.result), position

    async def _ask(self, request: Request) -> tuple[Any, LogPosition]:
        found = await self._client.query(encode_request(request), group=self.group)
        return decode_result(found.answer), LogPosition(self.group, 0, found.applied)
