"""Watches: every watcher hears of every change, in order, each once.

This module exists to judge a stream of changes from outside, by what was written and what was
heard. It must never assume that the writer's answer and the watcher's event come in any order.

Operations:

- ``put`` with a value that nobody else ever puts, and as its result the revision of the change;
- ``watch`` with value ``{"after": r}`` and result ``{"upto": r, "events": [[revision, value]]}``:
  all changes after one revision, up to another. With ``"until": r`` in its value it waited for
  that revision longer than it may take.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import pairwise
from typing import Any

from mcpcore.check.history import History, Operation, Outcome, freeze, show
from mcpcore.check.verdict import Finding, Judgement, conclude
from mcpcore.errors import InvalidInput


def check_watches(history: History) -> Judgement:
    """Watchers miss nothing, invent nothing, repeat nothing, and agree with each other.

    Findings: ``missed`` (an acknowledged change within the revisions watched, or one that was
    waited for in vain), ``invented``,
    ``repeated`` (one put, two changes), ``out-of-order`` (revisions that do not rise, or beyond
    those watched), ``disagree`` (two watchers heard different things of one revision, or another
    one than its author was told).

    Raises:
        InvalidInput: an operation has other fields than those above.
    """
    attempted: dict[Hashable, Operation] = {}
    told: dict[int, tuple[Hashable, Operation]] = {}
    findings: list[Finding] = []
    for op in history:
        if op.function == "put":
            attempted[freeze(op.value)] = op
            if op.outcome is Outcome.OK:
                told[_revision(op, op.result)] = freeze(op.value), op
    acknowledged = sorted(told)
    heard: dict[int, tuple[Hashable, int]] = {}
    revisions: dict[Hashable, int] = {}
    watches = [op for op in history if op.function == "watch" and op.outcome is Outcome.OK]
    events = 0
    for op in watches:
        after, upto, batch = _batch(op)
        events += len(batch)
        places = [after, *(revision for revision, _ in batch)]
        if any(one >= other for one, other in pairwise(places)) or places[-1] > upto:
            text = f"operation {op.id} watched after {after} up to {upto} and heard {places[1:]}"
            findings.append(Finding("out-of-order", text, (op.id,)))
        for revision, value in batch:
            findings += _event(op, revision, value, attempted, told, heard, revisions)
        until = op.value.get("until")
        if until is not None and upto < _revision(op, until):
            text = f"operation {op.id} waited for revision {until} and heard nothing after {upto}"
            findings.append(Finding("missed", text, (op.id,), {"revision": until}))
        got = {revision for revision, _ in batch}
        for revision in acknowledged:
            if after < revision <= upto and revision not in got:
                value, by = told[revision]
                text = (
                    f"operation {op.id} watched after {after} up to {upto} and did not hear of "
                    f"{show(value)} at {revision}"
                )
                findings.append(Finding("missed", text, (op.id, by.id), {"revision": revision}))
    summary = f"{len(findings)} things wrong in {len(watches)} watches with {events} changes"
    undecided = "" if watches else "undecided: nobody watched"
    facts = {"watches": len(watches), "events": events, "acknowledged": len(told)}
    return conclude("watches", findings, summary, facts, undecided=undecided)


def _event(
    op: Operation,
    revision: int,
    value: Hashable,
    attempted: Mapping[Hashable, Operation],
    told: Mapping[int, tuple[Hashable, Operation]],
    heard: dict[int, tuple[Hashable, int]],
    revisions: dict[Hashable, int],
) -> list[Finding]:
    """What is wrong with one change that a watcher heard of."""
    found = []
    author = attempted.get(value)
    if author is None or author.outcome is Outcome.FAIL:
        text = f"operation {op.id} heard of {show(value)} at {revision}, which nobody wrote"
        found.append(Finding("invented", text, (op.id,), {"revision": revision}))
    elsewhere = revisions.setdefault(value, revision)
    if elsewhere != revision:
        text = f"{show(value)} was put once, and watchers heard of it at {elsewhere} and {revision}"
        found.append(Finding("repeated", text, (op.id,), {"revision": revision}))
    other, by = heard.setdefault(revision, (value, op.id))
    if other != value:
        text = f"at {revision} operation {by} heard of {show(other)}, and {op.id} of {show(value)}"
        found.append(Finding("disagree", text, (op.id, by), {"revision": revision}))
    if revision in told and told[revision][0] != value:
        wrote, writer = told[revision]
        text = f"{show(wrote)} was put at {revision}, and operation {op.id} heard of {show(value)}"
        found.append(Finding("disagree", text, (op.id, writer.id), {"revision": revision}))
    return found


def _batch(op: Operation) -> tuple[int, int, list[tuple[int, Hashable]]]:
    try:
        after, upto = op.value["after"], op.result["upto"]
        batch = [(revision, freeze(value)) for revision, value in op.result["events"]]
    except (TypeError, KeyError, ValueError):
        raise InvalidInput(
            f"a watch of {show(op.value)} with {show(op.result)}",
            where=_where(op),
            remedy="Expected after, and a result with upto and events of revision and value.",
        ) from None
    return _revision(op, after), _revision(op, upto), [(_revision(op, r), v) for r, v in batch]


def _revision(op: Operation, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInput(
            f"{op.function} with {show(value)}", where=_where(op), remedy="Expected a revision."
        )
    return value


def _where(op: Operation) -> str:
    return f"line {op.line}" if op.line else f"operation {op.id}"
