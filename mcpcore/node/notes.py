"""What nodes tell each other beside the messages of Raft, as rows in a frame.

This module exists so that the third part of a frame, which came with version 2 of the protocol, is
read and written in one place, believing nothing of it. A note may get lost; whoever needs an answer
asks again. A reader skips kinds it does not know, so that later releases may add some. It must
never act on what it decodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from mcpcore.errors import InvalidInput
from mcpcore.node.divergence import DIGEST_BYTES_MAX
from mcpcore.node.founding import Standing
from mcpcore.raft.types import MAX_UINT

NOTES_SINCE: Final = 2
"""The first version of the protocol whose frames may hold notes, and whose members understand what
configurations say about members."""
NOTES_PER_FRAME: Final = 256
GROUPS_PER_CONFIRMED: Final = 1024
"""So that the note of a node that leads thousands of groups fits a frame."""


class FoundingAsked(NamedTuple):
    """What do you know of this group, and of me in it?"""

    group: str


class FoundingAnswered(NamedTuple):
    """An answer to ``FoundingAsked``: what the group is here (see ``Standing``), under which
    incarnation you are a member of it (empty: none), and the zone that I am in.
    """

    group: str
    standing: int
    known_as: str
    zone: str


class DigestWanted(NamedTuple):
    """I shall take a digest at this index, which is not there yet; please do so too."""

    group: str
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


class DigestTaken(NamedTuple):
    """The digest of my state with everything up to this index applied."""

    group: str
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    digest: bytes


class ViewTold(NamedTuple):
    """How a group looks from here. Members that miss their leader tell each other.

    Args:
        leader: whom we follow; empty if nobody.
        silent_ms: for how long no leader with a quorum was in contact.
        asks: whether the receiver should say how it looks from there.
    """

    group: str
    term: int
    leader: str
    commit: int
    last_index: int
    silent_ms: int
    asks: bool


class Confirmed(NamedTuple):
    """Columns: of groups that I lead, how far I had committed, and when a quorum had surely
    confirmed me, on the cluster's clock in nanoseconds (``mcpcore.raft.staleness``).
    """

    groups: tuple[str, ...]
    commits: tuple[int, ...]
    confirmed_ns: tuple[int, ...]


class Said(NamedTuple):
    """A message of anti-entropy about replicated data of that name: see ``mcpcore.crdt``."""

    document: str
    message: bytes


class Traced(NamedTuple):
    """I lead and have appended this entry, for a call that somebody traces: a W3C ``traceparent``
    of any length and sense, which the receiver judges.
    """

    group: str
    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    traceparent: str


Note = (
    FoundingAsked
    | FoundingAnswered
    | DigestWanted
    | DigestTaken
    | Said
    | ViewTold
    | Confirmed
    | Traced
)

_NUMBERS: Final[dict[type[Note], int]] = {
    FoundingAsked: 1,
    FoundingAnswered: 2,
    DigestWanted: 3,
    DigestTaken: 4,
    Said: 5,
    ViewTold: 6,
    Confirmed: 7,
    Traced: 8,
}
"""Numbers are part of the protocol."""
_KINDS: Final[dict[int, tuple[type[Any], tuple[type, ...]]]] = {
    1: (FoundingAsked, (str,)),
    2: (FoundingAnswered, (str, int, str, str)),
    3: (DigestWanted, (str, int)),
    4: (DigestTaken, (str, int, bytes)),
    5: (Said, (str, bytes)),
    6: (ViewTold, (str, int, str, int, int, int, bool)),
    7: (Confirmed, (tuple, tuple, tuple)),
    8: (Traced, (str, int, int, str)),
}


_STANDINGS: Final = frozenset(int(standing) for standing in Standing)


def to_rows(notes: Sequence[Note]) -> list[tuple[object, ...]]:
    """Notes as they stand in a frame."""
    return [(_NUMBERS[type(note)], *note) for note in notes]


def from_rows(rows: object) -> list[Note]:
    """The notes in a frame, without those of kinds that are not known here.

    Raises:
        InvalidInput: these are no notes.
    """
    if type(rows) is not tuple:
        raise InvalidInput("the notes of a frame must be an array")
    notes: list[Note] = []
    for row in rows:
        if type(row) is not tuple or not row or type(row[0]) is not int:
            raise InvalidInput("a note must be an array that starts with its number")
        kind = _KINDS.get(row[0])
        if kind is None:
            continue
        make, types = kind
        if tuple(map(type, row[1:])) != types:
            raise InvalidInput(f"a malformed note: {make.__name__} of {row[1:]!r}"[:200])
        note = make(*row[1:])
        if (
            isinstance(note, FoundingAnswered)
            and note.standing not in Standing.__members__.values()
        ):
            raise InvalidInput(f"{note.standing} is nothing that a group can be")
        if isinstance(note, DigestWanted | DigestTaken) and not 0 < note.index <= MAX_UINT:
            raise InvalidInput(f"{note.index} is no index to take a digest at")
        if isinstance(note, DigestTaken) and not 0 < len(note.digest) <= DIGEST_BYTES_MAX:
            raise InvalidInput(f"a digest of {len(note.digest)} bytes")
        if isinstance(note, ViewTold) and not all(0 <= n <= MAX_UINT for n in _numbers(note)):
            raise InvalidInput(f"a view with numbers out of range: {note!r}"[:200])
        if isinstance(note, Confirmed):
            _check_columns(note)
        notes.append(note)
    return notes


def _check_columns(note: Confirmed) -> None:
    names, *numbers = note
    if not 0 < len(names) <= GROUPS_PER_CONFIRMED or any(len(names) != len(n) for n in numbers):
        raise InvalidInput(f"columns of {', '.join(str(len(column)) for column in note)} fields")
    if any(type(name) is not str for name in names):
        raise InvalidInput("the first column must be names of groups")
    for number in (number for column in numbers for number in column):
        if type(number) is not int or not 0 <= number <= MAX_UINT:
            raise InvalidInput(f"{number!r} is neither an index nor a moment")


def _numbers(note: ViewTold) -> tuple[int, ...]:
    return (note.term, note.commit, note.last_index, note.silent_ms)
