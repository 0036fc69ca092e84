"""A counter that can be reset, alone or by the map around it, and counts exactly all the same.

This module exists because that is where embedded counters go wrong: a reset that meets a concurrent
increment must remove what it saw and nothing else. Neither the old total may come back with the
increment, nor the increment vanish with the total. It must never keep one entry for each increment.

How: each replica keeps one entry with its running total, replaced at each increment. A reset
removes the entries it sees and leaves one entry that names them: replica, number, total. An entry
that survives a reset, because it was concurrent, contains the total that the reset saw; its base
says how much to take off. Totals start anew once the replica's own entry is gone, so the first
number of a running total tells whether a base concerns it.

Bases outlive the reset until nobody can come with a concurrent increment any more: see
:mod:`mcpcore.crdt.stability`.

Source: the anomaly is that of Baquero, Almeida, Lerche, PaPoC 2016, "The problem with embedded CRDT
counters and a solution"; the remedy here differs from theirs: bases in place of fresh dots.
"""

from __future__ import annotations

from mcpcore.crdt.causal import BASE, COUNT, Causal, Entry, Path
from mcpcore.crdt.context import Dot
from mcpcore.crdt.values import INT_MAX, Value, fields, pack
from mcpcore.crdt.view import CausalView
from mcpcore.errors import InvalidInput

Bases = dict[str, list[tuple[int, int]]]
"""For each replica what resets have seen of it: (number of the event, running total)."""


class Counter(CausalView):
    """A count that rises, falls and resets; concurrent increments survive a reset exactly."""

    __slots__ = ()
    TAG = "count"

    def add(self, replica: str, amount: int) -> Causal:
        """Count ``amount`` (of either sign) as ``replica``. Returns the delta."""
        if type(amount) is not int:
            raise InvalidInput(f"{amount!r} is no amount", where="counter")
        number = self.state.context.next_dot(replica)[1]
        first, total, gone = number, 0, []
        for dot, entry in self._entries(COUNT):
            if dot[0] == replica:
                first, total = running_total(entry)
                gone.append(dot)
        total += amount
        if abs(total) > INT_MAX:
            raise InvalidInput(f"{total} is beyond 2**63-1", where="counter")
        return self.state.mutate(replica, gone, [Entry(self.path, COUNT, pack((first, total)))])

    def increment(self, replica: str, amount: int = 1) -> Causal:
        """Count ``amount`` more. Returns the delta."""
        return self.add(replica, amount)

    def decrement(self, replica: str, amount: int = 1) -> Causal:
        """Count ``amount`` less. Returns the delta."""
        return self.add(replica, -amount)

    def reset(self, replica: str) -> Causal:
        """Remove every increment seen here, and no other. Returns the delta."""
        return self.state.mutate(replica, *reset_counter(self.state, self.path))

    def value(self) -> int:
        """The sum of all increments that no reset has seen."""
        bases = read_bases(self.state, self.path)
        return sum(counted(dot, entry, bases) for dot, entry in self._entries(COUNT))


def running_total(entry: Entry) -> tuple[int, int]:
    """(number of its first event, total since then) of a COUNT entry."""
    first, total = fields(entry.payload)
    return first, total


def read_bases(state: Causal, path: Path) -> Bases:
    """What the resets at a path have seen."""
    bases: Bases = {}
    for dot in state.at(path):
        if state.entries[dot].kind == BASE:
            for replica, number, total in fields(state.entries[dot].payload):
                bases.setdefault(replica, []).append((number, total))
    return bases


def counted(dot: Dot, entry: Entry, bases: Bases) -> int:
    """What a running total adds to the value: less what the latest reset of it has seen."""
    first, total = running_total(entry)
    seen = [base for base in bases.get(dot[0], ()) if first <= base[0] < dot[1]]
    return total - max(seen)[1] if seen else total


def reset_counter(state: Causal, path: Path) -> tuple[list[Dot], list[Entry]]:
    """(what goes, what comes) when the counter at a path is reset; nothing if it has no counts."""
    counts = [dot for dot in state.at(path) if state.entries[dot].kind == COUNT]
    if not counts:
        return [], []
    bases = {replica: max(seen) for replica, seen in read_bases(state, path).items()}
    for dot in counts:
        bases[dot[0]] = (dot[1], running_total(state.entries[dot])[1])
    olds = [dot for dot in state.at(path) if state.entries[dot].kind == BASE]
    rows: tuple[Value, ...] = tuple((r, *bases[r]) for r in sorted(bases))
    return counts + olds, [Entry(path, BASE, pack(rows))]
