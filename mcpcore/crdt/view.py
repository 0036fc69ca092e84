"""What all types have in common: a view on a state, whose mutators return deltas.

This module exists so that a type is nothing but names for reads and writes; state, join and
encoding belong to the two lattices. It must never hold data of its own.
"""

from __future__ import annotations

from typing import ClassVar, Generic, Self

from mcpcore.crdt.causal import PRESENT, Causal, Entry, Path
from mcpcore.crdt.cells import Cells
from mcpcore.crdt.context import Dot
from mcpcore.crdt.lattice import L
from mcpcore.errors import InvalidInput


class View(Generic[L]):
    """A typed look at a state. Mutators change the state and return the delta to send."""

    __slots__ = ("state",)
    state: L

    def join(self, other: L | Self, /) -> None:
        """Take in a delta, a state, or another view's state."""
        self.state.join(other.state if isinstance(other, View) else other)


class CellsView(View[Cells]):
    """A type that only grows. It stands alone: what cannot shrink cannot be reset by a map."""

    __slots__ = ()

    def __init__(self, state: Cells | None = None) -> None:
        self.state = Cells() if state is None else state

    def copy(self) -> Self:
        """An independent replica of equal content."""
        return type(self)(self.state.copy())


class CausalView(View[Causal]):
    """A type that can remove, alone or as a part of a document."""

    __slots__ = ("path",)
    TAG: ClassVar[str] = ""
    """What the key of a map says of the type below it, so that two types never share a path."""

    def __init__(self, state: Causal | None = None, path: Path = ()) -> None:
        if not self.TAG:
            raise InvalidInput(f"{type(self).__name__} is not a type to be used by itself")
        self.state = Causal() if state is None else state
        self.path = path

    def copy(self) -> Self:
        """An independent replica of the whole document, with the same place in it."""
        return type(self)(self.state.copy(), self.path)

    def _entries(self, kind: int, path: Path | None = None) -> list[tuple[Dot, Entry]]:
        """Our entries of one kind, by rising dots, so that every replica reads them alike."""
        entries = self.state.entries
        at = self.state.at(self.path if path is None else path)
        return sorted((dot, entries[dot]) for dot in at if entries[dot].kind == kind)

    def _has(self, kind: int, path: Path) -> bool:
        entries = self.state.entries
        return any(entries[dot].kind == kind for dot in self.state.at(path))

    def _write(self, replica: str, kind: int, payload: bytes = b"") -> Causal:
        """Replace everything at our path by one entry."""
        return self.state.mutate(
            replica, self.state.at(self.path), [Entry(self.path, kind, payload)]
        )

    def _present(self, path: Path) -> bool:
        return self._has(PRESENT, path)
