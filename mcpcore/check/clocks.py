"""Clock order: whatever happened before must have the smaller timestamp.

This module exists to judge logical and hybrid clocks by the order of a run. It must never compare
timestamps of events that no chain of causes connects, unless real time is asked for.

Operations return their timestamp as the result (a whole number, or a list that compares). ``send``
and ``receive`` carry the message's id as value; everything else is a local event.

Source: Lamport, "Time, Clocks, and the Ordering of Events" (1978), the clock condition.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import pairwise
from typing import Any

from mcpcore.check.history import History, Operation, Outcome, freeze, show
from mcpcore.check.txn.order import realtime_pairs
from mcpcore.check.verdict import Finding, Judgement, conclude
from mcpcore.errors import InvalidInput


def check_clock_order(history: History, *, realtime: bool = False) -> Judgement:
    """Timestamps grow along each process and along each message.

    Args:
        realtime: they must also grow from whatever had returned to whatever was called later
            (external consistency: clocks that wait out their uncertainty).

    Findings: ``process-order``, ``message-order``, ``realtime-order``, ``unsent`` (a message
    received but never sent). Since happens-before is the closure of these pairs, checking the pairs
    is checking it all.

    Raises:
        InvalidInput: two timestamps cannot be compared.
    """
    stamped = [op for op in history if op.outcome is Outcome.OK and op.result is not None]
    ids = {op.id for op in stamped}
    findings: list[Finding] = []
    pairs = 0
    for session in history.by_process().values():
        for before, after in pairwise(op for op in session if op.id in ids):
            pairs += 1
            findings += _wrong("process-order", before, after, f"process {after.process} did")
    sent: dict[Hashable, Operation] = {}
    for op in stamped:
        if op.function == "send":
            sent[freeze(op.value)] = op
    unknown = {freeze(op.value) for op in history if op.function == "send" and op.id not in ids}
    for op in stamped:
        if op.function != "receive":
            continue
        message = freeze(op.value)
        source = sent.get(message)
        if source is not None:
            pairs += 1
            findings += _wrong("message-order", source, op, f"message {show(op.value)} went from")
        elif message not in unknown:
            text = f"operation {op.id} received message {show(op.value)}, which nobody sent"
            findings.append(Finding("unsent", text, (op.id,)))
    if realtime:
        for before, after in realtime_pairs(stamped):
            pairs += 1
            findings += _wrong("realtime-order", before, after, "real time has")
    undecided = "" if pairs else "undecided: no event happened before another"
    summary = f"{len(findings)} of {pairs} pairs out of order"
    return conclude("clock-order", findings, summary, {"pairs": pairs}, undecided=undecided)


def _wrong(kind: str, before: Operation, after: Operation, why: str) -> list[Finding]:
    if _less(before, after):
        return []
    text = (
        f"{why} operation {before.id} ({show(before.result)}) before operation {after.id} "
        f"({show(after.result)}), but its timestamp is not smaller"
    )
    return [Finding(kind, text, (before.id, after.id))]


def _less(before: Operation, after: Operation) -> bool:
    a: Any = freeze(before.result)
    b: Any = freeze(after.result)
    try:
        return bool(a < b)
    except TypeError as error:
        where = f"operations {before.id} and {after.id}"
        raise InvalidInput(
            f"{show(a)} and {show(b)} do not compare",
            where=where,
            remedy="Expected whole numbers, or lists of them.",
        ) from error
