"""Locks that hang on leases: taken, kept alive, let go, or left to run out.

This module exists to put the promise of leases under faults: who was told that a lock is held may
rely on it for its time to live, whatever happens to leaders and clocks. What each client relies on
stands in the history; the judge is ``mcpcore.check.leases``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from mcpcore.check import LogPosition
from mcpcore.check.leases import GONE
from mcpcore.experiment.workloads.store import Answer, Store
from mcpcore.experiment.workloads.work import Ask, Failed, Lane
from mcpcore.node.kv.commands import Compare, Put
from mcpcore.node.kv.results import PutDone

_TTL_MS: Final = 2000
_SAFE_MS: Final = 1995
"""How long a client relies on its lease: less than its time, since clocks may differ in rate.

HAZARD: a leader's clock that runs fast by 2500 ppm would be enough to break this; the faults that a
nemesis draws go up to 500.
"""


@dataclass(slots=True)
class _Held:
    number: int
    lease: int
    until_ns: int


class Locks:
    """Take locks, rely on them, look at them. Judge: never shared, never lost early."""

    judge = "leases"
    writes = frozenset(("acquire", "release"))

    def __init__(self, keys: int) -> None:
        self._keys = min(keys, 4)
        self._held: dict[str, _Held] = {}

    async def prepare(self, stores: Sequence[Store]) -> None:
        """Nothing: nobody holds anything."""

    def next(self, lane: Lane) -> Ask:
        """Without a lock, try for one; with one, mostly renew it and look, then drop it."""
        held = self._held.get(lane.name)
        if held is not None and lane.now_ns() >= held.until_ns:
            self._forget(lane)
            held = None
        draw = lane.rng.random()
        if held is None:
            number = lane.rng.randrange(self._keys)
            return self._look(lane, number) if draw < 0.3 else self._acquire(lane, number)
        if draw < 0.45:
            return self._renew(lane, held)
        if draw < 0.75:
            return self._look(lane, held.number)
        self._forget(lane)
        if draw < 0.85:  # as a client that died: the lock is free once the lease has run out
            return self._look(lane, held.number)
        return self._release(lane, held)

    def last(self, lane: Lane) -> Iterable[Ask]:
        """Look at every lock."""
        return [self._look(lane, number) for number in range(self._keys)]

    def _forget(self, lane: Lane) -> None:
        self._held.pop(lane.name, None)

    def _acquire(self, lane: Lane, number: int) -> Ask:
        store, key = lane.store_of(number), f"lock/{number}"

        async def acquire() -> Answer:
            called_ns = lane.now_ns()
            lease = await store.lease_grant(_TTL_MS)
            name = key.encode()
            put = Put(name, lane.name.encode(), lease)
            done, position = await store.txn([Compare.unchanged(name, 0)], [put])
            if not done.succeeded:
                await store.lease_revoke(lease)
                raise Failed("somebody else holds it")
            (answer,) = done.answers
            assert isinstance(answer, PutDone)
            self._held[lane.name] = _Held(number, lease, called_ns + _SAFE_MS * 1_000_000)
            return Answer({"lease": lease, "token": answer.revision}, position)

        return Ask("acquire", {"safe_ms": _SAFE_MS}, key, acquire)

    def _renew(self, lane: Lane, held: _Held) -> Ask:
        store = lane.store_of(held.number)

        async def renew() -> Answer:
            called_ns = lane.now_ns()
            if not await store.lease_keep_alive(held.lease):
                self._forget(lane)
                raise Failed(GONE)
            held.until_ns = max(held.until_ns, called_ns + _SAFE_MS * 1_000_000)
            return Answer(None, LogPosition(store.group, 0, 0))

        asked = {"lease": held.lease, "safe_ms": _SAFE_MS}
        return Ask("renew", asked, f"lock/{held.number}", renew)

    def _release(self, lane: Lane, held: _Held) -> Ask:
        store = lane.store_of(held.number)

        async def release() -> Answer:
            return Answer(None, await store.lease_revoke(held.lease))

        return Ask("release", {"lease": held.lease}, f"lock/{held.number}", release)

    def _look(self, lane: Lane, number: int) -> Ask:
        store, key = lane.store_of(number), f"lock/{number}"

        async def look() -> Answer:
            record, position = await store.get(key)
            return Answer(record and record.lease, position)

        return Ask("look", None, key, look)
