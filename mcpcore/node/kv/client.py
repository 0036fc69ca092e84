"""The key-value machine as a client sees it.

This module exists so that a program says ``put`` and ``get`` and never sees encoded bytes. Keys and
values are bytes; a string is taken as its UTF-8 form.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from mcpcore.errors import CommandRefused, ConnectionLost, InvalidInput, Unreachable, WatchCompacted
from mcpcore.node.client import Client
from mcpcore.node.group import Consistency
from mcpcore.node.kv.commands import (
    Command,
    CompareAndSet,
    Delete,
    DeletePrefix,
    Get,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseRevoke,
    Put,
    Request,
    Scan,
    Watch,
    encode_command,
    encode_request,
)
from mcpcore.node.kv.records import Event, KeyValue, prefix_end
from mcpcore.node.kv.results import (
    Changes,
    Compacted,
    Deleted,
    Found,
    LeaseAlive,
    LeaseGranted,
    LeasesEnded,
    NotSwapped,
    PutDone,
    Refused,
    Scanned,
    Swapped,
    TooSlow,
    decode_result,
)

Text = bytes | str
_R = TypeVar("_R")

_REWATCH_PAUSE_S = 0.1


class KeyValueClient:
    """Keys and values of one group.

    Args:
        client: the connection to the cluster.
        group: the group that holds them.

    Every method may raise ``Rejected`` (nothing happened) and, if it writes, ``OutcomeUnknown``;
    a command that the store refuses raises ``CommandRefused`` with the reason.
    """

    def __init__(self, client: Client, group: str = "main") -> None:
        self._client = client
        self._group = group

    # --- writing -----------------------------------------------------------------------------

    async def put(self, key: Text, value: Text, *, lease: int = 0) -> int:
        """Set a key; returns the revision of the change."""
        done = await self._do(Put(_bytes(key), _bytes(value), lease), PutDone)
        return done.revision

    async def delete(self, key: Text) -> bool:
        """Remove a key; returns whether it was there."""
        return (await self._do(Delete(_bytes(key)), Deleted)).count > 0

    async def delete_prefix(self, prefix: Text) -> int:
        """Remove the keys that start with ``prefix``, in portions; returns how many there were."""
        count, more = 0, True
        while more:
            done = await self._do(DeletePrefix(_bytes(prefix)), Deleted)
            count, more = count + done.count, done.more
        return count

    async def compare_and_set(
        self,
        key: Text,
        *,
        expected: Text | int | None,
        value: Text | None,
        lease: int = 0,
    ) -> Swapped | NotSwapped:
        """Set or remove a key if it is as expected.

        Args:
            expected: a value; or a revision (``mod_revision``); or None: no such key.
            value: the new value, or None to remove the key.
        """
        wanted = _bytes(expected) if isinstance(expected, bytes | str) else expected
        new = None if value is None else _bytes(value)
        return await self._do(CompareAndSet(_bytes(key), wanted, new, lease), Swapped, NotSwapped)

    # --- reading -----------------------------------------------------------------------------

    async def get(
        self, key: Text, *, consistency: Consistency = Consistency.LINEARIZABLE
    ) -> KeyValue | None:
        """The record of a key, or None."""
        return (await self._ask(Get(_bytes(key)), Found, consistency)).record

    async def scan(
        self,
        prefix: Text = b"",
        *,
        start: Text | None = None,
        limit: int | None = None,
        consistency: Consistency = Consistency.LINEARIZABLE,
    ) -> AsyncIterator[KeyValue]:
        """The records whose keys start with ``prefix``, in order of keys.

        Fetched in portions: each portion is one consistent read, the whole is not.
        """
        position: bytes | None = _bytes(prefix) if start is None else _bytes(start)
        end = prefix_end(_bytes(prefix))
        left = limit
        while position is not None and (left is None or left > 0):
            request = Scan(position, end, left or 0)
            found = await self._ask(request, Scanned, consistency)
            for record in found.records:
                yield record
            if left is not None:
                left -= len(found.records)
            position = found.next_key

    async def watch(
        self, key: Text, *, prefix: bool = False, after_revision: int | None = None
    ) -> AsyncIterator[Event]:
        """Changes of a key, or of all keys that start with it: in order, each once.

        Goes on from node to node when one is lost, and from where it was when it was too slow.

        Raises:
            WatchCompacted: changes that were asked for are no longer kept anywhere; read the state
                anew and watch from its revision.
        """
        after = after_revision
        if after is None:
            after = (await self._ask(Get(_bytes(key)), Found, Consistency.LINEARIZABLE)).revision
        while True:
            request = encode_request(Watch(_bytes(key), prefix, after))
            try:
                async for encoded in self._client.watch(request, group=self._group):
                    match decode_result(encoded):
                        case Changes(revision, events):
                            for event in events:
                                yield event
                            after = revision
                        case TooSlow(resume_after):
                            after = resume_after
                            break
                        case Compacted(oldest):
                            raise WatchCompacted(after, oldest)
                        case other:
                            raise InvalidInput(f"not an event of a watch: {other}")
            except (ConnectionLost, Unreachable):
                await asyncio.sleep(_REWATCH_PAUSE_S)

    # --- leases ------------------------------------------------------------------------------

    async def lease_grant(self, ttl_s: float) -> int:
        """Make a lease: keys that hang on it go when it is not renewed; returns its id."""
        return (await self._do(LeaseGrant(round(ttl_s * 1000)), LeaseGranted)).lease

    async def lease_keep_alive(self, lease: int) -> float:
        """Let a lease run in full again; returns its time to live in seconds, from this call."""
        alive = await self._ask(LeaseKeepAlive(lease), LeaseAlive, Consistency.LINEARIZABLE)
        return alive.ttl_ms / 1000

    async def lease_revoke(self, lease: int) -> int:
        """End a lease; returns how many keys went with it."""
        return (await self._do(LeaseRevoke(lease), LeasesEnded)).count

    # --- inside ------------------------------------------------------------------------------

    async def _do(self, command: Command, *wanted: type[_R]) -> _R:
        applied = await self._client.propose(encode_command(command), group=self._group)
        return _expect(applied.result, wanted)

    async def _ask(self, request: Request, wanted: type[_R], consistency: Consistency) -> _R:
        found = await self._client.query(
            encode_request(request), group=self._group, consistency=consistency
        )
        return _expect(found.answer, (wanted,))


def _bytes(text: Text) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)


def _expect(encoded: bytes, wanted: tuple[type[_R], ...]) -> _R:
    result = decode_result(encoded)
    if isinstance(result, wanted):
        return result
    if isinstance(result, Refused):
        raise CommandRefused(result.code, result.message)
    raise InvalidInput(f"the node answered {type(result).__name__}, which fits no such request")
