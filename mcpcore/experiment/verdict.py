"""Did the cluster keep its word? Judged from what clients were told and what replicas hold.

This module exists so that the promise "no acknowledged write is lost, doubled, changed or put out
of order" is checked by one pure function, which tests can feed with lies. It must never ask a
cluster anything: everything it needs is handed in.

How: every put has a key of its own, so that each acknowledged one must stand on every replica, with
its value, at the very revision (log index) that the client was told, changed once. Whoever was
answered before another one called must have the lower revision. Counters count the increments that
succeeded. A linearizable read must know all that was acknowledged before it was asked.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from mcpcore.experiment.operations import Kind, Operation, Outcome, Replica

_SHOWN: Final = 5
"""Breaches described in words; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One promise, and how it was broken.

    Args:
        name: the promise, in a few words.
        broken: how often.
        examples: the first breaches, in words.
    """

    name: str
    broken: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came out.

    Args:
        writes_acknowledged: puts and increments that clients were told had happened.
        writes_unknown: those of which nobody knows; they may stand on the replicas or not, but on
            all or none.
        writes_failed: refused ones; they must stand nowhere.
        reads: linearizable reads that were answered.
        rules: every promise, broken or not.
    """

    writes_acknowledged: int
    writes_unknown: int
    writes_failed: int
    reads: int
    rules: tuple[Rule, ...]

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not any(rule.broken for rule in self.rules)

    def broken(self, name: str) -> int:
        """How often the promise of that name was broken."""
        return next(rule.broken for rule in self.rules if rule.name == name)


LOST: Final = "no acknowledged write is lost"
CHANGED: Final = "no acknowledged write is changed"
DUPLICATED: Final = "no write is applied twice"
INVENTED: Final = "nothing stands that nobody wrote, or that was refused"
REORDERED: Final = "acknowledged writes stand in order"
COUNTERS: Final = "counters count the acknowledged increments"
STALE: Final = "no read is older than an acknowledged write"
IDENTICAL: Final = "replicas are identical"


def judge(operations: Sequence[Operation], replicas: Sequence[Replica]) -> Verdict:
    """Hold what the replicas have against what the clients were told.

    Args:
        operations: of all clients, in any order.
        replicas: of all nodes, after the last operation, once they had applied the same log.
    """
    puts = [op for op in operations if op.kind is Kind.PUT]
    increments = [op for op in operations if op.kind is Kind.INCREMENT]
    changes = puts + increments
    return Verdict(
        writes_acknowledged=sum(op.is_write for op in changes),
        writes_unknown=sum(op.outcome is Outcome.UNKNOWN for op in changes),
        writes_failed=sum(op.outcome is Outcome.FAIL for op in changes),
        reads=sum(op.kind is Kind.READ and op.outcome is Outcome.OK for op in operations),
        rules=(
            _rule(LOST, _lost(puts, replicas)),
            _rule(CHANGED, _changed(puts, replicas)),
            _rule(DUPLICATED, _duplicated(changes, replicas)),
            _rule(INVENTED, _invented(changes, replicas)),
            _rule(REORDERED, _reordered(changes)),
            _rule(COUNTERS, _miscounted(increments, replicas)),
            _rule(STALE, _stale(operations)),
            _rule(IDENTICAL, _different(replicas)),
        ),
    )


def longest_silence_s(
    operations: Iterable[Operation], from_s: float, to_s: float, *, site: str | None = None
) -> float:
    """The longest time within [from_s, to_s] in which no write was acknowledged.

    Args:
        site: look only at the clients there.
    """
    acknowledged = sorted(
        op.returned_s
        for op in operations
        if op.is_write and from_s <= op.returned_s <= to_s and site in (None, op.site)
    )
    return max(b - a for a, b in pairwise([from_s, *acknowledged, to_s]))


# --- the promises, one function each --------------------------------------------------------------


def _lost(puts: list[Operation], replicas: Sequence[Replica]) -> Iterable[str]:
    for replica in replicas:
        for op in puts:
            if op.is_write and op.key not in replica.records:
                yield f"{replica.node} has no {op.key}, acknowledged at revision {op.revision}"


def _changed(puts: list[Operation], replicas: Sequence[Replica]) -> Iterable[str]:
    for replica in replicas:
        for op in puts:
            stored = replica.records.get(op.key)
            if not op.is_write or stored is None:
                continue
            if stored.value != op.value:
                yield f"{replica.node}: {op.key} is {stored.value!r}, acknowledged {op.value!r}"
            elif stored.create_revision != op.revision:
                yield (
                    f"{replica.node}: {op.key} stands at revision {stored.create_revision}, "
                    f"acknowledged at {op.revision}"
                )


def _duplicated(changes: list[Operation], replicas: Sequence[Replica]) -> Iterable[str]:
    unique = {op.key for op in changes if op.kind is Kind.PUT}
    for replica in replicas:
        for key in unique:
            stored = replica.records.get(key)
            if stored is not None and stored.version != 1:
                yield f"{replica.node}: {key} was written {stored.version} times"
    places = Counter(op.revision for op in changes if op.is_write)
    for revision, count in places.items():
        if count > 1:
            yield f"revision {revision} was given to {count} writes"


def _invented(changes: list[Operation], replicas: Sequence[Replica]) -> Iterable[str]:
    possible = {op.key for op in changes if op.may_have_written}
    for replica in replicas:
        for key in replica.records.keys() - possible:
            yield f"{replica.node} has {key}, which nobody wrote, or which was refused"


def _reordered(changes: list[Operation]) -> Iterable[str]:
    """Real-time order: a write that was acknowledged before another was called stands before it."""
    writes = sorted((op for op in changes if op.is_write), key=lambda op: op.called_s)
    returns = sorted(writes, key=lambda op: op.returned_s)
    latest: Operation | None = None
    done = 0
    for op in writes:
        while returns[done].returned_s < op.called_s:
            if latest is None or returns[done].revision > latest.revision:
                latest = returns[done]
            done += 1
        if latest is not None and op.revision <= latest.revision:
            yield (
                f"{op.key} got revision {op.revision}, though {latest.key} had been acknowledged "
                f"at {latest.revision} before it was called"
            )


def _miscounted(increments: list[Operation], replicas: Sequence[Replica]) -> Iterable[str]:
    certain: dict[str, int] = Counter(op.key for op in increments if op.is_write)
    possible: dict[str, int] = Counter(op.key for op in increments if op.may_have_written)
    for replica in replicas:
        for key in sorted(possible):
            stored = replica.records.get(key)
            number = int(stored.value) if stored is not None else 0
            if not certain[key] <= number <= possible[key]:
                yield (
                    f"{replica.node}: {key} is {number}; {certain[key]} increments were "
                    f"acknowledged, {possible[key] - certain[key]} are unknown"
                )
            elif stored is not None and stored.version != number:
                yield f"{replica.node}: {key} is {number} after {stored.version} changes"


def _stale(operations: Sequence[Operation]) -> Iterable[str]:
    """Everything acknowledged before a read was called must be in what it answers.

    Three ways to see it: by the log index the answer was applied to; by the number of a counter;
    by a written key that was not found.
    """
    answered = sorted(
        (op for op in operations if op.outcome is Outcome.OK), key=lambda op: op.called_s
    )
    returns = [(op.returned_s, number, op) for number, op in enumerate(answered) if op.is_write]
    heapq.heapify(returns)
    highest = 0
    counted: dict[str, int] = defaultdict(int)
    written: dict[str, int] = {}
    for op in answered:
        while returns and returns[0][0] < op.called_s:
            earlier = heapq.heappop(returns)[2]
            highest = max(highest, earlier.revision)
            if earlier.kind is Kind.INCREMENT:
                counted[earlier.key] = max(counted[earlier.key], int(earlier.value))
            else:
                written[earlier.key] = earlier.revision
        if op.kind is not Kind.READ:
            continue
        if op.index < highest:
            yield f"a read of {op.key} was answered as of {op.index}, though {highest} was known"
        elif op.key in counted and int(op.read or 0) < counted[op.key]:
            yield f"a read of {op.key} gave {op.read}, though {counted[op.key]} was acknowledged"
        elif op.key in written and op.revision != written[op.key]:
            yield f"a read of {op.key} found revision {op.revision}, not {written[op.key]}"


def _different(replicas: Sequence[Replica]) -> Iterable[str]:
    for first, second in pairwise(replicas):
        if first.applied != second.applied:
            yield (f"{first.node} has applied {first.applied}, {second.node} has {second.applied}")
        elif first.digest != second.digest:
            yield f"{first.node} and {second.node} differ in digest at index {first.applied}"
        for key in sorted(first.records.keys() | second.records.keys()):
            if first.records.get(key) != second.records.get(key):
                yield f"{first.node} and {second.node} differ in {key}"


def _rule(name: str, breaches: Iterable[str]) -> Rule:
    examples: list[str] = []
    broken = 0
    for text in breaches:
        broken += 1
        if len(examples) < _SHOWN:
            examples.append(text)
    return Rule(name, broken, tuple(examples))
