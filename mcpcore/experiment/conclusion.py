"""What a run proves: every judge's word, every expectation, and the figures.

This module exists so that "did it hold?" is one pure function of a run, asked by the command line,
the report, a sweep and a test alike. A promise that could not be judged is never counted as kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from mcpcore.check import Budget, History, Judgement, Outcome, Verdict, judge
from mcpcore.experiment.convergence import Convergence, convergence
from mcpcore.experiment.run import Run
from mcpcore.experiment.workloads import KINDS


@dataclass(frozen=True, slots=True)
class Promise:
    """One thing that must hold.

    Args:
        name: in a few words.
        verdict: whether it did; ``unknown`` if nobody can say.
        found: what was found. wanted: what was demanded.
    """

    name: str
    verdict: Verdict
    found: str
    wanted: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """How a workload went.

    Args:
        acknowledged: writes whose client was told they had happened. reads: answered ones.
        failed: operations that certainly had no effect. unknown: those of which nobody knows.
        p50_ms, p95_ms, p99_ms, max_ms: from the call to the answer, of acknowledged writes; None
            without any.
    """

    acknowledged: int
    reads: int
    failed: int
    unknown: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What came out.

    Args:
        verdict: the worst of all promises.
        promises: every one, kept or not.
        judgements: the judges' answers in full, by workload.
        figures: by workload.
        converged: how it came together after the last fault; None if nothing went wrong.
        silence_s: the longest time without an acknowledged write of anybody.
        leaders: how often leadership began while clients worked.
    """

    verdict: Verdict
    promises: tuple[Promise, ...]
    judgements: Mapping[str, Judgement]
    figures: Mapping[str, Figures]
    converged: Convergence | None
    silence_s: float
    leaders: int


_FIRST_S = 0.5
"""Whoever led when clients began is seen leading by then."""


def conclude(run: Run, budget: Budget | None = None) -> Conclusion:
    """Judge a run.

    Args:
        budget: of each workload's judge; beyond it the verdict is ``unknown``.
    """
    judgements = {
        kind: judge(history, KINDS[kind](1).judge, budget=budget)
        for kind, history in run.histories.items()
    }
    figures = {kind: _figures(kind, history) for kind, history in run.histories.items()}
    converged = convergence(run)
    silence_s = _silence_s(run)
    leaders = _leaders(run)
    promises = [
        *_safety(run),
        *(
            Promise(f"{kind}: {found.judge}", found.verdict, found.summary)
            for kind, found in judgements.items()
        ),
        _same_replicas(run),
        *_expected(run, figures, converged, silence_s, leaders),
    ]
    return Conclusion(
        verdict=Verdict.worst(promise.verdict for promise in promises),
        promises=tuple(promises),
        judgements=judgements,
        figures=figures,
        converged=converged,
        silence_s=silence_s,
        leaders=leaders,
    )


# --- promises -------------------------------------------------------------------------------------


def _held(holds: bool) -> Verdict:
    return Verdict.OK if holds else Verdict.VIOLATED


def _safety(run: Run) -> Iterable[Promise]:
    if run.failure:
        yield Promise("the run went through", Verdict.VIOLATED, run.failure)


def _same_replicas(run: Run) -> Promise:
    name, wanted = "all replicas are equal", "one state per group on every node"
    groups: dict[str, list[tuple[int, str]]] = {}
    for replica in run.replicas:
        groups.setdefault(replica.group, []).append((replica.applied, replica.digest))
    missing = [
        group
        for group in run.scenario.groups.names
        if len(groups.get(group, ())) < len(run.final_nodes)
    ]
    if missing:
        count = len(missing)
        return Promise(
            name, Verdict.VIOLATED, f"not all nodes could be asked about {count} groups", wanted
        )
    differ = [group for group, found in groups.items() if len(set(found)) > 1]
    if differ:
        named = ", ".join(differ[:5])
        return Promise(name, Verdict.VIOLATED, f"replicas of {named} differ", wanted)
    indexes = {found[0][0] for found in groups.values()}
    found = f"{len(groups)} groups, equal on {len(run.final_nodes)} nodes"
    if len(groups) == 1:
        found = f"equal on {len(run.final_nodes)} nodes at index {indexes.pop()}"
    return Promise(name, Verdict.OK, found, wanted)


def _expected(
    run: Run,
    figures: Mapping[str, Figures],
    converged: Convergence | None,
    silence_s: float,
    leaders: int,
) -> Iterable[Promise]:
    expect = run.scenario.expect
    acknowledged = sum(figure.acknowledged for figure in figures.values())
    if figures:
        yield Promise(
            "something happened",
            _held(acknowledged >= expect.acknowledged_at_least),
            f"{acknowledged} writes acknowledged",
            f"at least {expect.acknowledged_at_least}",
        )
    if expect.faults_take_effect and run.faults:
        idle = [record for record in run.faults if not record.effects]
        yield Promise(
            "every fault took effect",
            _held(not idle),
            f"{len(run.faults) - len(idle)} of {len(run.faults)}"
            + (f"; without effect: {', '.join(record.name for record in idle)}" if idle else ""),
            "all of them",
        )
    if run.steps:
        open_ = [step for step in run.steps if step.ended_s is None]
        told = "".join(f"; {step.name}: {step.told or 'not done'}" for step in open_)
        yield Promise(
            "every step was carried out",
            _held(not open_),
            f"{len(run.steps) - len(open_)} of {len(run.steps)}{told}",
            "all of them",
        )
    if converged is not None:
        bound_s = expect.converged_within_s
        total_s = converged.total_s
        holds = total_s is not None and (bound_s is None or total_s <= bound_s)
        yield Promise(
            "converged after the last fault",
            _held(holds),
            "not before the run ended" if total_s is None else f"{total_s:.2f} s",
            f"within {bound_s:g} s" if bound_s is not None else "within the run",
        )
    if expect.silence_at_most_s is not None:
        yield Promise(
            "writes go on",
            _held(silence_s <= expect.silence_at_most_s),
            f"longest silence {silence_s:.2f} s",
            f"at most {expect.silence_at_most_s:g} s",
        )
    if expect.leaders_at_most is not None:
        yield Promise(
            "leadership is calm",
            _held(leaders <= expect.leaders_at_most),
            f"leadership began {leaders} times",
            f"at most {expect.leaders_at_most}",
        )


# --- figures --------------------------------------------------------------------------------------


def _figures(kind: str, history: History) -> Figures:
    writes = KINDS[kind](1).writes
    done = [op for op in history if op.outcome is Outcome.OK]
    waits_ms = sorted(
        (op.returned_ns - op.called_ns) / 1e6
        for op in done
        if op.function in writes and op.returned_ns is not None
    )

    def quantile(share: float) -> float | None:
        if not waits_ms:
            return None
        return waits_ms[min(int(share * len(waits_ms)), len(waits_ms) - 1)]

    return Figures(
        acknowledged=len(waits_ms),
        reads=len(done) - len(waits_ms),
        failed=sum(op.outcome is Outcome.FAIL for op in history),
        unknown=sum(op.outcome is Outcome.UNKNOWN for op in history),
        p50_ms=quantile(0.5),
        p95_ms=quantile(0.95),
        p99_ms=quantile(0.99),
        max_ms=waits_ms[-1] if waits_ms else None,
    )


def _silence_s(run: Run) -> float:
    returns_s = sorted(
        op.returned_ns / 1e9
        for kind, history in run.histories.items()
        for op in history
        if op.outcome is Outcome.OK
        and op.function in KINDS[kind](1).writes
        and op.returned_ns is not None
        and op.returned_ns / 1e9 <= run.clients_ended_s
    )
    ends = [0.0, *returns_s, run.clients_ended_s]
    return max(after - before for before, after in pairwise(ends))


def _leaders(run: Run) -> int:
    """How many (node, term) pairs were seen leading, beyond the one that led at the start."""
    led = {(s.node, s.term) for s in run.samples if s.role == "leader" and s.at_s >= 0}
    at_first = {(s.node, s.term) for s in run.samples if s.role == "leader" and s.at_s <= _FIRST_S}
    return len(led - at_first)
