"""Queues: what comes out went in, and what went in comes out.

This module exists so that queues of any length are judged in one pass. It says nothing about order;
the models ``fifo-queue`` and ``unordered-queue`` do, at the price of a search.

Definitions: Jepsen's ``queue`` and ``total-queue`` checkers. Operations are ``enqueue value``,
``dequeue`` and ``drain`` (which returns all that is left).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from mcpcore.check.history import History, Operation, Outcome, freeze, show
from mcpcore.check.sets import elements
from mcpcore.check.verdict import Finding, Judgement, conclude


def _told(found: Counter[Hashable]) -> str:
    shown = sorted(found.items(), key=lambda pair: (len(show(pair[0])), show(pair[0])))
    parts = [show(value) + (f" ({times} times)" if times > 1 else "") for value, times in shown]
    return ", ".join(parts[:12]) + (f" and {len(parts) - 12} more" if len(parts) > 12 else "")


def _taken(op: Operation) -> list[Hashable]:
    if op.outcome is not Outcome.OK:
        return []
    if op.function == "drain":
        return elements(op)
    if op.function == "dequeue" and op.result is not None:
        return [freeze(op.result)]
    return []


def check_queue(history: History) -> Judgement:
    """Every dequeue comes from somewhere: an enqueue of that value was called before it returned.

    Every enqueue that did not fail is taken to have happened.
    """
    events: list[tuple[int, int, Operation]] = []
    for op in history:
        if op.function == "enqueue" and op.outcome is not Outcome.FAIL:
            events.append((op.called, 0, op))
        elif op.returned is not None and _taken(op):
            events.append((op.returned, 1, op))
    held: Counter[Hashable] = Counter()
    findings = []
    for _, _, op in sorted(events, key=lambda event: event[:2]):
        if op.function == "enqueue":
            held[freeze(op.value)] += 1
            continue
        for value in _taken(op):
            if held[value] < 1:
                text = f"operation {op.id} took out {show(value)}, which was not in there"
                findings.append(Finding("from-nowhere", text, (op.id,), {"value": value}))
            else:
                held[value] -= 1
    left = {value: n for value, n in held.items() if n}
    return conclude("queue", findings, f"{len(findings)} values came from nowhere", {"left": left})


def check_total_queue(history: History) -> Judgement:
    """Every acknowledged enqueue comes out, once the queue was drained.

    ``facts``: multisets ``lost`` (acknowledged, never came out), ``unexpected`` (came out, nobody
    put them in), ``duplicated`` (came out more often than anyone tried to put them in) and
    ``recovered`` (came out though nobody knew). As in Jepsen, a duplicate alone is no violation:
    most queues deliver at least once.
    """
    attempts: Counter[Hashable] = Counter()
    acknowledged: Counter[Hashable] = Counter()
    out: Counter[Hashable] = Counter()
    findings = []
    for op in history:
        if op.function == "enqueue":
            attempts[freeze(op.value)] += 1
            if op.outcome is Outcome.OK:
                acknowledged[freeze(op.value)] += 1
        elif op.function == "drain" and op.outcome is Outcome.UNKNOWN:
            text = f"nobody knows what operation {op.id}, a drain, took out"
            findings.append(Finding("unknown-drain", text, (op.id,), decided=False))
        else:
            out.update(_taken(op))
    unexpected = Counter({value: n for value, n in out.items() if value not in attempts})
    duplicated = out - attempts - unexpected
    ok = out & attempts
    lost = acknowledged - out
    recovered = ok - acknowledged
    if lost:
        text = f"acknowledged, and never came out: {_told(lost)}"
        by = tuple(op.id for op in history if freeze(op.value) in lost)
        findings.append(Finding("lost", text, by[:50], {"values": dict(lost)}))
    if unexpected:
        text = f"came out, and nobody put them in: {_told(unexpected)}"
        by = tuple(op.id for op in history if set(_taken(op)) & set(unexpected))
        findings.append(Finding("unexpected", text, by[:50], {"values": dict(unexpected)}))
    facts = {
        "attempt_count": attempts.total(),
        "acknowledged_count": acknowledged.total(),
        "ok_count": ok.total(),
        "lost": dict(lost),
        "unexpected": dict(unexpected),
        "duplicated": dict(duplicated),
        "recovered": dict(recovered),
    }
    summary = (
        f"{lost.total()} lost, {unexpected.total()} unexpected, {duplicated.total()} duplicated, "
        f"{recovered.total()} recovered"
    )
    return conclude("total-queue", findings, summary, facts)
