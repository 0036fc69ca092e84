"""A judgement for people in a terminal, and for programs.

This module exists so that every place that shows a judgement says the same about it. It must never
decide anything, and never print: it returns text and plain data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcpcore.check.history import History, clip, show
from mcpcore.check.model import Model
from mcpcore.check.verdict import DeadEnd, Judgement, Part, Verdict

_TAIL = 10
_FINDINGS = 12


def as_text(judgement: Judgement, history: History, model: Model | None = None) -> str:
    """The judgement as lines of text: verdict, what was found, and the explanation.

    Args:
        model: whose words describe operations; without it they are told plainly.
    """
    tell = _teller(history, model)
    lines = [f"{judgement.verdict.upper()}  {judgement.judge}: {judgement.summary}"]
    bad = [part for part in judgement.parts if part.verdict is Verdict.VIOLATED]
    for part in bad:
        lines += ["", *_part(part, tell)]
    if not bad:
        for finding in judgement.findings[:_FINDINGS]:
            lines += ["", f"{finding.kind}:"]
            lines += [f"  {line}" for line in finding.text.splitlines()]
        left = len(judgement.findings) - _FINDINGS
        if left > 0:
            lines += ["", f"and {left} more"]
    told = ", ".join(
        f"{name.replace('_', ' ')} {clip(show(value), 80)}"
        for name, value in judgement.facts.items()
        if isinstance(value, (int, str)) or (isinstance(value, list) and len(value) < 6)
    )
    if told:
        lines += ["", told]
    return "\n".join(lines) + "\n"


def _teller(history: History, model: Model | None) -> Mapping[int, str]:
    plain = model or Model()
    width = len(str(max((op.id for op in history), default=0)))
    return {op.id: f"{op.id:>{width}}  process {op.process}  {plain.tell(op)}" for op in history}


def _part(part: Part, tell: Mapping[int, str]) -> list[str]:
    of_key = f" of {show(part.key)}" if part.key is not None else ""
    lines = []
    if part.prefix:
        shortest = "shortest failing prefix" if part.prefix_is_shortest else "a failing prefix"
        lines.append(
            f"The {shortest}{of_key}: {len(part.prefix)} operations, up to the return of"
            if part.prefix_is_shortest
            else f"A failing prefix{of_key} (perhaps not the shortest): {len(part.prefix)} "
            "operations, up to the return of"
        )
    elif part.blocked_at is not None:
        lines.append(f"The log's order{of_key} explains {len(part.linearization)} operations until")
    if part.blocked_at is not None:
        lines.append(f"  {tell[part.blocked_at]}")
    for number, end in enumerate(part.dead_ends, start=1):
        lines += ["", *_dead_end(number, end, tell)]
    return lines


def _dead_end(number: int, end: DeadEnd, tell: Mapping[int, str]) -> list[str]:
    lead = "The longest order that works" if number == 1 else "Another way"
    lines = [f"{lead} explains {len(end.linearization)} operations:"]
    hidden = len(end.linearization) - _TAIL
    if hidden > 0:
        lines.append(f"  ({hidden} more before these)")
    lines += [f"  {tell[id_]}" for id_ in end.linearization[-_TAIL:]]
    lines.append(f"  leaving {end.state}. What could come next, and what stands against it:")
    lines += [f"  {c.operation}: {c.against}" for c in end.candidates]
    return lines


def as_data(judgement: Judgement) -> dict[str, Any]:
    """The judgement as plain data that JSON can hold."""
    return {
        "judge": judgement.judge,
        "verdict": judgement.verdict.value,
        "summary": judgement.summary,
        "facts": plain(judgement.facts),
        "findings": [
            {
                "kind": finding.kind,
                "text": finding.text,
                "operations": list(finding.operations),
                "facts": plain(finding.facts),
                "decided": finding.decided,
            }
            for finding in judgement.findings
        ],
        "parts": [
            {
                "key": plain(part.key),
                "verdict": part.verdict.value,
                "method": part.method,
                "visited": part.visited,
                "operations": list(part.operations),
                "linearization": list(part.linearization),
                "blocked_at": part.blocked_at,
                "prefix": list(part.prefix),
                "prefix_is_shortest": part.prefix_is_shortest,
                "dead_ends": [
                    {
                        "linearization": list(end.linearization),
                        "state": end.state,
                        "candidates": [
                            {"operation": c.operation, "text": c.text, "against": c.against}
                            for c in end.candidates
                        ],
                    }
                    for end in part.dead_ends
                ],
            }
            for part in judgement.parts
        ],
    }


def plain(value: Any) -> Any:
    """A value that JSON can hold; what it has no notation for becomes text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {k if type(k) is str else show(k): plain(v) for k, v in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(
            (plain(item) for item in value), key=lambda item: (len(show(item)), show(item))
        )
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return show(value)
