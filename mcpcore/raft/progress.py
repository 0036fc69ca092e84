"""What a leader knows about one member: how far its log goes, and what is on its way to it.

This module exists so that replication, membership and snapshots share one account of a member. It
keeps that account; when something is sent is decided by them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from mcpcore.raft.catch_up import CatchUp
from mcpcore.raft.pacing import Pacer
from mcpcore.raft.windows import PromiseLedger


@dataclass(slots=True)
class Progress:
    """What a leader knows about one member.

    Args:
        match: highest index known to be durable there and equal to ours.
        next: first index not yet sent.
        probing: we do not know where the logs meet, so one append at a time is out.
        waiting: the probe is out.
        inflight: (last index, bytes, sent) of appends not yet answered, oldest first.
        promises: what it is asked to promise, and until when we count on it.
        contact_ns: when we *sent* the latest message that was answered; our own clock.
        commit_sent: the commit index the member was last told.
        session: number of this conversation; answers of an earlier one are dropped.
        stranger: its disk is not the one that was admitted: its answers count for nothing.
        catch_up: a learner's rounds; None for voters.
        round_trip_ns: smoothed time from a heartbeat to its answer; 0 before the first.
        awaits_snapshot: what comes next for it is gone from our log; nothing is appended until it
            has installed a snapshot.
        pacer: how fast what it missed may flow (``backlog``); None while nothing is missed.
        held_up: it takes nothing until an operator there has agreed (``reuniting``).
        snapshot_index: where the snapshot ends that is on its way to it; 0 if none is.
    """

    next: int
    contact_ns: int
    session: int
    promises: PromiseLedger
    match: int = 0
    probing: bool = True
    waiting: bool = False
    probe_sent_ns: int = 0
    inflight: deque[tuple[int, int, int]] = field(default_factory=deque)
    inflight_bytes: int = 0
    commit_sent: int = 0
    round: int = 0
    stranger: bool = False
    catch_up: CatchUp | None = None
    round_trip_ns: int = 0
    awaits_snapshot: bool = False
    snapshot_index: int = 0
    held_up: bool = False
    pacer: Pacer | None = None

    def probe(self) -> None:
        """Forget what is in flight, and find out where the logs meet."""
        self.probing, self.waiting, self.held_up = True, False, False
        self.pacer = None
        self.awaits_snapshot, self.snapshot_index = False, 0
        self.next = self.match + 1
        self.inflight.clear()
        self.inflight_bytes = 0

    def await_snapshot(self) -> None:
        """Append nothing any more; entries do not lead to where this member is."""
        self.probe()
        self.waiting = self.awaits_snapshot = True
