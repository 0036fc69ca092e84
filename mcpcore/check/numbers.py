"""Counters, bank accounts and unique ids: arithmetic that must come out right.

This module exists so that the three checks that need no order of operations stand in one place.
They run in one pass. It must never require that anything be linearizable.

Definitions: Jepsen's ``counter``, ``bank`` and ``unique-ids`` checkers.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from itertools import accumulate
from typing import Any

from mcpcore.check.history import History, Operation, Outcome, freeze, show
from mcpcore.check.verdict import Finding, Judgement, conclude
from mcpcore.errors import InvalidInput


def _number(op: Operation, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        where = f"line {op.line}" if op.line else f"operation {op.id}"
        raise InvalidInput(
            f"{op.function} of {show(value)}", where=where, remedy="Expected a whole number."
        )
    return value


class _Running:
    """Sums of amounts by the place where they begin to count."""

    def __init__(self, amounts: Collection[tuple[int, int]]) -> None:
        ordered = sorted(amounts)
        self._places = [place for place, _ in ordered]
        self._sums = [0, *accumulate(amount for _, amount in ordered)]

    def before(self, place: int) -> int:
        return self._sums[bisect_left(self._places, place)]

    def until(self, place: int) -> int:
        return self._sums[bisect_right(self._places, place)]


def check_counter(history: History, initial: int = 0) -> Judgement:
    """Each read lies between what must have been added and what may have been.

    Operations: ``add n`` (n may be negative), ``increment``, ``decrement`` and ``read``. What was
    added for certain when the read was called is the one bound; what anybody had tried to add when
    it returned is the other. ``facts["reads"]`` lists (lowest, read, highest).
    """
    sure: dict[int, list[tuple[int, int]]] = {1: [], -1: []}
    tried: dict[int, list[tuple[int, int]]] = {1: [], -1: []}
    for op in history:
        if op.function not in ("add", "increment", "decrement") or op.outcome is Outcome.FAIL:
            continue
        amount = _number(op, 1 if op.value is None else op.value)
        amount = -amount if op.function == "decrement" else amount
        sign = -1 if amount < 0 else 1
        tried[sign].append((op.called, amount))
        if op.returned is not None:
            sure[sign].append((op.returned, amount))
    sure_up, sure_down = _Running(sure[1]), _Running(sure[-1])
    tried_up, tried_down = _Running(tried[1]), _Running(tried[-1])
    reads, findings = [], []
    read_ops = [op for op in history if op.function == "read" and op.outcome is Outcome.OK]
    for op in sorted(read_ops, key=lambda op: op.returned or 0):
        assert op.returned is not None
        seen = _number(op, op.result)
        low = initial + sure_up.before(op.called) + tried_down.until(op.returned)
        high = initial + tried_up.until(op.returned) + sure_down.before(op.called)
        reads.append((low, seen, high))
        if not low <= seen <= high:
            text = f"operation {op.id} read {seen}, but the counter was between {low} and {high}"
            findings.append(
                Finding("out-of-bounds", text, (op.id,), {"low": low, "read": seen, "high": high})
            )
    summary = f"{len(findings)} of {len(reads)} reads out of bounds"
    facts = {
        "reads": reads,
        "errors": [read for read in reads if not read[0] <= read[1] <= read[2]],
    }
    return conclude("counter", findings, summary, facts)


def check_bank(
    history: History,
    *,
    total: int | None = None,
    accounts: Collection[Any] | None = None,
    negative_balances: bool = False,
) -> Judgement:
    """Every read of all accounts shows the same total, whatever is transferred meanwhile.

    Args:
        total: what the balances sum up to; None to take it from the first read.
        accounts: the accounts there are; None for those of the first read.
        negative_balances: whether an account may be below zero.

    Reads return a map of account to balance. Findings are ``wrong-total``, ``negative-value``,
    ``nil-balance`` and ``unexpected-key``.
    """
    reads = [op for op in history if op.function == "read" and op.outcome is Outcome.OK]
    if not reads:
        return conclude("bank", (), "", undecided="undecided: nobody read the accounts")
    findings = []
    known: set[Hashable] | None = None if accounts is None else {freeze(a) for a in accounts}
    for op in reads:
        if not isinstance(op.result, Mapping):
            where = f"line {op.line}" if op.line else f"operation {op.id}"
            raise InvalidInput(
                f"a read of {show(op.result)}", where=where, remedy="Expected account to balance."
            )
        balances = {freeze(account): balance for account, balance in op.result.items()}
        known = set(balances) if known is None else known
        odd = sorted(show(a) for a in balances if a not in known)
        nils = sorted(show(a) for a, balance in balances.items() if balance is None)
        if odd:
            text = f"operation {op.id} read accounts that do not exist: {', '.join(odd)}"
            findings.append(Finding("unexpected-key", text, (op.id,), {"accounts": odd}))
            continue
        if nils:
            text = f"operation {op.id} read no balance for {', '.join(nils)}"
            findings.append(Finding("nil-balance", text, (op.id,), {"accounts": nils}))
            continue
        found = sum(_number(op, balance) for balance in balances.values())
        total = found if total is None else total
        below = {show(a): balance for a, balance in balances.items() if balance < 0}
        if found != total:
            text = f"operation {op.id} read balances that sum up to {found} instead of {total}"
            findings.append(Finding("wrong-total", text, (op.id,), {"total": found}))
        elif below and not negative_balances:
            text = f"operation {op.id} read balances below zero: {show(below)}"
            findings.append(Finding("negative-value", text, (op.id,), {"accounts": below}))
    summary = f"{len(findings)} of {len(reads)} reads wrong, the total being {total}"
    facts = {"read_count": len(reads), "error_count": len(findings), "total": total}
    return conclude("bank", findings, summary, facts)


def check_unique_ids(history: History) -> Judgement:
    """No two ``generate`` operations ever returned the same id."""
    attempts = [op for op in history if op.function == "generate"]
    given: dict[Hashable, list[int]] = {}
    for op in attempts:
        if op.outcome is Outcome.OK:
            given.setdefault(freeze(op.result), []).append(op.id)
    findings = []
    for value, ids in given.items():
        if len(ids) > 1:
            text = (
                f"{show(value)} was given to {len(ids)} operations: {', '.join(map(str, ids[:8]))}"
            )
            findings.append(Finding("duplicated", text, tuple(ids), {"id": value}))
    counts = Counter(len(ids) for ids in given.values())
    facts = {
        "attempted_count": len(attempts),
        "acknowledged_count": sum(len(ids) for ids in given.values()),
        "duplicated_count": sum(n for times, n in counts.items() if times > 1),
        "duplicated": {value: len(ids) for value, ids in given.items() if len(ids) > 1},
    }
    summary = f"{facts['duplicated_count']} of {len(given)} ids given more than once"
    return conclude("unique-ids", findings, summary, facts)
