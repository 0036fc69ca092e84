"""Causal consistency of registers: nobody sees an effect before its cause.

This module exists for stores that promise order only along what clients read. It must never use
real time. With every value written once, the bad patterns below are not only wrong but all there is
to go wrong.

Operations are those of `mcpcore.check.sessions`.

Source: Bouajjani, Enea, Guerraoui and Hamza, "On Verifying Causal Consistency" (POPL 2017).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise

from mcpcore.check.history import History, Operation, show
from mcpcore.check.sessions import Access, Version, accesses, by_session, thin_air, writers_of
from mcpcore.check.txn.graph import Dep, Graph, Reason
from mcpcore.check.verdict import Finding, Judgement, conclude


def check_causal(history: History) -> Judgement:
    """Causal consistency, and causal convergence, by their bad patterns.

    Causality is session order and reads-from, closed. Findings: ``cyclic-causality`` (an operation
    causes itself), ``thin-air-read``, ``overwritten-read`` (a read returned a version although it
    causally knew a later one: WriteCORead, WriteCOInitRead) and ``cyclic-conflict`` (clients order
    independent writes differently: allowed by causal consistency, not by causal convergence).

    ``facts["causal"]`` and ``facts["convergent"]`` tell them apart.
    """
    found = accesses(history)
    writers, undecided = writers_of(found)
    findings = thin_air(found, writers)
    sessions = by_session(history, found)
    graph = _causality(sessions, writers)
    cycles = graph.components(int(Dep.PROCESS | Dep.WR))
    for component in cycles:
        ids = tuple(sorted(component))
        text = f"operations {', '.join(map(str, ids[:8]))} each cause the next, in a circle"
        findings.append(Finding("cyclic-causality", text, ids))
    conflicting = Graph()
    if not cycles:
        findings += _overwritten(sessions, writers, graph, conflicting)
        for a, row in graph.after.items():
            for b, kinds in row.items():
                conflicting.add(a, b, Dep(kinds & -kinds), Reason())
    causal = not findings
    for component in conflicting.components(int(Dep.PROCESS | Dep.WR | Dep.WW)):
        ids = tuple(sorted(component))
        text = (
            f"what was read orders the writes among operations {', '.join(map(str, ids[:8]))} in a "
            "circle: no one order of writes explains all reads"
        )
        findings.append(Finding("cyclic-conflict", text, ids))
    convergent = not findings
    facts = {"causal": causal, "convergent": convergent, "operations": len(found)}
    summary = f"{'' if causal else 'not '}causally consistent, "
    summary += f"{'' if convergent else 'not '}convergent"
    return conclude("causal", [*findings, *undecided], summary, facts)


def _causality(sessions: Sequence[Sequence[Access]], writers: Mapping[Version, Operation]) -> Graph:
    graph = Graph()
    for session in sessions:
        for before, after in pairwise(session):
            graph.add(before.operation.id, after.operation.id, Dep.PROCESS, Reason())
        for access in session:
            writer = writers.get(access.version)
            if not access.writes and writer is not None:
                graph.add(writer.id, access.operation.id, Dep.WR, Reason())
    return graph


def _overwritten(
    sessions: Sequence[Sequence[Access]],
    writers: Mapping[Version, Operation],
    graph: Graph,
    conflicting: Graph,
) -> list[Finding]:
    """Reads that causally knew better; fills in which writes the reads put before which."""
    clocks = _vector_clocks(sessions, graph)
    writes_of: dict[tuple[int, Hashable], list[int]] = {}  # session and key to places of writes
    place_of: dict[int, tuple[int, int]] = {}
    for s, session in enumerate(sessions):
        for place, access in enumerate(session):
            place_of[access.operation.id] = (s, place)
            if access.writes:
                writes_of.setdefault((s, access.version[0]), []).append(place)
    findings = []
    for session in sessions:
        for access in session:
            if access.writes:
                continue
            key, value = access.version
            source = writers.get(access.version)
            knows = clocks[access.operation.id]
            for s, limit in enumerate(knows):
                places = writes_of.get((s, key), [])
                at = bisect_right(places, limit) - 1
                if at < 0:
                    continue
                newer = sessions[s][places[at]]
                if source is not None and newer.operation.id == source.id:
                    continue
                if source is not None:
                    src_s, src_place = place_of[source.id]
                    if clocks[newer.operation.id][src_s] < src_place:
                        conflicting.add(newer.operation.id, source.id, Dep.WW, Reason())
                        continue
                elif value is not None:
                    continue
                text = (
                    f"operation {access.operation.id} of process {access.operation.process} read "
                    f"{show(value)}{_of(key)} although it causally knew operation "
                    f"{newer.operation.id}, which had written {show(newer.version[1])} after that"
                )
                about = (access.operation.id, newer.operation.id)
                findings.append(Finding("overwritten-read", text, about, {"key": key}))
                break
    return findings


def _of(key: Hashable) -> str:
    return "" if key is None else f" in {show(key)}"


def _vector_clocks(sessions: Sequence[Sequence[Access]], graph: Graph) -> dict[int, list[int]]:
    """For each operation, the place of the last operation of each session that it knows of."""
    place_of = {
        access.operation.id: (s, place)
        for s, session in enumerate(sessions)
        for place, access in enumerate(session)
    }
    incoming = dict.fromkeys(place_of, 0)
    for row in graph.after.values():
        for b in row:
            incoming[b] += 1
    clocks = {id_: [-1] * len(sessions) for id_ in place_of}
    ready = [id_ for id_, n in incoming.items() if not n]
    while ready:
        id_ = ready.pop()
        s, place = place_of[id_]
        clock = clocks[id_]
        clock[s] = place
        for b in graph.after.get(id_, {}):
            clocks[b] = [max(x, y) for x, y in zip(clocks[b], clock, strict=True)]
            incoming[b] -= 1
            if not incoming[b]:
                ready.append(b)
    return clocks
