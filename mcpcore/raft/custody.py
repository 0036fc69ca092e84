"""Who answers for an entry that leaves the log: what is truncated is handed over, never dropped.

This module exists so that one rule has one home: *no entry leaves a log but as part of a snapshot,
or into the hands of the driver, together with the write that makes its going durable.* The driver
keeps it in quarantine first and stores the write afterwards; a crash in between leaves the entry in
both places, and it is handed over again. It must never decide what is truncated.

A snapshot takes the place of a whole log, and of some entries below its end this member cannot tell
whether the snapshot contains them. Those are handed over as ``covered``: they may well have been
committed. It can tell more often than one thinks: an entry of the snapshot's own last term was
made by the leader that made the snapshot's last entry, so it is contained (section 5.3, the log
matching property), and all entries before it with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mcpcore.raft.log import RaftLog
from mcpcore.raft.types import Entry, LogPosition

_LEADERS_MAX = 64


class Dropped(NamedTuple):
    """One entry that leaves the log without having been committed here.

    Args:
        origin: the leader of the entry's term, which accepted it; empty if it is not known.
        replaced_by: the leader whose log takes its place.
        covered: a snapshot takes its place, and may contain it.
    """

    entry: Entry
    origin: str
    replaced_by: str
    covered: bool = False


class Custody:
    """The entries that left one member's log since the last write, and who led which term."""

    __slots__ = ("_dropped", "_leaders", "acknowledged")

    def __init__(self) -> None:
        self._dropped: list[Dropped] = []
        self._leaders: dict[int, str] = {}
        self.acknowledged: dict[str, int] = {}
        """When this member last laid down office: up to which index each member held its log."""

    def led(self, term: int, leader: str) -> None:
        """``leader`` leads ``term``; of old terms the oldest are forgotten."""
        leaders = self._leaders
        if term not in leaders:
            leaders[term] = leader
            if len(leaders) > _LEADERS_MAX:
                del leaders[min(leaders)]

    def leader_of(self, term: int) -> str:
        """Who led that term, as far as this member remembers; else empty."""
        return self._leaders.get(term, "")

    def truncated(self, entries: Iterable[Entry], leader: str) -> None:
        """Entries of ours that conflict with those of ``leader``."""
        self._dropped += [Dropped(entry, self.leader_of(entry.term), leader) for entry in entries]

    def replaced(self, log: RaftLog, position: LogPosition, commit: int, leader: str) -> None:
        """A snapshot up to ``position`` takes the place of all of ``log``, of which it does not
        match the end; up to ``commit`` it is known to contain it.
        """
        kept = commit
        meet = log.last_position_at_most(position.index, position.term)
        if meet.term == position.term:
            kept = max(kept, meet.index)
        for entry in log.entries(max(kept, log.base.index) + 1, log.last_index):
            covered = entry.index <= position.index and entry.term < position.term
            origin = self.leader_of(entry.term)
            self._dropped.append(Dropped(entry, origin, leader, covered))

    def hand_over(self) -> tuple[Dropped, ...]:
        """What left the log since the last call."""
        if not self._dropped:
            return ()
        dropped, self._dropped = tuple(self._dropped), []
        return dropped
