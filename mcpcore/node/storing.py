"""The writes of one group on their way to the device, in order.

This module exists so that two rules have one home. A write that drops entries waits until these are
in quarantine, and all later ones wait behind it. And while the device is full, entries wait here.
A leader then accepts no more, and a follower's answers wait, so that its leader's windows fill. A
term or a vote alone goes on: the device never refuses it, and elections must not stop.
It must never decide what is written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from mcpcore.errors import CoordinationError
from mcpcore.node.storage.contract import LogDevice
from mcpcore.node.storage.writes import store_write
from mcpcore.raft.custody import Dropped
from mcpcore.raft.outcome import Write


class Storing:
    """What one group still has to hand to the device.

    Args:
        device: the node's log.
        group: whose writes these are.
        stored: called when a write is durable.
        failed: called when the log fails.
        wait: called when the device has no room; ``go_on`` is to be called some time later.
        keep: keeps entries that leave the log; done when it is durable, or as good as can be.
    """

    __slots__ = (
        "_closed",
        "_device",
        "_failed",
        "_group",
        "_keep",
        "_keeping",
        "_stored",
        "_wait",
        "_waiting",
    )

    def __init__(
        self,
        device: LogDevice,
        group: str,
        *,
        stored: Callable[[Write], None],
        failed: Callable[[BaseException], None],
        wait: Callable[[], None],
        keep: Callable[[Sequence[Dropped]], asyncio.Future[None]],
    ) -> None:
        self._device = device
        self._group = group
        self._stored = stored
        self._failed = failed
        self._wait = wait
        self._keep = keep
        self._keeping: asyncio.Future[None] | None = None
        self._waiting: deque[Write] = deque()
        self._closed = False

    def __len__(self) -> int:
        """How many writes the device has had no room for."""
        return len(self._waiting)

    def put(self, write: Write) -> None:
        """One more write, after all that came before."""
        self._waiting.append(write)
        self.go_on()

    def go_on(self) -> None:
        """Hand to the device what it takes."""
        waiting = self._waiting
        while waiting and not self._closed:
            if waiting[0].dropped and not self._kept(waiting[0]):
                return
            if waiting[0].blocks and self._device.full:
                self._wait()
                return
            write = waiting.popleft()
            try:
                future = store_write(self._device, self._group, write)
            except CoordinationError as error:
                self._failed(error)
                return
            self._keeping = None
            future.add_done_callback(partial(self._done, write))

    def _kept(self, write: Write) -> bool:
        """Whether what the next write drops is in quarantine; if not, it goes on once it is."""
        if self._keeping is None:
            self._keeping = self._keep(write.dropped)
            self._keeping.add_done_callback(lambda _: self.go_on())
        return self._keeping.done()

    def close(self) -> None:
        """Hand on nothing more, and report nothing more."""
        self._closed = True
        self._waiting.clear()

    def _done(self, write: Write, done: asyncio.Future[None]) -> None:
        if self._closed or done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._failed(error)
        else:
            self._stored(write)
