"""In doubt: a member whose disk lost part of its log, and what it still knows.

This module exists so that the facts about a damaged log have one shape, from the disk that finds
them to the core that acts on them. Plain values; the rules stand in ``mcpcore.raft.recall``. It
must never import the state, a disk or anything that acts.

What a damaged log leaves is a *prefix*, which is a log that this member really had once, and *runs*
of entries that it had further on; between and perhaps after them lies what it no longer knows.
"""

from __future__ import annotations

from typing import NamedTuple

from mcpcore.raft.types import MAX_UINT, Entry


class Doubt(NamedTuple):
    """What a member knows about the log that it lost.

    Args:
        term: the newest term it ever promised anything in; certain, or the member has forgotten.
        until: the highest index that it may ever have acknowledged; no lower bound is safe.
        open: whether what is missing may reach to the end of the log, so that ``until`` is only
            a bound and no entry stands behind the hole.
        runs: entries known to have stood behind a hole, oldest first, each run without holes.
    """

    term: int
    until: int
    open: bool
    runs: tuple[tuple[Entry, ...], ...] = ()

    @property
    def forgotten(self) -> bool:
        """Whether not even the term and the vote are certain: then no log can end the doubt."""
        return self.term == MAX_UINT


FORGOTTEN = Doubt(MAX_UINT, MAX_UINT, True)
"""The doubt of a member that may have promised anything to anybody."""


class Answer(NamedTuple):
    """What another member said to the latest question."""

    held: bool
    """It holds what follows our hole."""
    in_doubt: bool
    """It is in doubt itself, so it cannot vote either."""


class InDoubt:
    """A doubt that is being cleared. Volatile: a restart begins again from the ``Doubt``.

    ``number`` numbers the questions, so that an answer to an older one is not taken for one to
    this; it starts at random, so that neither is one to an earlier life.
    """

    __slots__ = (
        "answers",
        "due_ns",
        "fact",
        "leader_last",
        "leader_term",
        "mended",
        "number",
        "runs",
        "stuck",
        "stuck_since_ns",
    )

    def __init__(self, fact: Doubt, number: int, now_ns: int) -> None:
        self.fact = fact
        self.number = number
        self.runs = list(fact.runs)
        self.mended = False
        """Whether every hole was filled: the log is the one that was lost."""
        self.due_ns = now_ns
        self.answers: dict[str, Answer] = {}
        self.leader_term = self.leader_last = 0
        """How far a leader's log reached, asked in this life, and its term."""
        self.stuck = ""
        """Why nobody can help, if so."""
        self.stuck_since_ns = 0

    def check(self) -> None:
        """Every promise about a doubt, one per line."""
        before = 0
        for run in self.runs:
            assert run, "a run holds something"
            assert run[0].index > before, "runs do not overlap"
            before = run[-1].index
        assert self.fact.forgotten or before <= self.fact.until
