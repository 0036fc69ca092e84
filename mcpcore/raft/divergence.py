"""What a long cut did: where two logs part, what each side has beyond, and who was told what.

This module exists so that after a cut nobody has to piece the story together from two logs. It
compares and tells, as text and as JSON; it must never presume that the leader is right, nor change
anything.

Two logs are compared by their *runs*: entries of one term that follow each other. By the log
matching property (paper section 5.3) two logs that have the same term at an index are equal up to
there, so the common ancestor is found without looking at a single entry.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mcpcore.errors import InvalidInput
from mcpcore.raft.sessions import command_of
from mcpcore.raft.split import Verdict
from mcpcore.raft.types import Entry, EntryKind, LogPosition


class Run(NamedTuple):
    """Entries ``first`` to ``last``, all of one term."""

    term: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class LogOutline:
    """A log without its contents.

    Args:
        base: the last position that a snapshot covers.
        runs: in order, without holes, from ``base.index + 1`` on; terms only rise.

    Raises:
        InvalidInput: the runs are no log.
    """

    base: LogPosition
    runs: tuple[Run, ...]

    def __post_init__(self) -> None:
        term, following = self.base.term, self.base.index + 1
        for number, run in enumerate(self.runs):
            if run.first != following or run.last < run.first or run.term < term + (number > 0):
                raise InvalidInput(
                    f"{run} cannot follow term {term}, index {following - 1}", where="log outline"
                )
            term, following = run.term, run.last + 1

    @classmethod
    def of(cls, base: LogPosition, entries: Iterable[Entry]) -> LogOutline:
        """The outline of entries that follow ``base``."""
        runs: list[Run] = []
        for entry in entries:
            if runs and runs[-1].term == entry.term:
                runs[-1] = runs[-1]._replace(last=entry.index)
            else:
                runs.append(Run(entry.term, entry.index, entry.index))
        return cls(base, tuple(runs))

    @property
    def last(self) -> LogPosition:
        """Where the log ends."""
        return LogPosition(self.runs[-1].term, self.runs[-1].last) if self.runs else self.base

    def beyond(self, index: int) -> tuple[Run, ...]:
        """What the log has after ``index``."""
        return tuple(
            run._replace(first=max(run.first, index + 1)) for run in self.runs if run.last > index
        )


def common_ancestor(ours: LogOutline, theirs: LogOutline) -> LogPosition | None:
    """The last position that both logs share; None if it lies in a snapshot of either.

    Entries that one side has in its snapshot and the other in its log cannot be compared by terms;
    they are committed, so they are equal, but only where the log reaches down to the snapshot.
    """
    best: LogPosition | None = None
    for run in ours.runs:
        for other in theirs.runs:
            last = min(run.last, other.last)
            if run.term == other.term and last >= max(run.first, other.first):
                best = LogPosition(run.term, last)
    if best is not None:
        return best
    for one, other_log in ((ours, theirs), (theirs, ours)):
        at = one.base
        held = [run for run in other_log.runs if run.first <= at.index <= run.last]
        if other_log.base == at or (held and held[0].term == at.term):
            return at
    return None


class Side(NamedTuple):
    """One of the two logs beyond the common ancestor.

    Args:
        node: whose log.
        runs: what it has beyond.
        committed: up to which index it knew its log to be committed.
        acknowledged: per member, up to which index it acknowledged this side's log, as far as
            this side was told; itself included.
        unanswered: (session, sequence) of clients' commands beyond the ancestor.
    """

    node: str
    runs: tuple[Run, ...]
    committed: int
    acknowledged: Mapping[str, int]
    unanswered: tuple[tuple[int, int], ...] = ()

    @property
    def entries(self) -> int:
        """How many entries lie beyond the ancestor."""
        return sum(run.last - run.first + 1 for run in self.runs)


def unanswered_commands(entries: Iterable[Entry]) -> tuple[tuple[int, int], ...]:
    """Whose commands these entries carry, by (session, sequence).

    Entries that were truncated were never committed, so none of their clients got an answer from
    this side.
    """
    found = []
    for entry in entries:
        if entry.kind == EntryKind.SESSION:
            command = command_of(entry.data)
            if command is not None:
                found.append((command.session, command.sequence))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class DivergenceReport:
    """What a cut did to one group, as seen when the two sides met again.

    Args:
        ancestor: the last common position; None if snapshots cover it.
        ours, theirs: the two suffixes.
        began_ns, ended_ns: of the cut, on this node's monotonic clock.
        history: this node's verdicts meanwhile.
    """

    group: str
    ancestor: LogPosition | None
    ours: Side
    theirs: Side
    began_ns: int
    ended_ns: int
    history: tuple[Verdict, ...] = ()

    @property
    def conflict(self) -> str:
        """Whether both sides hold something committed that the other lacks: that must never be.

        Empty if all is as Raft promises. Nobody is presumed right.
        """
        if self.ancestor is None:
            return ""
        beyond = [
            f"{side.node} up to {side.committed}"
            for side in (self.ours, self.theirs)
            if side.runs and side.committed > self.ancestor.index
        ]
        if len(beyond) < 2:
            return ""
        return (
            f"both sides hold committed entries beyond index {self.ancestor.index} "
            f"({' and '.join(beyond)}): one of them has lost what its disk had promised. Stop "
            "both, keep the disks, and compare the machines' states"
        )

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        ancestor = self.ancestor
        return {
            "group": self.group,
            "ancestor": None if ancestor is None else list(ancestor),
            "duration_s": (self.ended_ns - self.began_ns) / 1e9,
            "conflict": self.conflict,
            "sides": [_side_dict(side) for side in (self.ours, self.theirs)],
            "history": [
                {
                    "state": verdict.state.value,
                    "after_s": (verdict.since_ns - self.began_ns) / 1e9,
                    "sentence": verdict.sentence,
                }
                for verdict in self.history
            ],
        }

    def to_json(self) -> str:
        """One object."""
        return json.dumps(self.as_dict(), indent=2)

    def text(self) -> str:
        """For people."""
        if self.ancestor is None:
            meet = "where they part is covered by a snapshot"
        else:
            meet = f"equal up to index {self.ancestor.index} (term {self.ancestor.term})"
        duration_s = (self.ended_ns - self.began_ns) / 1e9
        lines = [f"group {self.group}: cut for {duration_s:.1f} s; the logs are {meet}"]
        if self.conflict:
            lines.append(f"  CONFLICT: {self.conflict}")
        for side in (self.ours, self.theirs):
            lines.append(
                f"  {side.node} has {side.entries} entries beyond ({_runs_text(side.runs)}), "
                f"committed up to {side.committed}"
            )
            for member, index in sorted(side.acknowledged.items()):
                lines.append(f"    acknowledged by {member} up to {index}")
            if side.unanswered:
                named = ", ".join(f"{session}/{number}" for session, number in side.unanswered[:10])
                more = len(side.unanswered) - 10
                lines.append(
                    f"    {len(side.unanswered)} commands without an answer (session/sequence): "
                    + named
                    + (f" and {more} more" if more > 0 else "")
                )
        for verdict in self.history:
            after_s = (verdict.since_ns - self.began_ns) / 1e9
            lines.append(f"  {after_s:+9.1f} s  {verdict.state.value}: {verdict.sentence}")
        return "\n".join(lines)


def _runs_text(runs: Sequence[Run]) -> str:
    if not runs:
        return "nothing"
    return ", ".join(f"{run.first}..{run.last} of term {run.term}" for run in runs)


def _side_dict(side: Side) -> dict[str, object]:
    return {
        "node": side.node,
        "runs": [list(run) for run in side.runs],
        "entries": side.entries,
        "committed": side.committed,
        "acknowledged": dict(side.acknowledged),
        "unanswered": [list(command) for command in side.unanswered],
    }
