"""Sequence numbers of one client session: which are out, and below which all are answered.

This module exists so that the promise behind "exactly once" is kept on the client's side too: a
number is used for one command only, and only answered ones are acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

WINDOW = 512
"""Commands under way at once; half of what the nodes remember (``SessionLimits.window``)."""


class Sequences:
    """The numbers of one session."""

    def __init__(self, session: int) -> None:
        self.session = session
        self._next = 0
        self._out: dict[int, None] = {}  # in order, so that the first key is the lowest
        self._changed = asyncio.Event()

    @property
    def acknowledged_below(self) -> int:
        """Every sequence below this one has been answered."""
        return next(iter(self._out), self._next)

    @property
    def has_room(self) -> bool:
        """Whether the lowest number under way is near enough to the next one."""
        return self._next - self.acknowledged_below < WINDOW

    async def room(self) -> None:
        """Wait until there is room for the next number; take it before anything else is awaited."""
        while not self.has_room:
            self._changed.clear()
            await self._changed.wait()

    @contextmanager
    def next(self) -> Iterator[int]:
        """A number, under way inside the ``with`` block.

        Leaving the block without an answer gives the number up for good: the next command says that
        no answer to it is wanted, and copies of it that arrive later are not applied.
        """
        sequence = self._next
        self._next += 1
        self._out[sequence] = None
        try:
            yield sequence
        finally:
            del self._out[sequence]
            self._changed.set()

    def check(self) -> None:
        """Every promise that the numbers make about themselves."""
        out = list(self._out)
        assert out == sorted(out), "the first one is the lowest"
        assert all(number < self._next for number in out), "what is out was handed out"
        assert not out or self._next - out[0] <= WINDOW, "the window is kept"
