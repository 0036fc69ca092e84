"""The drift experiment: what drifting clocks do to order, and what each strategy does about it.

This module exists so that a famous pair of figures (50 ppm, a round trip of 12 ms, an hour: 216 ms
of offset and 37 % more misjudged comparisons) can be derived, reproduced and disputed by anybody
with one function call. It simulates drifting clocks and Poisson arrivals around the real
``NodeClock``, from dice that are handed in. It must never draw a number or read a clock of its
own.

What the figures are. Drift alone makes 50 ppm x 3600 s = 180 ms. One node against a true reference
is then known to 180 + RTT / 2 = 186 ms; two nodes that drift apart, to 360 + 6 = 366 ms, which is
the figure a pairwise limit must use. 216 is 180 + 3 RTT, or 180 x 1.2; nobody says. For two
neighbouring events of different nodes, independent of one another, the later one is stamped
earlier with probability ``(1 - exp(-rate x offset)) / 2``: 37 % needs about 6 events a second.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from math import exp
from typing import Protocol

from mcpcore.clock.compensation import Compensation
from mcpcore.clock.node_clock import NodeClock
from mcpcore.clock.offset import Exchange
from mcpcore.clock.settings import ClockSettings
from mcpcore.clock.timestamp import Timestamp
from mcpcore.errors import InvalidInput

_S = 1_000_000_000
_EPOCH_NS = 1_800_000_000 * _S
_PPB = 1_000_000_000


class Dice(Protocol):
    """What is used of ``random.Random``."""

    def random(self) -> float:
        """From 0 up to, not including, 1."""
        ...

    def expovariate(self, lambd: float) -> float:
        """Exponentially distributed, with mean ``1 / lambd``."""
        ...

    def randrange(self, stop: int) -> int:
        """From 0 up to, not including, ``stop``."""
        ...


def misorder_probability(rate_per_s: float, offset_ns: int) -> float:
    """The chance that two neighbouring events of two nodes are stamped in the wrong order.

    The later event must follow within ``offset_ns`` (Poisson arrivals at ``rate_per_s``) and lie on
    the node whose clock is behind (an even chance).
    """
    return (1 - exp(-rate_per_s * offset_ns / 1e9)) / 2


def reference_bound_ns(drift_ppm: float, elapsed_ns: int, rtt_ns: int) -> int:
    """How far one drifting node can be from a true reference: drift + RTT / 2."""
    return round(drift_ppm * 1e-6 * elapsed_ns) + rtt_ns // 2


def pairwise_bound_ns(drift_ppm: float, elapsed_ns: int, rtt_ns: int) -> int:
    """How far two drifting nodes can be from one another: 2 x drift + RTT / 2."""
    return round(2 * drift_ppm * 1e-6 * elapsed_ns) + rtt_ns // 2


@dataclass(frozen=True, slots=True)
class DriftModel:
    """The article's model, with the numbers it leaves open.

    Args:
        nodes: their drifts are spread evenly over plus and minus ``drift_ppm``.
        rtt_ns: the least round trip; each way takes half of it and an exponential jitter.
        elapsed_ns: how long clocks drift and exchange readings.
        poll_ns: each pair exchanges readings this often.
        measured_ns: events are drawn in this last part of the time.
        rate_per_s: events a second, all nodes together.
        message_share: this part of the events sends a message to another node.

    Raises:
        InvalidInput: numbers that make no experiment.
    """

    nodes: int = 5
    drift_ppm: float = 50.0
    rtt_ns: int = 12_000_000
    jitter_ns: int = 1_000_000
    elapsed_ns: int = 3600 * _S
    poll_ns: int = 16 * _S
    measured_ns: int = 300 * _S
    rate_per_s: float = 6.0
    message_share: float = 0.2

    def __post_init__(self) -> None:
        if self.nodes < 2:
            raise InvalidInput(f"{self.nodes} nodes cannot disagree", where="nodes")
        if not 0 < self.measured_ns <= self.elapsed_ns or self.poll_ns <= 0:
            raise InvalidInput("needs 0 < measured_ns <= elapsed_ns and a positive poll_ns")
        if not (self.rate_per_s > 0 and 0 <= self.message_share <= 1 and self.jitter_ns > 0):
            raise InvalidInput("needs a positive rate and jitter, and a share from 0 to 1")


@dataclass(frozen=True, slots=True)
class DriftRow:
    """What came out, for one strategy at one rate.

    Args:
        pairs: neighbouring events of different nodes; misordered: stamped the wrong way round.
        spread_ns: between the fastest and the slowest physical clock at the end.
        ahead_max_ns: the furthest any timestamp ran ahead of its node's physical clock.
        counter_max: the greatest counter.
        intervals: statements about an offset or the cluster's time that were compared with the
            truth; missed: those that did not contain it.
    """

    strategy: str
    rate_per_s: float
    pairs: int
    misordered: int
    spread_ns: int
    ahead_max_ns: int
    counter_max: int
    intervals: int
    missed: int

    @property
    def misordered_share(self) -> float:
        """From 0 to 1."""
        return self.misordered / self.pairs if self.pairs else 0.0


@dataclass
class _World:
    """True time, the drifting clocks in it, and what happens next."""

    model: DriftModel
    dice: Dice
    strategy: Compensation
    now_ns: int = 0
    queue: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)
    serial: int = 0
    clocks: list[NodeClock] = field(default_factory=list)
    events: list[tuple[int, int, Timestamp]] = field(default_factory=list)
    ahead_max_ns: int = 0
    counter_max: int = 0
    intervals: int = 0
    missed: int = 0

    def __post_init__(self) -> None:
        names = [f"n{i}" for i in range(self.model.nodes)]
        settings = ClockSettings(drift_max_ppm=max(200.0, self.model.drift_ppm))
        for i, name in enumerate(names):
            self.clocks.append(
                NodeClock(
                    name,
                    [peer for peer in names if peer != name],
                    wall_ns=self._source(i),
                    monotonic_ns=self._source(i),
                    settings=settings,
                    compensation=self.strategy,
                )
            )

    def _source(self, i: int) -> Callable[[], int]:
        return partial(self.true_steady_ns, i)

    def true_steady_ns(self, i: int) -> int:
        drift_ppb = round(self.model.drift_ppm * 1000 * (2 * i / (self.model.nodes - 1) - 1))
        return _EPOCH_NS + self.now_ns + self.now_ns * drift_ppb // _PPB

    def at(self, when_ns: int, what: Callable[[], None]) -> None:
        self.serial += 1
        heapq.heappush(self.queue, (when_ns, self.serial, what))

    def one_way_ns(self) -> int:
        jitter = self.dice.expovariate(1 / self.model.jitter_ns)
        return self.model.rtt_ns // 2 + int(jitter)

    def run(self) -> None:
        while self.queue:
            when_ns, _, what = heapq.heappop(self.queue)
            if when_ns > self.model.elapsed_ns:
                return
            self.now_ns = when_ns
            what()

    # --- synchronisation ------------------------------------------------------------------------

    def poll(self, i: int, j: int) -> None:
        self.at(self.now_ns + self.model.poll_ns, partial(self.poll, i, j))
        t1 = self.clocks[i].stamp_ns()
        self.at(self.now_ns + self.one_way_ns(), partial(self.answer, i, j, t1))

    def answer(self, i: int, j: int, t1: int) -> None:
        t2 = self.clocks[j].stamp_ns()
        self.at(self.now_ns + self.one_way_ns(), partial(self.learn, i, j, t1, t2))

    def learn(self, i: int, j: int, t1: int, t2: int) -> None:
        clock = self.clocks[i]
        clock.exchanged(f"n{j}", Exchange(t1, t2, t2, clock.stamp_ns()))
        true_offset = self.true_steady_ns(j) - self.true_steady_ns(i)
        self.note(clock.estimates()[f"n{j}"].bounds.contains(true_offset))
        believed = clock.interval()
        if believed is not None and len(clock.estimates()) == self.model.nodes - 1:
            steady = sorted(self.true_steady_ns(k) for k in range(self.model.nodes))
            middle = steady[(len(steady) - 1) // 2] + steady[len(steady) // 2]
            self.note(2 * believed.earliest_ns <= middle <= 2 * believed.latest_ns)

    def note(self, contained: bool) -> None:
        self.intervals += 1
        self.missed += not contained

    # --- work -----------------------------------------------------------------------------------

    def arrive(self) -> None:
        self.at(self.now_ns + int(self.dice.expovariate(self.model.rate_per_s) * _S), self.arrive)
        i = self.dice.randrange(self.model.nodes)
        stamp = self.clocks[i].now()
        self.watch(i, stamp)
        self.events.append((self.now_ns, i, stamp))
        if self.dice.random() < self.model.message_share:
            j = (i + 1 + self.dice.randrange(self.model.nodes - 1)) % self.model.nodes
            self.at(self.now_ns + self.one_way_ns(), partial(self.receive, i, j, stamp))

    def heartbeat(self, i: int, every_ns: int) -> None:
        self.at(self.now_ns + every_ns, partial(self.heartbeat, i, every_ns))
        stamp = self.clocks[i].now()
        for j in range(self.model.nodes):
            if j != i:
                self.at(self.now_ns + self.one_way_ns(), partial(self.receive, i, j, stamp))

    def receive(self, i: int, j: int, stamp: Timestamp) -> None:
        self.watch(j, self.clocks[j].received(f"n{i}", stamp))

    def watch(self, i: int, stamp: Timestamp) -> None:
        physical = self.clocks[i].physical_ns()
        self.ahead_max_ns = max(self.ahead_max_ns, stamp.physical_ns - physical)
        self.counter_max = max(self.counter_max, stamp.counter)


def run_drift_model(
    model: DriftModel, strategy: Compensation, dice: Dice, *, name: str = ""
) -> DriftRow:
    """Run the model once with one strategy and count what it stamps in the wrong order.

    Args:
        dice: such as ``random.Random(7)``; the same dice give the same row.
        name: how to call the strategy in the row; by default what its plan says at the end.
    """
    world = _World(model, dice, strategy)
    pairs = [(i, j) for i in range(model.nodes) for j in range(model.nodes) if i != j]
    for k, (i, j) in enumerate(pairs):
        world.at(model.poll_ns * k // len(pairs), partial(world.poll, i, j))
    begin_ns = model.elapsed_ns - model.measured_ns
    world.at(begin_ns, world.arrive)

    def begin_heartbeats() -> None:
        for i, clock in enumerate(world.clocks):
            if clock.plan.merge_every_ns is not None:
                world.heartbeat(i, clock.plan.merge_every_ns)

    world.at(begin_ns, begin_heartbeats)
    world.run()

    counted = wrong = 0
    for (_, i, earlier), (_, j, later) in pairwise(world.events):
        if i != j:
            counted += 1
            wrong += later < earlier
    physical = [clock.physical_ns() for clock in world.clocks]
    return DriftRow(
        strategy=name or world.clocks[0].plan.name,
        rate_per_s=model.rate_per_s,
        pairs=counted,
        misordered=wrong,
        spread_ns=max(physical) - min(physical),
        ahead_max_ns=world.ahead_max_ns,
        counter_max=world.counter_max,
        intervals=world.intervals,
        missed=world.missed,
    )
