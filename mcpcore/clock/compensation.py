"""What to do about drift: the two classic strategies, the honest form of each, and a chooser.

This module exists so that "compensate for drift" is a choice one can read, with its reason, and
not a constant in the clock. A strategy is handed the evidence about the links and answers with a
plan; it must never steer, send or count by itself.

*Calibration window*: fit offset and rate over a sliding window and steer the physical part along
the fit. It removes the cause.

*Weighted increment*: where links are slow and synchronisation rare, let messages carry time along.
Raising the *counter* with the round trip, as it is often told, cannot work: comparison is
lexicographic, so no counter ever outranks a nanosecond of physical time. What can work is a floor
on the physical part, ``l' = max(l, pt, l_message + d_min)``, where ``d_min`` is a proved lower
bound of the one-way delay (causality holds, and l stays within the clocks' offset of pt, because
that much time has really passed), with denser heartbeats that carry timestamps. It treats the
symptom: everybody follows the fastest clock. ``LiteralIncrement`` exists to show the difference.

HAZARD: a round trip proves nothing about one way. Half of it is *not* a lower bound on an
asymmetric link; distance divided by the speed of light is (:func:`light_delay_ns`), and so is what
a better-known clock shows (:func:`proved_delay_ns`). Too high a floor pushes timestamps ahead of
physical time, message by message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mcpcore.clock.interval import Interval
from mcpcore.clock.offset import OffsetEstimate
from mcpcore.errors import InvalidInput

_LIGHT_KM_PER_S = 299_792.458


@dataclass(frozen=True, slots=True)
class LinkEvidence:
    """What a strategy may base its plan on.

    Args:
        estimates: of every peer that was heard.
        majority: whether a majority of clocks agrees.
        radius_ns: how far the cluster's time may lie from the best guess; None without a majority.
        jumped_ago_ns: since any clock among them was last seen to step; None if never.
        window_ns: the estimators' window.
        drift_max_ppm: how wrong a healthy rate may be.
    """

    estimates: Sequence[OffsetEstimate]
    majority: bool
    radius_ns: int | None
    jumped_ago_ns: int | None
    window_ns: int
    drift_max_ppm: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do until the next plan.

    Args:
        name: of the strategy that made it.
        steer: whether the physical part follows the calibration.
        merge_every_ns: how often heartbeats should carry timestamps; None leaves them alone.
        why: the reason, in words and numbers.
    """

    name: str
    steer: bool
    merge_every_ns: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Weight:
    """How one received timestamp is folded in: arguments of ``HybridClock.observe``."""

    floor_ns: int = 0
    counter_step: int = 1


PLAIN = Weight()


class Compensation(Protocol):
    """A strategy."""

    def plan(self, evidence: LinkEvidence) -> Plan:
        """What to do, given what is known of the links."""
        ...

    def weight(self, peer: str, delay_ns: int | None) -> Weight:
        """How to fold in a timestamp from ``peer``, whose shortest round trip is ``delay_ns``."""
        ...


@dataclass(frozen=True, slots=True)
class Uncompensated:
    """The paper's clock and nothing else."""

    def plan(self, evidence: LinkEvidence) -> Plan:
        """Never steer."""
        return Plan("uncompensated", False, None, "no compensation was asked for")

    def weight(self, peer: str, delay_ns: int | None) -> Weight:
        """As the paper says."""
        return PLAIN


@dataclass(frozen=True, slots=True)
class CalibrationWindow:
    """Steer the physical part along the fit over the window. For steady links between zones."""

    def plan(self, evidence: LinkEvidence) -> Plan:
        """Steer as soon as a majority agrees; hold the last course until then."""
        if not evidence.majority:
            return Plan("calibration window", False, None, "no majority of clocks to follow")
        assert evidence.radius_ns is not None
        return Plan(
            "calibration window",
            True,
            None,
            f"following the majority, known within {evidence.radius_ns / 1e6:.3f} ms",
        )

    def weight(self, peer: str, delay_ns: int | None) -> Weight:
        """As the paper says: the physical parts agree already."""
        return PLAIN


@dataclass(frozen=True, slots=True)
class WeightedIncrement:
    """Let messages carry time: a floor on the physical part, and denser heartbeats.

    Args:
        floor_ns: per peer, a *proved* lower bound of the one-way delay toward us.
        merge_every_ns: how often heartbeats should carry timestamps.

    Raises:
        InvalidInput: a negative floor, or a period that is not positive.
    """

    floor_ns: Mapping[str, int] = field(default_factory=dict)
    merge_every_ns: int = 20_000_000

    def __post_init__(self) -> None:
        for peer, floor in self.floor_ns.items():
            if floor < 0:
                raise InvalidInput(f"{floor} is negative", where=f"floor_ns[{peer!r}]")
        if self.merge_every_ns <= 0:
            raise InvalidInput(f"{self.merge_every_ns} is not positive", where="merge_every_ns")

    def plan(self, evidence: LinkEvidence) -> Plan:
        """Never steer; ask for denser heartbeats."""
        floors = ", ".join(f"{p} {ns / 1e6:.3f} ms" for p, ns in sorted(self.floor_ns.items()))
        return Plan(
            "weighted increment",
            False,
            self.merge_every_ns,
            f"heartbeats carry time every {self.merge_every_ns / 1e6:g} ms; "
            f"proved delays: {floors or 'none'}",
        )

    def weight(self, peer: str, delay_ns: int | None) -> Weight:
        """The floor proved for this peer."""
        floor_ns = self.floor_ns.get(peer, 0)
        return Weight(floor_ns=floor_ns) if floor_ns else PLAIN


@dataclass(frozen=True, slots=True)
class LiteralIncrement:
    """Raise the counter by the round trip in milliseconds: what the phrase literally says.

    Kept to be measured against. It cannot order what physical parts order wrongly, and it uses the
    counter up.
    """

    def plan(self, evidence: LinkEvidence) -> Plan:
        """Never steer."""
        return Plan("literal increment", False, None, "counters grow with the round trip, no more")

    def weight(self, peer: str, delay_ns: int | None) -> Weight:
        """One more per started millisecond of round trip."""
        return Weight(counter_step=1 + -(-(delay_ns or 0) // 1_000_000))


@dataclass(frozen=True, slots=True)
class Auto:
    """Choose by measured stability and delay, and say why.

    Calibration needs links worth fitting: enough exchanges, no step within the last window, and a
    majority known more closely than free drift over one window would blur it. Failing that,
    messages carry time; the floors still hold.

    Args:
        calibration, weighted: the two to choose between.
        samples_min: exchanges per link that a fit needs.
    """

    calibration: CalibrationWindow = CalibrationWindow()
    weighted: WeightedIncrement = field(default_factory=WeightedIncrement)
    samples_min: int = 8

    def plan(self, evidence: LinkEvidence) -> Plan:
        """The better strategy's plan; its reason begins with ours."""
        against = self._against_calibration(evidence)
        chosen = self.weighted.plan(evidence) if against else self.calibration.plan(evidence)
        reason = against or "links are steady"
        return Plan(
            f"auto: {chosen.name}",
            chosen.steer,
            chosen.merge_every_ns,
            f"{reason}; {chosen.why}",
        )

    def _against_calibration(self, evidence: LinkEvidence) -> str:
        if not evidence.majority or evidence.radius_ns is None:
            return "no majority of clocks agrees"
        jumped = evidence.jumped_ago_ns
        if jumped is not None and jumped < evidence.window_ns:
            return f"a clock stepped {jumped / 1e9:.1f} s ago, within the window"
        thin = [e.peer for e in evidence.estimates if e.samples < self.samples_min]
        if thin:
            return f"fewer than {self.samples_min} exchanges with {', '.join(sorted(thin))}"
        drift_ns = int(2 * evidence.drift_max_ppm * 1e-6 * evidence.window_ns)
        if evidence.radius_ns > drift_ns:
            return (
                f"links are too slow to measure by: known within {evidence.radius_ns / 1e6:.3f} "
                f"ms, while free drift blurs {drift_ns / 1e6:.3f} ms a window"
            )
        return ""

    def weight(self, peer: str, delay_ns: int | None) -> Weight:
        """The proved floor: it is right whichever plan is in force."""
        return self.weighted.weight(peer, delay_ns)


def light_delay_ns(distance_km: float) -> int:
    """The least time any message takes over a great-circle distance, in nanoseconds.

    Raises:
        InvalidInput: a negative or endless distance.
    """
    if not 0 <= distance_km < 1e9:
        raise InvalidInput(f"{distance_km} km is no distance on Earth", where="distance_km")
    return int(distance_km / _LIGHT_KM_PER_S * 1e9)


def proved_delay_ns(sent_ns: int, received_ns: int, offset: Interval) -> int:
    """The least time a message can have taken, given what *else* is known of the clocks.

    Args:
        sent_ns: the sender's reading. received_ns: ours at the receipt.
        offset: sender minus us, known by other means than this link (its own exchanges always
            leave zero possible).
    """
    return max(0, received_ns - sent_ns + offset.earliest_ns)
