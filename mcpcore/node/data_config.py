"""What a piece of replicated data is, as plain values.

This module exists so that a node's configuration can name replicated data without loading what
replicates it. It must never act.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from mcpcore.crdt import Limits
from mcpcore.errors import InvalidInput

MESSAGE_OVERHEAD_BYTES: Final = 192
"""What a message takes at most beside itself: its name, the readings of time, the frame's head."""


@dataclass(frozen=True, slots=True)
class DataConfig:
    """One piece of replicated data; the same on all members.

    Args:
        grows_only: for types that never remove (``GSet``, ``GCounter``, ...); else any other.
        members: names of the nodes that hold it; empty: this node and all of its peers.
        limits: bounds of its anti-entropy. The budget in it is not used: see ``NodeConfig``.
        entries_max: beyond this many entries no change is taken, from here or from peers.
    """

    grows_only: bool = False
    members: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    entries_max: int = 1_000_000

    def __post_init__(self) -> None:
        if self.entries_max <= 0:
            raise InvalidInput(f"{self.entries_max} is not positive", where="entries_max")
