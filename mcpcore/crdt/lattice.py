"""What every replicated state is: a join-semilattice that can be taken apart and compared.

This module exists so that anti-entropy, encoding and the law tests are written once, for all types.
Two lattices implement it: :class:`mcpcore.crdt.cells.Cells` (keys to growing numbers) and
:class:`mcpcore.crdt.causal.Causal` (dotted entries under a causal context). It must never know a
type of them, nor import anything that acts.

Source: Almeida, Shoker, Baquero 2018, "Delta state replicated data types"; Enes et al., ICDE 2019,
"Efficient synchronization of state-based CRDTs" (join decomposition, optimal deltas).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, Self, TypeVar


class Lattice(Protocol):
    """A state that only grows; ``join`` is commutative, associative and idempotent.

    Mutable: ``join`` works in place and costs what the smaller side costs, so that a small delta
    joins a large state quickly. Use the function :func:`join` where a new value is wanted.
    """

    @classmethod
    def bottom(cls) -> Self:
        """The empty state, which every join leaves as it was."""

    def is_bottom(self) -> bool:
        """Whether it says nothing at all."""

    def copy(self) -> Self:
        """An independent state of equal content."""

    def join(self, other: Self, /) -> None:
        """Become the least upper bound of both."""

    def delta(self, other: Self, /) -> Self:
        """The least state that, joined to ``other``, gives the join of both: what it misses."""

    def decompose(self) -> Iterator[Self]:
        """The irredundant join-irreducibles whose join this is; none for the bottom."""

    def split(self, bytes_max: int) -> Iterator[Self]:
        """States of about ``bytes_max`` encoded bytes each, whose join this is."""

    def atoms(self) -> list[tuple[bytes, int]]:
        """What is alive, as (key, 128-bit fingerprint), sorted by key."""

    def part(self, low: bytes, high: bytes | None) -> Self:
        """The share of the key range from ``low`` up to but without ``high`` (None: no end)."""

    def seal(self, low: bytes = b"", high: bytes | None = None) -> bytes:
        """Bytes to be hashed beside a range's atoms: what is known of atoms that are gone."""

    def to_wire(self) -> list[object]:
        """What msgpack can pack; equal states give equal results."""

    @classmethod
    def from_wire(cls, wire: object, /) -> Self:
        """Read :meth:`to_wire` back; ``InvalidInput`` for anything else."""


L = TypeVar("L", bound=Lattice)


def join(a: L, b: L) -> L:
    """The least upper bound, as a new state."""
    both = a.copy()
    both.join(b)
    return both


def covers(a: L, b: L) -> bool:
    """Whether ``a`` already says everything that ``b`` says (b is below or equal to a)."""
    return b.delta(a).is_bottom()
