"""The nouns of Raft: entries, positions, ballots, configurations.

This module exists so that every other one speaks of the same few values, and so that the paper's
rules about them are their ordering and nothing else. Plain data; it decides nothing. It must never
import anything but the standard library's typing tools and msgpack.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import msgpack

from mcpcore.errors import InvalidInput

MAX_UINT = (1 << 63) - 1
"""Terms, indexes and sequence numbers stay below this, so that any tool can store them."""


class EntryKind(IntEnum):
    """What an entry's bytes mean."""

    NOOP = 0
    """Nothing: the leader's first entry of a term (paper section 8)."""
    COMMAND = 1
    """A command for the state machine, opaque to Raft."""
    CONFIG = 2
    """A new configuration of the group (paper section 6)."""
    SESSION = 3
    """Client session bookkeeping (thesis section 6.3)."""


ENTRY_KINDS = frozenset(int(kind) for kind in EntryKind)


class Entry(NamedTuple):
    """One entry of the log. ``data`` is encoded once, by whoever proposed it."""

    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    kind: int
    data: bytes


class LogPosition(NamedTuple):
    """Where a log ends. Ordering by (term, index) *is* the rule of section 5.4.1."""

    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


class HardState(NamedTuple):
    """What must be durable before any answer leaves: Figure 2, "persistent state"."""

    term: int = 0
    voted_for: str = ""
    """The candidate that has our vote in ``term``; empty if none has."""


class Block:
    """Consecutive entries and, once somebody asked for it, their encoding.

    A block made by a leader is encoded once: the same bytes go to its own log and to every
    follower, which store them as they came. Immutable by convention.
    """

    __slots__ = ("_encoded", "entries")

    def __init__(self, entries: tuple[Entry, ...], encoded: bytes | None = None) -> None:
        self.entries = entries
        self._encoded = encoded

    @property
    def encoded(self) -> bytes:
        """A msgpack array of [term, index, kind, data] arrays."""
        if self._encoded is None:
            self._encoded = msgpack.packb(self.entries)
        return self._encoded

    @classmethod
    def decode(cls, encoded: bytes) -> Block:
        """Read a block that came from a peer or from a disk, believing nothing of it.

        Raises:
            InvalidInput: the bytes are no block of consecutive entries with terms that never go
                back.
        """
        try:
            rows = msgpack.unpackb(encoded, use_list=False, strict_map_key=True)
        except Exception as error:  # msgpack raises several unrelated classes
            raise InvalidInput(f"not a block of entries: {error}") from error
        if type(rows) is not tuple:
            raise InvalidInput(f"a block of entries must be an array, not {type(rows).__name__}")
        entries = []
        last_term, next_index = 0, 0
        for row in rows:
            if type(row) is not tuple or len(row) != 4:
                raise InvalidInput("an entry must be an array of term, index, kind and data")
            term, index, kind, data = row
            if (
                type(term) is not int
                or type(index) is not int
                or type(data) is not bytes
                or not last_term <= term <= MAX_UINT
                or not 0 < index <= MAX_UINT
                or (next_index and index != next_index)
                or type(kind) is not int
                or kind not in ENTRY_KINDS
            ):
                raise InvalidInput(
                    f"a malformed entry (term {term!r}, index {index!r}, kind {kind!r}) "
                    f"after index {next_index - 1}"
                )
            if kind == EntryKind.CONFIG:
                Configuration.decode(data)  # in force as soon as stored: refuse it before that
            last_term, next_index = term, index + 1
            entries.append(Entry(term, index, kind, data))
        return cls(tuple(entries), encoded)

    def __len__(self) -> int:
        return len(self.entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and self.entries == other.entries

    def __hash__(self) -> int:
        return hash(self.entries)

    def __repr__(self) -> str:
        if not self.entries:
            return "Block(empty)"
        first, last = self.entries[0], self.entries[-1]
        return f"Block({first.index}..{last.index}, term {first.term}..{last.term})"


EMPTY_BLOCK = Block((), b"\x90")


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who votes and who only listens (paper section 6, thesis chapter 4).

    Args:
        voters: the members whose agreement counts; during a joint change, the incoming ones.
        outgoing: the old voters during a joint change, else empty. A decision then needs a
            majority of both.
        learners: members that receive the log but do not vote.
    """

    voters: frozenset[str]
    outgoing: frozenset[str] = frozenset()
    learners: frozenset[str] = frozenset()

    @classmethod
    def of(cls, voters: Iterable[str], learners: Iterable[str] = ()) -> Configuration:
        """A simple configuration."""
        return cls(frozenset(voters), frozenset(), frozenset(learners))

    @property
    def members(self) -> frozenset[str]:
        """Everybody who receives the log."""
        return self.voters | self.outgoing | self.learners

    def votes(self, node: str) -> bool:
        """Whether the agreement of ``node`` counts."""
        return node in self.voters or node in self.outgoing

    def encode(self) -> bytes:
        """The bytes of a CONFIG entry; equal configurations give equal bytes."""
        packed: bytes = msgpack.packb(
            [sorted(self.voters), sorted(self.outgoing), sorted(self.learners)]
        )
        return packed

    @classmethod
    def decode(cls, data: bytes) -> Configuration:
        """Read the bytes of a CONFIG entry.

        Raises:
            InvalidInput: they are no configuration.
        """
        try:
            voters, outgoing, learners = msgpack.unpackb(data)
            for names in (voters, outgoing, learners):
                if type(names) is not list or not all(type(name) is str for name in names):
                    raise TypeError("names must be strings")
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise InvalidInput(f"not a configuration: {error}") from error
        return cls(frozenset(voters), frozenset(outgoing), frozenset(learners))

    def __str__(self) -> str:
        text = ", ".join(sorted(self.voters))
        if self.outgoing:
            text += f" (leaving {', '.join(sorted(self.outgoing))})"
        if self.learners:
            text += f" + learners {', '.join(sorted(self.learners))}"
        return text
