"""What the page may do, if it was started so: plans first, and each plan is carried out once.

This module exists so that nothing changes a cluster by one click: a plan is made and shown, gets a
ticket, and the ticket is good once and for a minute. Who may ask at all is the server's business.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from mcpcore.errors import InvalidInput

TICKET_S: Final = 60.0
_TICKETS_MAX: Final = 64

Given = Mapping[str, str]
"""The arguments of an action, by name."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that can be done.

    Args:
        plan: says in plain words what would happen; raises if it cannot be done.
        run: does it; returns what was done, in plain words.
    """

    plan: Callable[[Given], Awaitable[str]]
    run: Callable[[Given], Awaitable[str]]


class Desk:
    """Plans that wait for a yes.

    Args:
        actions: by name.
        now_s: a monotonic clock.
    """

    def __init__(self, actions: Mapping[str, Action], now_s: Callable[[], float]) -> None:
        self._actions = actions
        self._now_s = now_s
        self._waiting: dict[str, tuple[float, str, Given]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What can be done."""
        return tuple(self._actions)

    async def plan(self, name: str, given: Given) -> tuple[str, str]:
        """What would happen, and a ticket for it.

        Raises:
            InvalidInput: there is no such action.
            CoordinationError: it cannot be done; the error says why.
        """
        action = self._actions.get(name)
        if action is None:
            known = ", ".join(self._actions) or "none"
            raise InvalidInput(f"there is no action {name!r} here; there are: {known}")
        words = await action.plan(given)
        ticket = secrets.token_urlsafe(12)
        while len(self._waiting) >= _TICKETS_MAX:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[ticket] = (self._now_s() + TICKET_S, name, dict(given))
        return words, ticket

    async def carry_out(self, ticket: str) -> str:
        """Do what was planned; returns what was done.

        Raises:
            InvalidInput: no such plan waits, or it is too old.
            CoordinationError: it failed.
        """
        until_s, name, given = self._waiting.pop(ticket, (0.0, "", {}))
        if self._now_s() >= until_s:
            raise InvalidInput("no such plan waits any more", remedy="Ask for the plan again")
        return await self._actions[name].run(given)
