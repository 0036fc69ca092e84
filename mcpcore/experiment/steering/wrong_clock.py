"""How a process's clocks go wrong: arithmetic on two integers.

This module exists so that the clocks of real processes are broken by the same verbs, and to the
same nanosecond, as those of simulated hosts (`mcpcore.sim.clock`), and never by setting the
machine's own. Readings of the true clocks are handed in; it must never read one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

_PPB: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongClock:
    """A monotonic and a wall clock, as functions of the true ones. The default is the truth.

    Args:
        since_ns: true monotonic time of the latest change of a rate.
        monotonic_ahead_ns: how far the monotonic clock was ahead then.
        wall_ahead_ns: how far the wall clock was ahead then.
        drift_ppb: both clocks run too fast by so much.
        slew_ppb: the wall clock is steered by so much besides.
        swing_ns: while it strobes, the wall clock jumps so far ahead and back.
        strobe_since_ns: true monotonic time when that began.
        strobe_period_ns: how long it stays on either side; 0: it does not strobe.
        frozen_wall_ns: what the wall clock shows while it stands still; 0: it runs.
    """

    since_ns: int = 0
    monotonic_ahead_ns: int = 0
    wall_ahead_ns: int = 0
    drift_ppb: int = 0
    slew_ppb: int = 0
    swing_ns: int = 0
    strobe_since_ns: int = 0
    strobe_period_ns: int = 0
    frozen_wall_ns: int = 0

    def monotonic_ns(self, true_ns: int) -> int:
        """What the monotonic clock shows."""
        gone_ns = true_ns - self.since_ns
        return true_ns + self.monotonic_ahead_ns + gone_ns * self.drift_ppb // _PPB

    def wall_ns(self, true_ns: int, true_wall_ns: int) -> int:
        """What the wall clock shows.

        Args:
            true_ns: the true monotonic clock. true_wall_ns: the true wall clock.
        """
        if self.frozen_wall_ns:
            return self.frozen_wall_ns
        gone_ns = true_ns - self.since_ns
        drifted_ns = gone_ns * (self.drift_ppb + self.slew_ppb) // _PPB
        wall_ns = true_wall_ns + self.wall_ahead_ns + drifted_ns
        if self.strobe_period_ns:
            half = (true_ns - self.strobe_since_ns) // self.strobe_period_ns
            if half % 2 == 0:
                wall_ns += self.swing_ns
        return wall_ns

    # --- going wrong -----------------------------------------------------------------------------

    def stepped(self, by_ns: int) -> WrongClock:
        """The wall clock is set; the monotonic clock does not notice."""
        frozen_ns = self.frozen_wall_ns and self.frozen_wall_ns + by_ns
        return replace(self, wall_ahead_ns=self.wall_ahead_ns + by_ns, frozen_wall_ns=frozen_ns)

    def drifting(self, true_ns: int, ppm: float) -> WrongClock:
        """Both clocks run so much faster than now, from now on."""
        return replace(self._rebased(true_ns), drift_ppb=self.drift_ppb + round(ppm * 1000))

    def slewed(self, true_ns: int, ppm: float) -> WrongClock:
        """The wall clock is steered so much faster than now, from now on."""
        return replace(self._rebased(true_ns), slew_ppb=self.slew_ppb + round(ppm * 1000))

    def strobing(self, true_ns: int, swing_ns: int, period_ns: int) -> WrongClock:
        """The wall clock jumps to and fro from now on; a period of 0 ends it."""
        return replace(self, strobe_since_ns=true_ns, swing_ns=swing_ns, strobe_period_ns=period_ns)

    def frozen(self, true_ns: int, true_wall_ns: int) -> WrongClock:
        """The wall clock stands still from now on."""
        return replace(self, frozen_wall_ns=self.wall_ns(true_ns, true_wall_ns))

    def thawed(self) -> WrongClock:
        """It runs again, as if it had never stood still."""
        return replace(self, frozen_wall_ns=0)

    def _rebased(self, true_ns: int) -> WrongClock:
        gone_ns = true_ns - self.since_ns
        return replace(
            self,
            since_ns=true_ns,
            monotonic_ahead_ns=self.monotonic_ahead_ns + gone_ns * self.drift_ppb // _PPB,
            wall_ahead_ns=self.wall_ahead_ns + gone_ns * (self.drift_ppb + self.slew_ppb) // _PPB,
        )
