"""Dependency graphs of transactions, and the shortest telling cycles in them.

This module exists so that an anomaly is found by what its cycle is made of. Nodes are numbers, the
edges say how one transaction depends on another. It must never know what a transaction read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from enum import IntFlag
from typing import Any, NamedTuple

Spent = Callable[[], bool]
_RW = 4
_PATIENCE = 64
"""Further edges tried for a shorter cycle, once there is one."""


class Dep(IntFlag):
    """How a transaction comes after another. Adya's three, and the two orders of time."""

    WW = 1
    """It overwrote what the other wrote."""
    WR = 2
    """It read what the other wrote."""
    RW = 4
    """It overwrote what the other read (anti-dependency)."""
    PROCESS = 8
    """The same client ran it later."""
    REALTIME = 16
    """It was called after the other had returned."""


class Reason(NamedTuple):
    """Why an edge is there: which key, which version, and the version after it."""

    key: Any = None
    value: Any = None
    later: Any = None


class Step(NamedTuple):
    """One edge of a cycle."""

    a: int
    b: int
    dep: Dep
    reason: Reason


class Graph:
    """A graph with kinds of edges; the first reason given for an edge is kept."""

    def __init__(self) -> None:
        self.after: dict[int, dict[int, int]] = {}
        self._reasons: dict[tuple[int, int, int], Reason] = {}
        self.edges = 0

    def add(self, a: int, b: int, dep: Dep, reason: Reason) -> None:
        """Say that ``b`` comes after ``a``. A transaction never depends on itself."""
        if a == b:
            return
        row = self.after.setdefault(a, {})
        known, kind = row.get(b, 0), int(dep)  # flags of the enum class are ten times slower
        if known & kind:
            return
        row[b] = known | kind
        self._reasons[a, b, kind] = reason
        self.edges += 1

    def step(self, a: int, b: int, allowed: int) -> Step:
        """The edge from ``a`` to ``b`` as the most telling kind that is allowed."""
        kinds = self.after[a][b] & allowed
        dep = Dep(kinds & -kinds)
        return Step(a, b, dep, self._reasons[a, b, int(dep)])

    def components(self, allowed: int, among: Collection[int] | None = None) -> list[set[int]]:
        """Strongly connected components of two nodes or more (Tarjan 1972), without recursion."""
        index: dict[int, int] = {}
        low: dict[int, int] = {}
        stack: list[int] = []
        on_stack: set[int] = set()
        found: list[set[int]] = []
        inside = None if among is None else frozenset(among)
        for root in self.after if among is None else sorted(among):
            if root in index:
                continue
            index[root] = low[root] = len(index)
            stack.append(root)
            on_stack.add(root)
            work = [(root, iter(self.after.get(root, {}).items()))]
            while work:
                node, edges = work[-1]
                for b, kinds in edges:
                    if not kinds & allowed or (inside is not None and b not in inside):
                        continue
                    if b not in index:
                        index[b] = low[b] = len(index)
                        stack.append(b)
                        on_stack.add(b)
                        work.append((b, iter(self.after.get(b, {}).items())))
                        break
                    if b in on_stack:
                        low[node] = min(low[node], index[b])
                else:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[node])
                    if low[node] == index[node]:
                        component = set()
                        while True:
                            member = stack.pop()
                            on_stack.discard(member)
                            component.add(member)
                            if member == node:
                                break
                        if len(component) > 1:
                            found.append(component)
        return found

    def path(
        self, start: int, goal: int, allowed: int, among: Collection[int]
    ) -> list[Step] | None:
        """A shortest way from ``start`` to ``goal`` along allowed edges; [] if they are one."""
        came: dict[int, int] = {start: start}
        waiting = deque([start])
        while waiting and goal not in came:
            node = waiting.popleft()
            for b, kinds in self.after.get(node, {}).items():
                if kinds & allowed and b in among and b not in came:
                    came[b] = node
                    waiting.append(b)
        if goal not in came:
            return None
        steps: list[Step] = []
        while goal != start:
            steps.append(self.step(came[goal], goal, allowed))
            goal = came[goal]
        return steps[::-1]

    def nonadjacent_path(
        self, start: int, goal: int, allowed: int, among: Collection[int]
    ) -> list[Step] | None:
        """A shortest way without an anti-dependency at its ends, nor two of them in a row.

        Put behind an anti-dependency from ``goal`` to ``start`` it makes a cycle without two
        adjacent ones, which snapshot isolation does not allow.
        """
        first = (start, True)
        came: dict[tuple[int, bool], tuple[tuple[int, bool], Dep]] = {}
        waiting = deque([first])
        target = (goal, False)
        while waiting and target not in came:
            node = waiting.popleft()
            for b, kinds in self.after.get(node[0], {}).items():
                if b not in among:
                    continue
                plain = kinds & allowed & ~_RW
                if plain and (b, False) not in came:
                    came[b, False] = (node, Dep(plain & -plain))
                    waiting.append((b, False))
                if kinds & _RW and not node[1] and (b, True) not in came:
                    came[b, True] = (node, Dep.RW)
                    waiting.append((b, True))
        if target not in came:
            return None
        steps: list[Step] = []
        at = target
        while True:
            before, dep = came[at]
            steps.append(self.step(before[0], at[0], dep))
            at = before
            if at == first:
                return steps[::-1]


def find_cycle(
    graph: Graph, component: Collection[int], first: Dep, rest: int, spent: Spent
) -> list[Step] | None:
    """A cycle in the component that begins with a ``first`` edge and goes home along ``rest``.

    Stops early, with what it has, when ``spent`` says so.
    """
    best: list[Step] | None = None
    patience = _PATIENCE
    for a in sorted(component):
        for b, kinds in graph.after.get(a, {}).items():
            if not kinds & int(first) or b not in component:
                continue
            home = graph.path(b, a, rest, component)
            if home is not None and (best is None or len(home) + 1 < len(best)):
                best = [graph.step(a, b, first), *home]
            if best is not None:
                patience -= 1
                if len(best) == 2 or not patience:
                    return best
        if spent():
            break
    return best


def find_nonadjacent_cycle(
    graph: Graph, component: Collection[int], rest: int, spent: Spent
) -> list[Step] | None:
    """A cycle with anti-dependencies, no two of them adjacent."""
    for a in sorted(component):
        for b, kinds in graph.after.get(a, {}).items():
            if not kinds & _RW or b not in component:
                continue
            home = graph.nonadjacent_path(b, a, rest, component)
            if home is not None:
                return [graph.step(a, b, Dep.RW), *home]
        if spent():
            break
    return None


def count(steps: Iterable[Step], dep: Dep) -> int:
    """How many edges of a kind a cycle has."""
    return sum(step.dep is dep for step in steps)
