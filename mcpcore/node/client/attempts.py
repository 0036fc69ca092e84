"""What the attempts at one call have shown, and what may be said when they end.

This module exists so that "nothing happened" is said in one place only, and never while an attempt
is out whose fate nobody knows. It decides; it must never wait or send.
"""

from __future__ import annotations

from mcpcore.errors import (
    ClusterUnavailable,
    CoordinationError,
    GroupReadOnly,
    HandshakeRefused,
    OutcomeUnknown,
    Rejected,
    StalenessNotPromised,
    UnknownGroup,
    Unreachable,
)
from mcpcore.node.transport.handshake import Parting

_PASSING = (Parting.BUSY, Parting.SHUTDOWN, Parting.LOST, Parting.STALE)
"""Refusals of a handshake that the same node may not repeat a moment later."""


class Attempts:
    """The attempts at one call.

    Args:
        idempotent: doing it twice is the same as doing it once, or not at all (a read).
    """

    __slots__ = (
        "_best",
        "_cut_off",
        "_idempotent",
        "_last",
        "_no_use",
        "_refused",
        "_told",
        "uncertain",
    )

    def __init__(self, *, idempotent: bool = False) -> None:
        self._idempotent = idempotent
        self._last = "no attempt was made"
        self._told = False
        self._refused: set[object] = set()
        self._no_use: set[object] = set()
        self._cut_off: Rejected | None = None
        self._best: StalenessNotPromised | None = None
        self.uncertain = False
        """Whether a copy has left whose fate is not known."""

    def note(self, error: BaseException, *, sent: bool) -> None:
        """An attempt came to nothing.

        Args:
            sent: it may have had an effect nevertheless.
        """
        self.uncertain = self.uncertain or sent
        # The last attempt is often cut short by the end of the time; what an earlier one was told
        # says more than that.
        told = str(error)
        if told or not self._told:
            self._last = told or "no answer in time"
        self._told = self._told or bool(told)

    def refused(self, node: object, error: HandshakeRefused | UnknownGroup) -> int:
        """A node will have nothing to do with it; returns how many nodes have said so for good."""
        self.note(error, sent=False)
        if not (isinstance(error, HandshakeRefused) and error.code in _PASSING):
            self._refused.add(node)
        return len(self._refused)

    def cut_off(self, node: object, error: BaseException, nodes: int) -> Rejected | None:
        """Whether to stop trying, since every node is either out of reach, or on a side without a
        quorum, or has no state as fresh as was asked: what to raise then, as long as nothing can
        have happened.

        Args:
            nodes: how many there are in all.
        """
        if isinstance(error, StalenessNotPromised):
            self._best = error
        if isinstance(error, GroupReadOnly) or (error is self._best and not error.passing):
            self._cut_off = error
        elif not isinstance(error, Unreachable | TimeoutError):
            self._no_use.discard(node)  # it may serve before long
            return None
        self._no_use.add(node)
        if len(self._no_use) < nodes or (self.uncertain and not self._idempotent):
            return None
        return self._cut_off

    def final(self, group: str, refusal: CoordinationError) -> CoordinationError:
        """What to raise for a refusal that another attempt would meet again."""
        if not self.uncertain or self._idempotent:
            return refusal
        return OutcomeUnknown(
            f"group {group}: an attempt was lost under way and may have been applied, or may still "
            f"be; the latest one was refused: {refusal}"
        )

    def give_up(self, group: str, why: str) -> CoordinationError:
        """What to raise when there will be no further attempt."""
        if self.uncertain and not self._idempotent:
            return OutcomeUnknown(
                f"group {group}: {why}; the command was sent and may have been applied, or may "
                f"still be. Last: {self._last}"
            )
        if self._best is not None and self._idempotent:
            return self._best
        return ClusterUnavailable(group, f"{self._last} ({why})")
