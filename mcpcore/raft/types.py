"""The nouns of Raft: entries, positions, ballots, configurations.

This module exists so that every other one speaks of the same few values, and so that the paper's
rules about them are their ordering and nothing else. Plain data; it decides nothing. It must never
import anything but the standard library's typing tools and msgpack.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

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

    __slots__ = ("_data_bytes", "_encoded", "entries")

    def __init__(self, entries: tuple[Entry, ...], encoded: bytes | None = None) -> None:
        self.entries = entries
        self._encoded = encoded
        self._data_bytes = -1

    @property
    def encoded(self) -> bytes:
        """A msgpack array of [term, index, kind, data] arrays."""
        if self._encoded is None:
            self._encoded = msgpack.packb(self.entries)
        return self._encoded

    @property
    def data_bytes(self) -> int:
        """What the entries' data weigh, counted once for all followers."""
        if self._data_bytes < 0:
            self._data_bytes = sum([len(entry[3]) for entry in self.entries])
        return self._data_bytes

    @property
    def reconfigures(self) -> bool:
        """Whether a configuration stands in it."""
        return _CONFIG in [entry[2] for entry in self.entries]

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
        if len(rows) < 4 or not _plain(rows):
            _check_each(rows)
        return cls(tuple([_new(Entry, row) for row in rows]), encoded)

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


_CONFIG = int(EntryKind.CONFIG)
_PLAIN_KINDS = ENTRY_KINDS - {_CONFIG}
_new = tuple.__new__  # 0.2 us less per entry than calling the class


def _plain(rows: tuple[Any, ...]) -> bool:
    """Whether rows are sound entries of one term, with no configuration among them: nearly all are.

    Column by column, so that the loops run in C: 0.25 us for each entry instead of 0.7.
    """
    if set(map(type, rows)) != {tuple} or set(map(len, rows)) != {4}:
        return False
    terms, indexes, kinds, datas = zip(*rows, strict=True)
    first, term = indexes[0], terms[0]
    return (
        set(map(type, terms)) == set(map(type, indexes)) == set(map(type, kinds)) == {int}
        and set(map(type, datas)) == {bytes}
        and terms.count(term) == len(rows)
        and 0 <= term <= MAX_UINT
        and 0 < first <= MAX_UINT - len(rows)
        and indexes == tuple(range(first, first + len(rows)))
        and _PLAIN_KINDS.issuperset(kinds)
    )


def _check_each(rows: tuple[object, ...]) -> None:
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


EMPTY_BLOCK = Block((), b"\x90")


class Member(NamedTuple):
    """What the group knows about one member besides its role. Empty fields mean: not stated.

    Args:
        address: where it listens, as the driver writes addresses.
        zone: the cloud, region or rack whose loss takes all members in it; a member without one
            counts as a zone of its own.
        incarnation: the identity of the disk it was admitted with (16 hexadecimal digits). A member
            that comes back with another has forgotten what it voted and stored. Empty: any disk.
        promote: a learner that the leader makes a voter by itself once it has caught up.
        priority: the higher, the rather it shall lead; equal priorities are decided by distance.
    """

    address: str = ""
    zone: str = ""
    incarnation: str = ""
    promote: bool = False
    priority: int = 0


UNKNOWN_MEMBER = Member()

_FORM = 2
"""Version of the encoding; the first had no number and is an array of three lists of names."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who votes and who only listens (paper section 6, thesis chapter 4).

    Args:
        voters: the members whose agreement counts; during a joint change, the incoming ones.
        outgoing: the old voters during a joint change, else empty. A decision then needs a
            majority of both.
        learners: members that receive the log but do not vote.
        learners_next: outgoing voters that become learners when the joint change is left. Until
            then they vote, so they cannot be learners yet.
        auto_leave: whether the leader leaves the joint change by itself.
        about: what is known of the members; those of whom nothing is known are left out.
        zones_required: in how many zones an entry must be held before it counts as committed. All
            members must agree about it, which is why it stands here and not in the settings.
    """

    voters: frozenset[str]
    outgoing: frozenset[str] = frozenset()
    learners: frozenset[str] = frozenset()
    learners_next: frozenset[str] = frozenset()
    auto_leave: bool = False
    about: Mapping[str, Member] = field(default_factory=dict, hash=False)
    zones_required: int = 1

    def __post_init__(self) -> None:
        members = self.members
        about = {
            name: facts
            for name, facts in sorted(self.about.items())
            if name in members and facts != UNKNOWN_MEMBER
        }
        object.__setattr__(self, "about", about)  # one value, one form

    @classmethod
    def of(cls, voters: Iterable[str], learners: Iterable[str] = ()) -> Configuration:
        """A simple configuration."""
        return cls(frozenset(voters), frozenset(), frozenset(learners))

    @property
    def members(self) -> frozenset[str]:
        """Everybody who receives the log."""
        return self.voters | self.outgoing | self.learners

    @property
    def joint(self) -> bool:
        """Whether a joint change is under way: two majorities decide."""
        return bool(self.outgoing)

    def votes(self, node: str) -> bool:
        """Whether the agreement of ``node`` counts."""
        return node in self.voters or node in self.outgoing

    def member(self, name: str) -> Member:
        """What is known about a member."""
        return self.about.get(name, UNKNOWN_MEMBER)

    def zone_of(self, name: str) -> str:
        """The zone whose loss takes this member; a member without one is a zone by itself."""
        # The prefix keeps a member's name from being taken for a zone's.
        zone = self.member(name).zone
        return f"zone {zone}" if zone else f"member {name}"

    def problem(self) -> str:
        """Which rule this configuration breaks, in one sentence; empty if it is sound."""
        if self.learners & (self.voters | self.outgoing):
            both = ", ".join(sorted(self.learners & (self.voters | self.outgoing)))
            return f"{both} cannot vote and be a learner at once"
        if not self.learners_next <= self.outgoing - self.voters:
            return "only outgoing voters can be about to become learners"
        if self.auto_leave and not self.joint:
            return "there is no joint change to leave"
        if self.joint and not self.voters:
            return "a joint change leads to no voters at all"
        if self.zones_required < 1:
            return f"an entry cannot be held in {self.zones_required} zones"
        for half in filter(None, (self.voters, self.outgoing)):
            zones = len({self.zone_of(voter) for voter in half})
            if zones < self.zones_required:
                return (
                    f"entries must be held in {self.zones_required} zones, but the voters "
                    f"{', '.join(sorted(half))} stand in {zones}"
                )
        return ""

    def encode(self) -> bytes:
        """The bytes of a CONFIG entry; equal configurations give equal bytes.

        What the first form can say is said in it, so that a member of an older version understands
        the configuration until somebody uses what that version does not know.
        """
        names = [sorted(self.voters), sorted(self.outgoing), sorted(self.learners)]
        if not (self.learners_next or self.auto_leave or self.about or self.zones_required != 1):
            first: bytes = msgpack.packb(names)
            return first
        row = [_FORM, *names, sorted(self.learners_next), self.auto_leave, self.zones_required]
        packed: bytes = msgpack.packb(
            [*row, [[name, *facts] for name, facts in self.about.items()]]
        )
        return packed

    @classmethod
    def decode(cls, data: bytes) -> Configuration:
        """Read the bytes of a CONFIG entry.

        Raises:
            InvalidInput: they are no configuration, or one that breaks its own rules.
        """
        try:
            row = msgpack.unpackb(data, use_list=False)
            if type(row) is not tuple or not row:
                raise TypeError("it must be an array")
            if type(row[0]) is int and row[0] != _FORM:
                raise ValueError(f"it is of form {row[0]}, and this version reads up to {_FORM}")
            if type(row[0]) is int:
                _, voters, outgoing, learners, learners_next, auto_leave, zones, about = row
            else:
                voters, outgoing, learners = row
                learners_next, auto_leave, zones, about = (), False, 1, ()
            if type(auto_leave) is not bool or type(zones) is not int or type(about) is not tuple:
                raise TypeError("a field is of the wrong type")
            configuration = cls(
                _names(voters),
                _names(outgoing),
                _names(learners),
                _names(learners_next),
                auto_leave,
                dict(_about_row(fact) for fact in about),
                zones,
            )
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise InvalidInput(f"not a configuration: {error}") from error
        problem = configuration.problem()
        if problem:
            raise InvalidInput(f"not a configuration: {problem}")
        return configuration

    def __str__(self) -> str:
        text = ", ".join(sorted(self.voters))
        if self.outgoing:
            text += f" (leaving {', '.join(sorted(self.outgoing))})"
        if self.learners or self.learners_next:
            text += f" + learners {', '.join(sorted(self.learners | self.learners_next))}"
        if self.zones_required != 1:
            text += f", held in {self.zones_required} zones"
        return text


_ABOUT_TYPES = (str, str, str, str, bool, int)
"""The name, and the fields of Member."""


def _names(row: object) -> frozenset[str]:
    if type(row) is not tuple or not all(type(name) is str for name in row):
        raise TypeError("names must be strings")
    names = frozenset(row)
    if len(names) != len(row):
        raise ValueError("a name stands twice in one list")
    return names


def _about_row(row: object) -> tuple[str, Member]:
    if type(row) is not tuple or tuple(map(type, row)) != _ABOUT_TYPES:
        raise TypeError("what is known of a member has the wrong shape")
    return row[0], Member(*row[1:])
