"""Changes of verdicts as a stream, for programs that act on them.

This module exists so that whoever listens slowly costs bounded memory and still ends up with the
truth: of each group only the newest verdict waits, and what was passed over is counted. It must
never judge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, Self

import msgpack

from mcpcore.raft.split import Verdict

GROUPS_WAITING_MAX: Final = 4096
"""Groups of which a change may wait to be taken; beyond it the one that waited longest is lost."""


class VerdictChanged(NamedTuple):
    """A verdict whose state is another than the last one told.

    Args:
        passed_over: changes that were not told since the one told before, of any group: the newest
            of a group takes the place of those that nobody has taken.
    """

    verdict: Verdict
    passed_over: int


class VerdictStream:
    """What one listener is told. Iterate over it; leave with ``close``, or use ``async with``.

    Args:
        leave: called once when the listener leaves.
        wake: called when there is something to take, for listeners that do not iterate.
    """

    __slots__ = ("_changed", "_closed", "_leave", "_passed_over", "_waiting", "_wake")

    def __init__(
        self, leave: Callable[[VerdictStream], None], wake: Callable[[], None] = lambda: None
    ) -> None:
        self._leave = leave
        self._wake = wake
        self._waiting: dict[str, Verdict] = {}
        self._passed_over = 0
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, verdict: Verdict) -> None:
        """A verdict has changed. The newest of a group stands last: changes come in order."""
        if self._closed:
            return
        if self._waiting.pop(verdict.group, None) is not None:
            self._passed_over += 1
        elif len(self._waiting) >= GROUPS_WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]
            self._passed_over += 1
        self._waiting[verdict.group] = verdict
        self._changed.set()
        self._wake()

    def pop(self) -> VerdictChanged | None:
        """The next change; None if none waits."""
        if not self._waiting:
            return None
        verdict = self._waiting.pop(next(iter(self._waiting)))
        passed_over, self._passed_over = self._passed_over, 0
        return VerdictChanged(verdict, passed_over)

    def close(self) -> None:
        """Hear no more; whoever iterates is done. Twice is harmless."""
        if not self._closed:
            self._closed = True
            self._waiting.clear()
            self._changed.set()
            self._leave(self)
            self._wake()

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._closed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> VerdictChanged:
        while True:
            changed = self.pop()
            if changed is not None:
                return changed
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class VerdictWatch:
    """The same for a client, as encoded events: see ``Watching``."""

    __slots__ = ("_stream",)

    def __init__(self, stream: VerdictStream) -> None:
        self._stream = stream

    def take(self) -> tuple[list[bytes], bool]:
        """See ``Watching``."""
        events: list[bytes] = []
        while (changed := self._stream.pop()) is not None:
            told = changed.verdict.as_dict() | {"passed_over": changed.passed_over}
            events.append(msgpack.packb(told))
        return events, self._stream.closed

    def cancel(self) -> None:
        """See ``Watching``."""
        self._stream.close()
