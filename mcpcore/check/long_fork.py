"""Long fork: two readers see two independent writes in opposite orders.

This module exists because parallel snapshot isolation allows exactly this and snapshot isolation
does not. Every key is written once, so of two reads of the same keys one must have seen everything
that the other saw. It must never compare reads of different keys.

Definition: Jepsen's ``long-fork`` checker. Operations are transactions: one ``[w key value]``, or
only reads ``[r key value]``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from mcpcore.check.history import History, Outcome, show
from mcpcore.check.txn.parse import Transaction, first_reads, transactions
from mcpcore.check.verdict import Finding, Judgement, conclude

_SHOWN = 20


def check_long_fork(history: History) -> Judgement:
    """Reads of one group of keys must form a chain: each has seen all that the one before saw.

    The verdict is ``unknown`` if a key was written more than once or two reads of a key saw
    different values: then nothing follows.
    """
    txns = transactions(history, ("w", "r"))
    written: set[Hashable] = set()
    for txn in txns:
        writes = {step.key for step in txn.steps if step.function == "w"}
        for key in writes & written:
            text = f"undecided: {show(key)} was written more than once"
            return conclude("long-fork", (), "", {"key": key}, undecided=text)
        written |= writes
    groups: dict[frozenset[Hashable], list[Transaction]] = {}
    for txn in txns:
        reads = first_reads(txn)
        only_reads = all(step.function == "r" for step in txn.steps)
        if txn.operation.outcome is Outcome.OK and only_reads and len(reads) > 1:
            groups.setdefault(frozenset(reads), []).append(txn)
    findings: list[Finding] = []
    compared = 0
    for group in groups.values():
        # One of each different state, the emptiest first: a chain has no two that are incomparable.
        states: dict[frozenset[tuple[Hashable, Any]], Transaction] = {}
        for txn in group:
            state = frozenset((k, v) for k, v in first_reads(txn).items() if v is not None)
            states.setdefault(state, txn)
        values: dict[Hashable, Any] = {}
        for state, txn in states.items():
            for key, value in state:
                if values.setdefault(key, value) != value:
                    text = (
                        f"undecided: operation {txn.id} read {show(value)} in {show(key)}, another "
                        f"one {show(values[key])}, although every key is written once"
                    )
                    return conclude("long-fork", (), "", {"key": key}, undecided=text)
        ordered = sorted(states, key=len)
        compared += len(ordered)
        for at, smaller in enumerate(ordered):
            for larger in ordered[at + 1 :]:
                if not smaller <= larger and len(findings) < _SHOWN:
                    findings.append(_fork(states[smaller], states[larger]))
    facts = {"groups": len(groups), "distinct_reads": compared}
    summary = f"{len(findings)} pairs of reads saw the writes in opposite orders"
    undecided = "" if groups else "undecided: nobody read several keys at once"
    return conclude("long-fork", findings, summary, facts, undecided=undecided)


def _fork(a: Transaction, b: Transaction) -> Finding:
    a_saw, b_saw = _seen(a), _seen(b)
    only_a = sorted(show(key) for key in a_saw.keys() - b_saw.keys())
    only_b = sorted(show(key) for key in b_saw.keys() - a_saw.keys())
    text = (
        f"operation {a.id} saw the write of {', '.join(only_a)} but not of {', '.join(only_b)}; "
        f"operation {b.id} saw the write of {', '.join(only_b)} but not of {', '.join(only_a)}"
    )
    return Finding("long-fork", text, (a.id, b.id))


def _seen(txn: Transaction) -> Mapping[Hashable, Any]:
    return {key: value for key, value in first_reads(txn).items() if value is not None}
