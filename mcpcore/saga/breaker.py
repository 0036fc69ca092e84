"""The circuit breaker of one target: closed, open, half-open.

This module exists so that calls to a target that does not answer fail at once, and so that the
rules of the fuse stand on one screen. Pure: it must never read a clock or wait.

Source: M. Nygard, "Release It!" (2007), the circuit breaker pattern.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from mcpcore.errors import InvalidInput


class BreakerState(StrEnum):
    """What the breaker lets through."""

    CLOSED = "closed"
    """Everything."""
    OPEN = "open"
    """Nothing, until a while has passed."""
    HALF_OPEN = "half-open"
    """A few calls, to find out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuse:
    """When a breaker opens, and how it closes again.

    Args:
        timeout_s: a call to the target is cut off after so long, and counts as failed.
        failures: so many failures in a row open the breaker.
        open_s: how long it stays open before a call may find out.
        probes: calls let through together while half-open; all must succeed.

    Raises:
        InvalidInput: a field is not positive.
    """

    timeout_s: float
    failures: int = 5
    open_s: float
    probes: int = 1

    def __post_init__(self) -> None:
        for name in ("timeout_s", "failures", "open_s", "probes"):
            if not getattr(self, name) > 0:
                raise InvalidInput("must be positive", where=f"Fuse.{name}")


FUSE_3S = Fuse(timeout_s=3.0, open_s=3.0)
"""Blows after 3 s without an answer."""
FUSE_8S = Fuse(timeout_s=8.0, open_s=8.0)
"""Blows after 8 s without an answer."""


class Passed(NamedTuple):
    """Leave to call, to be handed back with the outcome."""

    era: int
    """Outcomes of calls that began before the breaker changed its state say nothing about now."""


class Breaker:
    """One target's breaker. Times are readings of one monotonic clock, in nanoseconds."""

    __slots__ = ("_era", "_failures", "_opened_ns", "_probes", "_state", "_succeeded", "fuse")

    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse
        self._state = BreakerState.CLOSED
        self._era = 0
        self._failures = 0
        self._opened_ns = 0
        self._probes = 0
        self._succeeded = 0

    @property
    def state(self) -> BreakerState:
        """As of the last call of a method."""
        return self._state

    @property
    def failures(self) -> int:
        """Failures in a row, while closed."""
        return self._failures

    def retry_at_ns(self) -> int:
        """When an open breaker will let somebody find out; of no meaning in other states."""
        return self._opened_ns + round(self.fuse.open_s * 1e9)

    def admit(self, now_ns: int) -> Passed | None:
        """Leave for one call, or None. Whoever gets leave must tell how it ended."""
        if self._state is BreakerState.OPEN and now_ns >= self.retry_at_ns():
            self._become(BreakerState.HALF_OPEN)
        if self._state is BreakerState.OPEN:
            return None
        if self._state is BreakerState.HALF_OPEN:
            if self._probes >= self.fuse.probes:
                return None
            self._probes += 1
        return Passed(self._era)

    def succeeded(self, passed: Passed) -> None:
        """The target answered, be it with a refusal."""
        if passed.era != self._era:
            return
        if self._state is BreakerState.HALF_OPEN:
            self._succeeded += 1
            if self._succeeded >= self.fuse.probes:
                self._become(BreakerState.CLOSED)
        else:
            self._failures = 0

    def failed(self, passed: Passed, now_ns: int) -> None:
        """The target did not answer, or not in time."""
        if passed.era != self._era:
            return
        self._failures += 1
        if self._state is BreakerState.HALF_OPEN or self._failures >= self.fuse.failures:
            self._opened_ns = now_ns
            self._become(BreakerState.OPEN)

    def withdrawn(self, passed: Passed) -> None:
        """The call was not made after all, or given up for another reason: nothing was learnt."""
        if passed.era == self._era and self._state is BreakerState.HALF_OPEN:
            self._probes -= 1

    def check(self) -> None:
        """Every promise this breaker makes about itself."""
        assert 0 <= self._probes <= self.fuse.probes
        assert 0 <= self._succeeded < self.fuse.probes or self._state is not BreakerState.HALF_OPEN
        if self._state is BreakerState.CLOSED:
            assert self._failures < self.fuse.failures, "as many would have opened it"

    def _become(self, state: BreakerState) -> None:
        self._state = state
        self._era += 1
        self._failures = self._probes = self._succeeded = 0
