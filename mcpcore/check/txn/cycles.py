"""Cycles of a dependency graph by their name in the literature.

This module exists so that each anomaly's definition is one line of a table. It must never know how
the graph was inferred.

Adya (1999): G0 is a cycle of writes; G1c one of writes and reads; G-single has exactly one
anti-dependency; G2-item one or more. Cerone and Gotsman (2016): G-nonadjacent has several, no two
of them adjacent. With ``-process`` or ``-realtime`` the cycle also uses an order of time.
"""

from __future__ import annotations

from typing import NamedTuple

from mcpcore.check.txn.graph import (
    Dep,
    Graph,
    Spent,
    Step,
    count,
    find_cycle,
    find_nonadjacent_cycle,
)

_WRITES_AND_READS = int(Dep.WW | Dep.WR)
_PER_ANOMALY = 4
"""Cycles shown of one kind, each from another component."""


class Cycle(NamedTuple):
    """A cycle and its name."""

    kind: str
    steps: tuple[Step, ...]


def find_anomalies(
    graph: Graph, *, sessions: bool, realtime: bool, spent: Spent
) -> tuple[list[Cycle], bool]:
    """The cycles of each kind, and whether the search was complete.

    A variant with an order of time is looked for only where the plain kind was not found: it would
    say less.
    """
    orders = int(Dep.PROCESS) * sessions | int(Dep.PROCESS | Dep.REALTIME) * realtime
    inside: set[int] = set()
    for component in graph.components(_WRITES_AND_READS | int(Dep.RW) | orders):
        inside |= component
    cycles: list[Cycle] = []
    if not inside:
        return cycles, True  # without a circle of any kind there is none of a certain kind
    variants: list[tuple[str, int]] = [("", 0)]
    if sessions:
        variants.append(("-process", int(Dep.PROCESS)))
    if realtime:
        variants.append(("-realtime", int(Dep.PROCESS | Dep.REALTIME)))
    found: set[str] = set()
    for suffix, orders in variants:
        if spent():
            return cycles, False
        for cycle in _of_one_variant(graph, inside, suffix, orders, found, spent):
            cycles.append(cycle)
        found.update(cycle.kind.removesuffix(suffix) for cycle in cycles)
    return cycles, not spent()


def _of_one_variant(
    graph: Graph, inside: set[int], suffix: str, orders: int, known: set[str], spent: Spent
) -> list[Cycle]:
    cycles: list[Cycle] = []

    def add(kind: str, steps: list[Step] | None) -> bool:
        if steps is None or (orders and not any(int(s.dep) & orders for s in steps)):
            return False
        if sum(cycle.kind == kind + suffix for cycle in cycles) < _PER_ANOMALY:
            cycles.append(Cycle(kind + suffix, tuple(steps)))
        return True

    if "G0" not in known:
        for component in graph.components(int(Dep.WW) | orders, inside):
            add("G0", find_cycle(graph, component, Dep.WW, int(Dep.WW) | orders, spent))
    rest = _WRITES_AND_READS | orders
    if "G1c" not in known:
        for component in graph.components(rest, inside):
            add("G1c", find_cycle(graph, component, Dep.WR, rest, spent))
    for component in graph.components(rest | int(Dep.RW), inside):
        if spent():
            break
        single = nonadjacent = None
        if "G-single" not in known:
            single = find_cycle(graph, component, Dep.RW, rest, spent)
            add("G-single", single)
        if single is None and not known & {"G-single", "G-nonadjacent"}:
            nonadjacent = find_nonadjacent_cycle(graph, component, rest, spent)
            add("G-nonadjacent", nonadjacent)
        if known & {"G2-item", "G-single", "G-nonadjacent"}:
            continue
        every = find_cycle(graph, component, Dep.RW, rest | int(Dep.RW), spent)
        if every is not None and _says_more(every, single, nonadjacent):
            add("G2-item", every)
    return cycles


def _says_more(
    every: list[Step], single: list[Step] | None, nonadjacent: list[Step] | None
) -> bool:
    """Whether a cycle of any anti-dependencies is not one of the narrower kinds itself."""
    if count(every, Dep.RW) < 2:
        return False
    return (single is None and nonadjacent is None) or _has_adjacent(every)


def _has_adjacent(steps: list[Step]) -> bool:
    kinds = [step.dep for step in steps]
    return any(
        kinds[at] is Dep.RW and kinds[(at + 1) % len(kinds)] is Dep.RW for at in range(len(kinds))
    )
