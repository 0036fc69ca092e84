"""What a journal holds: everything that ever happened to a saga, in order.

This module exists so that engines, operators and tools of every version agree on the bytes. Records
are in the past tense: they say what has happened, never what to do. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple, get_type_hints

import msgpack

from mcpcore.errors import InvalidInput

TEXT_MAX = 2000
"""Characters of an error or a note that are kept."""


class Started(NamedTuple):
    """The saga exists. Always the first record."""

    definition: str
    version: str
    input: Any
    owner: str
    budget_ns: int
    """Time granted, in nanoseconds; 0 for no deadline."""
    trace: str


class Taken(NamedTuple):
    """An engine goes on with a saga: after a restart, or in the place of one that is gone.

    Whatever was under way has an unknown outcome from here on.
    """

    owner: str
    unwatched_ns: int
    """Time that surely passed with nobody at it."""


class StepStarted(NamedTuple):
    """An attempt of a step is about to be made."""

    step: str
    attempt: int


class StepDone(NamedTuple):
    """A step is done."""

    step: str
    result: Any
    pivot: bool


class StepErred(NamedTuple):
    """An attempt did not bring a step about, or was not even made."""

    step: str
    error: str
    certain: bool
    """Whether it surely changed nothing."""
    final: bool
    """Whether it is not to be tried again."""


class UndoStarted(NamedTuple):
    """An attempt of a compensation is about to be made."""

    step: str
    attempt: int


class UndoDone(NamedTuple):
    """A step is undone."""

    step: str
    void: bool
    """Whether there was nothing to undo: the step never got as far as its resource."""


class UndoErred(NamedTuple):
    """An attempt did not undo a step."""

    step: str
    error: str
    final: bool


class CancelAsked(NamedTuple):
    """Somebody wants the saga undone."""

    by: str
    why: str


class DeadlinePassed(NamedTuple):
    """The saga's time was used up before its pivot."""

    spent_ns: int


class TurnedBack(NamedTuple):
    """From here on the saga is undone. It never turns again."""

    why: str


class Parked(NamedTuple):
    """The saga waits in the dead-letter queue for somebody to decide."""

    why: str
    steps: tuple[str, ...]
    """The steps it is stuck at."""


class Remedy(StrEnum):
    """What somebody decided about a parked saga."""

    RETRY = "retry"
    """Try what failed again, with as many attempts as at first."""
    SKIP = "skip"
    """Count what failed as done: a step that is done, a compensation that has taken place."""


class Unparked(NamedTuple):
    """Somebody decided, and the saga goes on."""

    remedy: Remedy
    steps: tuple[str, ...]
    by: str
    note: str


class End(StrEnum):
    """How a saga ended."""

    COMPLETED = "completed"
    COMPENSATED = "compensated"


class Ended(NamedTuple):
    """The saga is over. Always the last record."""

    end: End
    by: str
    """Who ended it by hand; empty if it came to its end."""
    note: str


class Migrated(NamedTuple):
    """The saga goes on in another version of its definition."""

    version: str
    rename: dict[str, str]


Record = (
    Started
    | Taken
    | StepStarted
    | StepDone
    | StepErred
    | UndoStarted
    | UndoDone
    | UndoErred
    | CancelAsked
    | DeadlinePassed
    | TurnedBack
    | Parked
    | Unparked
    | Ended
    | Migrated
)


class Entry(NamedTuple):
    """A record with when it was written."""

    record: Record
    at_ns: int = 0
    """The cluster's time (or, where nobody can tell it, the system clock's), since 1970."""
    radius_ns: int = -1
    """How far ``at_ns`` may lie from the cluster's time; -1: nobody can tell."""
    spent_ns: int = 0
    """How much of the saga's budget was spent."""


# Tags are for ever: they stand in journals.
_FORMS: Final[dict[int, type[Any]]] = {
    1: Started,
    2: Taken,
    3: StepStarted,
    4: StepDone,
    5: StepErred,
    6: UndoStarted,
    7: UndoDone,
    8: UndoErred,
    9: CancelAsked,
    10: DeadlinePassed,
    11: Parked,
    12: Unparked,
    13: Ended,
    14: Migrated,
    15: TurnedBack,
}
_TAGS: Final = {form: tag for tag, form in _FORMS.items()}
_KINDS: Final[dict[type[Any], tuple[Any, ...]]] = {
    form: tuple(get_type_hints(form).values()) for form in _TAGS
}


def encode_entry(entry: Entry) -> bytes:
    """The bytes of one entry."""
    record, at_ns, radius_ns, spent_ns = entry
    packed: bytes = msgpack.packb((_TAGS[type(record)], at_ns, radius_ns, spent_ns, *record))
    return packed


def decode_entry(data: bytes) -> Entry:
    """The entry in some bytes.

    Raises:
        InvalidInput: there is none, or it is of a newer version.
    """
    try:
        row = msgpack.unpackb(data)
    except Exception as error:  # msgpack raises several unrelated classes
        raise InvalidInput(f"no entry of a journal: {error}") from error
    if not isinstance(row, list) or len(row) < 4 or any(type(each) is not int for each in row[:4]):
        raise InvalidInput("no entry of a journal: it must be (tag, time, radius, spent, ...)")
    form = _FORMS.get(row[0])
    if form is None:
        raise InvalidInput(
            f"a record with tag {row[0]}", remedy="A newer version wrote it: use that one"
        )
    kinds = _KINDS[form]
    if len(row) - 4 != len(kinds):
        raise InvalidInput(f"{form.__name__} with {len(row) - 4} fields, not {len(kinds)}")
    fields = [_field(value, kind, form) for value, kind in zip(row[4:], kinds, strict=True)]
    return Entry(form(*fields), row[1], row[2], row[3])


def encode_entries(entries: Iterable[Entry]) -> list[bytes]:
    """Each entry's bytes."""
    return [encode_entry(entry) for entry in entries]


def decode_entries(rows: Sequence[bytes]) -> list[Entry]:
    """The entries in rows of bytes. Raises InvalidInput, which says which row is none."""
    entries = []
    for number, row in enumerate(rows):
        try:
            entries.append(decode_entry(row))
        except InvalidInput as error:
            raise InvalidInput(error.what, where=f"entry {number}", remedy=error.remedy) from error
    return entries


def shortened(text: str) -> str:
    """Text that fits a record, and survives it."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 3] + "..."


def _field(value: Any, kind: Any, form: type[Any]) -> Any:
    if kind is Any:
        return value
    if kind in (int, str, bool):
        if type(value) is kind:
            return value
    elif isinstance(kind, type) and issubclass(kind, StrEnum):
        if isinstance(value, str) and value in kind._value2member_map_:
            return kind(value)
    elif isinstance(value, list):
        if all(isinstance(each, str) for each in value):
            return tuple(value)
    elif isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(each, str) for name, each in value.items()
    ):
        return value
    raise InvalidInput(f"{form.__name__} with {value!r}, which cannot stand there")
