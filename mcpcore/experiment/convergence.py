"""When was all well again after the last fault?

This module exists so that "converged" means the same thing in both worlds, in a test and in a
report: three facts, each with its time, and the last of them counts. Pure arithmetic on a run; the
resolution is that of the samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mcpcore.check import Outcome
from mcpcore.experiment.run import NodeSample, Run
from mcpcore.experiment.workloads import KINDS


@dataclass(frozen=True, slots=True)
class Convergence:
    """Seconds from the end of the last fault; None: not within the run.

    Args:
        leader_s: until all nodes followed one leader in one term.
        replicas_s: until every node had applied what anybody knew to be committed at the end of
            the last fault.
        clients_s: until clients in every region had a write acknowledged that they had called
            after the end of the last fault.
    """

    leader_s: float | None
    replicas_s: float | None
    clients_s: float | None

    @property
    def total_s(self) -> float | None:
        """Until all of it was so."""
        parts = (self.leader_s, self.replicas_s, self.clients_s)
        return None if None in parts else max(part for part in parts if part is not None)


def convergence(run: Run) -> Convergence | None:
    """How the run came together again; None if nothing had gone wrong."""
    healed_s = run.healed_s
    if healed_s is None:
        return None
    nodes = run.final_nodes
    after = [sample for sample in run.samples if sample.at_s >= healed_s]
    target = max((s.commit for s in run.samples if s.at_s <= healed_s), default=0)
    return Convergence(
        _leader_s(after, nodes, healed_s),
        _replicas_s(after, nodes, target, healed_s),
        _clients_s(run, healed_s),
    )


def is_converged(
    latest: Iterable[NodeSample | None], target: int, served: Iterable[int], healed_ns: int
) -> bool:
    """Whether all is well at this moment, for a runner that waits for it.

    Args:
        latest: the newest account of every node; None if there is none since the healing.
        target: the commit index to reach.
        served: per region, when the latest acknowledged write had been called.
    """
    samples = list(latest)
    if any(sample is None for sample in samples):
        return False
    known = [sample for sample in samples if sample is not None]
    views = {(sample.term, sample.leader) for sample in known}
    return (
        len(views) == 1
        and bool(known[0].leader)
        and all(sample.applied >= target for sample in known)
        and all(called_ns >= healed_ns for called_ns in served)
    )


def _leader_s(after: list[NodeSample], nodes: tuple[str, ...], healed_s: float) -> float | None:
    """The moment from which, for the first time, every node names the same leader and term."""
    views: dict[str, tuple[int, str]] = {}
    for sample in after:
        if sample.node not in nodes:
            continue
        views[sample.node] = (sample.term, sample.leader)
        if len(views) == len(nodes) and sample.leader and len(set(views.values())) == 1:
            return sample.at_s - healed_s
    return None


def _replicas_s(
    after: list[NodeSample], nodes: tuple[str, ...], target: int, healed_s: float
) -> float | None:
    waiting = set(nodes)
    for sample in after:
        if sample.applied >= target:
            waiting.discard(sample.node)
            if not waiting:
                return sample.at_s - healed_s
    return None


def _clients_s(run: Run, healed_s: float) -> float | None:
    healed_ns = round(healed_s * 1e9)
    served: dict[str, int] = {}
    wanted: set[str] = set()
    for kind, history in run.histories.items():
        writes = KINDS[kind](1).writes
        regions = run.lanes[kind]
        wanted.update(regions.values())
        for op in history:
            if (
                op.outcome is Outcome.OK
                and op.function in writes
                and op.called_ns >= healed_ns
                and op.returned_ns is not None
            ):
                lane = str(op.process).partition(",")[0]
                region = regions.get(lane)
                if region is not None:
                    served[region] = min(served.get(region, op.returned_ns), op.returned_ns)
    if not wanted:
        return 0.0
    if wanted - served.keys():
        return None
    return max(served.values()) / 1e9 - healed_s
