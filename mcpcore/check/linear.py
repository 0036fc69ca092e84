"""Linearizability (Herlihy and Wing 1990): does one order of operations explain what everyone saw?

This module exists so that a history of many objects is judged within one budget: the search for
each object gets a turn, so that one bad object ends the judgement and one hard object cannot keep
the others from being looked at. It must never turn "ran out of budget" into "linearizable".
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from mcpcore.check.budget import Budget, Meter
from mcpcore.check.explain import explain_failure, nonlinearizable
from mcpcore.check.history import History, Operation, show
from mcpcore.check.model import Model
from mcpcore.check.search import Search
from mcpcore.check.verdict import Finding, Judgement, Part, Verdict

JUDGE = "linearizable"
_SLICE = 256
_LARGEST_TURN = 64 * _SLICE


def split(history: History, model: Model) -> dict[Hashable, list[Operation]]:
    """The operations that the model admits, by the object they are about, in order of call."""
    objects: dict[Hashable, list[Operation]] = {}
    for op in history:
        if model.admits(op):
            objects.setdefault(model.partition(op), []).append(op)
    return objects


def check_linearizable(history: History, model: Model, budget: Budget | None = None) -> Judgement:
    """Judge a history by search.

    Returns ``ok`` with a linearization of each object; ``violated`` with the shortest failing
    prefix, the longest explanations of it and what each candidate next operation contradicts; or
    ``unknown`` if the budget ran out before anything was decided.

    Raises:
        InvalidInput: the history holds an operation that the model does not have.

    Source: Wing and Gong 1993; Lowe 2017; Horn and Kroening 2015 for judging objects one by one.
    """
    meter = Meter(budget)
    return search_objects(split(history, model), model, meter)


def search_objects(
    objects: dict[Hashable, list[Operation]], model: Model, meter: Meter
) -> Judgement:
    """Search each object in turns until one fails, all are explained, or the budget is spent."""
    parts: dict[Hashable, Part] = {}
    running: dict[Hashable, Search] = {}
    out_of_time = False
    for key, operations in objects.items():
        if out_of_time or meter.out_of_time():
            out_of_time = True
            parts[key] = Part(_name(operations), Verdict.UNKNOWN, "search", 0, _ids(operations))
        else:
            running[key] = Search(model, operations)
    turn = _SLICE
    failed: Search | None = None
    while running and failed is None and not out_of_time:
        for key in list(running):
            if key not in running:  # it gave its memory to others
                continue
            search = running[key]
            spent = 0
            while search.verdict is None and spent < turn:
                search.run(_SLICE)
                spent += _SLICE
                if meter.out_of_time():
                    out_of_time = True
                    break
                if meter.out_of_memory(sum(s.estimate_bytes for s in running.values())):
                    largest = max(running, key=lambda k: running[k].estimate_bytes)
                    parts[largest] = _gave_up(running.pop(largest))
                    if largest == key:
                        break
            if search.verdict is not None and key in running:
                parts[key] = _part(model, running.pop(key), meter)
                if search.verdict is Verdict.VIOLATED:
                    failed = search
            if failed or out_of_time:
                break
        turn = min(2 * turn, _LARGEST_TURN)
    for key, search in running.items():
        parts[key] = _gave_up(search)
    return _judgement(model, [parts[key] for key in objects], out_of_time=out_of_time)


def _ids(operations: Sequence[Operation]) -> tuple[int, ...]:
    return tuple(op.id for op in operations)


def _name(operations: Sequence[Operation]) -> Any:
    return operations[0].key


def _gave_up(search: Search) -> Part:
    part = Part(
        _name(search.operations),
        Verdict.UNKNOWN,
        "search",
        search.visited,
        _ids(search.operations),
    )
    search.abandon()
    return part


def _part(model: Model, search: Search, meter: Meter) -> Part:
    if search.verdict is Verdict.VIOLATED:
        return explain_failure(model, search, meter)
    return Part(
        _name(search.operations),
        Verdict.OK,
        "search",
        search.visited,
        _ids(search.operations),
        search.linearization,
    )


def _judgement(model: Model, parts: Sequence[Part], *, out_of_time: bool) -> Judgement:
    verdict = Verdict.worst(part.verdict for part in parts)
    visited = sum(part.visited for part in parts)
    total = sum(len(part.operations) for part in parts)
    facts = {
        "model": model.name,
        "operations": total,
        "objects": len(parts),
        "configurations": visited,
        "objects_ok": sum(part.verdict is Verdict.OK for part in parts),
        "objects_unknown": sum(part.verdict is Verdict.UNKNOWN for part in parts),
    }
    findings: list[Finding] = []
    if verdict is Verdict.VIOLATED:
        bad = next(part for part in parts if part.verdict is Verdict.VIOLATED)
        findings.append(nonlinearizable(bad))
        summary = f"not linearizable as a {model.name}: {findings[0].text}"
    elif verdict is Verdict.UNKNOWN:
        spent = "time" if out_of_time else "memory"
        undecided = [show(part.key) for part in parts if part.verdict is Verdict.UNKNOWN]
        which = f" for {', '.join(undecided[:8])}" if len(parts) > 1 else ""
        summary = f"undecided{which}: the {spent} budget was spent after {visited} configurations"
        findings.append(Finding("budget-spent", summary, (), {"spent": spent}, decided=False))
    else:
        objects = f" on {len(parts)} objects" if len(parts) > 1 else ""
        summary = f"linearizable as a {model.name}: one order explains all {total} operations"
        summary += objects
    return Judgement(JUDGE, verdict, summary, tuple(findings), facts, tuple(parts))
