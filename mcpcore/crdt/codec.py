"""States and deltas as bytes: versioned, canonical, and safe to read from anybody.

This module exists so that bytes from the network or a disk become either a state that keeps every
promise of its lattice, or ``InvalidInput``. Equal states give equal bytes, so bytes can be hashed
and compared. It must never trust a length, a count or an order that it did not check.
"""

from __future__ import annotations

import msgpack

from mcpcore.crdt.causal import Causal
from mcpcore.crdt.cells import Cells
from mcpcore.crdt.context import wire_list
from mcpcore.crdt.values import parse
from mcpcore.errors import InvalidInput

FORMAT = 1
SIZE_BYTES_MAX = 64 * 1024 * 1024
LATTICES: dict[str, type[Cells] | type[Causal]] = {"cells": Cells, "causal": Causal}


def encode(state: Cells | Causal) -> bytes:
    """A state or delta as bytes; the same for all equal states."""
    name = "cells" if isinstance(state, Cells) else "causal"
    return bytes(msgpack.packb([FORMAT, name, state.to_wire()]))


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
    version, name, wire = wire_list(parse(data), "state", length=3)
    if version != FORMAT:
        raise InvalidInput(
            f"format {version!r} is unknown, this program reads {FORMAT}",
            where="state",
            remedy="Upgrade this node first",
        )
    lattice = LATTICES.get(name) if isinstance(name, str) else None
    if lattice is None:
        raise InvalidInput(f"there is no lattice {name!r}", where="state")
    return lattice.from_wire(wire)
