"""What a group may ask its node about the nodes around it.

This module exists so that the driver of a group depends on five questions and not on whoever
answers them (``Pulse``). It must never hold anything but the questions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mcpcore.raft.state import RaftState

if TYPE_CHECKING:
    from mcpcore.node.group import Group


class Neighbours(Protocol):
    """What the node knows, once for all its groups."""

    def heard_ns(self, state: RaftState) -> int:
        """When the group's leader was last heard of; for a leader, when a quorum heard of it."""
        ...

    def may_rest(self, state: RaftState, now_ns: int) -> bool:
        """Whether the nodes of all members hear of each other, and our disk answers."""
        ...

    def listens_ns(self, now_ns: int) -> int:
        """For how much longer to listen before anybody is doubted, after we did not run."""
        ...

    def may_stand(self, group: str, now_ns: int, hold_ns: int) -> bool:
        """Whether there is room on this node for one more election, of ``hold_ns`` at most."""
        ...

    def noted(self, group: Group) -> None:
        """The group has had its turn: keep the books of who sleeps and who stands for election."""
        ...
