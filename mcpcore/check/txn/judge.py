"""Judges of transaction histories: which isolation level can this still be?

This module exists so that inference, cycles and levels come together in one verdict. It must never
report an anomaly that the level asked for allows as a violation; such anomalies are told as facts.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mcpcore.check.budget import Budget, Meter
from mcpcore.check.history import History
from mcpcore.check.txn.append import Appends, judge_findings
from mcpcore.check.txn.cycles import Cycle, find_anomalies
from mcpcore.check.txn.graph import Dep
from mcpcore.check.txn.inference import Inference
from mcpcore.check.txn.levels import (
    check_level,
    implied,
    needs_realtime,
    needs_sessions,
    ruled_out,
    strongest_left,
    weakest,
)
from mcpcore.check.txn.order import add_realtime, add_sessions
from mcpcore.check.txn.register import SURE, Assumption, Registers
from mcpcore.check.txn.tell import tell_cycle
from mcpcore.check.verdict import Finding, Judgement, Verdict


def check_list_append(
    history: History,
    level: str = "strict-serializable",
    budget: Budget | None = None,
    *,
    initial: Collection[Any] = (),
) -> Judgement:
    """Judge transactions of ``[append key element]`` and ``[r key list]``.

    Args:
        level: the isolation promised; see `LEVELS`. Anomalies that it allows are facts, not
            violations.
        initial: elements that lists may hold although no transaction appended them.

    Returns:
        ``facts``: ``anomalies`` (every kind found), ``implied`` (what they are cases of),
        ``not`` (the weakest levels ruled out), ``strongest`` (the strongest levels left).

    Raises:
        InvalidInput: an operation is no such transaction, or there is no such level.
    """
    return _judge("list-append", Appends(history, initial), level, Meter(budget))


def check_rw_register(
    history: History,
    level: str = "strict-serializable",
    budget: Budget | None = None,
    *,
    assume: Collection[Assumption] = SURE,
    initial: Collection[Any] = (),
) -> Judgement:
    """Judge transactions of ``[w key value]`` and ``[r key value]``, every value written once.

    Args:
        level: the isolation promised; see `LEVELS`.
        assume: what may be used to order versions; see `Registers`.
        initial: values that keys may hold although no transaction wrote them.

    Returns and raises the same as `check_list_append`.
    """
    return _judge("rw-register", Registers(history, assume, initial), level, Meter(budget))


def _judge(name: str, inference: Inference, level: str, meter: Meter) -> Judgement:
    check_level(level)
    inference.infer()
    graph = inference.graph
    sessions, realtime = needs_sessions(level), needs_realtime(level)
    if sessions:
        add_sessions(graph, inference.history, inference.nodes)
    if realtime:
        add_realtime(graph, inference.history, inference.nodes)
    cycles, complete = find_anomalies(
        graph, sessions=sessions, realtime=realtime, spent=meter.out_of_time
    )
    findings = judge_findings(inference) + [tell_cycle(cycle, inference) for cycle in cycles]
    kinds = {finding.kind for finding in findings if finding.decided}
    if any(_is_write_skew(cycle) for cycle in cycles):
        kinds.add("write-skew")
    excluded = ruled_out(kinds)
    breaking = tuple(
        finding for finding in findings if finding.decided and _breaks(finding.kind, level)
    )
    facts: dict[str, Any] = {
        "level": level,
        "transactions": len(inference.nodes),
        "dependencies": graph.edges,
        "anomalies": sorted(kinds),
        "implied": sorted(implied(kinds) - kinds),
        "not": list(weakest(excluded)),
        "strongest": list(strongest_left(excluded)),
    }
    if level in excluded:
        summary = f"not {level}: {', '.join(sorted({f.kind for f in breaking}))}"
        summary += f"; at most {' or '.join(facts['strongest']) or 'nothing at all'}"
        return Judgement(name, Verdict.VIOLATED, summary, breaking, facts)
    undecided = [finding for finding in findings if not finding.decided]
    if not complete:
        text = "undecided: the time budget was spent before every cycle was looked for"
        undecided.append(Finding("budget-spent", text, (), {}, decided=False))
    if not graph.edges:
        text = "undecided: no transaction depends on another, so any level explains this"
        undecided.append(Finding("empty-transaction-graph", text, (), {}, decided=False))
    if undecided:
        return Judgement(name, Verdict.UNKNOWN, undecided[0].text, tuple(undecided), facts)
    tolerated = f" ({', '.join(sorted(kinds))} found, which it allows)" if kinds else ""
    summary = f"nothing in {len(inference.nodes)} transactions rules out {level}{tolerated}"
    return Judgement(name, Verdict.OK, summary, (), facts)


def _breaks(kind: str, level: str) -> bool:
    return level in ruled_out([kind])


def _is_write_skew(cycle: Cycle) -> bool:
    """Two transactions that each overwrote what the other had read, of different keys."""
    steps = cycle.steps
    return (
        len(steps) == 2
        and all(step.dep is Dep.RW for step in steps)
        and steps[0].reason.key != steps[1].reason.key
    )
