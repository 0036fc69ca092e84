"""Sets that grow: is every element that was acknowledged still there, and from when on?

This module exists so that a set is judged element by element, in one pass, whatever order the
operations took effect in. It must never call an element lost that a concurrent read merely missed.

Definitions: Jepsen's ``set`` and ``set-full`` checkers. Operations are ``add element`` and ``read``
(which returns all elements).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mcpcore.check.history import History, Operation, Outcome, freeze, show
from mcpcore.check.verdict import Finding, Judgement, conclude
from mcpcore.errors import InvalidInput

_QUANTILES = (0.0, 0.5, 0.95, 0.99, 1.0)


def elements(op: Operation) -> list[Hashable]:
    """What a read returned.

    Raises:
        InvalidInput: it did not return a collection.
    """
    if op.result is None:
        return []
    if not isinstance(op.result, (list, tuple, set, frozenset)):
        where = f"line {op.line}" if op.line else f"operation {op.id}"
        raise InvalidInput(
            f"a read of {show(op.result)}", where=where, remedy="Expected a collection."
        )
    return [freeze(element) for element in op.result]


def _names(found: Iterable[Hashable], limit: int = 12) -> str:
    shown = sorted(found, key=lambda value: (len(show(value)), show(value)))
    told = ", ".join(show(value) for value in shown[:limit])
    return told + (f" and {len(shown) - limit} more" if len(shown) > limit else "")


def check_set(history: History) -> Judgement:
    """Every acknowledged ``add`` is in the last read, and nothing that nobody tried to add.

    ``facts``: ``attempt_count``, ``acknowledged_count``, ``ok``, ``lost``, ``unexpected`` and
    ``recovered`` (added though nobody knew).
    """
    adds = [op for op in history if op.function == "add"]
    reads = [op for op in history if op.function == "read" and op.outcome is Outcome.OK]
    attempts = {freeze(op.value) for op in adds}
    acknowledged = {freeze(op.value) for op in adds if op.outcome is Outcome.OK}
    if not reads:
        return conclude("set", (), "", undecided="undecided: the set was never read")
    last = max(reads, key=_returned)
    seen = set(elements(last))
    ok, unexpected = seen & attempts, seen - attempts
    lost, recovered = acknowledged - seen, ok - acknowledged
    findings = []
    if lost:
        by = tuple(op.id for op in adds if freeze(op.value) in lost)
        text = f"the last read (operation {last.id}) misses {_names(lost)}, which were added"
        findings.append(Finding("lost", text, (last.id, *by), {"elements": lost}))
    if unexpected:
        text = f"the last read (operation {last.id}) has {_names(unexpected)}, which nobody added"
        findings.append(Finding("unexpected", text, (last.id,), {"elements": unexpected}))
    facts = {
        "attempt_count": len(attempts),
        "acknowledged_count": len(acknowledged),
        "ok_count": len(ok),
        "lost": lost,
        "unexpected": unexpected,
        "recovered": recovered,
    }
    summary = f"{len(lost)} of {len(acknowledged)} acknowledged elements lost"
    return conclude("set", findings, summary, facts)


def _returned(op: Operation) -> int:
    assert op.returned is not None
    return op.returned


@dataclass(slots=True)
class _Element:
    """What is known about one element while the history is read."""

    value: Hashable
    added_by: int
    known: int | None = None  # when it was sure to be there: the add returned, or a read saw it
    known_ns: int = 0
    present: Operation | None = None  # of the reads that saw it, the one called last
    absent: Operation | None = None  # of the reads that did not, the one called last

    def sure(self, at: int, at_ns: int) -> None:
        if self.known is None:
            self.known, self.known_ns = at, at_ns


@dataclass(frozen=True, slots=True)
class ElementOutcome:
    """What became of one element.

    Args:
        outcome: ``stable`` (from some time on every read saw it), ``lost`` (from some time on none
            did), or ``never-read``.
        latency_ns: from when it was sure to be there until it was stable, or gone.
    """

    value: Hashable
    outcome: str
    latency_ns: int
    operation: int
    missed_by: int | None


def check_set_full(history: History, *, linearizable: bool = False) -> Judgement:
    """What became of each element: stable, stale, lost or never read.

    An element is known when its ``add`` returned or a read saw it, whichever was first. It is
    *stable* if every read called after some time saw it; *stale* if it is stable, but a read called
    after it was known missed it; *lost* if it was known and, after some time, no read saw it;
    *never-read* if nothing can be said.

    Args:
        linearizable: a stale element is a violation, too.

    ``facts``: counts and elements per outcome, ``duplicated`` (element to how often one read had
    it), and quantiles of ``stable_latencies_ns`` and ``lost_latencies_ns``.
    """
    known, duplicated = _timelines(history)
    outcomes = [_outcome(element) for element in known.values()]
    by_kind: dict[str, list[ElementOutcome]] = {"stable": [], "lost": [], "never-read": []}
    for outcome in outcomes:
        by_kind[outcome.outcome].append(outcome)
    stale = [outcome for outcome in by_kind["stable"] if outcome.latency_ns > 0]
    findings = []
    for outcome in by_kind["lost"]:
        text = (
            f"{show(outcome.value)} (added by operation {outcome.operation}) was there and is "
            f"missing in operation {outcome.missed_by} and every read after that"
        )
        about = tuple(id_ for id_ in (outcome.missed_by, outcome.operation) if id_ is not None)
        findings.append(Finding("lost", text, about, {"element": outcome.value}))
    for value, times in duplicated.items():
        text = f"{show(value)} is in one read {times} times"
        findings.append(Finding("duplicated", text, (), {"element": value, "times": times}))
    if linearizable:
        for outcome in sorted(stale, key=lambda o: -o.latency_ns):
            text = (
                f"{show(outcome.value)} (added by operation {outcome.operation}) was there, was "
                f"missing in operation {outcome.missed_by}, and came back"
            )
            about = tuple(id_ for id_ in (outcome.missed_by, outcome.operation) if id_ is not None)
            findings.append(Finding("stale", text, about, {"element": outcome.value}))
    facts: dict[str, Any] = {"attempt_count": len(known), "duplicated": duplicated}
    named = {**by_kind, "stale": stale}
    for kind, found in named.items():
        name = kind.replace("-", "_")
        facts[name] = {outcome.value for outcome in found}
        facts[f"{name}_count"] = len(found)
    for kind in ("stable", "lost"):
        facts[f"{kind}_latencies_ns"] = _quantiles([o.latency_ns for o in by_kind[kind]])
    undecided = "" if by_kind["stable"] else "undecided: no element was ever seen for good"
    summary = (
        f"{len(by_kind['stable'])} elements stable, {len(stale)} of them late; "
        f"{len(by_kind['lost'])} lost, {len(by_kind['never-read'])} never read"
    )
    return conclude("set-full", findings, summary, facts, undecided=undecided)


def _timelines(history: History) -> tuple[dict[Hashable, _Element], dict[Hashable, int]]:
    events: list[tuple[int, bool, Operation]] = []
    for op in history:
        if op.function in ("add", "read"):
            events.append((op.called, False, op))
            if op.outcome is Outcome.OK:
                events.append((_returned(op), True, op))
    known: dict[Hashable, _Element] = {}
    duplicated: dict[Hashable, int] = {}
    for at, returned, op in sorted(events, key=lambda event: event[0]):
        if op.function == "add":
            value = freeze(op.value)
            if not returned:
                known.setdefault(value, _Element(value, op.id))
            else:
                known[value].sure(at, op.returned_ns or 0)
        elif returned:
            seen = Counter(elements(op))
            for value, times in seen.items():
                if times > 1:
                    duplicated[value] = max(times, duplicated.get(value, 0))
            for value, element in known.items():
                if value in seen:
                    element.sure(at, op.returned_ns or 0)
                    if element.present is None or element.present.called < op.called:
                        element.present = op
                elif element.absent is None or element.absent.called < op.called:
                    element.absent = op
    return known, duplicated


def _outcome(element: _Element) -> ElementOutcome:
    present, absent = element.present, element.absent
    missed = None if absent is None else absent.id
    last_seen = -2 if present is None else present.called
    last_missed = -2 if absent is None else absent.called
    if present is not None and last_missed < last_seen:
        stable_ns = 0 if absent is None else absent.called_ns + 1
        latency = max(stable_ns - element.known_ns, 0)
        return ElementOutcome(element.value, "stable", latency, element.added_by, missed)
    if (
        absent is not None
        and element.known is not None
        and last_seen < last_missed
        and element.known < last_missed
    ):
        lost_ns = 0 if present is None else present.called_ns + 1
        latency = max(lost_ns - element.known_ns, 0)
        return ElementOutcome(element.value, "lost", latency, element.added_by, missed)
    return ElementOutcome(element.value, "never-read", 0, element.added_by, missed)


def _quantiles(values: Sequence[int]) -> dict[float, int]:
    ordered = sorted(values)
    if not ordered:
        return {}
    return {q: ordered[min(int(q * len(ordered)), len(ordered) - 1)] for q in _QUANTILES}
