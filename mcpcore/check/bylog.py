"""Linearizability of a history whose operations know their place in the replicated log.

This module exists because our Raft stamps operations with (group, term, index): the order that
explains the history is then known beforehand, and checking it takes one sort and one sweep instead
of a search. It must never believe the log: the order it gives is tried against real time and
against every result that a client saw.

HAZARD: an operation that the log cannot place (an unknown outcome without a position, a read served
without an index) is not explained by sorting. Objects with such operations go to the general search
unless the placed operations alone explain everything.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import NamedTuple

from mcpcore.check.budget import Budget, Meter
from mcpcore.check.history import History, LogPosition, Operation, Outcome
from mcpcore.check.linear import search_objects, split
from mcpcore.check.model import ILLEGAL, Choice, Model
from mcpcore.check.verdict import Finding, Judgement, Part, Verdict

JUDGE = "linearizable-by-log"


def check_by_log(history: History, model: Model, budget: Budget | None = None) -> Judgement:
    """Judge a history by the positions of its operations in the log.

    A state-changing operation stands at its index; a read stamped with an index saw the state after
    that entry. Operations that share an object must share a group. An object whose operations are
    all placed is judged in one sweep; any other one is searched.

    Returns the same judgement as `check_linearizable`, with ``method`` telling how each object was
    judged. Where the log's own order does not explain what clients saw, the verdict is ``violated``
    with a finding ``log-order``, even if another order would have explained it: what the log says
    is not what happened.

    Raises:
        InvalidInput: the history holds an operation that the model does not have.
    """
    meter = Meter(budget)
    parts: list[Part] = []
    findings: list[Finding] = _two_entries_at_one_place(history, model)
    left: dict[Hashable, list[Operation]] = {}
    for key, operations in split(history, model).items():
        placed = [op for op in operations if op.position is not None]
        loose = [op for op in operations if op.position is None and not _harmless(model, op)]
        fault = _against_log(model, placed)
        if not any(op.outcome is not Outcome.UNKNOWN for op in loose) and fault is None:
            parts.append(_explained(operations, model))
        elif loose:
            left[key] = operations
        else:
            assert fault is not None
            findings.append(fault.finding)
            parts.append(_contradicted(operations, fault, model))
    if findings or not left:
        return _by_log_alone(parts, findings, len(left))
    searched = search_objects(left, model, meter)
    return replace(
        searched,
        judge=JUDGE,
        parts=(*parts, *searched.parts),
        facts={**searched.facts, "by_log": len(parts), "by_search": len(left)},
    )


def _harmless(model: Model, op: Operation) -> bool:
    """An unplaced operation that explains and contradicts nothing."""
    return op.outcome is Outcome.UNKNOWN and model.reads_only(op)


class _Fault(NamedTuple):
    """Where the log's order first fails, and the operations that it explains before that."""

    finding: Finding
    blocked: Operation
    explained: tuple[int, ...]


def _order(operations: Sequence[Operation], model: Model) -> list[Operation]:
    """The log's order; reads stand after the entry they saw, in order of call."""
    reads_only = model.reads_only
    keyed = [
        (op.position.index, reads_only(op), op.called, op.id, op)
        for op in operations
        if op.position is not None
    ]
    keyed.sort()
    return [row[4] for row in keyed]


def _against_log(model: Model, placed: Sequence[Operation]) -> _Fault | None:
    """The first contradiction between the log's order and the clients, if there is one."""
    order = _order(placed, model)
    latest: Operation | None = None  # of those already ordered, the one called last
    state = model.initial()
    for at, op in enumerate(order):
        if latest is not None and op.returned is not None and op.returned < latest.called:
            text = (
                f"{model.tell(op)} (operation {op.id}) had returned before {model.tell(latest)} "
                f"(operation {latest.id}) was called, but the log has it later: "
                f"{_place(op)} after {_place(latest)}"
            )
            return _fault(text, (op, latest), order, at)
        if latest is None or op.called > latest.called:
            latest = op
        after = model.step(state, op)
        if after is ILLEGAL:
            text = f"at {_place(op)}, operation {op.id}: {model.why(state, op)}"
            return _fault(text, (op,), order, at)
        if isinstance(after, Choice):
            if len(after) != 1:
                text = f"{model.tell(op)} at {_place(op)} leaves {len(after)} possible states"
                return _fault(text, (op,), order, at)
            after = after[0]
        state = after
    return None


def _fault(text: str, about: tuple[Operation, ...], order: Sequence[Operation], at: int) -> _Fault:
    ids = tuple(op.id for op in about)
    positions = tuple(tuple(op.position or ()) for op in about)
    finding = Finding("log-order", text, ids, {"key": about[0].key, "positions": positions})
    return _Fault(finding, about[0], tuple(op.id for op in order[:at]))


def _place(op: Operation) -> str:
    assert op.position is not None
    group = f"group {op.position.group} " if op.position.group else ""
    return f"{group}index {op.position.index} (term {op.position.term})"


def _two_entries_at_one_place(history: History, model: Model) -> list[Finding]:
    """An index holds one entry, and terms never go back along the log: Raft's own promises."""
    entries: dict[tuple[str, int], Operation] = {}
    findings = []
    for op in history:
        if op.position is None or op.outcome is Outcome.FAIL or model.reads_only(op):
            continue
        place = (op.position.group, op.position.index)
        other = entries.setdefault(place, op)
        if other is not op:
            text = (
                f"operations {other.id} and {op.id} both claim {_place(op)}: "
                f"{model.tell(other)} and {model.tell(op)}"
            )
            findings.append(Finding("log-fork", text, (other.id, op.id)))
    last: dict[str, LogPosition] = {}
    for group, index in sorted(entries):
        position = entries[group, index].position
        assert position is not None
        before = last.get(group)
        if before is not None and position.term < before.term:
            text = (
                f"the term goes back from {before.term} at index {before.index} to "
                f"{position.term} at index {index}" + (f" of group {group}" if group else "")
            )
            findings.append(Finding("log-term", text, (entries[group, index].id,)))
        last[group] = position
    return findings


def _explained(operations: Sequence[Operation], model: Model) -> Part:
    placed = [op for op in operations if op.position is not None]
    return Part(
        operations[0].key,
        Verdict.OK,
        "log",
        len(placed),
        tuple(op.id for op in operations),
        tuple(op.id for op in _order(placed, model)),
    )


def _contradicted(operations: Sequence[Operation], fault: _Fault, model: Model) -> Part:
    return Part(
        operations[0].key,
        Verdict.VIOLATED,
        "log",
        len(fault.explained),
        tuple(op.id for op in operations),
        fault.explained,
        blocked_at=fault.blocked.id,
    )


def _by_log_alone(parts: Sequence[Part], findings: Sequence[Finding], left: int) -> Judgement:
    total = sum(len(part.operations) for part in parts)
    facts = {"operations": total, "objects": len(parts) + left, "by_log": len(parts)}
    if findings:
        summary = f"the log does not explain the history: {findings[0].text}"
        return Judgement(JUDGE, Verdict.VIOLATED, summary, tuple(findings), facts, tuple(parts))
    summary = f"linearizable: the log's order explains all {total} operations"
    return Judgement(JUDGE, Verdict.OK, summary, (), facts, tuple(parts))
