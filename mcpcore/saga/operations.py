"""What an operator may do to a saga, from wherever: records written beside the engine's.

This module exists so that a command line, a web page and an engine all refuse and do the same. The
engine that runs the saga finds the record in the journal and goes on from it. It never talks to an
engine.
"""

from __future__ import annotations

from collections.abc import Callable

from mcpcore.errors import InvalidInput, JournalMoved, SagaActionRefused, UnknownSaga
from mcpcore.saga.coordinator import may_cancel
from mcpcore.saga.journals.contract import Journal, head_of
from mcpcore.saga.records import (
    CancelAsked,
    End,
    Ended,
    Entry,
    Record,
    Remedy,
    Unparked,
    decode_entries,
    encode_entries,
    shortened,
)
from mcpcore.saga.state import State

ATTEMPTS = 20
"""How often to write again, when the saga's engine writes at the same time."""


async def read_state(journal: Journal, saga: str) -> State:
    """A saga as its journal has it.

    Raises:
        UnknownSaga: there is none. JournalDamaged: it cannot be read.
    """
    story = await journal.read(saga)
    if story is None:
        raise UnknownSaga(saga)
    return State.replay(saga, decode_entries(story.rows))


def cancel(state: State, *, by: str, why: str) -> Record:
    """Have a saga undone.

    Raises:
        SagaActionRefused: it has ended, or is past its pivot, or is being undone already.
    """
    refused = may_cancel(state)
    if refused:
        raise SagaActionRefused(state.saga, "cancel", refused)
    return CancelAsked(by, shortened(why))


def unpark(state: State, remedy: Remedy, *, by: str, note: str) -> Record:
    """Have a parked saga try again, or count what it is stuck at as done.

    Raises:
        SagaActionRefused: it is not parked.
    """
    if state.parked is None:
        raise SagaActionRefused(state.saga, str(remedy), f"it is not parked, but {state.status}")
    return Unparked(remedy, state.stuck, by, shortened(note))


def resolve(state: State, end: End, *, by: str, note: str, force: bool = False) -> Record:
    """End a parked saga by hand: whoever does so has put things right, one way or the other.

    Args:
        force: end it even though it is not parked.

    Raises:
        SagaActionRefused: it has ended already, or is not parked.
        InvalidInput: there is no note: later readers must know what was done.
    """
    if state.end is not None:
        raise SagaActionRefused(state.saga, "resolve", f"it has ended: {state.end}")
    if state.parked is None and not force:
        raise SagaActionRefused(
            state.saga, "resolve", f"it is not parked, but {state.status}; force it, if its "
            "definition is gone for good",
        )  # fmt: skip
    if not note.strip():
        raise InvalidInput(
            "say what was done by hand", where=f"saga {state.saga}", remedy="Give a note"
        )
    return Ended(end, by, shortened(note))


async def write(
    journal: Journal, saga: str, make: Callable[[State], Record], entry: Callable[[Record], Entry]
) -> State:
    """Write what an operator decided into a saga's journal; returns its new state.

    Args:
        make: the record, given the state; raises if it cannot be.
        entry: adds the time.
    """
    for _ in range(ATTEMPTS):
        state = await read_state(journal, saga)
        expected = state.length
        written = entry(make(state))
        written = written._replace(spent_ns=state.last.spent_ns)
        state.apply(written)
        try:
            await journal.append(head_of(state), expected, encode_entries([written]))
        except JournalMoved:
            continue
        return state
    raise JournalMoved(saga, expected)
