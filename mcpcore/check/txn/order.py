"""The orders that time gives: what each client did one after the other, and what had returned.

This module exists so that real-time order costs a number of edges in the order of the concurrency,
not of the square of the history. It must never know what transactions do.
"""

from __future__ import annotations

from collections.abc import Collection

from mcpcore.check.history import History, Operation
from mcpcore.check.txn.graph import Dep, Graph, Reason


def add_sessions(graph: Graph, history: History, nodes: Collection[int]) -> None:
    """Each client's transactions in order."""
    for process, session in history.by_process().items():
        before: Operation | None = None
        for op in session:
            if op.id not in nodes:
                continue
            if before is not None:
                graph.add(before.id, op.id, Dep.PROCESS, Reason(process))
            before = op


def add_realtime(graph: Graph, history: History, nodes: Collection[int]) -> None:
    """Whatever had returned before another was called, without the edges that others imply."""
    for before, after in realtime_pairs([op for op in history if op.id in nodes]):
        graph.add(before.id, after.id, Dep.REALTIME, Reason())


def realtime_pairs(operations: Collection[Operation]) -> list[tuple[Operation, Operation]]:
    """Pairs whose transitive closure is real-time order."""
    ends = [(op.called, 0, op.id, op) for op in operations]
    ends += [(op.returned, 1, op.id, op) for op in operations if op.returned is not None]
    pairs: list[tuple[Operation, Operation]] = []
    done: list[Operation] = []  # returned, and not yet implied by a later one
    for _, returned, _, op in sorted(ends, key=lambda end: end[:3]):
        if returned:
            done = [other for other in done if not other.precedes(op)]
            done.append(op)
        else:
            pairs.extend((other, op) for other in done)
    return pairs
