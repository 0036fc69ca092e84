"""Handles and tasks as the simulator makes them.

This module exists so that the two objects which asyncio creates most often carry what determinism
needs (a cause, a serial number, a stable name) at the lowest price. A task hashes by its serial
number: sets of tasks, which asyncio programs are full of, then iterate in the same order each run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcpcore.sim.loop import HostLoop


class SimHandle(asyncio.TimerHandle):
    """A callback that waits for its turn on one host.

    ``mono_ns`` is the deadline on the host's monotonic clock, ``-1`` for one without a deadline.
    """

    __slots__ = ("cause", "mono_ns")

    _loop: HostLoop
    _callback: Callable[..., object]
    _args: tuple[Any, ...]
    _cancelled: bool
    _context: Context

    # The base class asks the loop for its debug flag and may take a stack; neither is for us.
    def __init__(
        self,
        loop: HostLoop,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
        cause: int,
        mono_ns: int = -1,
        when: float = 0.0,
    ) -> None:
        self._loop = loop
        self._callback = callback
        self._args = args
        self._context = context
        self._cancelled = False
        self.cause = cause
        self.mono_ns = mono_ns
        self._when = when
        self._scheduled = mono_ns >= 0
        self._repr: str | None = None
        self._source_traceback: None = None

    def cancel(self) -> None:
        """Cancel the callback; cancelling twice is harmless."""
        if not self._cancelled:
            self._cancelled = True
            if self._scheduled:
                self._loop.timeline.timer_cancelled()
            self._callback = _nothing
            self._args = ()


def _nothing() -> None:
    """Stand in for the callback of a cancelled handle, so that it may be freed."""


class SimTask(asyncio.Task[Any]):
    """A task with a serial number for a hash and a name that is the same in every run."""

    serial: int = 0
    label: str = ""

    def __hash__(self) -> int:
        return self.serial

    def set_name(self, value: object) -> None:
        """Rename the task, in the trace as well."""
        super().set_name(value)
        self.label = f"{self.label.partition('/')[0]}/{value}"
