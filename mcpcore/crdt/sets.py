"""Sets: grow-only, two-phase, add-wins and remove-wins.

This module exists so that the choice of who wins is the choice of a type. Statements that protect
are add-wins, grants are remove-wins. It must never decide by time.

Source: Bieniusa et al. 2012, "An optimized conflict-free replicated set" (add-wins without
tombstones); Baquero, Almeida, Cunha, Ferreira 2017, "Composition in state-based replicated data
types" (remove-wins from flags).
"""

from __future__ import annotations

from collections.abc import Iterator

from mcpcore.crdt.causal import ABSENT, PRESENT, Causal, Entry
from mcpcore.crdt.cells import Cells
from mcpcore.crdt.values import Value, pack, unpack
from mcpcore.crdt.view import CausalView, CellsView


class GSet(CellsView):
    """A set that only grows."""

    __slots__ = ()

    def add(self, element: Value) -> Cells:
        """Add an element. Returns the delta; the bottom if it was there."""
        return self.state.raise_to(element, 1)

    def __contains__(self, element: Value) -> bool:
        return pack(element) in self.state.numbers

    def __iter__(self) -> Iterator[Value]:
        return (unpack(key) for key in sorted(self.state.numbers))

    def __len__(self) -> int:
        return len(self.state.numbers)

    def elements(self) -> frozenset[Value]:
        """All elements. Iterate instead where 1, 1.0 and True must stay apart."""
        return frozenset(self)


class TwoPSet(CellsView):
    """A set whose elements can be removed once and never come back."""

    __slots__ = ()

    def add(self, element: Value) -> Cells:
        """Add an element; without effect if it was ever removed. Returns the delta."""
        return self.state.raise_to(("+", element), 1)

    def remove(self, element: Value) -> Cells:
        """Remove an element for ever, present or not. Returns the delta."""
        return self.state.raise_to(("-", element), 1)

    def __contains__(self, element: Value) -> bool:
        return bool(self.state.get(("+", element))) and not self.state.get(("-", element))

    def __iter__(self) -> Iterator[Value]:
        numbers = self.state.numbers
        for key in sorted(numbers):
            parts = unpack(key)
            added = isinstance(parts, tuple) and len(parts) == 2 and parts[0] == "+"
            if added and isinstance(parts, tuple) and pack(("-", parts[1])) not in numbers:
                yield parts[1]

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def elements(self) -> frozenset[Value]:
        """All elements. Iterate instead where 1, 1.0 and True must stay apart."""
        return frozenset(self)


class _CausalSet(CausalView):
    """What the two causal sets share: each element is a path of its own."""

    __slots__ = ()

    def add(self, replica: str, element: Value) -> Causal:
        """Add an element as ``replica``. Returns the delta."""
        path = (*self.path, pack(element))
        return self.state.mutate(replica, self.state.at(path), [Entry(path, PRESENT, b"")])

    def _holds(self, key: bytes) -> bool:
        return self._present((*self.path, key))

    def __contains__(self, element: Value) -> bool:
        return self._holds(pack(element))

    def __iter__(self) -> Iterator[Value]:
        keys = sorted(self.state.below(self.path))
        return (unpack(key) for key in keys if self._holds(key))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def elements(self) -> frozenset[Value]:
        """All elements. Iterate instead where 1, 1.0 and True must stay apart."""
        return frozenset(self)

    def clear(self, replica: str) -> Causal:
        """Remove every element seen here. Returns the delta."""
        delta = Causal()
        for element in list(self):
            delta.join(self.remove(replica, element))
        return delta

    def remove(self, replica: str, element: Value) -> Causal:
        """Remove an element. Returns the delta."""
        raise NotImplementedError


class AWSet(_CausalSet):
    """A set in which an addition wins over a concurrent removal. A removal leaves nothing."""

    __slots__ = ()
    TAG = "aw"

    def remove(self, replica: str, element: Value) -> Causal:
        """Remove the additions seen here. Returns the delta; the bottom if there were none."""
        return self.state.mutate(replica, self.state.at((*self.path, pack(element))), ())


class RWSet(_CausalSet):
    """A set in which a removal wins over a concurrent addition.

    Of a removal one token stays until it is causally stable, and then nothing.
    """

    __slots__ = ()
    TAG = "rw"

    def remove(self, replica: str, element: Value) -> Causal:
        """Remove an element, and with it every addition that has not seen this removal."""
        path = (*self.path, pack(element))
        return self.state.mutate(replica, self.state.at(path), [Entry(path, ABSENT, b"")])

    def _holds(self, key: bytes) -> bool:
        path = (*self.path, key)
        return self._present(path) and not self._has(ABSENT, path)
