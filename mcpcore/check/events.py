"""A history as the events that made it: the one order in which every format writes it down.

This module exists so that all writers agree on when an operation whose outcome is unknown was
given up, which is not part of the history's order. It must never know a notation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mcpcore.check.history import BEFORE_THE_LOG, History, Operation, Outcome


class Event(NamedTuple):
    """A call (``outcome`` None) or the end of one."""

    operation: Operation
    outcome: Outcome | None
    time_ns: int


def events(history: History) -> Iterator[Event]:
    """Calls and returns in order.

    A client that gave up says so right before its next call, or at the end; one that never said
    anything has a call and no return.
    """
    ends: list[tuple[int, int, Event]] = []
    for op in history:
        if op.called != BEFORE_THE_LOG:
            ends.append((op.called, op.id, Event(op, None, op.called_ns)))
        if op.returned is not None:
            ends.append((op.returned, op.id, Event(op, op.outcome, op.returned_ns or 0)))
    gave_up: dict[int | str, list[Event]] = {}
    for op in history:
        if op.returned is None and (op.returned_ns is not None or op.called == BEFORE_THE_LOG):
            unknown = Event(op, Outcome.UNKNOWN, op.returned_ns or 0)
            gave_up.setdefault(op.process, []).append(unknown)
    for _, _, event in sorted(ends, key=lambda end: end[:2]):
        waiting = gave_up.get(event.operation.process)
        while waiting and event.outcome is None and waiting[0].operation.id < event.operation.id:
            yield waiting.pop(0)
        yield event
    for waiting in gave_up.values():
        yield from waiting
