"""Convergence of replicas: the same state everywhere, soon enough, with nothing acknowledged lost.

This module exists to judge CRDTs and anti-entropy from outside, by what replicas showed. It must
never know how states are merged.

Operations: ``observe`` with the replica as key and its state (or a digest of it) as result; any
other function is an update. Times count here: they are what a bound is about.
"""

from __future__ import annotations

from collections.abc import Hashable

from mcpcore.check.history import History, Operation, Outcome, clip, freeze, show
from mcpcore.check.verdict import Finding, Judgement, conclude


def check_convergence(
    history: History, *, healed_ns: int | None = None, within_ns: int | None = None
) -> Judgement:
    """All replicas end in one state, at the latest ``within_ns`` after ``healed_ns``.

    Args:
        healed_ns: when the last fault ended; None for the end of the last fault window or the
            return of the last update, whichever is later.
        within_ns: the bound on convergence, counted from then; None for no bound.

    ``facts``: ``converged_ns`` (from healing until the first moment after which every observation
    shows the final state; None if never) and ``replicas``.
    """
    seen = [op for op in history if op.function == "observe" and op.outcome is Outcome.OK]
    if not seen:
        return conclude("convergence", (), "", undecided="undecided: nobody observed a replica")
    last: dict[Hashable, Operation] = {}
    for op in sorted(seen, key=_seen_at):
        last[freeze(op.key)] = op
    if healed_ns is None:
        updates = [_seen_at(op) for op in history if op.function != "observe"]
        ends = [fault.ended_ns for fault in history.faults if fault.ended_ns is not None]
        healed_ns = max([*updates, *ends], default=0)
    findings = []
    states: dict[Hashable, list[Operation]] = {}
    for op in last.values():
        states.setdefault(freeze(op.result), []).append(op)
    early = [op for op in last.values() if _seen_at(op) < healed_ns]
    facts: dict[str, object] = {"replicas": len(last), "healed_ns": healed_ns}
    if len(states) > 1:
        parts = [
            f"{', '.join(show(op.key) for op in ops)} ended with {clip(show(ops[0].result))}"
            for ops in sorted(states.values(), key=len, reverse=True)
        ]
        about = tuple(ops[0].id for ops in states.values())
        findings.append(Finding("diverged", "; ".join(parts), about))
        facts["converged_ns"] = None
        return conclude("convergence", findings, f"diverged: {findings[0].text}", facts)
    if early:
        names = ", ".join(show(op.key) for op in early)
        text = f"undecided: nobody observed {names} after the last fault and the last update"
        return conclude("convergence", (), "", facts, undecided=text)
    final = freeze(next(iter(last.values())).result)
    differing = [op for op in seen if freeze(op.result) != final]
    after = max((_seen_at(op) for op in differing), default=healed_ns)
    same = [_seen_at(op) for op in seen if _seen_at(op) > after and freeze(op.result) == final]
    converged_ns = max((min(same) if same and differing else healed_ns) - healed_ns, 0)
    facts["converged_ns"] = converged_ns
    if within_ns is not None and after - healed_ns > within_ns:
        late = max(differing, key=_seen_at)
        text = (
            f"operation {late.id} still saw {show(late.key)} with another state "
            f"{(after - healed_ns) / 1e6:.3f} ms after the last fault; the bound is "
            f"{within_ns / 1e6:.3f} ms"
        )
        findings.append(Finding("late-convergence", text, (late.id,), {"after_ns": after}))
    summary = f"{len(last)} replicas converged within {converged_ns / 1e6:.3f} ms"
    return conclude("convergence", findings, summary, facts)


def _seen_at(op: Operation) -> int:
    return op.called_ns if op.returned_ns is None else op.returned_ns
