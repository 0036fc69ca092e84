"""What a log says: the records in it, and the state that they add up to.

This module exists so that every log device agrees on the meaning of a record: recovery from files
and the log in memory fold the same records with the same lines. Pure. No bytes, no files and no
asyncio may come in here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mcpcore.errors import InvalidInput
from mcpcore.node.storage.contract import RecoveredGroup, check_name
from mcpcore.raft.doubt import Doubt
from mcpcore.raft.types import Block, Configuration, Entry, HardState, LogPosition

ORIGIN = LogPosition(0, 0)


class GroupState(NamedTuple):
    """Everything about a group except its entries."""

    name: str
    live: bool
    """False for a retired group, of which only term and vote are kept."""
    hard_state: HardState
    base: LogPosition
    configuration: Configuration
    doubt: Doubt | None = None
    """What the disk lost of it; the runs are records of their own."""


class GroupRecorded(NamedTuple):
    """A group was created, or its state was written again at the head of a segment."""

    group: int
    state: GroupState


class HardStateSaved(NamedTuple):
    """A term and vote were stored."""

    group: int
    hard_state: HardState


class EntriesAppended(NamedTuple):
    """Entries were stored, in the place of whatever stood at their indexes and after."""

    group: int
    block: Block


class BaseMoved(NamedTuple):
    """A snapshot took the place of the log up to ``base``, or of all of it."""

    group: int
    base: LogPosition
    configuration: Configuration
    suffix_kept: bool


class GroupRetired(NamedTuple):
    """A group's log was dropped."""

    group: int


class RunKept(NamedTuple):
    """Entries behind a hole were kept: a run of the group's doubt."""

    group: int
    block: Block


class DoubtEnded(NamedTuple):
    """The group's log is certain again; its runs are of no use any more."""

    group: int


class EntriesNoted(NamedTuple):
    """An echo of ``EntriesAppended``: which entries they were, but not what they said."""

    group: int
    first_index: int
    last_index: int


class Echo(NamedTuple):
    """What the batch before said, entries' contents aside.

    If that batch rots, everything but those contents is known from here: above all terms and
    votes, which no peer could give back.
    """

    records: tuple[Echoed, ...]


Echoed = (
    GroupRecorded | HardStateSaved | EntriesNoted | BaseMoved | GroupRetired | RunKept | DoubtEnded
)
Record = (
    GroupRecorded
    | HardStateSaved
    | EntriesAppended
    | BaseMoved
    | GroupRetired
    | RunKept
    | DoubtEnded
    | Echo
)


def advance(states: dict[int, GroupState], record: Record) -> None:
    """Fold a record into the states of all groups.

    Raises:
        InvalidInput: the record speaks of a group that was never recorded, or contradicts what is
            known about it.
    """
    if isinstance(record, Echo):
        return
    if isinstance(record, GroupRecorded):
        known = states.get(record.group)
        if known is not None and known.live and known != record.state:
            raise InvalidInput(f"group {known.name!r} is recorded twice, with different states")
        states[record.group] = record.state
        return
    state = states.get(record.group)
    if state is None or not state.live:
        raise InvalidInput(f"a record of group number {record.group}, which does not exist")
    match record:
        case EntriesAppended() | RunKept():
            pass
        case DoubtEnded():
            states[record.group] = state._replace(doubt=None)
        case HardStateSaved(_, hard_state):
            states[record.group] = state._replace(hard_state=hard_state)
        case BaseMoved(_, base, configuration, _):
            states[record.group] = state._replace(base=base, configuration=configuration)
        case GroupRetired():
            states[record.group] = retired(state)


def retired(state: GroupState) -> GroupState:
    """What remains of a group that was retired: its name and its promises."""
    return GroupState(state.name, False, state.hard_state, ORIGIN, Configuration(frozenset()))


class LogImage:
    """All groups and all entries that a sequence of records adds up to."""

    __slots__ = ("_entries", "_runs", "states")

    def __init__(self) -> None:
        self.states: dict[int, GroupState] = {}
        self._runs: dict[int, list[tuple[Entry, ...]]] = {}
        self._entries: dict[int, list[Entry]] = {}

    def apply(self, record: Record) -> None:
        """Fold one more record.

        Raises:
            InvalidInput: it contradicts the records before it.
        """
        if type(record) is EntriesAppended:  # nearly all of a log: worth its own way
            group, block = record
            state = self.states.get(group)
            if state is not None and state.live:
                self._append(self._entries.setdefault(group, []), block.entries)
                return
        advance(self.states, record)
        match record:
            case BaseMoved(group, base, _, suffix_kept):
                entries = self._entries.get(group)
                if entries:
                    covered = base.index - entries[0].index + 1
                    del entries[: max(covered, 0) if suffix_kept else len(entries)]
                if not suffix_kept:
                    self._runs.pop(group, None)
            case RunKept(group, block):
                self._runs.setdefault(group, []).append(block.entries)
            case DoubtEnded(group):
                self._runs.pop(group, None)
            case GroupRetired(group):
                self._entries.pop(group, None)
                self._runs.pop(group, None)

    @staticmethod
    def _append(entries: list[Entry], new: tuple[Entry, ...]) -> None:
        if entries:
            kept = new[0].index - entries[0].index
            if kept > len(entries):
                # A hole. It is legal in a log whose oldest segments are gone, if a base recorded
                # later covers everything before it; ``check_complete`` makes sure of that.
                entries.clear()
            elif kept < len(entries):
                del entries[max(kept, 0) :]
        entries.extend(new)

    def recovered(self) -> dict[str, RecoveredGroup]:
        """The live groups.

        Raises:
            InvalidInput: entries are missing between a group's base and its log.
        """
        self.check_complete()
        found = {}
        for number, state in self.states.items():
            if state.live:
                entries = self._after_base(number, state)
                found[state.name] = RecoveredGroup(
                    state.name,
                    state.hard_state,
                    state.base,
                    state.configuration,
                    tuple(entries),
                    self._doubt(number, state, entries),
                )
        return found

    def _doubt(self, number: int, state: GroupState, entries: list[Entry]) -> Doubt | None:
        """The doubt with the runs that the log has not reached meanwhile."""
        if state.doubt is None:
            return None
        last_index = entries[-1].index if entries else state.base.index
        runs = (run for run in self._runs.get(number, ()) if run[0].index > last_index)
        return state.doubt._replace(runs=tuple(runs))

    def check_complete(self) -> None:
        """Make sure that no entry is missing between a group's base and its log.

        Raises:
            InvalidInput: some are.
        """
        for number, state in self.states.items():
            entries = self._after_base(number, state)
            if entries and entries[0].index != state.base.index + 1:
                raise InvalidInput(
                    f"group {state.name!r} begins at index {state.base.index} and its entries at "
                    f"{entries[0].index}: those between are missing"
                )

    def _after_base(self, number: int, state: GroupState) -> list[Entry]:
        entries = self._entries.get(number, [])
        if entries and entries[0].index <= state.base.index:
            del entries[: state.base.index - entries[0].index + 1]
        return entries


class GroupTail:
    """Where the log of one group stands, with everything handed in so far."""

    __slots__ = ("base_index", "group", "hard_state", "last_index", "live")

    def __init__(self, group: int, hard_state: HardState, *, live: bool) -> None:
        self.group = group
        self.live = live
        self.hard_state = hard_state
        self.base_index = 0
        self.last_index = 0


class LogTails:
    """The front of a log device: turns what callers ask into records that fit the log.

    It runs ahead of the disk by whatever is pending, so holes are found at the call that would
    make one and not at the next recovery.
    """

    def __init__(self, states: dict[int, GroupState], recovered: dict[str, RecoveredGroup]) -> None:
        self._tails: dict[str, GroupTail] = {}
        self._next_group = max(states, default=0) + 1
        for group, state in states.items():
            tail = GroupTail(group, state.hard_state, live=state.live)
            tail.base_index = tail.last_index = state.base.index
            if state.live:
                tail.last_index = recovered[state.name].last.index
            self._tails[state.name] = tail

    def check(self) -> None:
        """Every promise about the tails, one per line."""
        numbers = [tail.group for tail in self._tails.values()]
        assert len(set(numbers)) == len(numbers), "no two groups share a number"
        assert all(number < self._next_group for number in numbers), "no number is given out twice"
        for tail in self._tails.values():
            assert 0 <= tail.base_index <= tail.last_index, "a base is not beyond its log"

    def tail(self, name: str) -> GroupTail:
        """The tail of a live group.

        Raises:
            InvalidInput: there is none.
        """
        tail = self._tails.get(name)
        if tail is None or not tail.live:
            raise InvalidInput(f"no group {name!r} in this log", remedy="Create it first")
        return tail

    def create(
        self, name: str, configuration: Configuration, doubt: Doubt | None = None
    ) -> GroupRecorded:
        """Begin a group; one that was retired keeps its number, term and vote.

        Raises:
            InvalidInput: it exists already, or its name cannot be stored.
        """
        check_name(name, "a group's name")
        tail = self._tails.get(name)
        if tail is None:
            tail = self._tails[name] = GroupTail(self._next_group, HardState(), live=True)
            self._next_group += 1
        elif tail.live:
            raise InvalidInput(f"group {name!r} exists already in this log")
        tail.live = True
        tail.base_index = tail.last_index = 0
        state = GroupState(name, True, tail.hard_state, ORIGIN, configuration, doubt)
        return GroupRecorded(tail.group, state)

    def end_doubt(self, name: str) -> DoubtEnded:
        """A group's log is certain again.

        Raises:
            InvalidInput: there is no such group.
        """
        return DoubtEnded(self.tail(name).group)

    def retire(self, name: str) -> GroupRetired:
        """End a group.

        Raises:
            InvalidInput: there is none.
        """
        tail = self.tail(name)
        tail.live = False
        return GroupRetired(tail.group)

    def append(
        self, name: str, hard_state: HardState | None, blocks: Iterable[Block]
    ) -> list[Record]:
        """Take a term and vote and entries, in that order.

        Raises:
            InvalidInput: there is no such group.
        """
        tail = self.tail(name)
        records: list[Record] = []
        if hard_state is not None:
            before = tail.hard_state
            assert hard_state.term >= before.term, f"group {name}: terms never go back"
            assert hard_state.term > before.term or before.voted_for in (
                "",
                hard_state.voted_for,
            ), f"group {name}: one vote in a term"
            records.append(HardStateSaved(tail.group, hard_state))
        last_index = tail.last_index
        for block in blocks:
            if not block.entries:
                continue
            first_index = block.entries[0].index
            assert first_index <= last_index + 1, (
                f"group {name}: entries from {first_index} after {last_index} leave a hole"
            )
            assert first_index > tail.base_index, (
                f"group {name}: entries from {first_index} reach below the base {tail.base_index}"
            )
            last_index = block.entries[-1].index
            records.append(EntriesAppended(tail.group, block))
        tail.last_index = last_index
        if hard_state is not None:
            tail.hard_state = hard_state
        return records

    def move_base(
        self, name: str, base: LogPosition, configuration: Configuration, *, suffix_kept: bool
    ) -> BaseMoved:
        """Begin the log of a group at a later position.

        Raises:
            InvalidInput: there is no such group.
        """
        tail = self.tail(name)
        assert base.index >= tail.base_index, f"group {name}: a base never goes back"
        if suffix_kept:
            assert base.index <= tail.last_index, (
                f"group {name}: compacting to {base.index} beyond the last entry {tail.last_index}"
            )
        else:
            tail.last_index = base.index
        tail.base_index = base.index
        return BaseMoved(tail.group, base, configuration, suffix_kept)
