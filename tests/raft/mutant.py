"""What a mutant of the core is."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """``old`` becomes ``new`` in ``mcpcore/raft/<module>.py``; ``tests`` should turn red."""

    name: str
    module: str
    old: str
    new: str
    tests: str
