"""What a host believes the time to be.

This module exists so that every way in which a machine's clocks go wrong (offset, drift, steps,
slews, strobes, freezes, leap seconds, suspension) is arithmetic on integers over one true time that
only the simulator knows. The monotonic clock and the wall clock are kept apart, as a kernel keeps
them: steps move the wall clock alone; drift of the crystal moves both; suspension stops the
monotonic clock alone. It must never read a real clock.
"""

from __future__ import annotations

from mcpcore.errors import InvalidInput

_PPB = 1_000_000_000
BOOT_NS = 1_000 * _PPB
"""What a monotonic clock shows when its world begins. Small, so that seconds as floats stay exact
to the nanosecond for months."""


class HostClock:
    """The two clocks of one host, as functions of true time (nanoseconds since the world began).

    Args:
        epoch_ns: true wall-clock time at the world's beginning, nanoseconds since 1970.
        offset_ns: how far the wall clock is ahead of the truth.
        drift_ppm: how much too fast both clocks run, parts per million.

    Raises:
        InvalidInput: a drift that would stop the clock or turn it round.
    """

    __slots__ = (
        "_epoch_ns",
        "_frozen_wall_ns",
        "_mono_base_ns",
        "_rate_ppb",
        "_slew_ppb",
        "_strobe",
        "_true_base_ns",
        "_wall_base_ns",
        "reads",
    )

    def __init__(self, epoch_ns: int, *, offset_ns: int = 0, drift_ppm: float = 0.0) -> None:
        self._epoch_ns = epoch_ns
        self._true_base_ns = 0
        self._mono_base_ns = BOOT_NS
        self._wall_base_ns = epoch_ns + offset_ns
        self._rate_ppb = _rate(drift_ppm)
        self._slew_ppb = 0
        self._strobe: tuple[int, int, int] | None = None
        self._frozen_wall_ns: int | None = None
        self.reads = 0
        """How often code asked for the time: a clock fault that nobody reads did nothing."""

    @property
    def drift_ppm(self) -> float:
        """How much too fast the crystal runs now."""
        return (self._rate_ppb - _PPB) / 1_000

    def monotonic_ns(self, true_ns: int) -> int:
        """Read the monotonic clock."""
        elapsed = true_ns - self._true_base_ns
        return self._mono_base_ns + elapsed * self._rate_ppb // _PPB

    def wall_ns(self, true_ns: int) -> int:
        """Read the wall clock: nanoseconds since 1970, as this host believes."""
        if self._frozen_wall_ns is not None:
            return self._frozen_wall_ns
        elapsed = true_ns - self._true_base_ns
        wall = self._wall_base_ns + elapsed * (self._rate_ppb + self._slew_ppb) // _PPB
        if self._strobe is not None:
            since, swing_ns, period_ns = self._strobe
            if (true_ns - since) // period_ns % 2 == 0:
                wall += swing_ns
        return wall

    def offset_ns(self, true_ns: int) -> int:
        """How far the wall clock is ahead of the truth."""
        return self.wall_ns(true_ns) - (self._epoch_ns + true_ns)

    def true_ns_at(self, monotonic_ns: int) -> int:
        """Return the earliest true time at which the monotonic clock shows ``monotonic_ns``."""
        ahead = monotonic_ns - self._mono_base_ns
        return self._true_base_ns - (-ahead * _PPB // self._rate_ppb)

    # Every change first moves the base to "now", so that what was already shown stays shown.

    def _rebase(self, true_ns: int) -> None:
        elapsed = true_ns - self._true_base_ns
        self._wall_base_ns += elapsed * (self._rate_ppb + self._slew_ppb) // _PPB
        self._mono_base_ns += elapsed * self._rate_ppb // _PPB
        self._true_base_ns = true_ns

    def step(self, true_ns: int, by_ns: int) -> None:
        """Set the wall clock forward (or back) at once; the monotonic clock does not notice."""
        self._rebase(true_ns)
        self._wall_base_ns += by_ns
        if self._frozen_wall_ns is not None:
            self._frozen_wall_ns += by_ns

    def drift(self, true_ns: int, ppm: float) -> None:
        """Let the crystal run ``ppm`` too fast from now on. Timers must be set anew.

        Raises:
            InvalidInput: the clock would stop or turn round.
        """
        rate = _rate(ppm)
        self._rebase(true_ns)
        self._rate_ppb = rate

    def slew(self, true_ns: int, ppm: float) -> None:
        """Steer the wall clock alone, as NTP does; 0 ends it.

        Raises:
            InvalidInput: the wall clock would stop or turn round.
        """
        slew = _rate(ppm) - _PPB
        if self._rate_ppb + slew <= 0:
            raise InvalidInput("slew and drift together turn the wall clock round", where="slew")
        self._rebase(true_ns)
        self._slew_ppb = slew

    def strobe(self, true_ns: int, *, swing_ns: int, period_ns: int) -> None:
        """Let the wall clock jump ``swing_ns`` ahead and back again, every ``period_ns``.

        Raises:
            InvalidInput: the period is not positive.
        """
        if period_ns <= 0:
            raise InvalidInput(f"a period of {period_ns} ns", where="strobe.period_ns")
        self._strobe = (true_ns, swing_ns, period_ns)

    def end_strobe(self) -> None:
        """End the jumping; the clock is as right as it was before."""
        self._strobe = None

    def freeze(self, true_ns: int) -> None:
        """Stop the wall clock. The monotonic clock goes on."""
        self._frozen_wall_ns = self.wall_ns(true_ns)

    def thaw(self) -> None:
        """Let the wall clock go again, at the time that it would have shown."""
        self._frozen_wall_ns = None

    def resume_after_suspend(self, true_ns: int, asleep_ns: int) -> None:
        """Take back ``asleep_ns`` from the monotonic clock, which stood still meanwhile."""
        self._rebase(true_ns)
        self._mono_base_ns -= asleep_ns * self._rate_ppb // _PPB


def _rate(ppm: float) -> int:
    rate = _PPB + round(ppm * 1_000)
    if rate <= 0:
        raise InvalidInput(
            f"{ppm} ppm would stop the clock or turn it round",
            where="ppm",
            remedy="Use a value above -1000000; freeze() stops a clock.",
        )
    return rate
