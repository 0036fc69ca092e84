"""Contact is back: what now? Replay the log, send a snapshot, or ask a person.

This module exists so that the decision to reunite is one function of plain numbers, shown to an
operator before it is carried out, in the same words. It decides and explains; it must never send
anything. How fast the missing state may then flow is the neighbouring ``pacing``.

Raft alone would always go on by itself, and lose nothing that was committed. A person is asked for
another reason: a large gap after a split means that two sides lived apart for long, that the
smaller one may have told clients things that will not come true, and that somebody should look
before the traces are overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from mcpcore.errors import InvalidInput, ReunionRefused
from mcpcore.raft.split import SplitState
from mcpcore.raft.types import LogPosition


class ReunionKind(Enum):
    """What to do."""

    NOTHING = "nothing"
    """The logs are equal."""
    LOG_REPLAY = "log replay"
    """Send the entries that are missing; truncate what conflicts."""
    SNAPSHOT = "snapshot"
    """Send the state: the entries are gone, or are more bytes than the state."""
    INTERVENTION = "intervention"
    """Nothing, until an operator answers."""


class Intervene(Enum):
    """When a gap beyond the limit needs a person."""

    AFTER_SPLIT = "after split"
    """Only if this member's verdict was ``split``: it missed entries while it was cut off for
    long. A member that was merely restarted or read-only is helped without asking."""
    WHEN_SPLIT_LOSES = "when split loses"
    """Only if this member's verdict was ``split`` *and* that many entries of its own would be
    truncated. What it merely missed is nothing to ask a person about: it is there, and comes."""
    WHEN_DIVERGED = "when diverged"
    """Only if entries of ours would be truncated."""
    ALWAYS = "always"
    """Whenever the gap is that large, however it came about."""
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class ReunionSettings:
    """The limits of reunion.

    Args:
        commit_index_gap: the same number as the split detector's.
        intervention_factor: an operator decides from this many times the gap on (default: 2).
        intervene: in which cases at all.

    Raises:
        InvalidInput: a limit makes no sense, by name.
    """

    commit_index_gap: int = 100
    intervention_factor: float = 2.0
    intervene: Intervene = Intervene.WHEN_SPLIT_LOSES

    def __post_init__(self) -> None:
        if type(self.commit_index_gap) is not int or self.commit_index_gap < 0:
            raise InvalidInput(
                f"must be a whole number from 0 up, not {self.commit_index_gap!r}",
                where="commit_index_gap",
            )
        factor = self.intervention_factor
        if type(factor) not in (int, float) or not 0 < factor < 1e6:
            raise InvalidInput(f"must be positive, not {factor!r}", where="intervention_factor")

    @property
    def intervention_entries(self) -> int:
        """The gap from which on an operator decides."""
        return int(self.intervention_factor * self.commit_index_gap)


@dataclass(frozen=True, slots=True)
class Gap:
    """What lies between this member and the leader, when they met again.

    Args:
        ours: where our log ends; ``commit``: what of it we know to be committed.
        theirs: where the leader's log ends; ``their_first`` is the oldest entry it still has.
        ancestor: the last position that both logs share; our commit if that is not known yet.
        entry_bytes: size of the entries between the ancestor and the leader's end.
        snapshot: the index of the leader's snapshot (0: it has none) and its size.
        verdict: this member's verdict before contact came back.
        bytes_per_s: what the link has shown to carry; 0 if unknown.
    """

    group: str
    node: str
    commit: int
    ours: LogPosition
    theirs: LogPosition
    their_first: int
    ancestor: LogPosition
    entry_bytes: int = 0
    snapshot_index: int = 0
    snapshot_bytes: int = 0
    verdict: SplitState = SplitState.HEALTHY
    bytes_per_s: int = 0

    @property
    def entries(self) -> int:
        """How far the longer log goes beyond what we committed: the article's delta index."""
        return max(self.ours.index, self.theirs.index) - self.commit

    @property
    def to_get(self) -> int:
        """Entries that we miss."""
        return max(0, self.theirs.index - self.ancestor.index)

    @property
    def to_lose(self) -> int:
        """Entries of ours that the leader does not have; they go to quarantine."""
        return max(0, self.ours.index - self.ancestor.index)

    @property
    def episode(self) -> str:
        """Names this reunion: it stays the same while the leader goes on writing."""
        return f"{self.group}/{self.node}/{self.commit}.{self.ours.term}.{self.ours.index}"


class Answer(NamedTuple):
    """An operator's answer: this reunion, and no other, may go ahead.

    Args:
        episode: from the plan that was shown.
        by: who answered, for the record.
        snapshot: send a snapshot, whatever would be shorter.
    """

    episode: str
    by: str
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done, or would be done after an answer."""

    kind: ReunionKind
    reason: str
    gap: Gap
    planned: ReunionKind
    """What follows once an operator has agreed; equal to ``kind`` where nobody is asked."""
    bytes_to_send: int
    takes_s: float | None
    limit_entries: int

    @property
    def refused(self) -> ReunionRefused | None:
        """The error for whoever asks for this reunion without the operator's answer."""
        if self.kind is not ReunionKind.INTERVENTION:
            return None
        return ReunionRefused(self.gap.group, self.gap.entries, self.limit_entries)

    def text(self) -> str:
        """The plan for an operator."""
        gap = self.gap
        takes = "unknown" if self.takes_s is None else f"about {self.takes_s:.1f} s"
        lines = [
            f"reunion {gap.episode}: {self.kind.value}",
            f"  why        {self.reason}",
            f"  ours       ends at {_at(gap.ours)}, committed up to {gap.commit}",
            f"  leader's   ends at {_at(gap.theirs)}, kept from index {gap.their_first}",
            f"  in common  up to {_at(gap.ancestor)}",
            f"  to fetch   {gap.to_get} entries by {self.planned.value}, "
            f"{self.bytes_to_send} bytes, {takes}",
            f"  to lose    {gap.to_lose} entries of ours"
            + (", kept in quarantine" if gap.to_lose else ""),
        ]
        return "\n".join(lines)


def decide(gap: Gap, settings: ReunionSettings, answer: Answer | None = None) -> Plan:
    """What to do about a gap. Gaps below the limit never need an answer.

    Raises:
        InvalidInput: the answer belongs to another reunion, or the numbers contradict each other.
    """
    _believe(gap)
    if answer is not None and answer.episode != gap.episode:
        raise InvalidInput(
            f"the answer is for {answer.episode!r}, this is {gap.episode!r}",
            where="reunion",
            remedy="Look at the present plan and answer that one",
        )
    planned, why, size = _cheapest(gap, answer)
    takes_s = size / gap.bytes_per_s if gap.bytes_per_s else None
    limit = settings.intervention_entries
    kind = planned
    if planned is not ReunionKind.NOTHING and gap.entries >= limit and _asks(gap, settings):
        if answer is None:
            kind = ReunionKind.INTERVENTION
            why = (
                f"{gap.entries} entries lie between the two sides; from {limit} on "
                f"({settings.intervention_factor:g} x {settings.commit_index_gap}) an operator "
                "decides"
            )
        else:
            why = f"{why}; {answer.by} agreed"
    return Plan(kind, why, gap, planned, size, takes_s, limit)


def _asks(gap: Gap, settings: ReunionSettings) -> bool:
    match settings.intervene:
        case Intervene.ALWAYS:
            return True
        case Intervene.AFTER_SPLIT:
            return _was_split(gap)
        case Intervene.WHEN_SPLIT_LOSES:
            return _was_split(gap) and gap.to_lose >= settings.intervention_entries
        case Intervene.WHEN_DIVERGED:
            return gap.to_lose > 0
        case Intervene.NEVER:
            return False


def _was_split(gap: Gap) -> bool:
    return gap.verdict in (SplitState.SPLIT, SplitState.INTERVENTION)


def _cheapest(gap: Gap, answer: Answer | None) -> tuple[ReunionKind, str, int]:
    if gap.ours == gap.theirs:
        return ReunionKind.NOTHING, "the logs are equal", 0
    if gap.ancestor.index + 1 < gap.their_first:
        why = f"the entries from {gap.ancestor.index + 1} on are no longer in the leader's log"
        return ReunionKind.SNAPSHOT, why, gap.snapshot_bytes
    usable = gap.snapshot_index > gap.ancestor.index
    if answer is not None and answer.snapshot and usable:
        return ReunionKind.SNAPSHOT, "asked for by the operator", gap.snapshot_bytes
    if usable and gap.snapshot_bytes < gap.entry_bytes:
        why = f"a snapshot of {gap.snapshot_bytes} bytes is less than {gap.entry_bytes} of entries"
        return ReunionKind.SNAPSHOT, why, gap.snapshot_bytes
    return ReunionKind.LOG_REPLAY, f"{gap.to_get} entries are missing", gap.entry_bytes


def _believe(gap: Gap) -> None:
    if not (
        0 <= gap.commit <= gap.ancestor.index <= min(gap.ours.index, gap.theirs.index)
        and gap.their_first <= gap.theirs.index + 1
        and gap.snapshot_index <= gap.theirs.index
        and min(gap.entry_bytes, gap.snapshot_bytes, gap.bytes_per_s, gap.snapshot_index) >= 0
    ):
        raise InvalidInput(
            f"commit {gap.commit}, logs that end at {gap.ours.index} and {gap.theirs.index}, in "
            f"common up to {gap.ancestor.index}, the leader's kept from {gap.their_first}",
            where=f"reunion of {gap.node} with group {gap.group}",
            remedy="A committed entry that one log lacks was lost: do not reunite, find out why",
        )
    if gap.ancestor.index + 1 < gap.their_first and gap.snapshot_index < gap.their_first - 1:
        raise InvalidInput(
            f"entries before {gap.their_first} are gone and no snapshot covers them",
            where=f"reunion of {gap.node} with group {gap.group}",
        )


def _at(position: LogPosition) -> str:
    return f"index {position.index} (term {position.term})"


class Chunk(NamedTuple):
    """A part of a snapshot that can be installed by itself.

    Args:
        key: which part.
        changed_index: the latest entry that changed it.
        size_bytes: how large it is.
    """

    key: bytes
    changed_index: int
    size_bytes: int


def newest_first(chunks: Iterable[Chunk]) -> list[Chunk]:
    """The order in which to send a snapshot's parts, if the machine can install them in any.

    What changed last is what clients ask for first, and what is most likely to have changed during
    the cut. Log entries are never reordered.
    """
    return sorted(chunks, key=lambda chunk: (-chunk.changed_index, chunk.key))
