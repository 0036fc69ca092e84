"""The log of one member, in memory (section 5.3).

This module exists so that positions, slices and truncation are right in one place. It must never
decide *whether* to truncate; it only refuses to do it where that would break a promise. The disk
has its own copy; this one is what the protocol looks at.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from mcpcore.raft.types import EMPTY_BLOCK, Block, Entry, LogPosition

START = LogPosition(0, 0)
"""Before the first entry."""

ENTRY_OVERHEAD_BYTES = 16
"""What an entry costs on the wire beside its data; an estimate, used for size limits only."""

_new = tuple.__new__  # 0.2 us less per proposal than calling the class


class RaftLog:
    """Consecutive entries after ``base``, the last position a snapshot covers."""

    __slots__ = ("_entries", "_memo", "_run_starts", "_run_terms", "base")

    def __init__(self, base: LogPosition = START, entries: Sequence[Entry] = ()) -> None:
        self.base = base
        self._entries: list[Entry] = []
        # Runs of equal terms: where each starts. Back-tracking jumps over whole runs with them.
        self._run_starts: list[int] = []
        self._run_terms: list[int] = []
        self._memo: tuple[int, int, Block] = (0, 0, EMPTY_BLOCK)
        self.append(entries)

    @property
    def last_index(self) -> int:
        """Index of the last entry, or of the base if there is none."""
        return self.base.index + len(self._entries)

    @property
    def last(self) -> LogPosition:
        """Where the log ends."""
        if self._entries:
            entry = self._entries[-1]
            return LogPosition(entry.term, entry.index)
        return self.base

    def term_at(self, index: int) -> int | None:
        """The term of an entry, or None if ``index`` lies outside [base, last]."""
        offset = index - self.base.index - 1
        if 0 <= offset < len(self._entries):
            return self._entries[offset].term
        return self.base.term if offset == -1 else None

    def entry(self, index: int) -> Entry:
        """One entry that must be there."""
        assert self.base.index < index <= self.last_index, (index, self)
        return self._entries[index - self.base.index - 1]

    def entries(self, first: int, last: int) -> list[Entry]:
        """The entries ``first`` to ``last``, both included."""
        assert self.base.index < first <= last + 1 <= self.last_index + 1, (first, last, self)
        start = first - self.base.index - 1
        return self._entries[start : start + last - first + 1]

    def size_bytes(self, first: int, last: int) -> int:
        """What the entries ``first`` to ``last`` weigh."""
        entries = self.entries(first, last)
        return sum([len(entry[3]) for entry in entries]) + ENTRY_OVERHEAD_BYTES * len(entries)

    def limit(self, first: int, last: int, max_bytes: int) -> int:
        """The largest index up to ``last`` such that ``first`` to it weigh at most ``max_bytes``.

        Never less than ``first``: one entry always fits, or a large one would block for ever.
        """
        if self.size_bytes(first, last) <= max_bytes:  # as a rule: 40 ns for each entry, not 200
            return last
        size = 0
        for entry in self.entries(first, last):
            size += len(entry.data) + ENTRY_OVERHEAD_BYTES
            if size > max_bytes and entry.index > first:
                return entry.index - 1
        return last

    def block(self, first: int, last: int) -> Block:
        """The entries ``first`` to ``last`` as a block.

        The latest block is remembered: a leader asks for the same range once per follower and
        once for its own disk, and it must be encoded only once.
        """
        if first > last:
            return EMPTY_BLOCK
        memo = self._memo
        if memo[0] == first and memo[1] == last:
            return memo[2]
        block = Block(tuple(self.entries(first, last)))
        self._memo = (first, last, block)
        return block

    def append_one(self, term: int, kind: int, data: bytes) -> Entry:
        """Add one entry at the end, as its leader does; returns it."""
        entry = _new(Entry, (term, self.base.index + len(self._entries) + 1, kind, data))
        if self._run_terms and self._run_terms[-1] == term:
            self._entries.append(entry)
        else:
            self.append((entry,))
        return entry

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries at the end."""
        if entries and self._run_terms:
            first, last = entries[0], entries[-1]
            if first.index == self.last_index + 1 and (
                first.term == last.term == self._run_terms[-1]
            ):
                # Of one term, and that our last: nothing to note. 0.3 us less for each entry.
                assert last.index - first.index == len(entries) - 1, "a hole between entries"
                self._entries.extend(entries)
                return
        last_term, next_index = self.last.term, self.last_index + 1
        for entry in entries:
            assert entry.index == next_index, f"a hole: {entry.index} after {next_index - 1}"
            assert entry.term >= last_term, f"terms never go back: {entry.term} < {last_term}"
            if entry.term != last_term or not self._run_terms:
                self._run_starts.append(entry.index)
                self._run_terms.append(entry.term)
                last_term = entry.term
            next_index += 1
        self._entries.extend(entries)

    def truncate_from(self, index: int) -> None:
        """Drop the entry at ``index`` and all after it."""
        assert self.base.index < index, f"{index} is part of the snapshot at {self.base}"
        del self._entries[index - self.base.index - 1 :]
        while self._run_starts and self._run_starts[-1] >= index:
            self._run_starts.pop()
            self._run_terms.pop()
        self._memo = (0, 0, EMPTY_BLOCK)

    def compact_to(self, index: int) -> None:
        """Let a snapshot stand for the entries up to ``index``, and keep those after it."""
        assert self.base.index <= index <= self.last_index, (index, self)
        term = self.term_at(index)
        assert term is not None
        del self._entries[: index - self.base.index]
        run = bisect_right(self._run_starts, index + 1) - 1
        del self._run_starts[: max(run, 0)], self._run_terms[: max(run, 0)]
        if not self._entries:
            self._run_starts, self._run_terms = [], []
        else:
            self._run_starts[0] = index + 1
        self.base = LogPosition(term, index)
        self._memo = (0, 0, EMPTY_BLOCK)

    def replace(self, base: LogPosition) -> None:
        """Let a snapshot stand for everything: an empty log after ``base``."""
        assert base.index > self.base.index or not self._entries, (base, self)
        self._entries, self._run_starts, self._run_terms = [], [], []
        self.base = base
        self._memo = (0, 0, EMPTY_BLOCK)

    def last_position_at_most(self, index: int, term: int) -> LogPosition:
        """The last position with at most this index and at most this term.

        Both sides of a conflict use it: entries of a higher term than ``term`` cannot match, so
        one round trip skips all of them (end of section 5.3). The base, or position zero, is the
        answer when nothing else qualifies.
        """
        index = min(index, self.last_index)
        run = bisect_right(self._run_starts, index) - 1
        while run >= 0 and self._run_terms[run] > term:
            index = self._run_starts[run] - 1
            run -= 1
        if index <= self.base.index:
            if self.base.term > term or index < self.base.index:
                return LogPosition(0, 0)
            return self.base
        return LogPosition(self._run_terms[run], index)

    def check(self) -> None:
        """Every promise this log makes about itself."""
        assert all(after.index == before.index + 1 for before, after in pairwise(self._entries))
        assert all(after.term >= before.term for before, after in pairwise(self._entries))
        if self._entries:
            assert self._entries[0].index == self.base.index + 1
            assert self._entries[0].term >= self.base.term
            assert self._run_starts[0] == self._entries[0].index
        assert len(self._run_starts) == len(self._run_terms)
        assert all(before < after for before, after in pairwise(self._run_terms))
        for start, term in zip(self._run_starts, self._run_terms, strict=True):
            assert self.term_at(start) == term
            assert start == self.base.index + 1 or (self.term_at(start - 1) or 0) < term

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        runs = ", ".join(
            f"term {term} from {start}"
            for start, term in zip(self._run_starts, self._run_terms, strict=True)
        )
        return f"RaftLog(base {self.base.index}, last {self.last_index}: {runs or 'empty'})"
