"""What the page draws itself, as plain data: single operations, and messages between nodes.

This module exists so that the page's scripts only draw. It is where a run of a hundred thousand
operations becomes a few thousand bars, and where the page learns how many it does not show. It must
never judge.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from mcpcore.check import History, Judgement, Operation, Outcome
from mcpcore.check.history import show
from mcpcore.experiment.run import Run

OPERATIONS_MAX: Final = 1500
"""Bars that a workload's picture has at most."""
_LANES_MAX: Final = 40
_TEXT_MAX: Final = 160


def operations(run: Run, kind: str, judgement: Judgement) -> dict[str, Any]:
    """A workload's operations as bars: all that went wrong, and as many others as there is room.

    Returns:
        ``lanes`` (names), ``bars`` (id, lane, from s, to s or null, outcome, text), ``total``, and
        ``findings`` (text and the ids that it is about).
    """
    history = run.histories[kind]
    findings = judgement.findings[:50]
    about = {number for finding in findings for number in finding.operations[:20]}
    chosen = _choose(history, about)
    names = list(run.lanes[kind])[:_LANES_MAX]
    lanes = {name: number for number, name in enumerate(names)}
    bars = [
        [
            op.id,
            lanes.get(str(op.process).partition(",")[0], len(names)),
            round(op.called_ns / 1e9, 4),
            None if op.returned_ns is None else round(op.returned_ns / 1e9, 4),
            op.outcome.value,
            _told(op),
        ]
        for op in chosen
    ]
    if any(bar[1] == len(names) for bar in bars):
        names.append("others")
    return {
        "kind": kind,
        "lanes": names,
        "bars": bars,
        "total": len(history),
        "findings": [
            [finding.kind, finding.text[:600], list(finding.operations[:20])]
            for finding in findings
        ],
        "more": len(judgement.findings) - len(findings),
    }


def _choose(history: History, about: Collection[int]) -> list[Operation]:
    """What is blamed first, then what has no good end, then an even choice of the others."""
    ops = list(history)
    if len(ops) <= OPERATIONS_MAX:
        return ops
    blamed = [op for op in ops if op.id in about]
    odd = [op for op in ops if op.id not in about and op.outcome is Outcome.UNKNOWN]
    chosen = [*blamed, *_even(odd, OPERATIONS_MAX // 2)]
    taken = {op.id for op in chosen}
    rest = [op for op in ops if op.id not in taken]
    chosen += _even(rest, max(0, OPERATIONS_MAX - len(chosen)))
    return sorted(chosen, key=lambda op: op.called_ns)


def _even(ops: list[Operation], most: int) -> list[Operation]:
    if len(ops) <= most:
        return ops
    return [ops[number * len(ops) // most] for number in range(most)]


def _told(op: Operation) -> str:
    asked = "" if op.value is None else f" {show(op.value)}"
    about = "" if op.key is None else f" {show(op.key)}"
    if op.outcome is Outcome.OK:
        end = "" if op.result is None else f" -> {show(op.result)}"
    else:
        end = f" {op.outcome.value}: {op.error}" if op.error else f" {op.outcome.value}"
    place = f" [{op.position.group} {op.position.index}]" if op.position else ""
    return _short(f"{op.function}{about}{asked}{end}") + place


def _short(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}..."


def spacetime(run: Run) -> dict[str, Any]:
    """Messages as lines: (window, from node, to node, sent s, arrived s or null, bytes)."""
    names = list(run.scenario.nodes)
    places = {name: number for number, name in enumerate(names)}
    return {
        "nodes": names,
        "windows": [list(window) for window in run.windows],
        "messages": [
            [
                message.window,
                places[message.source],
                places[message.target],
                round(message.sent_s, 5),
                None if message.arrived_s is None else round(message.arrived_s, 5),
                message.bytes,
            ]
            for message in run.messages
        ],
    }
