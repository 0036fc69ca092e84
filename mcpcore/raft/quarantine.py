"""What Raft truncated is not lost: the format of the quarantine, and what may be done with it.

This module exists so that an entry which an old leader accepted and no quorum ever confirmed can
be listed, read, exported, proposed again or thrown away, on purpose and with a record of it. Bytes
and values only; the file itself is somebody else's (:class:`QuarantineDevice`). It must never
decide what is truncated, nor propose anything itself.

The file is appended to and never changed: a header, then records (``quarantine_file``). A record
adds an entry, or says what became of one.

Nothing applies twice: a command is proposed again as the very bytes it was, its client's session
and sequence included, so the session table answers with the first result if the client's own retry
came through meanwhile, and refuses if the client has moved on.

HAZARD: a command that was proposed outside a session carries no such protection. It is refused
unless the operator says that applying it twice does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mcpcore.errors import InvalidInput, QuarantineFull
from mcpcore.raft.custody import Dropped
from mcpcore.raft.quarantine_file import Damage, is_beginning, pack_record, scan
from mcpcore.raft.quarantined import PROPOSABLE, Fate, Overflow, Quarantined, Reproposal
from mcpcore.raft.types import ENTRY_KINDS, MAX_UINT, EntryKind

FORMAT_VERSION = 1
_HEADER, _ENTRY, _FATE, _LOST = 0, 1, 2, 3
_OVERFLOWS_MAX = 256
"""Records of what did not fit; they go beyond the limit, so they too must end somewhere."""


class QuarantineDevice(Protocol):
    """Where the bytes are."""

    def read(self) -> bytes:
        """All of them."""
        ...

    def append(self, data: bytes) -> None:
        """Add at the end, in order. When it is durable is the device's to say."""
        ...

    def truncate(self, size: int) -> None:
        """Cut off what a crash left torn at the end."""
        ...


@dataclass(frozen=True, slots=True)
class QuarantineLimits:
    """How much is kept.

    Args:
        max_bytes: of the file. What would not fit is counted, not kept, and said loudly.
    """

    max_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        if type(self.max_bytes) is not int or not 4096 <= self.max_bytes <= MAX_UINT:
            raise InvalidInput(f"must be at least 4096, not {self.max_bytes!r}", where="max_bytes")


class Quarantine:
    """The quarantine of one group on one node.

    Args:
        device: the file, empty at first.
        group, node: whose it is; a file of others is refused.

    Raises:
        InvalidInput: the file is another's, of another version, or no quarantine at all.
    """

    def __init__(
        self,
        device: QuarantineDevice,
        group: str,
        node: str,
        limits: QuarantineLimits | None = None,
    ) -> None:
        self._device = device
        self._limits = limits or QuarantineLimits()
        self._entries: dict[int, Quarantined] = {}
        self._at: dict[tuple[int, int], int] = {}
        self.damage: tuple[Damage, ...] = ()
        """What is not sound in the file. Torn bytes at the end are no loss: they were never
        acknowledged."""
        self.overflows: list[Overflow] = []
        """What could not be kept."""
        self._next = 1
        self._size = 0
        self._load(device.read(), group, node)
        if not self._size:
            self._append([_HEADER, FORMAT_VERSION, group, node, self._next])

    # --- keeping -------------------------------------------------------------------------------

    def keep(self, dropped: Sequence[Dropped], *, wall_ns: int) -> list[Quarantined]:
        """Keep what left a log. What is here already, after a crash in between, stays as it is.

        Raises:
            QuarantineFull: not all fit. Those that do not were counted in the file; the earlier
                ones of this call are kept.
        """
        kept: list[Quarantined] = []
        fresh = [each for each in dropped if not self._holds(each)]
        for position, (entry, origin, replaced_by, covered) in enumerate(fresh):
            kind = EntryKind(entry.kind)
            fate = Fate.KEPT if kind in PROPOSABLE else Fate.NOTED
            item = Quarantined(
                self._next,
                entry.term,
                entry.index,
                kind,
                entry.data,
                origin,
                replaced_by,
                wall_ns,
                covered,
                fate,
            )
            packed = _packed(item)
            if self._size + len(packed) > self._limits.max_bytes:
                rest = fresh[position:]
                self._overflow(rest, wall_ns)
                raise QuarantineFull(len(rest), entry.index, self._limits.max_bytes)
            self._write(packed)
            self._add(item)
            kept.append(item)
        return kept

    def _holds(self, dropped: Dropped) -> bool:
        entry = dropped.entry
        number = self._at.get((entry.term, entry.index))
        return number is not None and self._entries[number].data == entry.data

    def _add(self, item: Quarantined) -> None:
        self._entries[item.number] = item
        self._at[item.term, item.index] = item.number
        self._next = max(self._next, item.number + 1)

    def _overflow(self, rest: Sequence[Dropped], wall_ns: int) -> None:
        overflow = Overflow(len(rest), rest[0].entry.index, rest[-1].entry.index, wall_ns)
        if len(self.overflows) >= _OVERFLOWS_MAX:
            self.overflows[-1] = overflow._replace(
                entries=overflow.entries + self.overflows[-1].entries
            )
            return
        self.overflows.append(overflow)
        self._append([_LOST, *overflow])

    # --- looking -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self, *, fate: Fate | None = Fate.KEPT) -> list[Quarantined]:
        """Entries by number; ``fate`` None gives all."""
        return [item for item in self._entries.values() if fate is None or item.fate is fate]

    def show(self, number: int) -> Quarantined:
        """One entry.

        Raises:
            InvalidInput: there is no such number.
        """
        item = self._entries.get(number)
        if item is None:
            raise InvalidInput(
                f"no entry {number!r}; there are {len(self._entries)}",
                where="quarantine",
                remedy="`entries()` names them",
            )
        return item

    def export(self, numbers: Iterable[int] = ()) -> str:
        """Entries as lines of JSON, all where no numbers are given."""
        chosen = [self.show(number) for number in numbers] or self.entries(fate=None)
        return "".join(json.dumps(item.as_dict()) + "\n" for item in chosen)

    # --- deciding ------------------------------------------------------------------------------

    def discard(self, number: int, *, by: str, note: str = "") -> Quarantined:
        """Throw an entry away, on record.

        Raises:
            InvalidInput: there is no such entry, or it was decided upon before.
        """
        return self._decide(number, Fate.DISCARDED, by, note)

    def repropose(self, number: int, *, may_apply_twice: bool = False) -> Reproposal:
        """What to propose. Nothing is recorded yet: call :meth:`reproposed` with the answer.

        A crash between the two is harmless for a client's command, which may be proposed any number
        of times.

        Args:
            may_apply_twice: the operator knows that this command, proposed outside a session, does
                no harm if it is applied again.

        Raises:
            InvalidInput: there is no such entry, it was decided upon before, or it may not be
                proposed again.
        """
        item = self._undecided(number)
        if item.kind is EntryKind.COMMAND and not may_apply_twice:
            raise InvalidInput(
                "it was proposed outside a session, so nothing keeps it from applying twice",
                where=f"quarantine, entry {number}",
                remedy="Propose it by hand if that does no harm, or discard it",
            )
        if item.kind is EntryKind.SESSION and item.session is None:
            raise InvalidInput(
                "it opens or closes a session, and means nothing any more",
                where=f"quarantine, entry {number}",
                remedy="Discard it",
            )
        return Reproposal(number, item.kind, item.data)

    def reproposed(self, number: int, *, by: str, note: str = "") -> Quarantined:
        """It was proposed, and ``note`` says what the group answered.

        Raises:
            InvalidInput: there is no such entry, or it was decided upon before.
        """
        return self._decide(number, Fate.REPROPOSED, by, note)

    def _undecided(self, number: int) -> Quarantined:
        item = self.show(number)
        if item.fate is Fate.NOTED:
            raise InvalidInput(
                f"it is the protocol's own ({item.kind.name}) and means nothing outside its place",
                where=f"quarantine, entry {number}",
                remedy="It is on record and asks for no decision",
            )
        if item.fate is not Fate.KEPT:
            raise InvalidInput(
                f"it was {item.fate.value} by {item.by}", where=f"quarantine, entry {number}"
            )
        return item

    def _decide(self, number: int, fate: Fate, by: str, note: str) -> Quarantined:
        item = self._undecided(number)._replace(fate=fate, by=by, note=note)
        self._append([_FATE, number, fate.value, by, note])
        self._entries[number] = item
        return item

    # --- the file ------------------------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        """How long the file is."""
        return self._size

    @property
    def decided(self) -> bool:
        """Whether ``rewritten`` would give room."""
        return any(item.fate is not Fate.KEPT for item in self._entries.values())

    def rewritten(self, group: str, node: str) -> bytes:
        """The file with only what is still undecided, to replace it atomically. Numbers stay, and
        so does the count of what did not fit.
        """
        records = [pack_record([_HEADER, FORMAT_VERSION, group, node, self._next])]
        records += [_packed(item) for item in self.entries()]
        records += [pack_record([_LOST, *overflow]) for overflow in self.overflows]
        return b"".join(records)

    def _append(self, body: list[Any]) -> None:
        self._write(pack_record(body))

    def _write(self, packed: bytes) -> None:
        self._device.append(packed)
        self._size += len(packed)

    def _load(self, data: bytes, group: str, node: str) -> None:
        if not is_beginning(data) and not scan(data)[0]:
            raise InvalidInput("the file does not begin like a quarantine", where="quarantine")
        bodies, self.damage = scan(data)
        self._size = len(data)
        if self.damage and self.damage[-1].torn:
            self._size = self.damage[-1].offset
            self._device.truncate(self._size)
        if not bodies:
            return
        if not (self.damage and self.damage[0].offset == 0):  # else the header itself is rotten
            self._believe(bodies.pop(0), group, node)
        for body in bodies:
            self._replay(body)

    def _believe(self, header: tuple[Any, ...], group: str, node: str) -> None:
        match header:
            case (0, int(version), *_) if version != FORMAT_VERSION:
                raise InvalidInput(
                    f"format version {version}, this program reads {FORMAT_VERSION}",
                    where="quarantine",
                    remedy="Run the version that wrote it",
                )
            case (0, _, str(theirs), str(owner), int(following)):
                self._next = following
                if (theirs, owner) != (group, node):
                    raise InvalidInput(
                        f"the file belongs to group {theirs!r} on {owner!r}, not to {group!r} on "
                        f"{node!r}",
                        where="quarantine",
                    )
            case _:
                raise InvalidInput("the file does not begin like a quarantine", where="quarantine")

    def _replay(self, body: tuple[Any, ...]) -> None:
        match body:
            case (
                1,
                int(number),
                int(term),
                int(index),
                int(kind),
                bytes(data),
                str(origin),
                str(replaced_by),
                int(wall_ns),
                bool(covered),
            ) if kind in ENTRY_KINDS:
                known = EntryKind(kind)
                item = Quarantined(
                    number, term, index, known, data, origin, replaced_by, wall_ns, covered
                )
                self._add(item if known in PROPOSABLE else item._replace(fate=Fate.NOTED))
            case (2, int(number), str(verb), str(by), str(note)) if verb in set(Fate):
                decided = self._entries.get(number)
                if decided is not None:  # else it is rotten, and reported as damage
                    self._entries[number] = decided._replace(fate=Fate(verb), by=by, note=note)
            case (3, int(count), int(first), int(last), int(wall_ns)):
                self.overflows.append(Overflow(count, first, last, wall_ns))
            case _:
                raise InvalidInput(f"a record that means nothing: {body!r:.80}", where="quarantine")

    def check(self) -> None:
        """What the quarantine promises about itself: reading its bytes gives what it holds."""
        assert self._size == len(self._device.read())
        assert all(number == item.number < self._next for number, item in self._entries.items())
        assert list(self._entries) == sorted(self._entries)
        assert all(self._entries[n][1:3] == at for at, n in self._at.items())


def _packed(item: Quarantined) -> bytes:
    number, term, index, kind, data, origin, replaced_by, wall_ns, covered, *_ = item
    body = [_ENTRY, number, term, index, kind, data, origin, replaced_by, wall_ns, covered]
    return pack_record(body)
