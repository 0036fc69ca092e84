"""The kinds of workload, each a few lines: what is asked, and who judges it.

This module exists so that somebody who reads a report can see on one screen what a client did.
Every kind uses the key-value machine through linearizable operations; compound ones (append to a
list, transfer money, take from a queue) are a read and a compare-and-set on the revision read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from mcpcore.check import LogPosition
from mcpcore.errors import OutcomeUnknown, Rejected
from mcpcore.experiment.workloads.store import Answer, Store
from mcpcore.experiment.workloads.work import Ask, Failed, Lane, Work

_RACES_MAX: Final = 20
"""A read and a compare-and-set that lost this many races in a row gives up, without effect."""
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

    def last(self, stores: Sequence[Store]) -> Sequence[Ask]:
        """Read every register."""
        return [
            self._read(stores[number % len(stores)], number, f"register/{number}")
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


class Appends:
    """Append to lists and read them, as transactions. Judge: strict serializability (Elle)."""

    judge = "list-append"
    writes = frozenset(("txn",))

    def __init__(self, keys: int) -> None:
        self._keys = keys
        self._value = 0

    async def prepare(self, stores: Sequence[Store]) -> None:
        """Nothing: a list that was never appended to is empty."""

    def next(self, lane: Lane) -> Ask:
        """As many appends as reads."""
        number = lane.rng.randrange(self._keys)
        store = lane.store_of(number)
        if lane.rng.random() < 0.5:
            return self._read(store, number)
        self._value += 1
        value = self._value

        async def append() -> Answer:
            done = await _update(store, f"list/{number}", [], lambda found: [*found, value])
            return Answer([["append", number, value]], done.position)

        return Ask("txn", [["append", number, value]], None, append)

    def last(self, stores: Sequence[Store]) -> Sequence[Ask]:
        """Read every list."""
        return [self._read(stores[number % len(stores)], number) for number in range(self._keys)]

    def _read(self, store: Store, number: int) -> Ask:
        async def read() -> Answer:
            record, position = await store.get(f"list/{number}")
            found = json.loads(record.value) if record else []
            return Answer([["r", number, found]], position)

        return Ask("txn", [["r", number, None]], None, read)


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

    def last(self, stores: Sequence[Store]) -> Sequence[Ask]:
        """Read it all."""
        return [self._read(stores[0])]

    def _read(self, store: Store) -> Ask:
        async def read() -> Answer:
            records, position = await store.scan("set/")
            elements = [int(record.key.decode().removeprefix("set/")) for record in records]
            return Answer(elements, position)

        return Ask("read", None, None, read)


class Bank:
    """Transfers between accounts that one key holds. Judge: the total never changes."""

    judge = "bank"
    writes = frozenset(("transfer",))
    _EACH: Final = 100

    def __init__(self, keys: int) -> None:
        self._accounts = [str(number) for number in range(max(2, keys))]

    async def prepare(self, stores: Sequence[Store]) -> None:
        """Open the accounts."""
        opening = json.dumps(dict.fromkeys(self._accounts, self._EACH))
        await stores[0].compare_and_set("bank", None, opening)

    def next(self, lane: Lane) -> Ask:
        """As many transfers as reads."""
        store = lane.stores[0]
        if lane.rng.random() < 0.5:
            return self._read(store)
        giver, taker = lane.rng.sample(self._accounts, 2)
        amount = lane.rng.randint(1, 5)
        asked = {"from": giver, "to": taker, "amount": amount}

        def transfer(balances: dict[str, int]) -> dict[str, int]:
            if balances[giver] < amount:
                raise Failed(f"account {giver} holds {balances[giver]}, not {amount}")
            moved = dict(balances)
            moved[giver] -= amount
            moved[taker] += amount
            return moved

        return Ask("transfer", asked, None, lambda: _update(store, "bank", {}, transfer))

    def last(self, stores: Sequence[Store]) -> Sequence[Ask]:
        """Read all accounts."""
        return [self._read(stores[0])]

    def _read(self, store: Store) -> Ask:
        async def read() -> Answer:
            record, position = await store.get("bank")
            assert record is not None, "the accounts were opened"
            return Answer(json.loads(record.value), position)

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

    def last(self, stores: Sequence[Store]) -> Sequence[Ask]:
        """Read it."""
        return [self._read(stores[0])]

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

    def last(self, stores: Sequence[Store]) -> Sequence[Ask]:
        """Take out all that is left."""
        store = stores[0]

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
        for _ in range(_RACES_MAX):
            records, _ = await store.scan("queue/")
            free = [record for record in records if record.value.decode() == _UNCLAIMED]
            if not free:
                raise Failed("the queue is empty")
            key = free[0].key.decode()
            position = await self._claim(store, key, free[0].mod_revision)
            if position is not None:
                return Answer(int(key.removeprefix("queue/")), position)
        raise Failed(f"{_RACES_MAX} races lost")

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

    def last(self, stores: Sequence[Store]) -> Sequence[Ask]:
        """Nothing is left to ask."""
        return []


async def _update(store: Store, key: str, empty: Any, change: Callable[[Any], Any]) -> Answer:
    """Read, change, and write if nobody else has written meanwhile; again, if somebody has."""
    for _ in range(_RACES_MAX):
        record, _ = await store.get(key)
        found = json.loads(record.value) if record else empty
        expected = record.mod_revision if record else 0
        new = json.dumps(change(found))
        swapped = await store.compare_and_set(key, expected, new)
        if swapped.value:
            return Answer(None, swapped.position)
    raise Failed(f"{_RACES_MAX} races lost")


KINDS: Final[Mapping[str, Callable[[int], Work]]] = {
    "register": Registers,
    "append": Appends,
    "set": GrowingSet,
    "bank": Bank,
    "counter": Counters,
    "queue": Queue,
    "ids": UniqueIds,
}
"""Every kind of workload by its name; each takes the number of objects."""
