"""What an operator may say about clocks, in one place, checked once.

This module exists so that every limit of the clock floor has one name, one unit and one default.
It holds numbers; it must never grow behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from mcpcore.errors import InvalidInput

_RATES = {"drift_max_ppm", "wander_ppm", "slew_max_ppm"}


@dataclass(frozen=True, slots=True)
class ClockSettings:
    """Limits and windows. The defaults suit servers that run a time daemon.

    Args:
        max_offset_ns: a timestamp further ahead than this is refused. It must exceed the largest
            offset between two healthy nodes: for free-running clocks 2 x drift x time + RTT / 2.
        source_error_ns: how far a healthy node's clock may stand from the true time; who is further
            off than that from the majority is a falseticker.
        drift_max_ppm: how wrong the rate of a healthy clock may be.
        wander_ppm: how much a rate may change within a window.
        window_ns: how far back exchanges count.
        slew_max_ppm, slew_over_ns: how corrections are slewed.
        holdover_after_ns: without an exchange with a majority for this long, it is holdover.
        uncertainty_max_ns: beyond this uncertainty a node is unsynchronised.
        jump_ns: a system clock that moved this much against the monotonic one has jumped.
        settle_ns: after a jump no lease is trusted for this long.
        plan_every_ns: how often the plan against drift is made anew while nothing special happens;
            0: at every exchange.

    Raises:
        InvalidInput: a number that makes no sense, by name.
    """

    max_offset_ns: int = 500_000_000
    source_error_ns: int = 250_000_000
    drift_max_ppm: float = 200.0
    wander_ppm: float = 1.0
    window_ns: int = 600_000_000_000
    slew_max_ppm: float = 500.0
    slew_over_ns: int = 10_000_000_000
    holdover_after_ns: int = 30_000_000_000
    uncertainty_max_ns: int = 250_000_000
    jump_ns: int = 100_000_000
    settle_ns: int = 10_000_000_000
    plan_every_ns: int = 1_000_000_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            kinds = (int, float) if field.name in _RATES else (int,)
            if type(value) not in kinds or not 0 <= value < 1 << 63:
                raise InvalidInput(
                    f"{value!r} is no {'rate' if field.name in _RATES else 'duration'}",
                    where=field.name,
                    remedy="Give a number from 0 up, in the unit that the name ends with",
                )
        for name in ("window_ns", "slew_over_ns", "slew_max_ppm", "max_offset_ns"):
            if not getattr(self, name):
                raise InvalidInput("zero", where=name, remedy="Give a positive number")
        if self.uncertainty_max_ns > self.max_offset_ns:
            raise InvalidInput(
                f"{self.uncertainty_max_ns} exceeds max_offset_ns {self.max_offset_ns}",
                where="uncertainty_max_ns",
                remedy="A node this uncertain would have its timestamps refused",
            )
