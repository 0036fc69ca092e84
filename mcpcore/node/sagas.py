"""Sagas in a Raft group: their journals, cells and time, over the key-value machine.

This module exists so that a saga survives the machine it ran on: its journal is replicated by a
group of ours, and when its engine dies, another one goes on with it, exactly once. It must never
decide anything about sagas.

How: a saga's journal is one key, changed by compare-and-set on its revision, so of two engines that
go on at the same time one is refused, and stops. An engine shows that it lives by a key on a lease;
when that is gone, the others take over. A fence is the log position of the record that announced an
attempt, so it rises over all engines and all sagas.

Take-over comes within the lease's time to live, one patrol, and a commit after an engine died. An
engine that cannot reach the group can neither write nor begin anything: its sagas are held.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, NamedTuple

import msgpack

from mcpcore.clock import Interval, NodeClock
from mcpcore.errors import (
    CommandRefused,
    CoordinationError,
    InvalidInput,
    JournalDamaged,
    JournalMoved,
    JournalUnavailable,
    OutcomeUnknown,
    ProposalTooLarge,
    Rejected,
    WatchCompacted,
)
from mcpcore.node.client.client import Client
from mcpcore.node.clocks import Clocks, SystemClocks
from mcpcore.node.kv.client import KeyValueClient
from mcpcore.node.kv.commands import CompareAndSet, encode_command
from mcpcore.node.kv.records import KeyValue
from mcpcore.node.kv.results import NotSwapped, Refused, Swapped, decode_result
from mcpcore.saga import Cells, Fence, Head, Journal, Query, Status, Story

logger = logging.getLogger("mcpcore.node.sagas")

FORMAT: Final = 1
CLUSTER_TIME_FRESH_NS: Final = 100_000_000
DRIFT_PPM: Final = 500
_LARGE = (CommandRefused, ProposalTooLarge)


class _Known(NamedTuple):
    """A journal as it was when we last saw it."""

    revision: int
    rows: tuple[bytes, ...]


class GroupJournal(Journal):
    """Journals in a group that runs the key-value machine.

    Args:
        client: a connection to the cluster; whoever made it closes it.
        group: the group.
        prefix: what the keys begin with: engines that share it share their sagas.
        lease_s: how long an engine may be silent before others take over its sagas.
        patrol_s: how often each engine looks for sagas to take over.
        call_s: how long to wait for the group before a saga counts as held.
    """

    patrol_s: float | None

    def __init__(
        self,
        client: Client,
        group: str = "main",
        *,
        prefix: str = "saga/",
        lease_s: float = 3.0,
        patrol_s: float = 1.0,
        call_s: float = 3.0,
    ) -> None:
        for name, value in (("lease_s", lease_s), ("patrol_s", patrol_s), ("call_s", call_s)):
            if not value > 0:
                raise InvalidInput(f"must be positive, not {value!r}", where=name)
        self.patrol_s = patrol_s
        self._client = client
        self._group = group
        self._kv = KeyValueClient(client, group)
        self._prefix = prefix
        self._lease_s = lease_s
        self._call_s = call_s
        self._owner = ""
        self._known: dict[str, _Known] = {}
        self._alive: asyncio.Task[None] | None = None
        self._lease = 0
        self._is_shown = False
        """Whether the key that others look for is on the lease. A lease alone shows nothing."""
        self._heard: int | None = None
        """The revision of the last nudge we heard."""

    async def open(self, owner: str) -> None:
        """See ``Journal``."""
        self._owner = owner
        self._heard = await self._show_life()
        self._alive = asyncio.get_running_loop().create_task(self._stay_alive(), name="saga owner")

    async def close(self) -> None:
        """See ``Journal``. Others may take over at once."""
        alive, self._alive = self._alive, None
        if alive is None:
            return
        alive.cancel()
        await asyncio.wait({alive})
        with suppress(CoordinationError, TimeoutError):
            async with asyncio.timeout(self._call_s):
                await self._kv.lease_revoke(self._lease)

    async def append(self, head: Head, expected: int, rows: Sequence[bytes]) -> Fence:
        """See ``Journal``."""
        saga = head.saga
        known = self._known.get(saga)
        if known is None and expected:
            await self.read(saga)
            known = self._known.get(saga)
        have = () if known is None else known.rows
        if len(have) != expected and have[expected:] != tuple(rows):
            self._known.pop(saga, None)
            raise JournalMoved(saga, expected)
        new = (*have[:expected], *rows)
        command = CompareAndSet(
            self._key(saga), None if known is None else known.revision, _encode(head, new)
        )
        try:
            applied = await self._client.propose(
                encode_command(command), group=self._group, timeout_s=self._call_s
            )
        except _LARGE:
            raise
        except (Rejected, OutcomeUnknown) as error:
            raise JournalUnavailable(str(error)) from error
        match decode_result(applied.result):
            case Swapped(revision):
                self._known[saga] = _Known(revision, new)
            case NotSwapped(_, KeyValue() as current) if _rows(current, saga) == new:
                # An earlier attempt got through after all.
                self._known[saga] = _Known(current.mod_revision, new)
                return Fence(applied.term, current.mod_revision)
            case Refused(code, message):
                raise CommandRefused(code, message)
            case _:
                self._known.pop(saga, None)
                raise JournalMoved(saga, expected)
        if head.status.is_end:
            self._known.pop(saga, None)
        if head.owner != self._owner:  # a tool, or somebody else's saga: its engine shall look
            await self._ask(self._kv.put(f"{self._prefix}nudge", saga))
        return Fence(applied.term, applied.index)

    async def read(self, saga: str) -> Story | None:
        """See ``Journal``."""
        record = await self._ask(self._kv.get(self._key(saga)))
        if record is None:
            self._known.pop(saga, None)
            return None
        rows = _rows(record, saga)
        head = _head(record, saga)
        if head.status.is_end:
            self._known.pop(saga, None)  # nothing is ever appended to it
        else:
            self._known[saga] = _Known(record.mod_revision, rows)
        return Story(head, rows)

    async def heads(self, query: Query) -> list[Head]:
        """See ``Journal``."""
        beginning = f"{self._prefix}journal/"
        found = []
        try:
            async for record in self._kv.scan(beginning):
                found.append(_head(record, record.key.decode()[len(beginning) :]))
        except (Rejected, OutcomeUnknown) as error:
            raise JournalUnavailable(str(error)) from error
        return query.pick(found)

    async def delete(self, saga: str) -> None:
        """See ``Journal``."""
        await self._ask(self._kv.delete(self._key(saga)))
        self._known.pop(saga, None)

    async def gone(self, owners: Collection[str]) -> set[str]:
        """See ``Journal``: those whose lease has run out."""
        beginning = f"{self._prefix}owner/"
        alive = {self._owner}
        try:
            async for record in self._kv.scan(beginning):
                alive.add(record.key.decode()[len(beginning) :])
        except (Rejected, OutcomeUnknown) as error:
            raise JournalUnavailable(str(error)) from error
        return set(owners) - alive

    async def disturbed(self) -> set[str]:
        """See ``Journal``. Each nudge is heard once, and none between two calls is missed."""
        watch = self._kv.watch(f"{self._prefix}nudge", after_revision=self._heard)
        try:
            async with aclosing(watch) as events:
                async for event in events:
                    self._heard = event.record.mod_revision
                    return {event.record.value.decode()}
        except WatchCompacted as compacted:
            self._heard = compacted.oldest_revision
            return set(self._known)  # some nudges are forgotten: look at everything
        except (Rejected, OutcomeUnknown) as error:
            raise JournalUnavailable(str(error)) from error
        raise JournalUnavailable("the watch ended")

    # --- inside ---------------------------------------------------------------------------------

    def _key(self, saga: str) -> bytes:
        return f"{self._prefix}journal/{saga}".encode()

    async def _ask(self, asked: Any) -> Any:
        try:
            async with asyncio.timeout(self._call_s):
                return await asked
        except TimeoutError:
            raise JournalUnavailable(f"group {self._group} did not answer") from None
        except (Rejected, OutcomeUnknown) as error:
            raise JournalUnavailable(str(error)) from error

    async def _show_life(self) -> int:
        self._is_shown = False
        self._lease = await self._ask(self._kv.lease_grant(self._lease_s))
        key = f"{self._prefix}owner/{self._owner}"
        revision: int = await self._ask(self._kv.put(key, b"", lease=self._lease))
        self._is_shown = True
        return revision

    async def _stay_alive(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            try:
                if self._is_shown:
                    await self._ask(self._kv.lease_keep_alive(self._lease))
                else:
                    await self._show_life()
            except JournalUnavailable as error:
                logger.warning("engine %s cannot show that it lives: %s", self._owner, error)
                with suppress(JournalUnavailable):  # the lease may have run out; else this waits
                    await self._show_life()


class GroupCells(Cells):
    """Cells in a group that runs the key-value machine: claims and locks that survive a machine."""

    def __init__(self, client: Client, group: str = "main", *, prefix: str = "saga/cell/") -> None:
        self._kv = KeyValueClient(client, group)
        self._prefix = prefix

    async def swap(self, key: str, expected: bytes | None, new: bytes | None) -> bytes | None:
        """See ``Cells``."""
        try:
            done = await self._kv.compare_and_set(self._prefix + key, expected=expected, value=new)
        except (Rejected, OutcomeUnknown) as error:
            raise JournalUnavailable(str(error)) from error
        if isinstance(done, Swapped):
            return expected
        return None if done.current is None else done.current.value

    async def get(self, key: str) -> bytes | None:
        """See ``Cells``."""
        try:
            record = await self._kv.get(self._prefix + key)
        except (Rejected, OutcomeUnknown) as error:
            raise JournalUnavailable(str(error)) from error
        return None if record is None else record.value


class ClusterTime:
    """A node's clock as an engine's ``Time``: deadlines are judged by the cluster's time too."""

    def __init__(self, clock: NodeClock, clocks: Clocks | None = None) -> None:
        self._clock = clock
        self._clocks = clocks or SystemClocks()
        self._interval: Interval | None = None
        self._at_ns = -CLUSTER_TIME_FRESH_NS

    def monotonic_ns(self) -> int:
        """See ``Time``."""
        return self._clocks.monotonic_ns()

    def wall_ns(self) -> int:
        """See ``Time``."""
        return self._clocks.wall_ns()

    def cluster(self) -> Interval | None:
        """See ``Time``. Judging the clocks costs 0.1 ms, so a judgement serves for 100 ms."""
        passed_ns = self._clocks.monotonic_ns() - self._at_ns
        if passed_ns >= CLUSTER_TIME_FRESH_NS:
            self._interval = self._clock.interval()
            self._at_ns += passed_ns
            return self._interval
        if self._interval is None:
            return None
        drift_ns = passed_ns * DRIFT_PPM // 1_000_000
        return Interval(
            self._interval.earliest_ns + passed_ns - drift_ns,
            self._interval.latest_ns + passed_ns + drift_ns,
        )


def _encode(head: Head, rows: Sequence[bytes]) -> bytes:
    packed: bytes = msgpack.packb((FORMAT, head[1:], rows))
    return packed


def _decode(record: KeyValue, saga: str) -> tuple[Any, Any]:
    try:
        version, head, rows = msgpack.unpackb(record.value, use_list=False)
    except Exception as error:  # msgpack raises several unrelated classes
        raise JournalDamaged(saga, f"its key holds no journal: {error}") from error
    if version != FORMAT:
        raise JournalDamaged(saga, f"it has format {version}, this version knows {FORMAT}")
    return head, rows


def _head(record: KeyValue, saga: str) -> Head:
    definition, version, status, *rest = _decode(record, saga)[0]
    return Head(saga, definition, version, Status(status), *rest)


def _rows(record: KeyValue, saga: str) -> tuple[bytes, ...]:
    rows: tuple[bytes, ...] = _decode(record, saga)[1]
    return rows
