"""How a saga ended, as its caller is told.

This module exists so that callers see plain facts, and not the state that an engine works with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mcpcore.saga.state import State, Status


class Outcome(NamedTuple):
    """How a saga ended; or, if it is parked, how far it came."""

    saga: str
    status: Status
    """``completed``, ``compensated`` or ``parked``."""
    results: Mapping[str, Any]
    """What its steps returned, by name."""
    errors: Mapping[str, str]
    """All errors that were not overcome: of steps, and of compensations (``name.undo``)."""
    why: str
    """Why it turned back; empty if it did not."""
    note: str
    """What an operator wrote who ended it by hand."""

    @property
    def ok(self) -> bool:
        """Whether everything was done."""
        return self.status is Status.COMPLETED


def outcome_of(state: State) -> Outcome:
    """The outcome of a saga that has ended, or is parked."""
    return Outcome(state.saga, state.status, state.results, state.errors, state.why, state.note)
