"""The kinds of workload, each a few lines: what is asked, and who judges it.

This module exists so that somebody who reads a report can see on one screen what a client did.
Every kind uses the key-value machine through linearizable operations; compound ones are a read and
a compare-and-set on the revision read. Kinds that need a page of their own have one beside this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from mcpcore.check import LogPosition
from mcpcore.errors import OutcomeUnknown, Rejected
from mcpcore.experiment.workloads.leases import Locks
from mcpcore.experiment.workloads.policies import PolicyEdits
from mcpcore.experiment.workloads.sagas import Sagas
from mcpcore.experiment.workloads.store import Answer, Store
from mcpcore.experiment.workloads.transactions import RACES_MAX, Appends, Bank
from mcpcore.experiment.workloads.watches import Watches
from mcpcore.experiment.workloads.work import Ask, Failed, Lane, Work

_UNCLAIMED: Final = "free"
_CLAIMS_MAX: Final = 50


class Registers:
    """Read, write and compare-and-set single keys. Judge: linearizable."""

    judge = "key-value"
    writes = frozenset(("put", "cas"))

    def __init__(self, keys: int) -> None:
        self._keys = keys
        self._seen: dict[int, str] = {}

    async def prepare(self, stores: Sequence[Store]) -> None:
        """Nothing: keys that were never put are absent."""

    def next(self, lane: Lane) -> Ask:
        """Half reads, a third puts, the rest compare-and-sets that have a chance to succeed."""
        number = lane.rng.randrange(self._keys)
        store, key = lane.store_of(number), f"register/{number}"
        draw = lane.rng.random()
        if draw < 0.5:
            return self._read(store, number, key)
        new = f"{lane.name}:{lane.count}"
        if draw < 0.8:
            return Ask("put", new, key, lambda: store.put(key, new))
        old = self._seen.get(number)
        return Ask("cas", [old, new], key, lambda: store.compare_and_set(key, old, new))

    def last(self, lane: Lane) -> Sequence[Ask]:
        """Read every register."""
        return [
            self._read(lane.store_of(number), number, f"register/{number}")
            for number in range(self._keys)
        ]

    def _read(self, store: Store, number: int, key: str) -> Ask:
        async def read() -> Answer:
            record, position = await store.get(key)
            value = record and record.value.decode()
            if value is not None:
                self._seen[number] = value
            return Answer(value, position)

        return Ask("get", None, key, read)


class GrowingSet:
    """Add elements and read all of them. Judge: nothing acknowledged is ever lost."""

    judge = "set-full"
    writes = frozenset(("add",))

    def __init__(self, keys: int) -> None:
        self._next = 0

    async def prepare(self, stores: Sequence[Store]) -> None:
        """Nothing: the set is empty."""

    def next(self, lane: Lane) -> Ask:
        """One read for nine additions: a read brings everything."""
        store = lane.stores[0]
        if lane.rng.random() < 0.1:
            return self._read(store)
        self._next += 1
        element = self._next
        return Ask("add", element, None, lambda: store.put(f"set/{element:08d}", "1"))

    def last(self, lane: Lane) -> Sequence[Ask]:
        """Read it all."""
        return [self._read(lane.stores[0])]

    def _read(self, store: Store) -> Ask:
        async def read() -> Answer:
            records, position = await store.scan("set/")
            elements = [int(record.key.decode().removeprefix("set/")) for record in records]
            return Answer(elements, position)

        return Ask("read", None, None, read)


class Counters:
    """Add to one number. Judge: every read lies between what was surely and perhaps added."""

    judge = "counter-bounds"
    writes = frozenset(("add",))

    def __init__(self, keys: int) -> None:
        pass

    async def prepare(self, stores: Sequence[Store]) -> None:
        """Nothing: a counter that was never added to is 0."""

    def next(self, lane: Lane) -> Ask:
        """Two additions for each read."""
        store = lane.stores[0]
        if lane.rng.random() < 1 / 3:
            return self._read(store)
        amount = lane.rng.randint(1, 5)
        return Ask(
            "add", amount, None, lambda: _update(store, "counter", 0, lambda found: found + amount)
        )

    def last(self, lane: Lane) -> Sequence[Ask]:
        """Read it."""
        return [self._read(lane.stores[0])]

    def _read(self, store: Store) -> Ask:
        async def read() -> Answer:
            record, position = await store.get("counter")
            return Answer(int(record.value) if record else 0, position)

        return Ask("read", None, None, read)


class Queue:
    """Put in and take out. Judge: what was acknowledged comes out, and nothing else does.

    Taking an element is claiming it, by a compare-and-set on the revision it was put in with. If
    nobody can say how that ended, a second claim on the same revision decides: only one can ever
    succeed, and the loser reads who won. Without that, an element might be counted as lost although
    a client had taken it and was never told.
    """

    judge = "total-queue"
    writes = frozenset(("enqueue", "dequeue"))

    def __init__(self, keys: int) -> None:
        self._next = 0
        self._claims = 0

    async def prepare(self, stores: Sequence[Store]) -> None:
        """Nothing: the queue is empty."""

    def next(self, lane: Lane) -> Ask:
        """As many in as out."""
        store = lane.stores[0]
        if lane.rng.random() < 0.5:
            return Ask("dequeue", None, None, lambda: self._take(store))
        self._next += 1
        value = self._next
        return Ask("enqueue", value, None, lambda: store.put(f"queue/{value:08d}", _UNCLAIMED))

    def last(self, lane: Lane) -> Sequence[Ask]:
        """Take out all that is left."""
        store = lane.stores[0]

        async def drain() -> Answer:
            left: list[int] = []
            while True:
                try:
                    taken = await self._take(store)
                except Failed:
                    _, position = await store.scan("queue/", 1)
                    return Answer(left, position)
                left.append(taken.value)

        return [Ask("drain", None, None, drain)]

    async def _take(self, store: Store) -> Answer:
        for _ in range(RACES_MAX):
            records, _ = await store.scan("queue/")
            free = [record for record in records if record.value.decode() == _UNCLAIMED]
            if not free:
                raise Failed("the queue is empty")
            key = free[0].key.decode()
            position = await self._claim(store, key, free[0].mod_revision)
            if position is not None:
                return Answer(int(key.removeprefix("queue/")), position)
        raise Failed(f"{RACES_MAX} races lost")

    async def _claim(self, store: Store, key: str, revision: int) -> LogPosition | None:
        """Where our claim stands in the log; None if somebody else's does.

        Only who claimed an element removes it, so that whoever asks finds out who that was.
        """
        doubtful: list[str] = []
        for _ in range(_CLAIMS_MAX):
            self._claims += 1
            claim = f"claim {self._claims}"
            try:
                claimed = await store.compare_and_set(key, revision, claim)
                won, position = claimed.value, claimed.position
                if not won and doubtful:
                    record, position = await store.get(key)
                    won = record is not None and record.value.decode() in doubtful
                    claim = record.value.decode() if record else ""
            except OutcomeUnknown:
                doubtful.append(claim)
                continue
            except Rejected:
                if not doubtful:
                    raise
                continue  # an earlier one may still count, so go on until somebody answers
            if won:
                with suppress(Rejected, OutcomeUnknown):
                    await store.compare_and_set(key, claim, None)
            return position if won else None
        raise OutcomeUnknown(f"nobody could say whose {key} is")


class UniqueIds:
    """Ask for a number nobody else gets: the log index of a write. Judge: no two are equal."""

    judge = "unique-ids"
    writes = frozenset(("generate",))

    def __init__(self, keys: int) -> None:
        pass

    async def prepare(self, stores: Sequence[Store]) -> None:
        """Nothing."""

    def next(self, lane: Lane) -> Ask:
        """A number."""
        return Ask("generate", None, None, lambda: lane.stores[0].put("ids", lane.name))

    def last(self, lane: Lane) -> Sequence[Ask]:
        """Nothing is left to ask."""
        return []


async def _update(store: Store, key: str, empty: Any, change: Callable[[Any], Any]) -> Answer:
    """Read, change, and write if nobody else has written meanwhile; again, if somebody has."""
    for _ in range(RACES_MAX):
        record, _ = await store.get(key)
        found = json.loads(record.value) if record else empty
        expected = record.mod_revision if record else 0
        new = json.dumps(change(found))
        swapped = await store.compare_and_set(key, expected, new)
        if swapped.value:
            return Answer(None, swapped.position)
    raise Failed(f"{RACES_MAX} races lost")


KINDS: Final[Mapping[str, Callable[[int], Work]]] = {
    "register": Registers,
    "append": Appends,
    "set": GrowingSet,
    "bank": Bank,
    "counter": Counters,
    "queue": Queue,
    "ids": UniqueIds,
    "lease": Locks,
    "watch": Watches,
    "saga": Sagas,
    "policy": PolicyEdits,
}
"""Every kind of workload by its name; each takes the number of objects."""
