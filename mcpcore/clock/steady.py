"""Physical time that follows the monotonic clock: slewed toward the cluster, never stepped back.

This module exists so that a step of the system clock, whoever caused it, cannot enter a timestamp:
the system clock is read once, at the start, and watched from then on. It turns readings into
readings; it must never take one.

*Steady* time is the system clock at the start plus what the monotonic clock has counted since. It
is what heartbeats carry, because it is the straightest line there is. *Physical* time is steady
time plus a correction that a calibration steers and that changes by a bounded rate.

HAZARD: the correction of what was wrong at the start is slewed as well; a large one takes long
(half a second at 500 ppm takes a thousand seconds). Until then the node's timestamps stand apart
by what is left, and its uncertainty says so. Only a clock that is *behind* by more than
``step_over_ns`` is put forward at once, which breaks no order.

HAZARD: Linux stops CLOCK_MONOTONIC while the machine is suspended. Afterwards steady time is behind
by the suspension; the watch reports that as a jump of the system clock, and no lease may be
trusted until peers have been asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mcpcore.errors import InvalidInput

_PPB = 1_000_000_000


class SteadyClock:
    """Steady and physical time of one node.

    Args:
        wall_ns: the system clock at the start.
        monotonic_ns: the monotonic clock at the same moment.
        slew_max_ppm: how fast an error is corrected at most, on top of the rate that keeps up
            with the cluster.
        slew_over_ns: over how long a small error is corrected.
        step_over_ns: a clock that is behind by more than this is put forward at once.

    Raises:
        InvalidInput: a rate at which time would stand still or run backward.
    """

    __slots__ = (
        "_base_ns",
        "_correction_ns",
        "_rate_ppb",
        "_since_ns",
        "_slew_ns",
        "_slew_ppb",
        "slew_max_ppm",
        "slew_over_ns",
        "step_over_ns",
    )

    def __init__(
        self,
        wall_ns: int,
        monotonic_ns: int,
        *,
        slew_max_ppm: float = 500.0,
        slew_over_ns: int = 10_000_000_000,
        step_over_ns: int = 500_000_000,
    ) -> None:
        if not 0 < slew_max_ppm <= 100_000:
            raise InvalidInput(f"{slew_max_ppm} is outside 0..100000", where="slew_max_ppm")
        if slew_over_ns <= 0 or step_over_ns <= 0:
            raise InvalidInput("durations must be positive", where="slew_over_ns, step_over_ns")
        self.slew_max_ppm = slew_max_ppm
        self.slew_over_ns = slew_over_ns
        self.step_over_ns = step_over_ns
        self._base_ns = wall_ns - monotonic_ns
        self._since_ns = monotonic_ns
        self._correction_ns = 0
        self._slew_ppb = 0
        self._slew_ns = 0
        self._rate_ppb = 0

    def steady_ns(self, monotonic_ns: int) -> int:
        """Steady time: what to put into heartbeats and hand to estimators."""
        return self._base_ns + monotonic_ns

    def physical_ns(self, monotonic_ns: int) -> int:
        """Physical time: what the hybrid clock runs on."""
        return self._base_ns + monotonic_ns + self.correction_ns(monotonic_ns)

    def source(self, monotonic_ns: Callable[[], int]) -> Callable[[], int]:
        """Physical time as a function without arguments, for the hybrid clock's hot path."""

        def physical_ns() -> int:
            # The same as physical_ns() above, in one call instead of three.
            now = monotonic_ns()
            elapsed = now - self._since_ns
            if elapsed <= 0:
                return self._base_ns + now + self._correction_ns
            slewing = self._slew_ns
            if elapsed < slewing:
                slewing = elapsed
            change = (slewing * self._slew_ppb + elapsed * self._rate_ppb) // _PPB
            return self._base_ns + now + self._correction_ns + change

        return physical_ns

    def correction_ns(self, monotonic_ns: int) -> int:
        """Physical minus steady time."""
        elapsed = monotonic_ns - self._since_ns
        if elapsed <= 0:
            return self._correction_ns
        slewing = min(elapsed, self._slew_ns)
        return self._correction_ns + (slewing * self._slew_ppb + elapsed * self._rate_ppb) // _PPB

    def steer(self, monotonic_ns: int, offset_ns: int, skew_ppm: float) -> None:
        """Aim at ``offset_ns`` from steady time, moving with ``skew_ppm`` from now on.

        The same target again changes nothing but the end of the slew; the reading is continuous,
        except that a clock far behind is put forward.

        Raises:
            InvalidInput: ``skew_ppm`` is beyond a tenth of real time.
        """
        if not abs(skew_ppm) <= 100_000:
            raise InvalidInput(f"{skew_ppm} is beyond 100000 ppm either way", where="skew_ppm")
        correction = self.correction_ns(monotonic_ns)
        error = offset_ns - correction
        if error > self.step_over_ns:
            correction, error = offset_ns, 0
        self._since_ns = max(monotonic_ns, self._since_ns)
        self._correction_ns = correction
        self._rate_ppb = round(skew_ppm * 1000)
        limit = round(self.slew_max_ppm * 1000)
        wanted = error * _PPB // self.slew_over_ns
        self._slew_ppb = min(max(wanted, -limit), limit)
        self._slew_ns = abs(error) * _PPB // abs(self._slew_ppb) if self._slew_ppb else 0


@dataclass(frozen=True, slots=True)
class SystemClockJumped:
    """The system clock moved against the monotonic clock, or the monotonic clock stood still.

    Args:
        by_ns: how far; positive is forward.
        at_ns: the monotonic reading that showed it.
    """

    by_ns: int
    at_ns: int


class WallWatch:
    """Compares the system clock with the monotonic clock, look by look.

    Args:
        wall_ns, monotonic_ns: the first pair of readings.
        threshold_ns: a smaller difference between two looks is reading noise.
        slew_max_ppm: how fast the system clock may be slewed without its being a jump.
    """

    __slots__ = (
        "_ahead_ns",
        "_at_ns",
        "_slew_max_ppm",
        "_threshold_ns",
        "jumps",
        "last",
    )

    def __init__(
        self,
        wall_ns: int,
        monotonic_ns: int,
        *,
        threshold_ns: int = 100_000_000,
        slew_max_ppm: float = 1000.0,
    ) -> None:
        self._threshold_ns = threshold_ns
        self._slew_max_ppm = slew_max_ppm
        self._ahead_ns = wall_ns - monotonic_ns
        self._at_ns = monotonic_ns
        self.jumps = 0
        self.last: SystemClockJumped | None = None

    def look(self, wall_ns: int, monotonic_ns: int) -> SystemClockJumped | None:
        """Compare with the previous look; the event if it jumped since."""
        moved = wall_ns - monotonic_ns - self._ahead_ns
        elapsed = max(0, monotonic_ns - self._at_ns)
        self._ahead_ns += moved
        self._at_ns = monotonic_ns
        if abs(moved) <= self._threshold_ns + elapsed * self._slew_max_ppm * 1e-6:
            return None
        self.jumps += 1
        self.last = SystemClockJumped(moved, monotonic_ns)
        return self.last
