"""The key-value machine as a client sees it.

This module exists so that a program says ``put`` and ``get`` and never sees encoded bytes. Keys and
values are bytes; a string is taken as its UTF-8 form.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import NamedTuple, TypeVar

from mcpcore.errors import (
    CommandRefused,
    InvalidInput,
    OutcomeUnknown,
    WatchCompacted,
    WatchOverrun,
)
from mcpcore.node.client.client import Client
from mcpcore.node.group import Consistency, Stale
from mcpcore.node.kv.commands import (
    Command,
    Compare,
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
    Txn,
    TxnOperation,
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
    TxnDone,
    decode_result,
)
from mcpcore.raft.staleness import StalenessBound

Text = bytes | bytearray | memoryview | str
_R = TypeVar("_R")

_REWATCH_PAUSE_S = 0.1


class StaleRecord(NamedTuple):
    """The record of a key (None: there is none), from a state that is at most so far behind.

    ``bound`` is None if nothing is known of its age, which only who accepts any age can meet.
    """

    record: KeyValue | None
    bound: StalenessBound | None


class KeyValueClient:
    """Keys and values of one group.

    Args:
        client: the connection to the cluster.
        group: the group that holds them.

    Every method may raise ``Rejected`` (nothing happened) and, if it writes, ``OutcomeUnknown``;
    a command that the store refuses raises ``CommandRefused`` with the reason, and an argument of
    the wrong type ``InvalidInput``.
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
        wanted = expected if expected is None or isinstance(expected, int) else _bytes(expected)
        new = None if value is None else _bytes(value)
        return await self._do(CompareAndSet(_bytes(key), wanted, new, lease), Swapped, NotSwapped)

    async def txn(
        self,
        compare: Iterable[Compare],
        then: Iterable[TxnOperation],
        otherwise: Iterable[TxnOperation] = (),
    ) -> TxnDone:
        """Do several things at one revision, all or nothing; see ``Txn``.

        Args:
            compare: what must hold for ``then`` to be done.
            then: puts, deletes and reads. otherwise: done instead if something does not hold.
        """
        return await self._do(Txn(tuple(compare), tuple(then), tuple(otherwise)), TxnDone)

    # --- reading -----------------------------------------------------------------------------

    async def get(
        self, key: Text, *, consistency: Consistency | Stale = Consistency.LINEARIZABLE
    ) -> KeyValue | None:
        """The record of a key, or None."""
        return (await self._ask(Get(_bytes(key)), Found, consistency)).record

    async def get_stale(self, key: Text, *, max_age_s: float | None = None) -> StaleRecord:
        """The record of a key as the next best node has it, and how old that may be.

        Args:
            max_age_s: the oldest state to answer from; None: any.

        Raises:
            StalenessNotPromised: no node that can be reached could promise that.
        """
        request, consistency = encode_request(Get(_bytes(key))), Stale(max_age_s)
        read = await self._client.query(request, group=self._group, consistency=consistency)
        return StaleRecord(_expect(read.answer, (Found,)).record, read.bound)

    async def scan(
        self,
        prefix: Text = b"",
        *,
        start: Text | None = None,
        limit: int | None = None,
        consistency: Consistency | Stale = Consistency.LINEARIZABLE,
    ) -> AsyncGenerator[KeyValue, None]:
        """The records whose keys start with ``prefix``, in order of keys.

        Fetched in portions: each portion is one consistent read, the whole is not.

        Args:
            start: the first key wanted, if not the first that there is.
            limit: how many records are wanted at most; None: all.
        """
        if limit is not None and limit < 0:
            raise InvalidInput(f"{limit} records cannot be wanted", where="scan, limit")
        first = _bytes(prefix)
        position: bytes | None = first if start is None else max(first, _bytes(start))
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
    ) -> AsyncGenerator[Event, None]:
        """Changes of a key, or of all keys that start with it: in order, each once.

        Goes on from node to node when one is lost, and from where it was when it was too slow.

        HAZARD: a node that is cut off from the others keeps silent until it hears of changes again.

        Args:
            after_revision: the first change wanted is the one after it; None: after now.

        Raises:
            WatchCompacted: changes that were asked for are no longer kept there; read the state
                anew and watch from its revision.
            Rejected: no node could be reached in the client's ``timeout_s``; watch again after the
                revision of the last event.
        """
        after = after_revision
        if after is None:
            after = (await self._ask(Get(_bytes(key)), Found, Consistency.LINEARIZABLE)).revision
        while True:
            request = encode_request(Watch(_bytes(key), prefix, after))
            try:
                async with aclosing(self._client.watch(request, group=self._group)) as answers:
                    async for encoded in answers:
                        match decode_result(encoded):
                            case Changes(revision, events) if revision > after:
                                for event in events:
                                    yield event
                                after = revision
                            case TooSlow(resume_after):
                                after = max(after, resume_after)
                                break
                            case Compacted(oldest):
                                raise WatchCompacted(after, oldest)
                            case Changes():
                                pass  # known already
                            case other:
                                raise InvalidInput(f"not an event of a watch: {other}")
            except (OutcomeUnknown, WatchOverrun):
                await asyncio.sleep(_REWATCH_PAUSE_S)

    # --- leases ------------------------------------------------------------------------------

    async def lease_grant(self, ttl_s: float) -> int:
        """Make a lease: keys that hang on it go when it is not renewed; returns its id.

        Args:
            ttl_s: how long it lives, in seconds; at least a millisecond.
        """
        if not 0.001 <= ttl_s < 1e12:
            raise InvalidInput(f"{ttl_s!r} s is no time to live", where="lease_grant")
        return (await self._do(LeaseGrant(round(ttl_s * 1000)), LeaseGranted)).lease

    async def lease_keep_alive(self, lease: int) -> float:
        """Let a lease run in full again; returns its time to live, in seconds from this call on.

        Raises:
            CommandRefused: it has run out, or is about to; what hung on it is not yours any more.
        """
        alive = await self._ask(LeaseKeepAlive(lease), LeaseAlive, Consistency.LINEARIZABLE)
        return alive.ttl_ms / 1000

    async def lease_revoke(self, lease: int) -> int:
        """End a lease; returns how many keys went with it."""
        return (await self._do(LeaseRevoke(lease), LeasesEnded)).count

    # --- inside ------------------------------------------------------------------------------

    async def _do(self, command: Command, *wanted: type[_R]) -> _R:
        applied = await self._client.propose(encode_command(command), group=self._group)
        return _expect(applied.result, wanted)

    async def _ask(
        self, request: Request, wanted: type[_R], consistency: Consistency | Stale
    ) -> _R:
        found = await self._client.query(
            encode_request(request), group=self._group, consistency=consistency
        )
        return _expect(found.answer, (wanted,))


def _bytes(text: Text) -> bytes:
    if isinstance(text, str):
        try:
            return text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"no valid text: {error}") from None
    if isinstance(text, bytes | bytearray | memoryview):
        return bytes(text)
    raise InvalidInput(f"a key or a value is bytes or text, not {text!r}")  # bytes(5) is 5 zeros


def _expect(encoded: bytes, wanted: tuple[type[_R], ...]) -> _R:
    result = decode_result(encoded)
    if isinstance(result, wanted):
        return result
    if isinstance(result, Refused):
        raise CommandRefused(result.code, result.message)
    raise InvalidInput(f"the node answered {type(result).__name__}, which fits no such request")
