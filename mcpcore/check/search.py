"""The search for a linearization of one object's operations.

This module exists so that the whole argument for "not linearizable" sits on one screen of code: a
depth-first search over configurations, with every configuration remembered (Wing and Gong 1993;
Lowe 2017, "Testing for linearizability"). It must never know a concrete model, and never decide on
its own when to stop: its caller spends the budget.

A configuration is three integers:

- ``p``: how many operations, in order of return, are surely linearized;
- ``mask``: which of the operations open at that return are linearized too. Each open operation owns
  a bit that it gives back when it returns, so the mask is as wide as the history is concurrent, not
  as long as it is. Operations that never returned are counted, not listed: two of them that do the
  same are interchangeable, so only how many took effect matters;
- ``state``: the object's state, interned.

Four cuts keep it small, and none can change the answer:

1. An operation that never changes the state is linearized as soon as it is legal. In any
   linearization that places it later it can be moved here: it changes nothing there or here, and
   everything that had to come before it has come. (A write of the value that is there already is
   no such operation: later it may overwrite another one.)
2. Of two open operations that do the same, the one that returns first goes first. In any
   linearization with the other order they can be exchanged.
3. A state from which the model says that one of the next reads can never become legal is left at
   once. (Without it, a wrong order of appends is found out only after all their orders.)
4. Of two configurations that differ only in how many never-returned operations took effect, the one
   that used fewer of each kind can do all that the other can: the other is left.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from sys import getsizeof
from typing import NamedTuple

from mcpcore.check.history import Operation
from mcpcore.check.model import ILLEGAL, Choice, Model
from mcpcore.check.verdict import Verdict

_IMPOSSIBLE = -1
_CONFIGURATION_BYTES = 130
_KEPT_BYTES = 260
_TRANSITION_BYTES = 110
_STACKED_BYTES = 180
_FRONTIER_STATES = 32
_READS_FORESEEN = 4
_READS_SCANNED = 32
_FARTHEST_FORESEEN = 128

Chain = tuple["Chain | None", int]
"""Operations linearized so far, the last one first. Shared between configurations."""


class Frontier(NamedTuple):
    """A configuration beyond which nothing leads: how far, in which state, by which way."""

    linearized: int
    state: Hashable
    chain: Chain | None


class Search:
    """A resumable search over one object's operations.

    Args:
        model: what the object promises.
        operations: those on this object that the model admits, in order of call.
        until: only explain the returns up to this one, counted from 0; None for all. Operations
            that return later may still be used, if they were called in time.
        foresee_before: cut 3 looks at no read that returns at this place or later.
    """

    def __init__(
        self,
        model: Model,
        operations: Sequence[Operation],
        *,
        until: int | None = None,
        foresee_before: int | None = None,
    ) -> None:
        self.model = model
        self.operations = operations
        self.verdict: Verdict | None = None
        self.visited = 0
        self.linearization: tuple[int, ...] = ()
        self._classes: dict[Hashable, int] = {}
        self._examples: list[Operation] = []
        self._idle: list[bool] = []
        finite = [op for op in operations if op.returned is not None]
        finite.sort(key=_returned)
        self._finite = finite
        self._never_returned(
            [op for op in operations if op.returned is None and not model.reads_only(op)]
        )
        self._assign_bits()
        self._states: list[Hashable] = []
        self._state_ids: dict[Hashable, int] = {}
        self._transitions: list[dict[int, int | tuple[int, ...]]] = []
        self._table_bytes = 0
        self._open: list[tuple[tuple[int, int, int], ...]] = []
        self._last = len(finite) if until is None else until + 1
        if foresee_before is None:
            foresee_before = self._last
        self._foresee_before = foresee_before
        self.foreseen = -1
        self._reads = [
            at for at, op in enumerate(finite) if at < foresee_before and model.reads_only(op)
        ]
        self._hope: dict[tuple[int, int], bool] = {}
        self._rescuers: dict[tuple[int, int], bool] = {}
        self._furthest = -1
        self._frontier: dict[int, Frontier] = {}
        self._seen: set[int] = set()  # configurations, packed: a tuple costs twice as much
        self._fewest: dict[int, list[int]] = {}  # the same, with what never returned set apart
        self._kept = 0
        self._stack: list[tuple[int, int, int, Chain | None]] = [
            (0, 0, self._intern(model.initial()), None)
        ]
        if not finite:
            self.verdict = Verdict.OK

    # --- Compiling ------------------------------------------------------------------------------

    def _class_of(self, op: Operation) -> int:
        signature = self.model.signature(op)
        known = self._classes.get(signature)
        if known is None:
            known = self._classes[signature] = len(self._examples)
            self._examples.append(op)
            self._idle.append(self.model.reads_only(op))
        return known

    def _assign_bits(self) -> None:
        """Give each operation the lowest bit that no operation open at the same time owns."""
        free: list[int] = []
        width = 0
        bits = [0] * len(self._finite)
        by_call = sorted(range(len(self._finite)), key=lambda at: self._finite[at].called)
        self._arrivals: list[list[tuple[int, int, int]]] = [[] for _ in self._finite]
        upcoming = 0
        for place, returning in enumerate(self._finite):
            assert returning.returned is not None
            while upcoming < len(by_call):
                at = by_call[upcoming]
                op = self._finite[at]
                if op.called > returning.returned:
                    break
                if not free:
                    free.append(width)
                    width += 1
                bits[at] = 1 << free.pop()
                self._arrivals[place].append((bits[at], self._class_of(op), at))
                upcoming += 1
            free.append(bits[place].bit_length() - 1)
        self._bits = bits
        self._kinds = [self._class_of(op) for op in self._finite]
        self._finite_ones = (1 << width) - 1
        self._finite_width = width
        self._borrows = 0
        shift = width
        self._fields: list[tuple[int, int, int]] = []  # shift, ones, class
        for kind, members in self._unknown.items():
            size = len(members).bit_length()
            self._fields.append((shift, (1 << size) - 1, kind))
            shift += size + 1  # the bit between two counts stays 0, to compare all counts at once
            self._borrows |= 1 << (shift - 1 - width)
        self._width = shift

    def _never_returned(self, operations: Sequence[Operation]) -> None:
        """Group operations that never returned by what they do, in order of call."""
        self._unknown: dict[int, list[int]] = {}
        self._unknown_ops = list(operations)
        for at, op in enumerate(operations):
            self._unknown.setdefault(self._class_of(op), []).append(at)

    def _open_at(self, p: int) -> tuple[tuple[int, int, int], ...]:
        """Operations open when number ``p`` returns, the one that returns first in front."""
        while len(self._open) <= p:
            at = len(self._open)
            still = [item for item in self._open[at - 1] if item[2] != at - 1] if at else []
            arrivals = self._arrivals[at]
            if arrivals:
                still.extend(arrivals)
                still.sort(key=_by_return)
            self._open.append(tuple(still))
        return self._open[p]

    def _available(self, p: int, members: Sequence[int]) -> int:
        """How many of these never-returned operations were called before return ``p``."""
        limit = self._finite[p].returned
        assert limit is not None
        return bisect_left(members, limit, key=self._called_of_unknown)

    def _called_of_unknown(self, at: int) -> int:
        return self._unknown_ops[at].called

    def _intern(self, state: Hashable) -> int:
        known = self._state_ids.get(state)
        if known is None:
            known = self._state_ids[state] = len(self._states)
            self._states.append(state)
            self._transitions.append({})
            self._table_bytes += getsizeof(state) + 250
        return known

    def _step(self, state: int, kind: int) -> int | tuple[int, ...]:
        after = self.model.step(self._states[state], self._examples[kind])
        found: int | tuple[int, ...]
        if after is ILLEGAL:
            found = _IMPOSSIBLE
        elif isinstance(after, Choice):
            found = tuple(self._intern(choice) for choice in after)
        else:
            found = self._intern(after)
        self._transitions[state][kind] = found
        self._table_bytes += _TRANSITION_BYTES
        return found

    # --- Searching ------------------------------------------------------------------------------

    @property
    def estimate_bytes(self) -> int:
        """How much memory the tables hold, estimated from above."""
        return (
            self._table_bytes
            + len(self._seen) * _CONFIGURATION_BYTES
            + self._kept * _KEPT_BYTES
            + len(self._stack) * _STACKED_BYTES
        )

    def run(self, configurations: int) -> Verdict | None:
        """Look at up to so many configurations more. None while nothing is decided."""
        stack, seen = self._stack, self._seen
        transitions, bits, last = self._transitions, self._bits, self._last
        idle, width, p_bits = self._idle, self._width, last.bit_length()
        while stack and configurations > 0 and self.verdict is None:
            configurations -= 1
            p, mask, state, chain = stack.pop()
            row = transitions[state]
            while True:
                branches: list[tuple[int | tuple[int, ...], int, int, int]] = []
                for bit, kind, at in self._open_at(p):
                    if mask & bit:
                        continue
                    after = row.get(kind)
                    if after is None:
                        after = self._step(state, kind)
                    if after == state and idle[kind]:  # cut 1
                        mask |= bit
                        chain = (chain, at)
                    elif after != _IMPOSSIBLE:
                        branches.append((after, bit, at, kind))
                before = p
                while p < last and mask & bits[p]:
                    mask ^= bits[p]
                    p += 1
                if p == last:
                    self._succeed(chain)
                    return self.verdict
                if p == before:
                    break
            if self._fields:
                if self._outdone(state << p_bits | p, mask):  # cut 4
                    continue
            else:
                key = (state << p_bits | p) << width | mask
                if key in seen:
                    continue
                seen.add(key)
            self.visited += 1
            if p >= self._furthest:
                self._remember(p, mask, state, chain)
            if self._doomed(p, mask, state):  # cut 3
                continue
            if self._fields:
                self._push_unknown(p, mask, state, chain)
            used: set[int] = set()
            kept = []
            for branch in branches:
                if branch[3] not in used:  # cut 2
                    used.add(branch[3])
                    kept.append(branch)
            for after, bit, at, _ in reversed(kept):
                after_mask, after_p = mask | bit, p
                while after_p < last and after_mask & bits[after_p]:
                    after_mask ^= bits[after_p]
                    after_p += 1
                if after_p == last:
                    self._succeed((chain, at))
                    return self.verdict
                for choice in after if isinstance(after, tuple) else (after,):
                    stack.append((after_p, after_mask, choice, (chain, at)))
        if not stack and self.verdict is None:
            self.verdict = Verdict.VIOLATED
        return self.verdict

    def _outdone(self, state_and_p: int, mask: int) -> bool:
        """Whether the same was seen with no more of any never-returned operation; else keep it."""
        counts = mask >> self._finite_width
        rest = state_and_p << self._finite_width | (mask & self._finite_ones)
        known = self._fewest.setdefault(rest, [])
        borrows = self._borrows
        for fewer in known:
            if ((counts | borrows) - fewer) & borrows == borrows:  # no count had to borrow
                return True
        known.append(counts)
        self._kept += 1
        return False

    def _doomed(self, p: int, mask: int, state: int) -> bool:
        """Whether an open read, or one of the next to return, can no longer become legal."""
        idle, before = self._idle, self._foresee_before
        for bit, kind, at in self._open_at(p):
            if idle[kind] and at < before and not mask & bit and self._hopeless(state, at, p, mask):
                return True
        looked = 0
        start = bisect_left(self._reads, p)
        for at in self._reads[start : start + _READS_SCANNED]:
            if not self._is_linearized(at, p, mask):
                looked += 1
                if looked > _READS_FORESEEN:
                    break
                if self._hopeless(state, at, p, mask):
                    return True
        return False

    def _hopeless(self, state: int, at: int, p: int, mask: int) -> bool:
        hope = self._hope.get((state, self._kinds[at]))
        if hope is None:
            hope = self.model.reachable(self._states[state], self._finite[at])
            self._hope[state, self._kinds[at]] = hope
            self._table_bytes += _TRANSITION_BYTES
        if hope or self._rescued(at, p, mask):
            return False
        self.foreseen = max(self.foreseen, at)
        return True

    def _is_linearized(self, at: int, p: int, mask: int) -> bool:
        if at < p:
            return True
        limit = self._finite[p].returned
        assert limit is not None
        return self._finite[at].called < limit and bool(mask & self._bits[at])

    def _rescued(self, at: int, p: int, mask: int) -> bool:
        """Whether an operation that is still to come may overwrite what the read contradicts."""
        if at - p > _FARTHEST_FORESEEN:
            return True  # it would take longer to be sure than to go on
        read = self._finite[at]
        limit = read.returned
        assert limit is not None
        for kind, members in self._unknown.items():
            if self._unknown_ops[members[0]].called < limit and self._overwrites(kind, at):
                return True
        for place in range(p, at):
            if self._overwrites(self._kinds[place], at) and not self._is_linearized(place, p, mask):
                return True
        return any(
            place > at and self._overwrites(kind, at) and not self._is_linearized(place, p, mask)
            for _, kind, place in self._open_at(at)
        )

    def _overwrites(self, kind: int, at: int) -> bool:
        known = self._rescuers.get((kind, self._kinds[at]))
        if known is None:
            known = self.model.overwrites(self._examples[kind], self._finite[at])
            self._rescuers[kind, self._kinds[at]] = known
            self._table_bytes += _TRANSITION_BYTES
        return known

    def _push_unknown(self, p: int, mask: int, state: int, chain: Chain | None) -> None:
        """Branches in which an operation that never returned takes effect now: tried last."""
        row = self._transitions[state]
        for shift, ones, kind in self._fields:
            members = self._unknown[kind]
            used = (mask >> shift) & ones
            if used >= self._available(p, members):
                continue
            after = row.get(kind)
            if after is None:
                after = self._step(state, kind)
            if after in (state, _IMPOSSIBLE):
                continue
            link = (chain, len(self._finite) + members[used])
            for choice in after if isinstance(after, tuple) else (after,):
                self._stack.append((p, mask + (1 << shift), choice, link))

    def _remember(self, p: int, mask: int, state: int, chain: Chain | None) -> None:
        """Keep the configurations that went furthest: they explain a failure."""
        if p > self._furthest:
            self._furthest = p
            self._frontier.clear()
        linearized = p + (mask & self._finite_ones).bit_count()
        known = self._frontier.get(state)
        if known is None and len(self._frontier) >= _FRONTIER_STATES:
            return
        if known is None or known.linearized < linearized:
            self._frontier[state] = Frontier(linearized, self._states[state], chain)

    def _succeed(self, chain: Chain | None) -> None:
        self.verdict = Verdict.OK
        self.linearization = self.unwind(chain)
        self.abandon()

    def abandon(self) -> None:
        """Give the tables back; the verdict and the frontier stay."""
        self._stack.clear()
        self._seen.clear()
        self._fewest.clear()
        self._kept = 0
        self._transitions.clear()
        self._states.clear()
        self._state_ids.clear()
        self._hope.clear()
        self._rescuers.clear()
        self._open.clear()
        self._table_bytes = 0

    # --- What a failure looks like --------------------------------------------------------------

    def unwind(self, chain: Chain | None) -> tuple[int, ...]:
        """A chain as operation ids in order."""
        ids = []
        while chain is not None:
            chain, at = chain
            op = (
                self._finite[at]
                if at < len(self._finite)
                else self._unknown_ops[at - len(self._finite)]
            )
            ids.append(op.id)
        return tuple(reversed(ids))

    @property
    def furthest(self) -> int:
        """The return, counted from 0, that no configuration seen so far reaches beyond."""
        return max(self._furthest, 0)

    def return_at(self, place: int) -> Operation:
        """The operation whose return is number ``place``."""
        return self._finite[place]

    def ways(self) -> list[Frontier]:
        """Configurations that went furthest, the one that explains most in front."""
        return sorted(self._frontier.values(), key=lambda way: -way.linearized)


def _returned(op: Operation) -> int:
    assert op.returned is not None
    return op.returned


def _by_return(item: tuple[int, int, int]) -> int:
    return item[2]
