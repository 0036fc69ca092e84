"""How far a peer's clock stands from ours, from messages that flow anyway.

This module exists so that every claim about a peer's clock carries its proof: bounds that hold
whatever the network did, and a best guess inside them. It is handed the four readings of each
exchange. It must never read a clock, nor send anything to learn more.

Of an exchange, ``t1`` is our reading when we sent, ``t2`` the peer's when it received, ``t3`` the
peer's when it answered, ``t4`` ours when the answer came (Mills 1991). A message takes time, so
``t2 - t1`` is at least the offset and ``t3 - t4`` at most: one constraint at ``t1``, one at
``t4``, exact for clocks that run at different rates, needing no symmetry of the link. An
asymmetric link therefore widens the bounds, and shifts the best guess by at most delay / 2, inside
them.

HAZARD: the bounds assume that, within a window, the relative rate of the two clocks stays within
``wander_ppm`` of a constant and within twice ``drift_max_ppm`` of zero. Take readings that follow
the monotonic clock, so that a step of the system clock does not enter. A daemon that slews the
monotonic clock hard breaks the assumption; the polygon then empties and the window starts anew,
but until it does the bounds may be wrong by what was slewed.

HAZARD: a step smaller than the round trip may fit between the constraints and go unseen until the
window has passed, or pass for skew. The bounds are then wrong by at most the round trip of the
newest exchange, since they never leave that exchange's own bounds; in holdover the error grows.
"""

from __future__ import annotations

from dataclasses import dataclass

from mcpcore.clock.interval import Interval
from mcpcore.clock.lines import FeasibleLines, Fit
from mcpcore.errors import InvalidInput

READING_NS_MAX = 1 << 64

WINDOW_NS_MAX = 1 << 52
"""Fifty-two days. Differences within a window stay exact in floating point."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """The four readings of one request and its answer, nanoseconds, ours outside."""

    t1_ns: int
    t2_ns: int
    t3_ns: int
    t4_ns: int

    @property
    def offset_ns(self) -> int:
        """The peer's clock minus ours if the link was symmetric; off by at most delay / 2."""
        return ((self.t2_ns - self.t1_ns) + (self.t3_ns - self.t4_ns)) // 2

    @property
    def delay_ns(self) -> int:
        """Time on the wire, both ways together."""
        return (self.t4_ns - self.t1_ns) - (self.t3_ns - self.t2_ns)


@dataclass(frozen=True, slots=True)
class SampleTaken:
    """An exchange entered the window."""

    peer: str


@dataclass(frozen=True, slots=True)
class SampleRefused:
    """An exchange that cannot have happened as told; nothing changed."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class WindowRestarted:
    """No line fits all exchanges any more: one of the two clocks stepped.

    Args:
        moved_ns: how far the best guess moved.
    """

    peer: str
    moved_ns: int


SampleEvent = SampleTaken | SampleRefused | WindowRestarted


@dataclass(frozen=True, slots=True)
class OffsetEstimate:
    """What is known of a peer's clock at one of our readings. Offsets are peer minus us.

    Args:
        offset_ns: the best guess.
        bounds: the offset lies in here, for certain within the hazards named above.
        skew_ppm: the best guess of the peer's rate minus ours, and its bounds beside it.
        delay_ns: the shortest round trip of the window.
        age_ns: since the newest exchange.
        samples: exchanges in the window.
        steps: windows restarted so far.
    """

    peer: str
    offset_ns: int
    bounds: Interval
    skew_ppm: float
    skew_low_ppm: float
    skew_high_ppm: float
    delay_ns: int
    age_ns: int
    samples: int
    steps: int


class OffsetEstimator:
    """Estimates one peer's clock.

    Args:
        window_ns: how far back exchanges count.
        drift_max_ppm: how wrong the rate of either clock may be.
        wander_ppm: how much a rate may change within a window.

    Raises:
        InvalidInput: a window that is not positive or endless, or a negative rate.
    """

    __slots__ = (
        "_delay_new_ns",
        "_delay_old_ns",
        "_delay_since_ns",
        "_last_t4_ns",
        "_lines",
        "_slope_max",
        "_window_ns",
        "peer",
        "refused",
        "steps",
    )

    def __init__(
        self,
        peer: str,
        *,
        window_ns: int = 600_000_000_000,
        drift_max_ppm: float = 200.0,
        wander_ppm: float = 1.0,
    ) -> None:
        if not 0 < window_ns <= WINDOW_NS_MAX:
            raise InvalidInput(f"{window_ns} is outside 1..{WINDOW_NS_MAX}", where="window_ns")
        if not 0 <= drift_max_ppm <= 100_000:
            raise InvalidInput(f"{drift_max_ppm} is outside 0..100000", where="drift_max_ppm")
        if not 0 <= wander_ppm <= 100_000:
            raise InvalidInput(f"{wander_ppm} is outside 0..100000", where="wander_ppm")
        self.peer = peer
        self.steps = 0
        self.refused = 0
        drift = drift_max_ppm * 1e-6
        self._slope_max = 2 * drift / (1 - drift)
        self._window_ns = window_ns
        self._lines = FeasibleLines(window_ns, self._slope_max, wander_ppm * 1e-6)
        self._last_t4_ns = 0
        self._delay_old_ns: int | None = None
        self._delay_new_ns: int | None = None
        self._delay_since_ns = 0

    def add(self, exchange: Exchange) -> SampleEvent:
        """Take one exchange in, or say why not. Late and reordered ones are welcome."""
        reason = self._impossible(exchange)
        if reason:
            self.refused += 1
            return SampleRefused(self.peer, reason)
        t1, t2, t3, t4 = exchange.t1_ns, exchange.t2_ns, exchange.t3_ns, exchange.t4_ns
        before = self._lines.fit
        # A reading cuts off a part of a nanosecond: each constraint is looser by one.
        fits = self._lines.add((t1, t2 - t1 + 1), (t4, t3 - t4 - 1))
        self._last_t4_ns = max(self._last_t4_ns, t4)
        self._note_delay(exchange.delay_ns, restart=not fits)
        if fits or before is None:
            return SampleTaken(self.peer)
        self.steps += 1
        after = self._fit()
        return WindowRestarted(self.peer, after.value_at(t4) - before.value_at(t4))

    def _impossible(self, exchange: Exchange) -> str:
        t1, t2, t3, t4 = exchange.t1_ns, exchange.t2_ns, exchange.t3_ns, exchange.t4_ns
        for name, reading in (("t1", t1), ("t2", t2), ("t3", t3), ("t4", t4)):
            if not 0 <= reading < READING_NS_MAX:
                return f"{name} is {reading}, no reading in nanoseconds"
        if t4 < t1:
            return f"our own clock went back by {t1 - t4} ns between sending and receiving"
        if t4 - t1 > self._window_ns:
            return f"it took {t4 - t1} ns, longer than the window"
        if t3 < t2:
            return f"the peer answered {t2 - t3} ns before it received"
        if t3 - t2 > (t4 - t1) * (1 + self._slope_max) + 2:
            return (
                f"the peer says it held the request for {t3 - t2} ns; "
                f"all of it took {t4 - t1} ns here"
            )
        if t4 < self._last_t4_ns - self._window_ns:
            return f"it is {self._last_t4_ns - t4} ns older than the newest, beyond the window"
        return ""

    def _note_delay(self, delay_ns: int, *, restart: bool) -> None:
        delay_ns = max(0, delay_ns)
        if restart or self._delay_new_ns is None:
            self._delay_old_ns, self._delay_new_ns = None, delay_ns
            self._delay_since_ns = self._last_t4_ns
        elif self._last_t4_ns - self._delay_since_ns >= self._window_ns // 2:
            self._delay_old_ns, self._delay_new_ns = self._delay_new_ns, delay_ns
            self._delay_since_ns = self._last_t4_ns
        else:
            self._delay_new_ns = min(self._delay_new_ns, delay_ns)

    def _fit(self) -> Fit:
        fit = self._lines.fit
        assert fit is not None, "a window with a sample has a fit"
        return fit

    def estimate(self, at_ns: int) -> OffsetEstimate | None:
        """What is known at our reading ``at_ns``; None before the first exchange.

        Asked later than the newest exchange, the bounds grow with the skew that is still possible
        and the wander: that is holdover, and it never ends by itself.
        """
        fit = self._lines.fit
        if fit is None:
            return None
        delay_ns = self.delay_ns
        assert delay_ns is not None, "a window with a sample has a delay"
        offset_ns, low_ns, high_ns = fit.at(at_ns)
        return OffsetEstimate(
            peer=self.peer,
            offset_ns=offset_ns,
            bounds=Interval(low_ns, high_ns),
            skew_ppm=fit.slope * 1e6,
            skew_low_ppm=fit.slope_low * 1e6,
            skew_high_ppm=fit.slope_high * 1e6,
            delay_ns=delay_ns,
            age_ns=max(0, at_ns - self._last_t4_ns),
            samples=self._lines.count,
            steps=self.steps,
        )

    @property
    def delay_ns(self) -> int | None:
        """The shortest round trip of the window; None before the first exchange."""
        old_ns, new_ns = self._delay_old_ns, self._delay_new_ns
        if old_ns is None or new_ns is None:
            return new_ns if old_ns is None else old_ns
        return min(old_ns, new_ns)

    def check(self) -> None:
        """Every promise this estimator makes about itself."""
        self._lines.check()
