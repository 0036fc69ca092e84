"""Whether the disk answers, judged once for all groups of a node.

This module exists so that a leader whose disk has died stops leading even if it has nothing to
write: heartbeats go over the network, and would go on for ever (hashicorp/raft #503, #612). Pure:
it judges what the log device says; who acts upon it is the node.

A disk that nobody writes to is asked for a sign of life every quarter of the bound. One that has
owed an answer for longer than the bound counts as stalled until everything it owes has come back.
A full disk is not stalled: it answers, and says no.
"""

from __future__ import annotations

from typing import NamedTuple


class DiskFacts(NamedTuple):
    """What the log device says now: see ``LogDevice``."""

    oldest_pending_since_ns: int | None
    syncs: int
    no_space: bool


class DiskVerdict(NamedTuple):
    """What follows.

    Args:
        stalled: it has owed an answer for longer than the bound.
        full: it takes nothing more.
        probe: ask it for a sign of life now.
    """

    stalled: bool
    full: bool
    probe: bool


class DiskWatch:
    """The judge of one disk.

    Args:
        bound_ns: how long a disk may take to answer.
    """

    __slots__ = ("_sign_ns", "_syncs", "bound_ns")

    def __init__(self, bound_ns: int, now_ns: int) -> None:
        self.bound_ns = bound_ns
        self._sign_ns = now_ns
        self._syncs = 0

    def look(self, facts: DiskFacts, now_ns: int) -> DiskVerdict:
        """Judge, and say whether to probe."""
        pending_ns = facts.oldest_pending_since_ns
        if facts.syncs != self._syncs:
            self._syncs, self._sign_ns = facts.syncs, now_ns
        idle = pending_ns is None and not facts.no_space
        stalled = (
            not facts.no_space and pending_ns is not None and now_ns - pending_ns > self.bound_ns
        )
        probe = idle and now_ns - self._sign_ns >= self.bound_ns // 4
        return DiskVerdict(stalled, facts.no_space, probe)
