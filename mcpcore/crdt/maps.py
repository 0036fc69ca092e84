"""Maps of other types, with a recursive reset, on one causal context; and the grow-only map.

This module exists so that a document is one state: a map is a prefix of paths, and removing a key
removes exactly the events seen below it. A concurrent change below survives, whatever its type. It
must never keep a record of its own for a key.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from mcpcore.crdt.causal import COUNT, PATH_DEPTH_MAX, RESIDUE, Causal, Entry, Path
from mcpcore.crdt.cells import Cells
from mcpcore.crdt.context import Dot
from mcpcore.crdt.resettable import reset_counter
from mcpcore.crdt.values import Value, pack, unpack
from mcpcore.crdt.view import CausalView, CellsView
from mcpcore.errors import InvalidInput

V = TypeVar("V", bound=CausalView)


class Map(CausalView):
    """Keys to values of any causal type, maps included. A key is there while its value has content.

    One key may hold values of several types side by side, since two replicas may create it with
    different types at once; each is found by its type.
    """

    __slots__ = ()
    TAG = "map"

    def at(self, key: Value, kind: type[V]) -> V:
        """The value of a type at a key: a view, there or not; its first change creates it.

        Raises:
            InvalidInput: a type that cannot be reset (grow-only), or nested deeper than 62.
        """
        if not issubclass(kind, CausalView):
            raise InvalidInput(
                f"a {kind.__name__} cannot be reset, so no map can hold it",
                where="map",
                remedy="Use AWSet for GSet and TwoPSet, Counter for GCounter and PNCounter",
            )
        if len(self.path) >= PATH_DEPTH_MAX - 2:
            raise InvalidInput(f"maps nested deeper than {PATH_DEPTH_MAX - 2}", where="map")
        return kind(self.state, (*self.path, pack((kind.TAG, key))))

    def remove(self, replica: str, key: Value) -> Causal:
        """Reset the values at a key, of all types, all the way down. Returns the delta."""
        packed = pack(key)
        steps = [step for step in self.state.below(self.path) if _key_of(step) == packed]
        gone: list[Dot] = []
        added: list[Entry] = []
        for step in steps:
            self._reset((*self.path, step), gone, added)
        return self.state.mutate(replica, gone, added)

    def clear(self, replica: str) -> Causal:
        """Remove every key seen here. Returns the delta."""
        gone: list[Dot] = []
        added: list[Entry] = []
        self._reset(self.path, gone, added)
        return self.state.mutate(replica, gone, added)

    def _reset(self, top: Path, gone: list[Dot], added: list[Entry]) -> None:
        entries = self.state.entries
        for path in self.state.under(top):
            dots = list(self.state.at(path))
            if any(entries[dot].kind == COUNT for dot in dots):
                old, new = reset_counter(self.state, path)
                gone += old
                added += new
            gone += [dot for dot in dots if entries[dot].kind < COUNT]

    def _filled(self, step: bytes) -> bool:
        entries = self.state.entries
        return any(
            entries[dot].kind not in RESIDUE
            for path in self.state.under((*self.path, step))
            for dot in self.state.at(path)
        )

    def keys(self) -> list[Value]:
        """All keys, each once, in one order everywhere."""
        steps = self.state.below(self.path)
        keys = {_key_of(step) for step in steps if self._filled(step)}
        return [unpack(key) for key in sorted(keys - {b""})]

    def kinds(self, key: Value) -> list[str]:
        """The tags of the types that have content at a key."""
        packed = pack(key)
        steps = (s for s in self.state.below(self.path) if _key_of(s) == packed)
        return sorted(_tag_of(step) for step in steps if self._filled(step))

    def __contains__(self, key: Value) -> bool:
        return bool(self.kinds(key))

    def __iter__(self) -> Iterator[Value]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())


def _key_of(step: bytes) -> bytes:
    """The packed key inside a map's step; empty for what is no map's step."""
    parts = unpack(step)
    if isinstance(parts, tuple) and len(parts) == 2 and isinstance(parts[0], str):
        return pack(parts[1])
    return b""


def _tag_of(step: bytes) -> str:
    parts = unpack(step)
    return str(parts[0]) if isinstance(parts, tuple) else ""


class GMap(CellsView):
    """Keys to numbers that only rise: versions, high-water marks."""

    __slots__ = ()

    def raise_to(self, key: Value, number: int) -> Cells:
        """Raise one number. Returns the delta; the bottom if it was that high."""
        return self.state.raise_to(key, number)

    def get(self, key: Value) -> int:
        """The number at a key; 0 if nobody raised it."""
        return self.state.get(key)

    def __iter__(self) -> Iterator[Value]:
        return (unpack(key) for key in sorted(self.state.numbers))

    def __len__(self) -> int:
        return len(self.state.numbers)
