"""States and deltas as bytes: versioned, canonical, and safe to read from anybody.

This module exists so that bytes from the network or a disk become either a state that keeps every
promise of its lattice, or ``InvalidInput``. Equal states give equal bytes, so bytes can be hashed
and compared. It must never trust a length, a count or an order that it did not check.
"""

from __future__ import annotations

from typing import Final

import msgpack

from mcpcore.crdt.causal import Causal
from mcpcore.crdt.cells import Cells
from mcpcore.crdt.context import wire_list
from mcpcore.crdt.values import parse
from mcpcore.errors import InvalidInput

FORMAT = 1
SIZE_BYTES_MAX = 64 * 1024 * 1024
_CELLS: Final = 0
_CAUSAL: Final = 1


def encode(state: Cells | Causal) -> bytes:
    """A state or delta as bytes; the same for all equal states."""
    return bytes(msgpack.packb([FORMAT, lattice_code(state), state.to_wire()]))


def decode(data: bytes, *, size_bytes_max: int = SIZE_BYTES_MAX) -> Cells | Causal:
    """Read a state or delta.

    Raises:
        InvalidInput: too large, another version, cut short, or anything else that
            :func:`encode` does not produce.
    """
    if len(data) > size_bytes_max:
        raise InvalidInput(
            f"{len(data)} bytes, at most {size_bytes_max} are accepted", where="state"
        )
    version, code, wire = wire_list(parse(data), "state", length=3)
    if version != FORMAT:
        raise InvalidInput(
            f"format {version!r} is unknown, this program reads {FORMAT}",
            where="state",
            remedy="Upgrade this node first",
        )
    return read_lattice(code, wire)


def lattice_code(state: Cells | Causal) -> int:
    """Which lattice a state belongs to, as a number for the wire."""
    return _CELLS if isinstance(state, Cells) else _CAUSAL


def read_lattice(code: object, wire: object) -> Cells | Causal:
    """Read a state of the lattice with that number.

    Raises:
        InvalidInput: there is no such lattice, or the state is malformed.
    """
    if code == _CELLS:
        return Cells.from_wire(wire)
    if code == _CAUSAL:
        return Causal.from_wire(wire)
    raise InvalidInput(f"there is no lattice {code!r}", where="state")
