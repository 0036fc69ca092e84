"""What a member says of itself, and what it wants done: roles, writes, answers, news.

This module exists so that a driver can know these words without knowing the state they come from.
Plain values only: no rule of the protocol belongs here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol

from mcpcore.raft.custody import Dropped
from mcpcore.raft.messages import Message
from mcpcore.raft.snapshot_events import BaseChange
from mcpcore.raft.types import Block, HardState

NEVER = (1 << 63) - 1
"""A deadline that never comes."""


class Entropy(Protocol):
    """Where randomness comes from: a ``random.Random`` fits."""

    def randrange(self, stop: int, /) -> int:
        """A number in [0, stop)."""
        ...


class Role(Enum):
    """What a member is at the moment."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Write(NamedTuple):
    """Make this durable, in order, then call ``Raft.written(seq)``.

    The hard state comes before the blocks: a disk that a crash leaves with entries of a term that
    it does not know is refused at the next start.

    A block whose first index is not beyond the end of the stored log replaces everything from
    there on. A ``base`` that keeps the suffix comes after the blocks, one that does not before.

    What this write drops from the log is kept elsewhere, durably, before it: see ``custody``.
    """

    seq: int
    hard_state: HardState | None
    blocks: tuple[Block, ...]
    base: BaseChange | None = None
    dropped: tuple[Dropped, ...] = ()


class RoleChanged(NamedTuple):
    """This member's role, term or known leader changed; ``reason`` is one plain sentence."""

    term: int
    role: Role
    leader: str
    reason: str


class MembershipNoticed(NamedTuple):
    """Something about ``member`` that people should know; ``what`` is one plain sentence."""

    term: int
    member: str
    what: str


Event = RoleChanged | MembershipNoticed
"""What a member has to tell people."""


class ReadAnswer(NamedTuple):
    """A read may be answered once ``read_index`` is applied; 0 means it cannot be confirmed."""

    read: int
    read_index: int


@dataclass(slots=True)
class PendingWrite:
    """A write under way, what it will have made durable, and the messages that wait for it."""

    seq: int
    since_ns: int
    last_index: int
    hard_state: HardState
    gated: list[tuple[str, Message]] = field(default_factory=list)
