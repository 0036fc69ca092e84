"""What a damaged log still proves, group by group.

This module exists so that "what do I know, and what do I not know" is answered in one place, by
folding what a ``SalvageScan`` found. Pure: pieces in, findings out. No file may be touched here,
and nothing may be guessed: where a record is lost, all that it could have changed is in doubt.

- A log as it stood before a loss is a log that this member really had once (a *prefix*).
- Lost entries from index i on may have replaced everything from i on. What is appended later at or
  below i has replaced all of them, and the loss is healed. What is appended above i begins a new
  *run*: sound, but what stands right before it is not known, even if the indexes touch.
- A term and vote are certain if a sound record of them, or of the group's whole state, follows the
  last loss that could have held one.

The policy (``Finding.verdict``), and why it is safe:

- *Untouched* groups are served as if nothing had happened: no lost record was theirs.
- A group whose term and vote are certain comes back **in doubt**: it keeps every promise about
  terms and votes, since it knows them, and does not vote before its log is certain again
  (``mcpcore.raft.recall`` has the argument).
- A group whose term and vote are not certain has **forgotten**: it may have voted for anybody in a
  term that it does not remember. No log can give that back, so it begins again, empty, and takes no
  part until it is admitted as a new member under the node's new incarnation.

Source: Alagappan et al., FAST 2018: "metainfo" cannot be had from peers, so there are two copies of
it (here the echo in the next batch); log entries can.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from mcpcore.node.storage.log_image import (
    BaseMoved,
    DoubtEnded,
    Echo,
    EntriesAppended,
    EntriesNoted,
    GroupRecorded,
    GroupRetired,
    GroupState,
    HardStateSaved,
    RunKept,
    advance,
)
from mcpcore.node.storage.salvage_scan import Damage, Item, LostBatches, Piece
from mcpcore.node.storage.wal_format import (
    BASE,
    DOUBT_ENDED,
    ENTRIES,
    GROUP,
    HARD_STATE,
    Unreadable,
)
from mcpcore.raft.doubt import FORGOTTEN, Doubt
from mcpcore.raft.types import MAX_UINT, Entry, HardState, LogPosition


class Verdict(StrEnum):
    """How a group comes back."""

    SOUND = "sound"
    """Nothing of it was lost."""
    IN_DOUBT = "in doubt"
    """Entries were lost; it does not vote until it holds them again."""
    FORGOTTEN = "forgotten"
    """Its term and vote were lost; it takes no part until it is admitted anew."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one group.

    Args:
        number: the group's number in this log.
        state: everything but its entries; the term and vote are the newest known.
        certain: whether that term and vote are certainly the newest.
        prefix: entries from its base on, a log that it really had.
        runs: entries that it had further on.
        open: whether entries may be lost at the end, behind everything that is known.
        until: the highest index that it may have acknowledged; ``MAX_UINT`` if no bound is known.
    """

    number: int
    state: GroupState
    certain: bool
    prefix: tuple[Entry, ...]
    runs: tuple[tuple[Entry, ...], ...]
    open: bool
    until: int

    @property
    def verdict(self) -> Verdict:
        """What follows from it; the policy of this module."""
        if not self.certain:
            return Verdict.FORGOTTEN
        return Verdict.IN_DOUBT if self.doubt is not None else Verdict.SOUND

    @property
    def doubt(self) -> Doubt | None:
        """The doubt in which the group comes back."""
        if not self.certain:
            return FORGOTTEN
        if not self.runs and not self.open:
            return self.state.doubt
        before = self.state.doubt
        is_open = self.open or (before is not None and before.open)
        until = max(self.until, before.until if before is not None else 0)
        return Doubt(self.state.hard_state.term, until, is_open, self.runs)

    @property
    def last_known(self) -> LogPosition:
        """The position of the last entry that is known, wherever it stands."""
        for entries in (*reversed(self.runs), self.prefix):
            if entries:
                return LogPosition(entries[-1].term, entries[-1].index)
        return self.state.base

    def missing(self) -> list[tuple[int, int | None]]:
        """Ranges of indexes that are not known, first and last; None: unknown how far."""
        ranges: list[tuple[int, int | None]] = []
        next_index = self.state.base.index + len(self.prefix) + 1
        for run in self.runs:
            if run[0].index > next_index:
                ranges.append((next_index, run[0].index - 1))
            next_index = run[-1].index + 1
        if self.open:
            ranges.append((next_index, self.until if self.until < MAX_UINT else None))
        return ranges


@dataclass(frozen=True, slots=True)
class Salvage:
    """What a damaged log still proves.

    Args:
        findings: the live groups.
        retired: groups of which only term and vote are kept.
        damages: every place that is not what it was.
        names_lost: whether groups may have lived here whose very names are lost.
    """

    findings: tuple[Finding, ...]
    retired: tuple[tuple[int, GroupState], ...]
    damages: tuple[Damage, ...]
    names_lost: bool

    @property
    def forgotten(self) -> bool:
        """Whether any promise was forgotten, so that the node needs a new incarnation."""
        return self.names_lost or any(not finding.certain for finding in self.findings)


class _Run:
    """Entries each of which is known to follow the one before."""

    __slots__ = ("entries", "unsure_from")

    def __init__(self, entries: Iterable[Entry], unsure_from: int) -> None:
        self.entries = list(entries)
        self.unsure_from = unsure_from
        """The lowest index that what was lost right before this run may have changed."""


class _Group:
    """One group while its records are folded."""

    __slots__ = ("certain", "from_index", "kept", "lost_until", "prefix", "runs")

    def __init__(self) -> None:
        self.certain = True
        self.prefix: list[Entry] = []
        self.runs: list[_Run] = []
        self.from_index: int | None = None
        """The lowest index that lost records may have changed, since the last run was begun."""
        self.lost_until = 0
        """The highest index among lost entries; ``MAX_UINT`` if unknown."""
        self.kept: list[tuple[Entry, ...]] = []
        """Runs kept from an earlier damage."""

    def cut(self, index: int) -> None:
        """Drop everything from ``index`` on. A hole before a run that goes becomes the end."""
        for entries in (self.prefix, *(run.entries for run in self.runs)):
            if entries and entries[-1].index >= index:
                del entries[max(0, index - entries[0].index) :]
        for run in self.runs:
            if not run.entries:
                self.from_index = min(run.unsure_from, self.from_index or run.unsure_from)
        self.runs = [run for run in self.runs if run.entries]

    def append(self, new: tuple[Entry, ...], base: int) -> None:
        first = new[0].index
        self.cut(first)
        if self.from_index is not None and first > self.from_index:
            self.drop_unsure_runs()
            self.runs.append(_Run(new, self.from_index))
        else:
            end = self.runs[-1].entries if self.runs else self.prefix
            last_index = end[-1].index if end else base
            if first == last_index + 1:
                end.extend(new)
            else:
                self.runs.append(_Run(new, last_index + 1))
        self.from_index, self.lost_until = None, 0

    def drop_unsure_runs(self) -> None:
        """Forget runs that lost entries may have replaced; the prefix stays a log of the past."""
        if self.from_index is not None:
            limit = self.from_index
            self.runs = [run for run in self.runs if run.entries[-1].index < limit]

    def lose(self, first: int, until: int) -> None:
        """Entries from ``first`` on, up to ``until`` at most, were stored and are lost."""
        self.from_index = min(first, self.from_index or first)
        self.lost_until = max(self.lost_until, until) if self.lost_until < MAX_UINT else MAX_UINT

    def move_base(self, base: int, *, suffix_kept: bool) -> None:
        if not suffix_kept:
            self.prefix, self.runs, self.kept = [], [], []
            self.from_index, self.lost_until = None, 0
            return
        for entries in (self.prefix, *(run.entries for run in self.runs)):
            if entries and entries[0].index <= base:
                del entries[: base - entries[0].index + 1]
        self.runs = [run for run in self.runs if run.entries]
        if not self.prefix and self.runs and self.runs[0].entries[0].index == base + 1:
            self.prefix = self.runs.pop(0).entries  # it follows the snapshot, which is certain
        if self.from_index is not None:
            self.from_index = max(self.from_index, base + 1)


class _Fold:
    def __init__(self) -> None:
        self.states: dict[int, GroupState] = {}
        self.groups: dict[int, _Group] = {}
        self.names_lost = False
        self.anything_lost = False

    def take(self, piece: Piece) -> None:
        for item in piece.items:
            self._take_item(item, repeats=piece.head_of_segment)
        if piece.head_of_segment and (piece.damage is None or piece.damage.resolved):
            # It tells of every group there is, so whatever is not named here does not exist.
            self.names_lost = False
            for number in self.groups.keys() - self.states.keys():
                del self.groups[number]

    def _take_item(self, item: Item, *, repeats: bool) -> None:
        if isinstance(item, Echo):
            return
        if isinstance(item, LostBatches):
            self.names_lost = self.anything_lost = True
            for number, known in self.states.items():
                self._group(number).certain = False
                self._group(number).lose(known.base.index + 1, MAX_UINT)
            return
        group, state = self._group(item.group), self.states.get(item.group)
        if isinstance(item, Unreadable):
            if not (repeats and item.kind == GROUP and state is not None):
                self._lose(item, group, state)
            return
        if isinstance(item, GroupRecorded):
            if state is not None and state.live and state.base != item.state.base:
                group.move_base(item.state.base.index, suffix_kept=False)
                group.lose(item.state.base.index + 1, MAX_UINT)
            if state is None and repeats and self.anything_lost:
                group.lose(item.state.base.index + 1, MAX_UINT)  # it lived before that
            self.states[item.group] = item.state
            group.certain = True
            return
        if state is None or not state.live:
            self.names_lost = True  # its creation is lost
            return
        if isinstance(item, EntriesAppended):
            group.append(item.block.entries, state.base.index)
        elif isinstance(item, EntriesNoted):
            group.cut(item.first_index)
            group.lose(item.first_index, item.last_index)
        else:
            advance(self.states, item)
            if isinstance(item, HardStateSaved):
                group.certain = True
            elif isinstance(item, BaseMoved):
                group.move_base(item.base.index, suffix_kept=item.suffix_kept)
            elif isinstance(item, RunKept):
                group.kept.append(item.block.entries)
            elif isinstance(item, DoubtEnded):
                group.kept = []
            else:
                assert isinstance(item, GroupRetired)
                self.groups.pop(item.group)

    def _lose(self, item: Unreadable, group: _Group, state: GroupState | None) -> None:
        if state is None or not state.live:
            self.names_lost = True
            return
        if item.kind == ENTRIES:
            group.cut(item.index)
            group.lose(item.index, MAX_UINT)
        elif item.kind == HARD_STATE:
            group.certain = False
        elif item.kind == BASE:
            # A snapshot took the place of the log up to there, or of all of it.
            group.cut(item.index + 1)
            group.lose(state.base.index + 1, MAX_UINT)
        elif item.kind != DOUBT_ENDED:
            # It ended, or a run of an earlier doubt is lost.
            group.certain = group.certain and item.kind != GROUP
            group.lose(state.base.index + 1, MAX_UINT)

    def _group(self, number: int) -> _Group:
        return self.groups.setdefault(number, _Group())

    def findings(self) -> Iterable[Finding]:
        for number, state in self.states.items():
            if state.live:
                yield _finding(number, state, self._group(number))


def _finding(number: int, state: GroupState, group: _Group) -> Finding:
    group.drop_unsure_runs()
    prefix, runs = tuple(group.prefix), [tuple(run.entries) for run in group.runs]
    if prefix and prefix[0].index != state.base.index + 1:
        prefix, runs = (), [prefix, *runs]
    known_to = prefix[-1].index if prefix else state.base.index
    is_open = group.from_index is not None
    if state.doubt is not None:
        if runs or is_open:
            runs, is_open = [], True  # damaged twice: the others know better
        else:
            runs = [run for run in group.kept if run[0].index > known_to]
    last = runs[-1][-1].index if runs else known_to
    until = max(last, group.lost_until) if is_open else last
    if state.doubt is not None:
        until = max(until, state.doubt.until)
    return Finding(number, state, group.certain, prefix, tuple(runs), is_open, until)


def salvage(pieces: Iterable[Piece], *, names_lost: bool = False) -> Salvage:
    """Fold the pieces of a damaged log into what it still proves.

    Args:
        names_lost: whether it was known before that groups may be lost by name.
    """
    fold = _Fold()
    damages = []
    for piece in pieces:
        fold.take(piece)
        if piece.damage is not None:
            damages.append(piece.damage)
    findings = tuple(fold.findings())
    retired = tuple((number, state) for number, state in fold.states.items() if not state.live)
    return Salvage(findings, retired, tuple(damages), fold.names_lost or names_lost)


def begin_again(finding: Finding) -> tuple[GroupState, tuple[Entry, ...], Doubt | None]:
    """What of a group goes into the log that is written anew."""
    if finding.certain:
        return finding.state, finding.prefix, finding.doubt
    # Its first configuration is all that is kept: who it was, not what it held or promised.
    state = finding.state._replace(hard_state=HardState(), base=LogPosition(0, 0))
    return state, (), FORGOTTEN
