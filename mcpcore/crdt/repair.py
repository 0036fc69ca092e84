"""Finding where two states differ without sending either: fingerprints of key ranges.

This module exists for peers that were away long. Both sides compare fingerprints of the same range
of keys; where they differ, the range is cut, until what is left is small enough to be sent. The
cost follows the difference and not the state. It must never remember anything between messages, so
that losing one loses nothing but time.

The fingerprint of a range is the sum of its atoms' fingerprints and that of its seal (what is known
to be gone there), modulo 2**128. No attacker is kept out by it: a peer that may write can write
what it wants anyway.

Source: range-based set reconciliation, Meyer, SRDS 2023.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from mcpcore.crdt.context import wire_list
from mcpcore.crdt.lattice import Lattice
from mcpcore.crdt.values import fingerprint
from mcpcore.errors import InvalidInput

LEAF_ATOMS = 16
FANOUT = 16


@dataclass(frozen=True, slots=True)
class Span:
    """What somebody has from ``low`` up to but without ``high``: how many atoms, which sum."""

    low: bytes
    high: bytes | None
    count: int
    mark: int

    def to_wire(self) -> list[object]:
        """``[low, high, count, 16 bytes]``."""
        return [self.low, self.high, self.count, self.mark.to_bytes(16, "big")]

    @classmethod
    def from_wire(cls, wire: object) -> Span:
        """Read :meth:`to_wire` back.

        Raises:
            InvalidInput: not that shape.
        """
        match wire_list(wire, "span", length=4):
            case [bytes(low), (bytes() | None) as high, int(count), bytes(mark)] if (
                len(mark) == 16 and count >= 0
            ):
                return cls(low, high, count, int.from_bytes(mark, "big"))
        raise InvalidInput("expected low, high, count and 16 bytes", where="span")


class Survey:
    """A state's atoms, listed once to answer many questions about ranges."""

    __slots__ = ("_atoms", "_state")

    def __init__(self, state: Lattice) -> None:
        self._state = state
        self._atoms = state.atoms()

    def span(self, low: bytes = b"", high: bytes | None = None) -> Span:
        """What the state has in a range."""
        first, last = self._bounds(low, high)
        seal = self._state.seal(low, high)
        mark = sum(mark for _, mark in self._atoms[first:last]) + fingerprint(seal)
        return Span(low, high, last - first, mark % (1 << 128))

    def cut(self, low: bytes, high: bytes | None) -> list[Span]:
        """A range in up to 16 pieces of about equally many atoms."""
        first, last = self._bounds(low, high)
        step = -(-(last - first) // FANOUT)
        middles = [self._atoms[i][0] for i in range(first + step, last, step)]
        lows = [low, *middles]
        highs = [*middles, high]
        return [self.span(a, b) for a, b in zip(lows, highs, strict=True)]

    def _bounds(self, low: bytes, high: bytes | None) -> tuple[int, int]:
        first = bisect_left(self._atoms, (low,))
        last = len(self._atoms) if high is None else bisect_left(self._atoms, (high,))
        return first, max(first, last)


def compare(survey: Survey, theirs: tuple[Span, ...]) -> tuple[list[Span], list[Span]]:
    """What to do about a peer's ranges.

    Returns:
        (ranges small enough here to be sent as they are, ranges to be asked about next).
    """
    send: list[Span] = []
    ask: list[Span] = []
    for their in theirs:
        mine = survey.span(their.low, their.high)
        if mine == their:
            continue
        if mine.count <= LEAF_ATOMS:
            send.append(mine)
        else:
            ask.extend(survey.cut(their.low, their.high))
    return send, ask
