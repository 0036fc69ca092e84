"""What an engine tells about its work: a seam for metrics, spans and alarms.

This module exists so that nobody needs to patch an engine to watch it, and so that it depends on no
library of metrics or traces: an observer is a function that takes an event. It must never do
anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from mcpcore.saga.breaker import BreakerState
from mcpcore.saga.state import Status


class SagaChanged(NamedTuple):
    """A saga began, turned back, was parked, went on or ended; it is in the journal already."""

    saga: str
    definition: str
    status: Status
    why: str
    trace: str


class CallEnded(NamedTuple):
    """An attempt of a step or of a compensation ended: one span, one observation of its time."""

    saga: str
    definition: str
    step: str
    undo: bool
    attempt: int
    target: str
    outcome: str
    """``done``, ``failed`` (for certain), ``unknown`` or ``void`` (nothing was to be done)."""
    error: str
    started_ns: int
    ended_ns: int
    """By the engine's monotonic clock."""
    trace: str


class BreakerChanged(NamedTuple):
    """The circuit breaker of a target changed its state."""

    target: str
    state: BreakerState


class SagaHeld(NamedTuple):
    """The journal does not answer, so a saga waits: its time stands still meanwhile."""

    saga: str
    why: str


class SagaReleased(NamedTuple):
    """The journal answers again, and the saga goes on."""

    saga: str
    held_ns: int


class SagaTaken(NamedTuple):
    """This engine goes on with a saga that another one, or an earlier one, left."""

    saga: str
    definition: str
    previous: str


class SagaLost(NamedTuple):
    """Another engine goes on with a saga that this one ran, so this one let go of it."""

    saga: str
    owner: str


class SagaRefused(NamedTuple):
    """A saga cannot be run here, and was left as it is."""

    saga: str
    why: str


class LockWaited(NamedTuple):
    """A saga waits for a resource that another saga has locked."""

    saga: str
    resource: str
    holder: str


Event: TypeAlias = (
    SagaChanged
    | CallEnded
    | BreakerChanged
    | SagaHeld
    | SagaReleased
    | SagaTaken
    | SagaLost
    | SagaRefused
    | LockWaited
)
Observer: TypeAlias = Callable[[Event], None]
"""Must be quick, and must not wait. What it raises is logged, and harms nothing."""
