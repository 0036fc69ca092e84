"""Waiting for a place at a target: one gate for each attempt that has to.

This module exists so that a driver's loop can ask for a place and go on: whoever waits is a task,
and the driver hears when it has a ticket or was refused. It must never write to a journal, nor
decide what follows from a refusal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from typing import TypeAlias

from mcpcore.errors import TargetUnavailable
from mcpcore.saga.engine.targets import Target, Ticket

Key: TypeAlias = tuple[str, bool]
"""A step, and whether it is its compensation."""


class Gates:
    """The attempts of one saga that wait for a place, and the tickets that came meanwhile.

    Args:
        news: called when one of them has an answer.
    """

    def __init__(self, news: Callable[[], None]) -> None:
        self._news = news
        self._waiting: dict[Key, asyncio.Task[None]] = {}
        self._answers: dict[Key, Ticket | TargetUnavailable] = {}

    def __contains__(self, key: Key) -> bool:
        """Whether an attempt waits."""
        return key in self._waiting

    def answer(self, key: Key) -> Ticket | None:
        """The ticket that an attempt waited for; None if it did not wait.

        Raises:
            TargetUnavailable: it waited, and was refused.
        """
        found = self._answers.pop(key, None)
        if isinstance(found, TargetUnavailable):
            raise found
        return found

    def enter(self, key: Key, target: Target, *, patiently: bool) -> Ticket | None:
        """A ticket if there is a place at once; else it waits from now on.

        Args:
            patiently: a closed gate is no refusal, but something to wait for.

        Raises:
            TargetUnavailable: there is none.
        """
        try:
            ticket = target.try_enter()
        except TargetUnavailable:
            if not patiently:
                raise
            ticket = None
        if ticket is None:
            wait = self._wait(key, target, patiently)
            self._waiting[key] = asyncio.get_running_loop().create_task(wait)
        return ticket

    async def _wait(self, key: Key, target: Target, patiently: bool) -> None:
        try:
            entering = target.enter_patiently() if patiently else target.enter()
            self._answers[key] = await entering
        except TargetUnavailable as error:
            self._answers[key] = error
        self._waiting.pop(key, None)
        self._news()

    def drop(self, *, but: Container[Key] = ()) -> None:
        """Give up all but some, and give back the tickets that came."""
        for key in [key for key in self._waiting if key not in but]:
            self._waiting.pop(key).cancel()
        for key in [key for key in self._answers if key not in but]:
            ticket = self._answers.pop(key)
            if isinstance(ticket, Ticket):
                ticket.give_back(None)
