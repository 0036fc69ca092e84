"""Policies that merge: never more is allowed than somebody allowed, and in the end all agree.

This module exists to judge replicas of a policy from outside, by what they allow before and after
they hear of each other. It must never know what a policy is: what is allowed comes as a list.

Operations:

- ``join`` with value ``{"ours": [...], "theirs": [...]}``, what the two replicas allowed before,
  and result what the merge allows: the theorem is *after within ours or theirs*;
- ``take`` with value what a replica allowed before an edit that only takes away, and result after;
- ``order`` with result the names of what was put into the log;
- ``settled`` with result ``{"allowed": [...], "ordered": [names]}``, what a replica allows and what
  log it has once everybody has everything: all must be equal, and nothing ordered may be missing;
- any of them failing with the error ``FORKED``: two replicas follow logs that are no prefixes of
  each other, so something that was ordered got lost or changed its place.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from mcpcore.check.history import History, Operation, Outcome, freeze, show
from mcpcore.check.verdict import Finding, Judgement, conclude
from mcpcore.errors import InvalidInput

FORKED = "two logs that differ"
"""The error of an operation that found the log in two forms."""


def check_policies(history: History) -> Judgement:
    """Joins allow nothing that neither side allowed, and replicas agree in the end.

    Findings: ``allowed-by-nobody``, ``forked-log``, ``disagree``, ``lost-order``.

    Raises:
        InvalidInput: an operation lacks one of the fields above.
    """
    findings: list[Finding] = []
    joins, settled = 0, dict[frozenset[Hashable], Operation]()
    ordered: dict[Hashable, int] = {}
    logs: list[tuple[Operation, frozenset[Hashable]]] = []
    for op in history:
        if op.error == FORKED:
            text = f"operation {op.id} found another log than its replica had followed"
            findings.append(Finding("forked-log", text, (op.id,)))
        if op.outcome is not Outcome.OK:
            continue
        if op.function == "join":
            joins += 1
            findings += _grown(
                op,
                _set(op, _field(op, op.value, "ours")) | _set(op, _field(op, op.value, "theirs")),
            )
        elif op.function == "take":
            findings += _grown(op, _set(op, op.value))
        elif op.function == "settled":
            settled.setdefault(_set(op, _field(op, op.result, "allowed")), op)
            logs.append((op, _set(op, _field(op, op.result, "ordered"))))
        elif op.function == "order":
            ordered.update((name, op.id) for name in _set(op, op.result))
    for op, log in logs:
        lost = ordered.keys() - log
        if lost:
            text = f"the log of operation {op.id} lacks {show(sorted(lost, key=str))}, "
            text += "which was acknowledged"
            about = (op.id, *(ordered[name] for name in sorted(lost, key=str)))
            findings.append(Finding("lost-order", text, about))
            break
    if len(settled) > 1:
        one, other, *_ = settled
        text = (
            f"when all was settled, operation {settled[one].id} allowed {show(sorted(one - other))}"
            f" and operation {settled[other].id} {show(sorted(other - one))} beyond the other"
        )
        findings.append(Finding("disagree", text, (settled[one].id, settled[other].id)))
    summary = f"{len(findings)} things wrong in {joins} joins"
    undecided = "" if joins else "undecided: no two replicas ever met"
    return conclude("policies", findings, summary, {"joins": joins}, undecided=undecided)


def _grown(op: Operation, before: frozenset[Hashable]) -> Iterable[Finding]:
    more = _set(op, op.result) - before
    if more:
        text = f"operation {op.id} ({op.function}) allows {show(sorted(more, key=str))}, "
        text += "which was allowed nowhere before"
        yield Finding("allowed-by-nobody", text, (op.id,), {"allowed": sorted(more, key=str)})


def _field(op: Operation, value: Any, name: str) -> Any:
    if not isinstance(value, Mapping) or name not in value:
        raise InvalidInput(
            f"{op.function} with {show(value)}", where=_where(op), remedy=f"Expected {name}."
        )
    return value[name]


def _set(op: Operation, allowed: Any) -> frozenset[Hashable]:
    if not isinstance(allowed, list | tuple):
        raise InvalidInput(
            f"{op.function} with {show(allowed)}",
            where=_where(op),
            remedy="Expected a list of what is allowed.",
        )
    return frozenset(freeze(each) for each in allowed)


def _where(op: Operation) -> str:
    return f"line {op.line}" if op.line else f"operation {op.id}"
