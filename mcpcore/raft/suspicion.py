"""How much a silence means: phi-accrual suspicion, and a judge who doubts itself first.

This module exists so that "silent for 1.3 s" becomes one number that means the same on every link,
and so that a member that was itself asleep does not accuse those who spoke to it meanwhile. It
judges from times handed in; it must never read a clock, and never decide what follows from a
suspicion.

phi (Hayashibara, Defago, Yared and Katayama 2004, section 4) is ``-log10`` of the probability that
a heartbeat comes even later than this: at phi = 1 a suspicion is wrong once in ten, at 8 once in
10^8, if the intervals to come are like those seen. Known pitfalls of that "if", and what stands
against them here:

- *too regular a past*: a deviation near zero makes a millisecond's delay an accusation; so a least
  deviation;
- *no past*: the first intervals are assumed, with a quarter of the mean as deviation;
- *pauses*, of collectors or disks, are no sign of death: an acceptable pause is added to the mean;
- *an outage in the window* makes the next one invisible, and the window forgets slowly: an interval
  counts as three times the mean at most, which still follows a peer that has become slower for
  good; where a new interval is announced, :meth:`PhiAccrual.expect` follows at once;
- *numbers*: the probability underflows at 38 deviations, but phi must still grow; so its logarithm
  is computed, not the probability.

The local health factor follows Lifeguard (Dadgar, Phillips and Currey 2018, section IV.A): signs
of our own slowness raise a score, timely behaviour lowers it, and every patience is multiplied by
one plus the score. On top, time during which we did not run at all is no silence of others.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum

from mcpcore.errors import InvalidInput
from mcpcore.raft.settings import MILLISECOND, SECOND

_LOG10_E = math.log10(math.e)
_TAIL_FROM = 8.0
"""Beyond this many deviations the tail's asymptotic series is more exact than ``erfc``'s log."""


class Shape(Enum):
    """How intervals are believed to be spread."""

    NORMAL = "normal"
    """As in the paper: right where heartbeats are regular and delays vary about a mean."""
    EXPONENTIAL = "exponential"
    """Memoryless, as Cassandra has it: right for gossip, which comes at random. Slower to
    suspect."""


def phi_normal(elapsed_ns: float, mean_ns: float, deviation_ns: float) -> float:
    """``-log10 P(X > elapsed)`` for a normal X; finite and never falling for any elapsed time.

    Args:
        deviation_ns: the standard deviation, above zero.

    Source: Hayashibara et al. 2004, section 4.3.
    """
    z = (elapsed_ns - mean_ns) / deviation_ns
    if z < _TAIL_FROM:
        return -math.log10(0.5 * math.erfc(z / math.sqrt(2)))
    # P(X > z) = exp(-z^2/2) / (z sqrt(2 pi)) * (1 - 1/z^2 + 3/z^4 - ...)
    series = 1 - 1 / z**2 + 3 / z**4 - 15 / z**6
    return z * z / 2 * _LOG10_E + math.log10(z * math.sqrt(2 * math.pi)) - math.log10(series)


def phi_exponential(elapsed_ns: float, mean_ns: float) -> float:
    """``-log10 P(X > elapsed)`` for an exponential X of that mean, above zero."""
    return max(elapsed_ns, 0.0) / mean_ns * _LOG10_E


@dataclass(frozen=True, slots=True)
class SuspicionSettings:
    """When a silence becomes a suspicion.

    Args:
        threshold: the phi from which on we suspect. 8 to 12 suits networks of clouds.
        window: how many intervals are remembered.
        first_interval_ns: what the first interval is assumed to be.
        deviation_min_ns: the least deviation that is believed.
        acceptable_pause_ns: added to the mean.
        shape: how intervals are spread.
        late_ns: a timer this late is a sign of our own slowness.
        health_max: the highest score of our own slowness.

    Raises:
        InvalidInput: a number makes no sense, by name.
    """

    threshold: float = 10.0
    window: int = 200
    first_interval_ns: int = 1 * SECOND
    deviation_min_ns: int = 50 * MILLISECOND
    acceptable_pause_ns: int = 0
    shape: Shape = Shape.NORMAL
    late_ns: int = 50 * MILLISECOND
    health_max: int = 8

    def __post_init__(self) -> None:
        for name in ("threshold", "window", "first_interval_ns", "deviation_min_ns", "late_ns"):
            value = getattr(self, name)
            kinds = (int, float) if name == "threshold" else (int,)
            if type(value) not in kinds or not 0 < value < 1 << 62:
                raise InvalidInput(f"must be a positive number, not {value!r}", where=name)
        for name in ("acceptable_pause_ns", "health_max"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise InvalidInput(f"must be a whole number from 0 up, not {value!r}", where=name)


class PhiAccrual:
    """The suspicion of one peer, from when its heartbeats came.

    Args:
        settings: see there.
        now_ns: when listening begins; a peer never heard is suspected from its first interval on.
    """

    __slots__ = ("_intervals", "_last_ns", "_settings", "_squares", "_sum")

    def __init__(self, settings: SuspicionSettings, now_ns: int) -> None:
        self._settings = settings
        self._last_ns = now_ns
        self._intervals: deque[int] = deque()
        self.expect(settings.first_interval_ns)

    @property
    def last_ns(self) -> int:
        """When it was heard last."""
        return self._last_ns

    @property
    def mean_ns(self) -> float:
        """The mean interval."""
        return self._sum / len(self._intervals)

    @property
    def deviation_ns(self) -> float:
        """The standard deviation of the intervals, no less than the least that is believed."""
        count = len(self._intervals)
        # In whole numbers: a difference of squares in floats would be noise.
        variance = (count * self._squares - self._sum * self._sum) / (count * count)
        return max(math.sqrt(variance), float(self._settings.deviation_min_ns))

    def expect(self, interval_ns: int) -> None:
        """The peer will speak this often from now on: forget what it did before.

        Two samples around the guess stand for the past: the mean as guessed, a quarter of it as
        deviation.
        """
        self._intervals = deque([interval_ns - interval_ns // 4, interval_ns + interval_ns // 4])
        self._sum = sum(self._intervals)
        self._squares = sum(interval * interval for interval in self._intervals)

    def heard(self, now_ns: int, *, absent_ns: int = 0) -> None:
        """A heartbeat came.

        Args:
            absent_ns: for how much of the interval we did not run ourselves.
        """
        most = 3 * (self._sum // len(self._intervals) + self._settings.acceptable_pause_ns)
        interval = min(max(0, now_ns - self._last_ns - absent_ns), max(most, 1))
        self._intervals.append(interval)
        self._sum += interval
        self._squares += interval * interval
        if len(self._intervals) > self._settings.window:
            oldest = self._intervals.popleft()
            self._sum -= oldest
            self._squares -= oldest * oldest
        self._last_ns = max(now_ns, self._last_ns)

    def phi(self, now_ns: int, *, absent_ns: int = 0, multiplier: float = 1.0) -> float:
        """The suspicion now.

        Args:
            absent_ns: for how much of the silence we did not run ourselves.
            multiplier: of every patience, from :class:`LocalHealth`.
        """
        settings = self._settings
        elapsed_ns = max(0, now_ns - self._last_ns - absent_ns) / max(multiplier, 1.0)
        mean_ns = self.mean_ns + settings.acceptable_pause_ns
        if settings.shape is Shape.EXPONENTIAL:
            return phi_exponential(elapsed_ns, max(mean_ns, 1.0))
        return phi_normal(elapsed_ns, mean_ns, self.deviation_ns)

    def suspects(self, now_ns: int, *, absent_ns: int = 0, multiplier: float = 1.0) -> bool:
        """Whether phi has reached the threshold."""
        phi = self.phi(now_ns, absent_ns=absent_ns, multiplier=multiplier)
        return phi >= self._settings.threshold

    def check(self) -> None:
        """What the sums promise."""
        assert self._sum == sum(self._intervals)
        assert self._squares == sum(interval * interval for interval in self._intervals)
        assert 1 <= len(self._intervals) <= max(2, self._settings.window)

    def __repr__(self) -> str:
        return (
            f"PhiAccrual({self.mean_ns / 1e6:.1f} ms +- {self.deviation_ns / 1e6:.1f}, "
            f"{len(self._intervals)} intervals)"
        )


class LocalHealth:
    """How far we trust ourselves as a judge: 0 is well, each point one more patience.

    A timer that fires late has two uses: it raises the score, and how late it was is time in which
    we did not listen. A late timer fires *before* what arrived meanwhile is read, so without this
    the first thing a member does after a pause is to accuse everybody.
    """

    __slots__ = ("_absences", "_settings", "score")

    def __init__(self, settings: SuspicionSettings) -> None:
        self._settings = settings
        self.score = 0
        self._absences: deque[tuple[int, int]] = deque(maxlen=64)

    @property
    def multiplier(self) -> float:
        """By what every patience is multiplied."""
        return 1.0 + self.score

    def timer_ran(self, due_ns: int, ran_ns: int) -> None:
        """A timer of ours that was due then ran at ``ran_ns``."""
        late_ns = ran_ns - due_ns
        if late_ns < self._settings.late_ns:
            self.well()
            return
        self._absences.append((due_ns, ran_ns))
        # One point for each tenfold: a second late is worse than a tenth of it, but not ten times.
        self._raise(1 + int(math.log10(late_ns / self._settings.late_ns)))

    def slow(self) -> None:
        """Another sign of our own slowness: a sync that was overdue, an answer we were late for."""
        self._raise(1)

    def well(self) -> None:
        """Something of ours went in time."""
        self.score = max(0, self.score - 1)

    def listens_ns(self, now_ns: int) -> int:
        """For how much longer to listen before anybody is accused: after each absence as long as
        it lasted, because what arrived meanwhile is still to be read.
        """
        if not self._absences:
            return 0
        due_ns, ran_ns = self._absences[-1]
        return max(0, ran_ns + (ran_ns - due_ns) - now_ns)

    def absent_ns(self, since_ns: int, until_ns: int) -> int:
        """For how much of that time we did not run."""
        absent_ns, counted_to = 0, since_ns
        for due_ns, ran_ns in self._absences:
            begin_ns = max(due_ns, counted_to)
            end_ns = min(ran_ns, until_ns)
            if end_ns > begin_ns:
                absent_ns += end_ns - begin_ns
                counted_to = end_ns
        return absent_ns

    def _raise(self, points: int) -> None:
        self.score = min(self._settings.health_max, self.score + points)
