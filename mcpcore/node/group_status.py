"""What a group tells of itself, and what a read of it may miss: plain values.

This module exists so that clients, tools and tests speak of groups without importing the driver.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mcpcore.errors import InvalidInput


class Consistency(StrEnum):
    """What a read may miss."""

    LINEARIZABLE = "linearizable"
    """Nothing that was committed before the read was asked; a quorum confirms it."""
    LEASE = "lease"
    """The same, if clocks keep their rate; answered by the leader alone, or refused."""
    STALE = "stale"
    """Anything that this node has not heard of yet; answered at once, by any node."""

    @classmethod
    def parse(cls, name: str) -> Consistency:
        """The consistency of that name.

        Raises:
            InvalidInput: there is none.
        """
        try:
            return cls(name)
        except ValueError:
            known = ", ".join(cls)
            raise InvalidInput(f"unknown consistency {name!r}; known: {known}") from None


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One group as one node sees it."""

    group: str
    role: str
    term: int
    leader: str
    commit: int
    applied: int
    last_index: int
    digest: str
    """Hash of the applied state, to be compared between nodes at equal ``applied``."""
    members: tuple[str, ...]
    match: dict[str, int]
    """On the leader: the highest index known to be durable on each other member."""
    problem: str = ""
    """Why the group is out of service on this node (its role is then ``failed``); else empty."""
    asleep: bool = False
    """Whether the group has nothing to do and costs nothing (``mcpcore.raft.quiescence``)."""
    in_doubt: str = ""
    """What this member lost of its log and waits for, not voting meanwhile; else empty."""
