"""The causal lattice: dotted entries under one causal context. Removing leaves nothing behind.

This module exists so that there is one join for every type that can remove, and for any nesting of
them. A state is a flat table, dot to entry, and the context of all dots ever seen. An entry says
what its event put where (a path) and never changes; removing is forgetting the entry and keeping
its dot in the context. So the join needs no knowledge of types:

    an entry stays if both have it, or if one has it and the other has never seen its dot.

Maps, and their recursive reset, are prefixes of paths; the context they share is this one. It must
never learn what an entry means: that is the types' business.

Source: Almeida, Shoker, Baquero 2018, section 7 (causal CRDTs, here with flattened dot stores);
Enes et al., ICDE 2019, section 5 and appendix (decomposition of causal states).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

import msgpack

from mcpcore.crdt.context import SEQUENCE_MAX, CausalContext, Dot, check_replica, wire_list
from mcpcore.crdt.values import check_key, fingerprint, unpack
from mcpcore.errors import InvalidInput

Path: TypeAlias = tuple[bytes, ...]
"""Where in a document: packed keys, outermost first."""

PATH_DEPTH_MAX = 64

PRESENT: Final = 0
"""An element was added, or a flag enabled."""
ABSENT: Final = 1
"""An element was removed, or a flag disabled, where that wins over concurrent additions."""
VALUE: Final = 2
"""A value was written."""
STAMPED: Final = 3
"""A value was written at a time of the hybrid clock."""
COUNT: Final = 4
"""A replica's running total."""
BASE: Final = 5
"""A counter was reset from these totals."""
_KIND_MAX = BASE

RESIDUE: Final = frozenset({ABSENT, BASE})
"""Entries that only outvote others; a place that holds nothing else counts as empty."""


class Entry(NamedTuple):
    """What one event put where."""

    path: Path
    kind: int
    payload: bytes


class _Index:
    """Which dots stand at a path, and which paths hang below it."""

    __slots__ = ("below", "dots")

    def __init__(self, entries: dict[Dot, Entry]) -> None:
        self.dots: dict[Path, set[Dot]] = {}
        self.below: dict[Path, set[bytes]] = {}
        for dot, entry in entries.items():
            self.add(dot, entry.path)

    def add(self, dot: Dot, path: Path) -> None:
        at = self.dots.get(path)
        if at is not None:
            at.add(dot)
            return
        self.dots[path] = {dot}
        while path:
            path, key = path[:-1], path[-1]
            keys = self.below.get(path)
            if keys is not None:
                keys.add(key)
                return
            self.below[path] = {key}

    def drop(self, dot: Dot, path: Path) -> None:
        at = self.dots[path]
        at.discard(dot)
        if at:
            return
        del self.dots[path]
        while path and path not in self.below and path not in self.dots:
            path, key = path[:-1], path[-1]
            keys = self.below[path]
            keys.discard(key)
            if not keys:
                del self.below[path]


class Causal:
    """Entries by dot, and the context of every dot ever seen."""

    __slots__ = ("_built", "context", "entries")

    def __init__(
        self, entries: dict[Dot, Entry] | None = None, context: CausalContext | None = None
    ) -> None:
        self.entries: dict[Dot, Entry] = {} if entries is None else entries
        self.context = CausalContext() if context is None else context
        self._built: _Index | None = None

    @classmethod
    def bottom(cls) -> Causal:
        """Nothing seen."""
        return cls()

    def is_bottom(self) -> bool:
        """Whether it says nothing. A state without entries may still say what is gone."""
        return not self.context

    def copy(self) -> Causal:
        """An independent state of equal content."""
        return Causal(self.entries.copy(), self.context.copy())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Causal):
            return NotImplemented
        return self.entries == other.entries and self.context == other.context

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Causal({len(self.entries)} entries, {self.context!r})"

    # --- reading and mutating, for the types ----------------------------------------------------

    @property
    def _index(self) -> _Index:
        """Made at the first question, so that a delta on its way through costs none."""
        if self._built is None:
            self._built = _Index(self.entries)
        return self._built

    def at(self, path: Path) -> Iterable[Dot]:
        """The dots whose entries stand at exactly this path."""
        return self._index.dots.get(path, ())

    def below(self, path: Path) -> Iterable[bytes]:
        """The keys that hang directly below a path."""
        return self._index.below.get(path, ())

    def under(self, path: Path) -> Iterator[Path]:
        """All paths that hold entries, at this one or below it."""
        index, ahead = self._index, [path]
        while ahead:
            here = ahead.pop()
            if here in index.dots:
                yield here
            ahead.extend((*here, key) for key in index.below.get(here, ()))

    def mutate(self, replica: str, gone: Iterable[Dot], added: Iterable[Entry]) -> Causal:
        """Remove entries and add new ones as events of ``replica``. Returns the delta.

        The delta's context names what is gone and what is new, and nothing else: a delta that
        claimed more would erase at its receivers what they alone have.
        """
        delta = Causal()
        for dot in list(gone):
            delta.context.add(dot)
            self._forget(dot)
        for entry in added:
            dot = self.context.next_dot(replica)
            self.context.add(dot)
            delta.context.add(dot)
            delta.entries[dot] = entry
            self._put(dot, entry)
        return delta

    def _put(self, dot: Dot, entry: Entry) -> None:
        self.entries[dot] = entry
        if self._built is not None:
            self._built.add(dot, entry.path)

    def _forget(self, dot: Dot) -> None:
        entry = self.entries.pop(dot)
        if self._built is not None:
            self._built.drop(dot, entry.path)

    def let_go(self, dots: CausalContext) -> int:
        """Drop the entries of these events, and count them as seen. Returns how many went.

        For what all members let go of by an agreement of their own: it makes no delta.
        """
        gone = list(self._known_to(dots))
        for dot in gone:
            self._forget(dot)
        self.context.join(dots)
        return len(gone)

    # --- the lattice ----------------------------------------------------------------------------

    def join(self, other: Causal, /) -> None:
        """An entry stays if both have it, or one has it and the other never saw its dot."""
        theirs = other.entries
        gone = [dot for dot in self._known_to(other.context) if dot not in theirs]
        for dot, entry in theirs.items():
            if dot not in self.context:
                self._put(dot, entry)
        for dot in gone:
            self._forget(dot)
        self.context.join(other.context)

    def delta(self, other: Causal, /) -> Causal:
        """The least state that brings ``other`` up to the join of both.

        It carries the entries whose dots ``other`` has not seen, the dots it has not seen at all,
        and the dots of entries that it still has and we have seen go.
        """
        context = self.context.minus(other.context)
        entries = {dot: entry for dot, entry in self.entries.items() if dot in context}
        for dot in other._known_to(self.context):
            if dot not in self.entries:
                context.add(dot)
        return Causal(entries, context)

    def _known_to(self, context: CausalContext) -> Iterator[Dot]:
        """Our entries' dots that a context has seen; costs what the smaller side costs."""
        entries = self.entries
        if len(context) < len(entries):
            return (dot for dot in context if dot in entries)
        return (dot for dot in entries if dot in context)

    def decompose(self) -> Iterator[Causal]:
        """One state for each dot ever seen: an entry under its dot, or a dot whose entry is gone.

        Costs one state for each event in the context. Take it of deltas, not of long histories;
        to compare two states use :meth:`delta`, which needs no decomposition.
        """
        for dot in self.context:
            entry = self.entries.get(dot)
            yield Causal({} if entry is None else {dot: entry}, CausalContext([dot]))

    def split(self, bytes_max: int) -> Iterator[Causal]:
        """States of about ``bytes_max`` encoded bytes each, whose join this is."""
        rest, chunk, size = self.context.copy(), Causal(), 0
        for dot, entry in self.entries.items():
            grown = 24 + len(dot[0]) + len(entry.payload) + sum(map(len, entry.path))
            if size + grown > bytes_max and size:
                rest = rest.minus(chunk.context)
                yield chunk
                chunk, size = Causal(), 0
            chunk.entries[dot] = entry
            chunk.context.add(dot)
            size += grown
        rest = rest.minus(chunk.context)
        for replica, low, high in rest.runs():
            if size + 24 + len(replica) > bytes_max and size:
                yield chunk
                chunk, size = Causal(), 0
            chunk.context.add_run(replica, low, high)
            size += 24 + len(replica)
        if chunk.context:
            yield chunk

    def unseen_by(self, context: CausalContext) -> Causal:
        """What a peer with this context has never heard of (RR by context, without its state)."""
        news = self.context.minus(context)
        return Causal({dot: e for dot, e in self.entries.items() if dot in news}, news)

    def conflict_with(self, other: Causal) -> Dot | None:
        """A dot that stands for different entries here and there: somebody reused an id."""
        for dot, entry in other.entries.items():
            mine = self.entries.get(dot)
            if mine is not None and mine != entry:
                return dot
        return None

    # --- repair ---------------------------------------------------------------------------------

    def atoms(self) -> list[tuple[bytes, int]]:
        """(key of the dot, fingerprint) of every entry, sorted."""
        return [
            (_key(dot), fingerprint(_key(dot), bytes([entry.kind]), entry.payload, *entry.path))
            for dot, entry in sorted(self.entries.items())
        ]

    def part(self, low: bytes, high: bytes | None) -> Causal:
        """The dots from ``low`` up to but without ``high``: their entries and their context."""
        context = self._context_part(low, high)
        return Causal({dot: e for dot, e in self.entries.items() if dot in context}, context)

    def _context_part(self, low: bytes, high: bytes | None) -> CausalContext:
        context = CausalContext()
        for replica, start, end in self.context.runs():
            first = max(start, _floor(replica, low))
            last = end if high is None else min(end, _floor(replica, high))
            if first < last:
                context.add_run(replica, first, last)
        return context

    def seal(self, low: bytes = b"", high: bytes | None = None) -> bytes:
        """The context of a range, as bytes."""
        context = self._context_part(low, high)
        return bytes(msgpack.packb(context.to_wire())) if context else b""

    def check(self) -> None:
        """Every promise this structure makes about itself."""
        self.context.check()
        for dot, entry in self.entries.items():
            assert dot in self.context, "an entry's dot has been seen"
            assert 0 <= entry.kind <= _KIND_MAX
        if self._built is not None:
            fresh = _Index(self.entries)
            assert fresh.dots == self._built.dots, "the index knows every entry"
            assert fresh.below == self._built.below, "the index knows every path and no other"

    # --- the wire -------------------------------------------------------------------------------

    def to_wire(self) -> list[object]:
        """``[context, entries]``; an entry is ``[row of its replica in the context, number, kind,
        payload, *path]``, by rising dots.
        """
        context = self.context.to_wire()
        rows = {replica: i for i, replica in enumerate(self.context.replicas())}
        entries = [
            [rows[dot[0]], dot[1], entry.kind, entry.payload, *entry.path]
            for dot, entry in sorted(self.entries.items())
        ]
        return [context, entries]

    @classmethod
    def from_wire(cls, wire: object, /) -> Causal:
        """Read :meth:`to_wire` back.

        Raises:
            InvalidInput: not that shape, out of order, or an entry whose dot the context lacks.
        """
        context_wire, rows = wire_list(wire, "causal state", length=2)
        context = CausalContext.from_wire(context_wire)
        replicas = context.replicas()
        entries: dict[Dot, Entry] = {}
        last: Dot = ("", 0)
        for row in wire_list(rows, "entries"):
            which, number, kind, payload, *path = wire_list(row, "entry", least=4)
            if type(which) is not int or not 0 <= which < len(replicas) or type(number) is not int:
                raise InvalidInput("names no replica of the context", where="entry")
            dot = replicas[which], number
            if dot not in context or dot <= last:
                raise InvalidInput(f"{dot} is not in the context, or out of order", where="entry")
            entries[dot] = _checked(kind, payload, path)
            last = dot
        return cls(entries, context)


def _checked(kind: object, payload: object, path: list[object]) -> Entry:
    if type(kind) is not int or not 0 <= kind <= _KIND_MAX or not isinstance(payload, bytes):
        raise InvalidInput(f"unknown kind {kind!r}", where="entry")
    if len(path) > PATH_DEPTH_MAX:
        raise InvalidInput(f"a path deeper than {PATH_DEPTH_MAX}", where="entry")
    steps: list[bytes] = []
    for step in path:
        if not isinstance(step, bytes):
            raise InvalidInput(f"{step!r} is no packed key", where="path")
        check_key(step)
        steps.append(step)
    entry = Entry(tuple(steps), kind, payload)
    check_payload(entry)
    return entry


def check_payload(entry: Entry) -> None:
    """Refuse an entry whose payload its kind cannot read.

    Raises:
        InvalidInput: such a payload.
    """
    if entry.kind in (PRESENT, ABSENT):
        if entry.payload:
            raise InvalidInput("this kind carries no payload", where="entry")
        return
    value = unpack(entry.payload)
    if entry.kind == VALUE:
        return
    fits = isinstance(value, tuple)
    if fits and isinstance(value, tuple):
        if entry.kind == STAMPED:
            fits = len(value) == 3 and type(value[0]) is bytes and len(value[0]) == 12
            fits = fits and type(value[1]) is int and value[1] >= 0
        elif entry.kind == COUNT:
            fits = len(value) == 2 and all(type(n) is int for n in value)
        else:
            fits = all(_is_base(item) for item in value)
    if not fits:
        raise InvalidInput(f"kind {entry.kind} cannot hold {value!r}", where="entry")


def _is_base(item: object) -> bool:
    if not isinstance(item, tuple) or len(item) != 3:
        return False
    replica, number, total = item
    return isinstance(replica, str) and type(number) is int and type(total) is int


def _key(dot: Dot) -> bytes:
    """Bytes that sort as dots do."""
    return check_replica(dot[0]).encode() + b"\0" + dot[1].to_bytes(8, "big")


def _floor(replica: str, key: bytes) -> int:
    """The least number whose dot sorts at or after ``key``, whatever bytes that is."""
    prefix = replica.encode() + b"\0"
    if key <= prefix:
        return 0
    if not key.startswith(prefix):
        return 0 if key < prefix else SEQUENCE_MAX + 2
    tail = key[len(prefix) :]
    return int.from_bytes(tail[:8].ljust(8, b"\0"), "big") + (len(tail) > 8)
