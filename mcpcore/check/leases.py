"""Leases: nobody who relies on one shares what it guards, or loses it before its time.

This module exists to judge leases from outside, by what clients were told and when. It knows
nothing of who counts the time. It must never need an order of operations beyond that of real time.

Operations, each about a lock (``key``):

- ``acquire`` with value ``{"safe_ms": n}`` and result ``{"lease": id, "token": n}``: the client
  relies on holding the lock from the answer on, until ``safe_ms`` after the call;
- ``renew`` with value ``{"lease": id, "safe_ms": n}``: until ``safe_ms`` after this call;
- ``release`` with value ``{"lease": id}``: it relies on nothing from this call on;
- ``look`` with result the id of the lease that holds the lock, None if none does.

The promise: a lease may live longer than its time, never shorter (Gray and Cheriton 1989).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mcpcore.check.history import History, Operation, Outcome, freeze, show
from mcpcore.check.verdict import Finding, Judgement, conclude
from mcpcore.errors import InvalidInput

GONE = "the lease is gone"
"""The error of a ``renew`` that was refused because there is no such lease."""


@dataclass(slots=True)
class _Hold:
    """What the client of one lease relies on: times in nanoseconds."""

    lease: Any
    key: Any
    token: int
    by: int
    from_ns: int
    until_ns: int
    released: bool = False


def check_leases(history: History) -> Judgement:
    """No two clients rely on one lock at a time, and nobody loses it while relying on it.

    Findings: ``held-by-two``, ``lost-early`` (a look or a refused renewal shows it gone while its
    client could still rely on it), ``token-not-rising`` (a later holder has no greater token, so
    a resource could not tell a stale one).

    Raises:
        InvalidInput: an operation lacks one of the fields above.
    """
    holds = _holds(history)
    findings = [*_overlaps(holds), *_lost(history, holds), *_tokens(holds)]
    looks = sum(op.function == "look" and op.outcome is Outcome.OK for op in history)
    summary = f"{len(findings)} things wrong in {len(holds)} holds and {looks} looks"
    undecided = "" if holds else "undecided: nobody ever held a lease"
    facts = {"holds": len(holds), "looks": looks}
    return conclude("leases", findings, summary, facts, undecided=undecided)


def _holds(history: History) -> list[_Hold]:
    # A lease's id is unique in its group only, so it counts together with what it guards.
    holds: dict[Hashable, _Hold] = {}
    for op in sorted(history, key=lambda op: op.called_ns):
        if op.function == "acquire" and op.outcome is Outcome.OK:
            assert op.returned_ns is not None
            lease = _of(op, op.result, "lease")
            until_ns = op.called_ns + _safe_ns(op)
            holds[_name(op, lease)] = _Hold(
                lease, op.key, _of(op, op.result, "token"), op.id, op.returned_ns, until_ns
            )
        elif op.function in ("renew", "release"):
            hold = holds.get(_name(op, _of(op, op.value, "lease")))
            if hold is None:
                continue
            if op.function == "release":
                hold.until_ns = min(hold.until_ns, op.called_ns)
                hold.released = True
            elif op.outcome is Outcome.OK and not hold.released:
                hold.until_ns = max(hold.until_ns, op.called_ns + _safe_ns(op))
    return [hold for hold in holds.values() if hold.from_ns < hold.until_ns]


def _overlaps(holds: list[_Hold]) -> list[Finding]:
    found = []
    for key, of_key in _by_key(holds):
        furthest: _Hold | None = None
        for hold in of_key:
            if furthest is not None and hold.from_ns < furthest.until_ns:
                text = (
                    f"lease {furthest.lease} could be relied on for {show(key)} until "
                    f"{furthest.until_ns / 1e9:.3f} s, and lease {hold.lease} held it from "
                    f"{hold.from_ns / 1e9:.3f} s"
                )
                found.append(Finding("held-by-two", text, (hold.by, furthest.by), {"key": key}))
            if furthest is None or hold.until_ns > furthest.until_ns:
                furthest = hold
    return found


def _lost(history: History, holds: list[_Hold]) -> list[Finding]:
    found = []
    by_lease = {(freeze(hold.key), freeze(hold.lease)): hold for hold in holds}
    by_key = dict(_by_key(holds))
    for op in history:
        if op.returned_ns is None:
            continue
        if op.function == "look" and op.outcome is Outcome.OK:
            for hold in by_key.get(freeze(op.key), ()):
                inside = hold.from_ns <= op.called_ns and op.returned_ns <= hold.until_ns
                if inside and op.result != hold.lease:
                    text = (
                        f"operation {op.id} saw {show(op.key)} held by {show(op.result)} while "
                        f"lease {hold.lease} could be relied on"
                    )
                    found.append(Finding("lost-early", text, (op.id, hold.by), {"key": op.key}))
        elif op.function == "renew" and op.error == GONE:
            relied = by_lease.get(_name(op, _of(op, op.value, "lease")))
            if relied is not None and op.returned_ns < relied.until_ns and not relied.released:
                text = (
                    f"lease {relied.lease} was gone at {op.returned_ns / 1e9:.3f} s, and could be "
                    f"relied on until {relied.until_ns / 1e9:.3f} s"
                )
                found.append(Finding("lost-early", text, (op.id, relied.by), {"key": op.key}))
    return found


def _tokens(holds: list[_Hold]) -> list[Finding]:
    found = []
    for key, of_key in _by_key(holds):
        for before, after in pairwise(of_key):
            if after.token <= before.token:
                text = (
                    f"{show(key)} was held under token {before.token} and later under {after.token}"
                )
                found.append(Finding("token-not-rising", text, (after.by, before.by), {"key": key}))
    return found


def _by_key(holds: list[_Hold]) -> list[tuple[Hashable, list[_Hold]]]:
    keys: dict[Hashable, list[_Hold]] = {}
    for hold in sorted(holds, key=lambda hold: hold.from_ns):
        keys.setdefault(freeze(hold.key), []).append(hold)
    return list(keys.items())


def _name(op: Operation, lease: Any) -> tuple[Hashable, Hashable]:
    return freeze(op.key), freeze(lease)


def _safe_ns(op: Operation) -> int:
    safe_ms: float = _of(op, op.value, "safe_ms")
    return round(safe_ms * 1e6)


def _of(op: Operation, value: Any, name: str) -> Any:
    if not isinstance(value, Mapping) or name not in value:
        where = f"line {op.line}" if op.line else f"operation {op.id}"
        raise InvalidInput(
            f"{op.function} of {show(value)}", where=where, remedy=f"Expected a map with {name}."
        )
    return value[name]
