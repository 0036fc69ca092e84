"""Which events a state has seen: dots, and the causal context that remembers them compactly.

This module exists so that "seen and gone" and "never seen" are never confused, which is all that a
remove needs. A dot names one event: the replica that made it and its number there, from 1. It must
never know what the events did.

A context keeps, for each replica, the sorted bounds of half-open runs: ``[1, 5, 8, 9]`` is 1, 2, 3,
4 and 8. A run from 1 is the version vector's entry; what lies beyond is the dot cloud, and it melts
into the vector as gaps close. A number is inside when an odd count of bounds lies at or below it.

HAZARD: a dot must never name two events. A replica that lost its memory and kept its id would reuse
dots, and the others would drop its new events as old ones. Take a new id for each incarnation:
:func:`replica_id`.

Source: Almeida et al. 2014, "Scalable and accurate causality tracking" (dotted contexts).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import TypeAlias

from mcpcore.errors import InvalidInput

Dot: TypeAlias = tuple[str, int]
"""One event: (replica id, number from 1)."""

SEQUENCE_MAX = (1 << 62) - 1
_ID_BYTES_MAX = 200


def replica_id(name: str, incarnation: int) -> str:
    """The id of one life of a replica, such as ``eu-1/3``.

    Args:
        name: the replica's lasting name, without a slash.
        incarnation: a number that grows whenever the replica may have forgotten anything; keep it
            on disk beside the state, and raise it when the state is not there.

    Raises:
        InvalidInput: a name or number that cannot be used.
    """
    if not name or "/" in name or incarnation < 1:
        raise InvalidInput(
            f"{name!r} with incarnation {incarnation} makes no replica id",
            where="replica",
            remedy="The name is not empty and has no slash, incarnations count from 1",
        )
    return check_replica(f"{name}/{incarnation}")


def check_replica(replica: object) -> str:
    """Return a replica id that is fit for use.

    Raises:
        InvalidInput: empty, too long, not text, or with a NUL.
    """
    if not isinstance(replica, str):
        raise InvalidInput(f"{replica!r} is no replica id", where="replica")
    try:
        fits = 0 < len(replica.encode()) <= _ID_BYTES_MAX and "\0" not in replica
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise InvalidInput(
            f"{replica[:80]!r} is no replica id",
            where="replica",
            remedy=f"Use 1 to {_ID_BYTES_MAX} bytes of UTF-8 without NUL",
        )
    return replica


class CausalContext:
    """A set of dots that costs one pair of numbers for each replica while there are no gaps."""

    __slots__ = ("_bounds",)

    def __init__(self, dots: Iterable[Dot] = ()) -> None:
        self._bounds: dict[str, list[int]] = {}
        for dot in dots:
            self.add(dot)

    def __contains__(self, dot: Dot) -> bool:
        bounds = self._bounds.get(dot[0])
        return bounds is not None and bisect_right(bounds, dot[1]) & 1 == 1

    def __bool__(self) -> bool:
        return bool(self._bounds)

    def __len__(self) -> int:
        return sum(
            bounds[i + 1] - bounds[i]
            for bounds in self._bounds.values()
            for i in range(0, len(bounds), 2)
        )

    def __iter__(self) -> Iterator[Dot]:
        for replica, low, high in self.runs():
            for number in range(low, high):
                yield replica, number

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CausalContext):
            return NotImplemented
        return self._bounds == other._bounds

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        runs = [f"{r}:{low}-{high - 1}" for r, low, high in self.runs()]
        return f"CausalContext({', '.join(runs)})"

    def copy(self) -> CausalContext:
        """An independent context of equal content."""
        twin = CausalContext()
        twin._bounds = {replica: bounds.copy() for replica, bounds in self._bounds.items()}
        return twin

    # --- growing --------------------------------------------------------------------------------

    def latest(self, replica: str) -> int:
        """The highest number seen from a replica; 0 if none."""
        bounds = self._bounds.get(replica)
        return bounds[-1] - 1 if bounds else 0

    def next_dot(self, replica: str) -> Dot:
        """The dot of this replica's next event. Only that replica may ask.

        Raises:
            InvalidInput: a replica id that cannot be used, or one that has run out of numbers.
        """
        bounds = self._bounds.get(replica)
        if bounds is None:
            return check_replica(replica), 1
        if bounds[-1] > SEQUENCE_MAX:
            raise InvalidInput(
                f"{replica} has no numbers left", where="replica", remedy="Take a new incarnation"
            )
        return replica, bounds[-1]

    def add(self, dot: Dot) -> None:
        """Remember one dot."""
        self.add_run(dot[0], dot[1], dot[1] + 1)

    def add_run(self, replica: str, low: int, high: int) -> None:
        """Remember the numbers from ``low`` up to but without ``high``."""
        mine = self._bounds.get(replica)
        if mine is None:
            self._bounds[replica] = [low, high]
        elif mine[-1] == low:
            mine[-1] = high
        elif mine[-1] < low:
            mine += (low, high)
        else:
            self._bounds[replica] = _combine(mine, [low, high], _either)

    def join(self, other: CausalContext) -> None:
        """Remember everything that ``other`` does."""
        bounds = self._bounds
        for replica, theirs in other._bounds.items():
            mine = bounds.get(replica)
            if mine is None:
                bounds[replica] = theirs.copy()
            elif mine[-1] == theirs[0]:
                mine[-1:] = theirs[1:]
            elif len(mine) == 2 and mine[0] <= theirs[0] and theirs[-2] <= mine[1]:
                mine[1] = max(mine[1], theirs[-1])  # one run, and all of theirs begin within it
            elif mine != theirs:
                bounds[replica] = _combine(mine, theirs, _either)

    # --- comparing ------------------------------------------------------------------------------

    def minus(self, other: CausalContext) -> CausalContext:
        """The dots that ``other`` has not seen."""
        return self._with(other, _first_only)

    def meet(self, other: CausalContext) -> CausalContext:
        """The dots that both have seen."""
        return self._with(other, _both)

    def covers(self, other: CausalContext) -> bool:
        """Whether every dot of ``other`` is here."""
        return not other.minus(self)

    def replicas(self) -> list[str]:
        """Every replica that an event was seen of, sorted."""
        return sorted(self._bounds)

    def runs(self) -> Iterator[tuple[str, int, int]]:
        """All runs as (replica, low, high without), sorted."""
        for replica in sorted(self._bounds):
            bounds = self._bounds[replica]
            for i in range(0, len(bounds), 2):
                yield replica, bounds[i], bounds[i + 1]

    def vector(self) -> dict[str, int]:
        """The version vector: how far each replica is known without a gap."""
        return {r: bounds[1] - 1 for r, bounds in self._bounds.items() if bounds[0] == 1}

    def cloud(self) -> set[Dot]:
        """The dots that lie beyond a gap."""
        vector = self.vector()
        return {dot for dot in self if dot[1] > vector.get(dot[0], 0)}

    def check(self) -> None:
        """Every promise this structure makes about itself."""
        for replica, bounds in self._bounds.items():
            check_replica(replica)
            assert bounds, "no replica without dots"
            assert len(bounds) % 2 == 0, "runs have two ends"
            assert bounds[0] >= 1, "numbers count from 1"
            assert all(a < b for a, b in pairwise(bounds)), "no run touches"

    # --- the wire -------------------------------------------------------------------------------

    def to_wire(self) -> list[object]:
        """``[[replica, gap, length, gap, length, ...], ...]``, sorted by replica.

        Differences and not bounds, because they are small, and small numbers are short.
        """
        return [
            [replica, bounds[0], *(b - a for a, b in pairwise(bounds))]
            for replica, bounds in sorted(self._bounds.items())
        ]

    @classmethod
    def from_wire(cls, wire: object) -> CausalContext:
        """Read :meth:`to_wire` back.

        Raises:
            InvalidInput: not that shape, not sorted, or numbers out of range.
        """
        context = cls()
        last = ""
        for row in wire_list(wire, "causal context"):
            replica, *steps = wire_list(row, "causal context", least=3)
            if check_replica(replica) <= last or len(steps) % 2:
                raise InvalidInput("replicas out of order or half a run", where="causal context")
            last = str(replica)
            bounds: list[int] = []
            at = 0
            for step in steps:
                if type(step) is not int or not 0 < step <= SEQUENCE_MAX + 1 - at:
                    raise InvalidInput(f"{step!r} is no length", where="causal context")
                at += step
                bounds.append(at)
            context._bounds[last] = bounds
        return context

    def _with(self, other: CausalContext, keep: Callable[[int, int], int]) -> CausalContext:
        result = CausalContext()
        for replica, mine in self._bounds.items():
            bounds = _combine(mine, other._bounds.get(replica, []), keep)
            if bounds:
                result._bounds[replica] = bounds
        return result


def wire_list(
    wire: object, where: str, *, least: int = 0, length: int | None = None
) -> list[object]:
    """A sequence that came over the wire.

    Raises:
        InvalidInput: something else, shorter than ``least``, or not of ``length``.
    """
    if not isinstance(wire, list | tuple) or len(wire) < least:
        raise InvalidInput(f"expected a list of at least {least} fields", where=where)
    if length is not None and len(wire) != length:
        raise InvalidInput(f"expected {length} fields, found {len(wire)}", where=where)
    return list(wire)


def _either(a: int, b: int) -> int:
    return a | b


def _both(a: int, b: int) -> int:
    return a & b


def _first_only(a: int, b: int) -> int:
    return a & ~b


def _combine(a: list[int], b: list[int], keep: Callable[[int, int], int]) -> list[int]:
    """Sweep two lists of bounds; a bound is written wherever being inside changes."""
    out: list[int] = []
    i = j = 0
    while i < len(a) or j < len(b):
        at = a[i] if j == len(b) or (i < len(a) and a[i] <= b[j]) else b[j]
        i += i < len(a) and a[i] == at
        j += j < len(b) and b[j] == at
        if keep(i & 1, j & 1) != len(out) & 1:
            out.append(at)
    return out
