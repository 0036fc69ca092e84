"""Transactions over several keys: lists that are appended to and read, money that moves.

This module exists because atomicity shows only where an operation touches more than one key. A
transaction reads its keys, then asks the machine to change them all if none has changed since:
what it read and what it wrote then hold at one revision.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from mcpcore.check import LogPosition
from mcpcore.experiment.workloads.store import Answer, Store
from mcpcore.experiment.workloads.work import Ask, Failed, Lane
from mcpcore.node.kv.commands import Compare, Get, Put
from mcpcore.node.kv.results import Found, TxnDone

RACES_MAX: Final = 20
"""Who lost this many races in a row gives up, without effect."""

_PARTS_MAX: Final = 3


async def change_keys(
    store: Store, keys: Sequence[str], change: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> tuple[Mapping[str, Any], LogPosition]:
    """Read JSON values of several keys and change some, all at one revision.

    Args:
        change: new values by key, from the old ones (None: no such key); may raise ``Failed``.

    Returns:
        What the keys held before, and where in the log.

    Raises:
        Failed: too many races were lost; nothing was changed.
    """
    reads = [Get(key.encode()) for key in keys]
    done, _ = await store.txn((), reads)
    for _ in range(RACES_MAX):
        found = _values(keys, done)
        revisions = _revisions(done)
        puts = [Put(key.encode(), json.dumps(new).encode()) for key, new in change(found).items()]
        unchanged = [
            Compare.unchanged(key.encode(), revision)
            for key, revision in zip(keys, revisions, strict=True)
        ]
        done, position = await store.txn(unchanged, puts, reads)
        if done.succeeded:
            return found, position
    raise Failed(f"{RACES_MAX} races lost")


async def read_keys(store: Store, keys: Sequence[str]) -> tuple[Mapping[str, Any], LogPosition]:
    """JSON values of several keys, all of one revision; None for a key that is not there."""
    done, position = await store.txn((), [Get(key.encode()) for key in keys])
    return _values(keys, done), position


def _values(keys: Sequence[str], done: TxnDone) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, answer in zip(keys, done.answers, strict=True):
        assert isinstance(answer, Found)
        found[key] = json.loads(answer.record.value) if answer.record else None
    return found


def _revisions(done: TxnDone) -> list[int]:
    return [
        answer.record.mod_revision if isinstance(answer, Found) and answer.record else 0
        for answer in done.answers
    ]


class Appends:
    """Transactions that append to lists and read them. Judge: strict serializability (Elle).

    The lists of one transaction are of one group, since a transaction is.
    """

    judge = "list-append"
    writes = frozenset(("txn",))

    def __init__(self, keys: int) -> None:
        self._keys = keys
        self._value = 0

    async def prepare(self, stores: Sequence[Store]) -> None:
        """Nothing: a list that was never appended to is empty."""

    def next(self, lane: Lane) -> Ask:
        """One to three parts, as many appends as reads; a read alone goes past the log."""
        first = lane.rng.randrange(self._keys)
        beside = range(first % len(lane.stores), self._keys, len(lane.stores))
        count = min(lane.rng.randint(1, _PARTS_MAX), len(beside))
        others = lane.rng.sample([n for n in beside if n != first], count - 1)
        parts: list[list[Any]] = []
        for number in (first, *others):
            if lane.rng.random() < 0.5:
                parts.append(["r", number, None])
            else:
                self._value += 1
                parts.append(["append", number, self._value])
        if len(parts) == 1 and parts[0][0] == "r":
            return self._read(lane.store_of(first), first)
        return Ask("txn", parts, None, lambda: self._do(lane.store_of(first), parts))

    def last(self, lane: Lane) -> Sequence[Ask]:
        """Read every list."""
        return [self._read(lane.store_of(number), number) for number in range(self._keys)]

    async def _do(self, store: Store, parts: Sequence[Sequence[Any]]) -> Answer:
        names = {number: f"list/{number}" for _, number, _ in parts}

        def appended(found: Mapping[str, Any]) -> dict[str, Any]:
            return {
                names[number]: [*(found[names[number]] or ()), value]
                for function, number, value in parts
                if function == "append"
            }

        found, position = await change_keys(store, list(names.values()), appended)
        done = [
            [function, number, value if function == "append" else found[names[number]] or []]
            for function, number, value in parts
        ]
        return Answer(done, position)

    def _read(self, store: Store, number: int) -> Ask:
        async def read() -> Answer:
            record, position = await store.get(f"list/{number}")
            found = json.loads(record.value) if record else []
            return Answer([["r", number, found]], position)

        return Ask("txn", [["r", number, None]], None, read)


class Bank:
    """Transfers between accounts, each with a key of its own. Judge: the total never changes."""

    judge = "bank"
    writes = frozenset(("transfer",))
    _EACH: Final = 100

    def __init__(self, keys: int) -> None:
        self._accounts = [f"bank/{number}" for number in range(max(2, min(keys, 100)))]

    async def prepare(self, stores: Sequence[Store]) -> None:
        """Open the accounts, all at once."""
        opening = str(self._EACH).encode()
        first = Compare.unchanged(self._accounts[0].encode(), 0)
        await stores[0].txn([first], [Put(name.encode(), opening) for name in self._accounts])

    def next(self, lane: Lane) -> Ask:
        """As many transfers as reads."""
        store = lane.stores[0]
        if lane.rng.random() < 0.5:
            return self._read(store)
        giver, taker = lane.rng.sample(self._accounts, 2)
        amount = lane.rng.randint(1, 5)

        def moved(found: Mapping[str, Any]) -> dict[str, int]:
            if gone := [name for name in (giver, taker) if found[name] is None]:
                raise Failed(f"account {gone[0]} is not there")
            if found[giver] < amount:
                raise Failed(f"account {giver} holds {found[giver]}, not {amount}")
            return {giver: found[giver] - amount, taker: found[taker] + amount}

        async def transfer() -> Answer:
            _, position = await change_keys(store, [giver, taker], moved)
            return Answer(None, position)

        return Ask("transfer", {"from": giver, "to": taker, "amount": amount}, None, transfer)

    def last(self, lane: Lane) -> Sequence[Ask]:
        """Read all accounts."""
        return [self._read(lane.stores[0])]

    def _read(self, store: Store) -> Ask:
        async def read() -> Answer:
            return Answer(*await read_keys(store, self._accounts))

        return Ask("read", None, None, read)
