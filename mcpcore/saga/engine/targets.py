"""What stands between a saga and the services it calls: fuse, bulkhead, retry budget.

This module exists so that one sick service costs its callers little and nobody else anything. All
sagas of an engine share it. It decides nothing about sagas.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from mcpcore.errors import InvalidInput, TargetUnavailable
from mcpcore.saga.backoff import RetryBudget
from mcpcore.saga.breaker import FUSE_8S, Breaker, BreakerState, Fuse, Passed


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSettings:
    """How one service is treated.

    Args:
        fuse: when its circuit breaker opens, and how long a call to it may take at most.
        calls_max: the bulkhead: so many calls at a time.
        waiting_max: so many more may wait for a place; then calls are refused.
    """

    fuse: Fuse = FUSE_8S
    calls_max: int = 64
    waiting_max: int = 4096

    def __post_init__(self) -> None:
        if self.calls_max < 1 or self.waiting_max < 0:
            raise InvalidInput("a bulkhead lets through at least one call", where="TargetSettings")


class Target:
    """One service, as seen by all sagas of an engine.

    Args:
        changed: told of every change of the breaker's state.
    """

    def __init__(
        self,
        name: str,
        settings: TargetSettings,
        monotonic_ns: Callable[[], int],
        changed: Callable[[str, BreakerState], None],
    ) -> None:
        self.name = name
        self.settings = settings
        self.breaker = Breaker(settings.fuse)
        self.retries = RetryBudget()
        self._monotonic_ns = monotonic_ns
        self._changed = changed
        self._under_way = 0
        self._promised = 0
        """Places that belong to somebody who was woken and has not come yet."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._told = self.breaker.state

    def try_enter(self) -> Ticket | None:
        """A ticket if there is a place at once; None if one has to wait.

        Raises:
            TargetUnavailable: the circuit is open, or too many wait already.
        """
        if self._under_way + self._promised >= self.settings.calls_max:
            if len(self._waiting) >= self.settings.waiting_max:
                raise TargetUnavailable(self.name, f"{len(self._waiting)} calls wait already")
            return None
        return self._admit()

    def _admit(self) -> Ticket:
        passed = self.breaker.admit(self._monotonic_ns())
        self._tell()
        if passed is None:
            raise TargetUnavailable(self.name, f"its circuit is {self.breaker.state}")
        self._under_way += 1
        return Ticket(self, passed)

    async def enter(self) -> Ticket:
        """A ticket, when there is a place. First come, first served.

        Raises:
            TargetUnavailable: the circuit is open, or too many wait already.
        """
        ticket = self.try_enter()
        if ticket is not None:
            return ticket
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
            self._promised -= 1
            return self._admit()
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # whoever gave a place back may have passed it over
                    self._waiting.remove(turn)
            else:
                self._promised -= 1
                self._wake_one()
            raise
        except TargetUnavailable:
            self._wake_one()  # the place that was ours is the next one's
            raise

    async def enter_patiently(self) -> Ticket:
        """A ticket, however long it takes: for compensations, which must get through."""
        pause_s = 0.05
        while True:
            try:
                return await self.enter()
            except TargetUnavailable:
                wait_ns = self.breaker.retry_at_ns() - self._monotonic_ns()
                await asyncio.sleep(max(pause_s, wait_ns / 1e9))
                pause_s = min(1.0, 2 * pause_s)

    def done(self, passed: Passed, answered: bool | None) -> None:
        """A call ended.

        Args:
            answered: whether the target did its part; None: nothing was learnt of it.
        """
        self._under_way -= 1
        if answered is None:
            self.breaker.withdrawn(passed)
        elif answered:
            self.breaker.succeeded(passed)
        else:
            self.breaker.failed(passed, self._monotonic_ns())
        self._tell()
        self._wake_one()

    def _wake_one(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._promised += 1
                return

    def _tell(self) -> None:
        if self.breaker.state is not self._told:
            self._told = self.breaker.state
            self._changed(self.name, self._told)


class Ticket:
    """A place for one call. Must be given back, once."""

    __slots__ = ("_passed", "_target")

    def __init__(self, target: Target | None, passed: Passed | None = None) -> None:
        self._target = target
        self._passed = passed

    def give_back(self, answered: bool | None) -> None:
        """The call ended, or was not made (None)."""
        target, self._target = self._target, None
        if target is not None and self._passed is not None:
            target.done(self._passed, answered)
