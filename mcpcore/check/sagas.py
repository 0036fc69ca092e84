"""Outcomes of sagas: each one completed or compensated, and every effect exactly once.

This module exists to judge a saga engine from outside, by what the resources recorded. It must
never read the engine's journal: the journal is what is on trial.

Operations:

- ``saga`` with value ``{"saga": id, "steps": [names]}`` and result ``completed``, ``compensated``
  or ``parked`` (in the dead-letter queue);
- ``effect`` with value ``{"saga": id, "step": name, "action": "do" | "undo"}``, one for each time
  that a resource really did or undid something.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mcpcore.check.history import History, Operation, Outcome, show
from mcpcore.check.verdict import Finding, Judgement, conclude
from mcpcore.errors import InvalidInput

_ENDS = ("completed", "compensated", "parked")


def _field(op: Operation, name: str) -> Any:
    if not isinstance(op.value, Mapping) or name not in op.value:
        where = f"line {op.line}" if op.line else f"operation {op.id}"
        raise InvalidInput(
            f"{op.function} of {show(op.value)}", where=where, remedy=f"Expected a map with {name}."
        )
    return op.value[name]


def check_sagas(history: History, *, parked_is_fine: bool = False) -> Judgement:
    """Every saga ended, and its effects are what its end says.

    Args:
        parked_is_fine: a saga in the dead-letter queue counts as ended.

    Findings: ``unfinished``, ``parked``, ``missing-effect`` (completed, but a step did nothing),
    ``repeated-effect`` (done or undone more often than once), ``not-undone`` (compensated, but an
    effect is still there), ``undone-undone`` (an effect undone that never was), ``undone-although-
    completed``, ``unknown-saga``.

    Raises:
        InvalidInput: an operation lacks one of the fields above.
    """
    started: dict[Any, Operation] = {}
    effects: dict[Any, Counter[tuple[str, str]]] = {}
    by: dict[Any, list[int]] = {}
    for op in history:
        if op.function == "saga":
            started[_field(op, "saga")] = op
        elif op.function == "effect" and op.outcome is Outcome.OK:
            saga = _field(op, "saga")
            action = _field(op, "action")
            if action not in ("do", "undo"):
                where = f"line {op.line}" if op.line else f"operation {op.id}"
                raise InvalidInput(f"action {action}", where=where, remedy="Expected do or undo.")
            effects.setdefault(saga, Counter())[_field(op, "step"), action] += 1
            by.setdefault(saga, []).append(op.id)
    findings: list[Finding] = []
    ends: Counter[str] = Counter()
    for saga, op in started.items():
        end = op.result if op.outcome is Outcome.OK else None
        ends[end or "unfinished"] += 1
        for kind, text in _wrong(op, end, effects.get(saga, Counter()), parked_is_fine):
            about = (op.id, *by.get(saga, ()))
            findings.append(Finding(kind, f"saga {saga}: {text}", about, {"saga": saga}))
    for saga in effects.keys() - started.keys():
        text = f"somebody did something for saga {saga}, which nobody started"
        findings.append(Finding("unknown-saga", text, tuple(by[saga]), {"saga": saga}))
    summary = f"{len(findings)} things wrong in {len(started)} sagas: " + ", ".join(
        f"{n} {end}" for end, n in sorted(ends.items())
    )
    undecided = "" if started else "undecided: there are no sagas"
    return conclude("sagas", findings, summary, dict(ends), undecided=undecided)


def _wrong(
    op: Operation, end: Any, effects: Counter[tuple[str, str]], parked_is_fine: bool
) -> list[tuple[str, str]]:
    if end not in _ENDS:
        return [("unfinished", f"it did not end ({op.outcome}, {show(op.result)})")]
    wrong = []
    if end == "parked" and not parked_is_fine:
        wrong.append(("parked", "it waits in the dead-letter queue for somebody to decide"))
    steps = _field(op, "steps")
    for step in dict.fromkeys([*steps, *(step for step, _ in effects)]):
        done, undone = effects[step, "do"], effects[step, "undo"]
        if done > 1 or undone > 1:
            times = f"{done} times done and {undone} times undone"
            wrong.append(("repeated-effect", f"step {step} was {times}"))
        if undone and not done:
            wrong.append(("undone-undone", f"step {step} was undone but never done"))
        if end == "completed" and not done:
            wrong.append(("missing-effect", f"it completed, but step {step} did nothing"))
        if end == "completed" and undone:
            wrong.append(("undone-although-completed", f"it completed, but step {step} was undone"))
        if end == "compensated" and done > undone:
            wrong.append(("not-undone", f"it was compensated, but step {step} is still done"))
    return wrong
