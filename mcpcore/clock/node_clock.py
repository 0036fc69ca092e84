"""One node's clock, assembled: the object that a node holds, heartbeats feed and Raft consults.

This module exists so that the parts meet in one place, each still testable alone: steady time
under the hybrid clock, an estimator per peer, their agreement, a compensation strategy, health.
It is handed its two time sources and every exchange. It must never import a clock, start a task,
or send anything.

How a node uses it: put :meth:`stamp_ns` into each heartbeat and its answer (the readings t1 to
t4), and the node's :attr:`hlc` timestamp beside it; hand completed exchanges to :meth:`exchanged`
and received timestamps to :meth:`received`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from mcpcore.clock.agreement import Agreement, Falseticker, NoAgreement, agree
from mcpcore.clock.compensation import Auto, Compensation, LinkEvidence, Plan
from mcpcore.clock.health import ClockEvidence, ClockHealth, judge
from mcpcore.clock.hlc import HybridClock
from mcpcore.clock.interval import Interval, Reading, wait_until_past_ns
from mcpcore.clock.offset import (
    Exchange,
    OffsetEstimate,
    OffsetEstimator,
    SampleEvent,
    SampleRefused,
    WindowRestarted,
)
from mcpcore.clock.settings import ClockSettings
from mcpcore.clock.steady import SteadyClock, SystemClockJumped, WallWatch
from mcpcore.clock.timestamp import TIMESTAMP_MAX, Timestamp
from mcpcore.errors import InvalidInput

PAIRING_ATTEMPTS = 4
"""How often both clocks are read to catch them at one moment."""


@dataclass(frozen=True, slots=True)
class ClockRow:
    """One node's clock in the cluster view. Offsets are to the cluster's time, ahead is positive.

    Args:
        verdict: ``true``, ``false`` or ``unknown`` (not heard, or no majority).
        offset_ns: the best guess; uncertainty_ns: how far the true offset may lie from it.
        skew_ppm: rate against the cluster's.
        delay_ns, age_ns, samples: of the link to it; zero for ourselves.
        steps: steps seen on it. refusals: timestamps of it that we refused.
    """

    node: str
    verdict: str
    offset_ns: int | None
    uncertainty_ns: int | None
    skew_ppm: float | None
    delay_ns: int | None
    age_ns: int | None
    samples: int
    steps: int
    refusals: int


class NodeClock:
    """Everything about time that one node knows.

    Args:
        node: its name.
        peers: the other members whose clocks count.
        wall_ns: the system clock. monotonic_ns: the monotonic clock. Both in nanoseconds.
        settings: limits.
        compensation: the strategy against drift.
        floor, ceiling: as for :class:`HybridClock`; see ``mcpcore.clock.bound``.

    Raises:
        InvalidInput: the node is its own peer.
    """

    def __init__(
        self,
        node: str,
        peers: Collection[str],
        *,
        wall_ns: Callable[[], int],
        monotonic_ns: Callable[[], int],
        settings: ClockSettings | None = None,
        compensation: Compensation | None = None,
        floor: int = 0,
        ceiling: int = TIMESTAMP_MAX,
    ) -> None:
        if node in peers:
            raise InvalidInput(f"{node!r} is its own peer", where="peers")
        self.node = node
        self.settings = settings or ClockSettings()
        self.compensation: Compensation = compensation or Auto()
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._members = frozenset((node, *peers))
        self._estimators = {peer: self._estimator(peer) for peer in sorted(peers)}
        wall, monotonic, _ = self._paired()
        steady = SteadyClock(
            wall,
            monotonic,
            slew_max_ppm=self.settings.slew_max_ppm,
            slew_over_ns=self.settings.slew_over_ns,
            step_over_ns=self.settings.max_offset_ns,
        )
        self._steady = steady
        self._watch = WallWatch(wall, monotonic, threshold_ns=self.settings.jump_ns)
        self._peer_stepped_ns: int | None = None
        self._planned_ns = monotonic
        self._heard_ns: dict[str, int] = {}
        self.plan: Plan = self.compensation.plan(
            self._link_evidence({}, self._agreement_of({}), monotonic)
        )
        self.hlc = HybridClock(
            steady.source(monotonic_ns),
            max_offset_ns=self.settings.max_offset_ns,
            floor=floor,
            ceiling=ceiling,
        )

    def _estimator(self, peer: str) -> OffsetEstimator:
        return OffsetEstimator(
            peer,
            window_ns=self.settings.window_ns,
            drift_max_ppm=self.settings.drift_max_ppm,
            wander_ppm=self.settings.wander_ppm,
        )

    # --- what happened --------------------------------------------------------------------------

    def exchanged(self, peer: str, exchange: Exchange) -> SampleEvent:
        """A heartbeat was answered: learn from its four readings, and steer if that is the plan.

        The plan is made anew when it is ``plan_every_ns`` old, and at once when a clock stepped or
        a peer was heard for the first time.

        Raises:
            InvalidInput: ``peer`` is not one of the peers.
        """
        estimator = self._known(peer)
        now = self._monotonic_ns()
        event = estimator.add(exchange)
        news = self.watch() is not None
        if isinstance(event, SampleRefused):
            return event
        if isinstance(event, WindowRestarted):
            self._peer_stepped_ns = now
            news = True
        news = news or peer not in self._heard_ns
        self._heard_ns[peer] = max(self._heard_ns.get(peer, 0), exchange.t4_ns)
        # Weighing all peers for each of their frames would cost the square of their number.
        if news or now - self._planned_ns >= self.settings.plan_every_ns:
            self._make_plan(now)
        return event

    def _make_plan(self, now: int) -> None:
        self._planned_ns = now
        estimates = self.estimates(now)
        found = self._agreement_of(estimates)
        self.plan = self.compensation.plan(self._link_evidence(estimates, found, now))
        if self.plan.steer:
            assert isinstance(found, Agreement), "no plan steers without a majority"
            self._steady.steer(now, found.offset_ns, found.skew_ppm)

    def peer_restarted(self, peer: str) -> None:
        """A peer came back with a new incarnation: its steady time began anew, so learn it anew.

        Raises:
            InvalidInput: ``peer`` is not one of the peers.
        """
        self._known(peer)
        self._estimators[peer] = self._estimator(peer)
        self._heard_ns.pop(peer, None)

    def received(self, peer: str, remote: int) -> Timestamp:
        """A message carried ``remote``: fold it in and issue the timestamp of its receipt.

        Raises:
            TimestampTooFarAhead: refused, counted, and our clock did not move.
            InvalidInput: ``peer`` is not one of the peers, or ``remote`` is no timestamp.
        """
        weight = self.compensation.weight(peer, self._known(peer).delay_ns)
        return self.hlc.observe(remote, peer, weight.floor_ns, weight.counter_step)

    def watch(self) -> SystemClockJumped | None:
        """Look at the system clock; the event if it jumped since the last look."""
        wall, monotonic, apart = self._paired()
        # Readings that a stalled process took far apart prove nothing; the next look will do.
        if apart > self.settings.jump_ns // 2:
            return None
        return self._watch.look(wall, monotonic)

    def _paired(self) -> tuple[int, int, int]:
        """System and monotonic clock at one moment, and how far apart in time they were read.

        A process may be stalled between two readings, which would look like a jump; so the closest
        of a few attempts counts.
        """
        closest: tuple[int, int, int] | None = None
        for _ in range(PAIRING_ATTEMPTS):
            before = self._monotonic_ns()
            wall = self._wall_ns()
            after = self._monotonic_ns()
            if closest is None or after - before < closest[2]:
                closest = (wall, after, after - before)
            if after - before <= self.settings.jump_ns // 8:
                break
        assert closest is not None
        return closest

    def _known(self, peer: str) -> OffsetEstimator:
        estimator = self._estimators.get(peer)
        if estimator is None:
            raise InvalidInput(
                f"{peer!r} is no peer of {self.node!r}",
                where="peer",
                remedy=f"The peers are {', '.join(self._estimators) or 'none'}",
            )
        return estimator

    def set_peers(self, peers: Collection[str]) -> None:
        """The membership changed; what is known of those that stay is kept.

        Raises:
            InvalidInput: the node is its own peer.
        """
        if self.node in peers:
            raise InvalidInput(f"{self.node!r} is its own peer", where="peers")
        old = self._estimators
        self._estimators = {p: old.get(p) or self._estimator(p) for p in sorted(peers)}
        self._heard_ns = {p: ns for p, ns in self._heard_ns.items() if p in self._estimators}
        self._members = frozenset((self.node, *peers))

    # --- what is known --------------------------------------------------------------------------

    def stamp_ns(self) -> int:
        """Steady time, for heartbeats: a straight line, untouched by steps and by steering."""
        return self._steady.steady_ns(self._monotonic_ns())

    def physical_ns(self) -> int:
        """Physical time: steady time as steered toward the cluster; what the timestamps follow."""
        return self._steady.physical_ns(self._monotonic_ns())

    def now(self) -> Timestamp:
        """The timestamp of a local event; ``hlc.now`` without the detour."""
        return self.hlc.now()

    def reading(self) -> Reading | None:
        """A fresh timestamp with its uncertainty; None while no majority agrees."""
        stamp = self.hlc.now()
        now = self.interval()
        if now is None:
            return None
        at = stamp.physical_ns
        return Reading(stamp, max(abs(at - now.earliest_ns), abs(at - now.latest_ns)))

    def interval(self) -> Interval | None:
        """When it is now, in the cluster's time; None while no majority agrees."""
        monotonic = self._monotonic_ns()
        found = self.agreement(monotonic)
        if isinstance(found, NoAgreement):
            return None
        steady = self._steady.steady_ns(monotonic)
        return Interval(steady + found.bounds.earliest_ns, steady + found.bounds.latest_ns)

    def wait_until_past_ns(self, timestamp: Timestamp) -> int | None:
        """How long the commit wait for ``timestamp`` still takes; None while nobody can tell."""
        now = self.interval()
        return None if now is None else wait_until_past_ns(timestamp, now)

    def estimates(self, monotonic_ns: int | None = None) -> dict[str, OffsetEstimate]:
        """What is known of each peer that was heard."""
        at = self._steady.steady_ns(self._monotonic_ns() if monotonic_ns is None else monotonic_ns)
        found = ((peer, est.estimate(at)) for peer, est in self._estimators.items())
        return {peer: estimate for peer, estimate in found if estimate is not None}

    def round_trip_ns(self, peer: str) -> int:
        """The shortest round trip to ``peer`` lately; 0 if it is no peer or never answered."""
        estimator = self._estimators.get(peer)
        return (estimator.delay_ns or 0) if estimator is not None else 0

    def agreement(self, monotonic_ns: int | None = None) -> Agreement | NoAgreement:
        """What the cluster's time is against our steady time."""
        return self._agreement_of(self.estimates(monotonic_ns))

    def _agreement_of(self, estimates: dict[str, OffsetEstimate]) -> Agreement | NoAgreement:
        return agree(
            self.node,
            self._members,
            estimates,
            source_error_ns=self.settings.source_error_ns,
        )

    def health(self) -> ClockHealth:
        """Whether this clock is fit for service, and for leases, with reasons."""
        self.watch()
        now = self._monotonic_ns()
        found = self.agreement(now)
        jump = self._watch.last
        return judge(
            ClockEvidence(
                node=self.node,
                agreement=found,
                majority_age_ns=self._majority_age_ns(now),
                radius_ns=self._radius_ns(found, now),
                jump=jump,
                jumped_ago_ns=now - jump.at_ns if jump else 0,
                refusals=self.hlc.refusals,
            ),
            self.settings,
        )

    def view(self) -> tuple[ClockRow, ...]:
        """Every member's clock as seen from here, sorted by name."""
        now = self._monotonic_ns()
        estimates = self.estimates(now)
        found = self._agreement_of(estimates)
        members = sorted(self._members)
        return tuple(self._row(node, found, estimates.get(node), now) for node in members)

    def own_row(self) -> ClockRow:
        """This node's row of ``view``."""
        now = self._monotonic_ns()
        return self._row(self.node, self.agreement(now), None, now)

    def _row(
        self, node: str, found: Agreement | NoAgreement, known: OffsetEstimate | None, now: int
    ) -> ClockRow:
        ours = node == self.node
        offset = uncertainty = skew = None
        verdict = "unknown"
        if isinstance(found, Agreement) and (ours or known is not None):
            # Our own row speaks of physical time, a peer's of the steady time that it sends.
            at = self._steady.correction_ns(now) if known is None else known.offset_ns
            own = Interval(at, at) if known is None else known.bounds
            offset = at - found.offset_ns
            uncertainty = max(
                own.latest_ns - found.bounds.earliest_ns - offset,
                offset - (own.earliest_ns - found.bounds.latest_ns),
            )
            skew = (0.0 if known is None else known.skew_ppm) - found.skew_ppm
            verdict = "false" if _is_false(node, found.falsetickers) else "true"
        return ClockRow(
            node=node,
            verdict=verdict,
            offset_ns=offset,
            uncertainty_ns=uncertainty,
            skew_ppm=skew,
            delay_ns=known.delay_ns if known else (0 if ours else None),
            age_ns=known.age_ns if known else (0 if ours else None),
            samples=known.samples if known else 0,
            steps=self._watch.jumps if ours else (known.steps if known else 0),
            refusals=self.hlc.refusals.get(node, 0),
        )

    def _radius_ns(self, found: Agreement | NoAgreement, monotonic_ns: int) -> int | None:
        """How far the cluster's time may lie from our physical time."""
        if isinstance(found, NoAgreement):
            return None
        correction = self._steady.correction_ns(monotonic_ns)
        return max(
            abs(found.bounds.earliest_ns - correction), abs(found.bounds.latest_ns - correction)
        )

    def _majority_age_ns(self, monotonic_ns: int) -> int | None:
        needed = len(self._members) // 2
        if needed == 0:
            return 0
        heard = sorted(self._heard_ns.values(), reverse=True)
        if len(heard) < needed:
            return None
        return max(0, self._steady.steady_ns(monotonic_ns) - heard[needed - 1])

    def _link_evidence(
        self,
        estimates: dict[str, OffsetEstimate],
        found: Agreement | NoAgreement,
        monotonic_ns: int,
    ) -> LinkEvidence:
        radius = None if isinstance(found, NoAgreement) else found.bounds.radius_ns
        jump = self._watch.last
        stepped = [self._peer_stepped_ns, jump.at_ns if jump else None]
        ago = [monotonic_ns - at for at in stepped if at is not None]
        return LinkEvidence(
            estimates=tuple(estimates.values()),
            majority=radius is not None,
            radius_ns=radius,
            jumped_ago_ns=min(ago, default=None),
            window_ns=self.settings.window_ns,
            drift_max_ppm=self.settings.drift_max_ppm,
        )

    def __repr__(self) -> str:
        return f"NodeClock({self.node!r}, last {self.hlc.last}, plan {self.plan.name!r})"


def _is_false(node: str, falsetickers: tuple[Falseticker, ...]) -> bool:
    return any(false.node == node for false in falsetickers)
