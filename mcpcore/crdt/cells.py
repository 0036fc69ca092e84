"""The simple lattice: keys to numbers that only grow.

This module exists because grow-only types need no causality: joining takes the larger number of
each key, whoever says it and however often. It must never learn to remove; what can be removed
lives in :mod:`mcpcore.crdt.causal`.
"""

from __future__ import annotations

from collections.abc import Iterator

from mcpcore.crdt.context import wire_list
from mcpcore.crdt.values import INT_MAX, Value, check_key, fingerprint, pack, unpack
from mcpcore.errors import InvalidInput


class Cells:
    """A map from packed keys to positive integers; an absent key counts as 0."""

    __slots__ = ("numbers",)

    def __init__(self, numbers: dict[bytes, int] | None = None) -> None:
        self.numbers: dict[bytes, int] = {} if numbers is None else numbers

    @classmethod
    def bottom(cls) -> Cells:
        """No key at all."""
        return cls()

    def is_bottom(self) -> bool:
        """Whether it says nothing."""
        return not self.numbers

    def copy(self) -> Cells:
        """An independent state of equal content."""
        return Cells(self.numbers.copy())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cells):
            return NotImplemented
        return self.numbers == other.numbers

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Cells({ {unpack(key): n for key, n in sorted(self.numbers.items())} })"

    def get(self, key: Value) -> int:
        """The number at a key; 0 if nobody raised it."""
        return self.numbers.get(pack(key), 0)

    def raise_to(self, key: Value, number: int) -> Cells:
        """Raise one number, and return the delta (the bottom if it was that high already).

        Raises:
            InvalidInput: beyond 63 bits.
        """
        if number > INT_MAX:
            raise InvalidInput(f"{number} is beyond 2**63-1", where="counter")
        packed = pack(key)
        if number <= self.numbers.get(packed, 0):
            return Cells()
        self.numbers[packed] = number
        return Cells({packed: number})

    # --- the lattice ----------------------------------------------------------------------------

    def join(self, other: Cells, /) -> None:
        """Take the larger number of each key."""
        mine = self.numbers
        for key, number in other.numbers.items():
            if number > mine.get(key, 0):
                mine[key] = number

    def delta(self, other: Cells, /) -> Cells:
        """The numbers that are larger than ``other``'s."""
        theirs = other.numbers
        return Cells({k: n for k, n in self.numbers.items() if n > theirs.get(k, 0)})

    def decompose(self) -> Iterator[Cells]:
        """One state for each key: numbers form a chain, so each is irreducible."""
        for key, number in self.numbers.items():
            yield Cells({key: number})

    def split(self, bytes_max: int) -> Iterator[Cells]:
        """States of about ``bytes_max`` encoded bytes each, whose join this is."""
        chunk, size = Cells(), 0
        for key, number in self.numbers.items():
            grown = len(key) + 12
            if size + grown > bytes_max and size:
                yield chunk
                chunk, size = Cells(), 0
            chunk.numbers[key] = number
            size += grown
        if chunk.numbers:
            yield chunk

    def atoms(self) -> list[tuple[bytes, int]]:
        """(key, fingerprint), sorted by key."""
        return [
            (key, fingerprint(key, number.to_bytes(8, "big")))
            for key, number in sorted(self.numbers.items())
        ]

    def part(self, low: bytes, high: bytes | None) -> Cells:
        """The keys from ``low`` up to but without ``high``."""
        return Cells(
            {k: n for k, n in self.numbers.items() if low <= k and (high is None or k < high)}
        )

    def seal(self, low: bytes = b"", high: bytes | None = None) -> bytes:
        """Nothing: what is not here was never said."""
        return b""

    def check(self) -> None:
        """Every promise this structure makes about itself."""
        for key, number in self.numbers.items():
            unpack(key)
            assert 0 < number <= INT_MAX

    # --- the wire -------------------------------------------------------------------------------

    def to_wire(self) -> list[object]:
        """``[key, number, key, number, ...]`` by rising keys."""
        return [field for pair in sorted(self.numbers.items()) for field in pair]

    @classmethod
    def from_wire(cls, wire: object, /) -> Cells:
        """Read :meth:`to_wire` back.

        Raises:
            InvalidInput: not that shape, keys out of order, numbers out of range.
        """
        fields = wire_list(wire, "cells")
        numbers: dict[bytes, int] = {}
        last: bytes | None = None
        for key, number in zip(fields[::2], fields[1::2], strict=False):
            if not isinstance(key, bytes) or (last is not None and key <= last):
                raise InvalidInput("keys must be byte strings in rising order", where="cells")
            if type(number) is not int or not 0 < number <= INT_MAX:
                raise InvalidInput(f"{number!r} is no positive 63-bit number", where="cells")
            check_key(key)
            numbers[key] = number
            last = key
        if len(fields) % 2:
            raise InvalidInput("a key without a number", where="cells")
        return cls(numbers)
