"""A saga's journal in words: one line for each thing that happened.

This module exists so that a person at night reads what happened, and a program gets the same as
plain values. Pure: it formats, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mcpcore.saga.records import (
    CancelAsked,
    DeadlinePassed,
    Ended,
    Entry,
    Migrated,
    Parked,
    Record,
    Started,
    StepDone,
    StepErred,
    StepStarted,
    Taken,
    TurnedBack,
    UndoDone,
    UndoErred,
    UndoStarted,
    Unparked,
)
from mcpcore.saga.state import State, StepState


class Line(NamedTuple):
    """One thing that happened."""

    number: int
    at_ns: int
    since_ns: int
    """Since the saga began."""
    kind: str
    """The record's name, for programs."""
    step: str
    text: str


def timeline(entries: Sequence[Entry]) -> list[Line]:
    """A journal as lines."""
    first = entries[0].at_ns if entries else 0
    lines = []
    for number, entry in enumerate(entries):
        record = entry.record
        step = getattr(record, "step", "")
        since = entry.at_ns - first
        text = printable(tell(record))
        lines.append(Line(number, entry.at_ns, since, type(record).__name__, step, text))
    return lines


def printable(text: str) -> str:
    """Text that cannot move the cursor of whoever looks at it: errors come from anywhere."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def tell(record: Record) -> str:
    """A record as a sentence."""
    match record:
        case Started(definition, version, value, owner, budget_ns):
            budget = f", within {budget_ns / 1e9:g} s" if budget_ns else ""
            return f"{definition} {version} started by {owner}{budget}: {value!r}"
        case Taken(owner):
            return f"taken up by {owner}; what was under way is unknown"
        case StepStarted(step, attempt):
            return f"{step} begins" + _nth(attempt)
        case StepDone(step, result, pivot):
            return f"{step} is done: {result!r}" + (" (no way back from here)" if pivot else "")
        case StepErred(step, error, certain, final):
            how = "failed for certain" if certain else "has an unknown outcome"
            return f"{step} {how}: {error}" + (" (for good)" if final else "")
        case UndoStarted(step, attempt):
            return f"{step} is being undone" + _nth(attempt)
        case UndoDone(step, void):
            return f"{step} is undone" + (": there was nothing to undo" if void else "")
        case UndoErred(step, error, final):
            return f"{step} was not undone: {error}" + (" (for good)" if final else "")
    return _tell_rare(record)


def _tell_rare(record: Record) -> str:
    match record:
        case CancelAsked(by, why):
            return f"cancelled by {by}" + (f": {why}" if why else "")
        case DeadlinePassed(spent_ns):
            return f"its time is over, after {spent_ns / 1e9:.3f} s"
        case TurnedBack(why):
            return f"turns back: {why}"
        case Parked(why, steps):
            return f"parked: {why}: {', '.join(steps)}"
        case Unparked(remedy, steps, by, note):
            what = "tries again" if remedy == "retry" else "counts as done"
            return f"{by}: {', '.join(steps)} {what}" + (f" ({note})" if note else "")
        case Ended(end, by, note):
            return f"{end}" + (f", by hand of {by}: {note}" if by else "")
        case Migrated(version):
            return f"goes on in version {version}"
    return type(record).__name__


def facts_of(state: State) -> dict[str, Any]:
    """A saga as plain values, for programs."""
    begun = state.begun
    return {
        "saga": state.saga,
        "definition": begun.definition,
        "version": state.version,
        "status": str(state.status),
        "owner": state.owner,
        "started_ns": state.started_at.at_ns,
        "changed_ns": state.last.at_ns,
        "entries": state.length,
        "input": begun.input,
        "budget_s": begun.budget_ns / 1e9 if begun.budget_ns else None,
        "spent_s": state.last.spent_ns / 1e9,
        "why": state.why,
        "stuck": list(state.stuck),
        "ended_by": state.ended_by,
        "note": state.note,
        "errors": dict(state.errors),
        "steps": {name: _step_facts(st) for name, st in state.steps.items()},
    }


def _step_facts(st: StepState) -> dict[str, Any]:
    return {
        "phase": str(st.phase),
        "attempts": st.attempts,
        "uncertain": st.uncertain,
        "result": st.result,
        "undo": str(st.undo),
        "undo_attempts": st.undo_attempts,
    }


def _nth(attempt: int) -> str:
    return "" if attempt == 1 else f", attempt {attempt}"
