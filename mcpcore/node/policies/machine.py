"""The policy log as a group's state machine on a node.

This module exists so that the log itself stays pure: here a copy of it tells its node when it has
grown. It must never judge an edit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mcpcore.node.machine import StateMachine
from mcpcore.policy import Mode, PolicyLog


class PolicyMachine(PolicyLog):
    """What a node's factory of machines returns for a group that orders a policy.

    Args:
        mode: when loosening takes effect; the same on all members.
    """

    def __init__(self, mode: Mode = Mode.GUARDED) -> None:
        super().__init__()
        self.mode = mode
        self.grown: Callable[[], object] = _nobody
        """Called when more of the log is known than before; must be quick."""

    def apply(self, index: int, command: bytes) -> bytes:
        """See ``StateMachine``."""
        before = self.prefix
        result = super().apply(index, command)
        if self.prefix is not before:
            self.grown()
        return result

    def restore(self, chunks: Iterable[bytes]) -> None:
        """See ``StateMachine``."""
        super().restore(chunks)
        self.grown()

    def adopt(self, other: StateMachine) -> None:
        """See ``mcpcore.node.machine.Adopting``."""
        assert isinstance(other, PolicyMachine), "machines of one group are of one class"
        self.load(other.prefix)
        self.grown()


def _nobody() -> None:
    """Nobody listens yet."""
