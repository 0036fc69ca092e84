"""What heartbeats and their answers say about the links of one node.

This module exists so that a link is measured once, however many groups speak over it, and so that
the rules by which an estimate follows a link stand on one screen. Times are the measuring node's
own clock, handed in. It must never decide how patient anybody is: that is ``windows``.

A smoothed mean and deviation of the round trip in the manner of RFC 6298 (section 2), the largest
recent excursion on top, and the longest recent run of unanswered heartbeats. A lone spike is
damped: it may at most double the spread. A second one within ``memory_ns`` is the way of the link,
and is believed as far as the first one went. What is over is forgotten after the same time, and a
link that has not answered for so long is not known any more.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, fields

from mcpcore.errors import InvalidInput
from mcpcore.raft.settings import MILLISECOND, SECOND

LOST_RUN_CHANCE = 1e-6
"""A run of losses more unlikely than this may be taken for a silent leader."""
_OUTSTANDING_MAX = 256
_EXCURSIONS_MAX = 64
_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How estimates follow links.

    Args:
        losses_floor, losses_ceiling: unanswered heartbeats in a row that are nothing unusual.
        deviations: how many mean deviations are nothing unusual (K of RFC 6298).
        memory_ns: how long an excursion or a run of losses is remembered.

    Raises:
        InvalidInput: a number makes no sense, by name.
    """

    losses_floor: int = 2
    losses_ceiling: int = 8
    deviations: int = 4
    memory_ns: int = 300 * SECOND

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < (field.name == "memory_ns"):
                raise InvalidInput(f"{value!r} is no whole number from 0 up", where=field.name)
        if not 1 <= self.losses_floor <= self.losses_ceiling:
            raise InvalidInput(
                f"{self.losses_floor} does not fit between 1 and losses_ceiling "
                f"{self.losses_ceiling}",
                where="losses_floor",
            )


class LinkEstimate:
    """What is known about the way to one peer and back.

    Groups whose heartbeats leave at one moment share it: the moment counts once.
    """

    __slots__ = (
        "_answered_ns",
        "_excursions",
        "_known_ns",
        "_loss_ppm",
        "_outstanding",
        "_run",
        "_settings",
        "_spike",
        "deviation_ns",
        "round_trip_ns",
    )

    def __init__(self, settings: LinkSettings | None = None) -> None:
        self._settings = settings = settings or LinkSettings()
        self.round_trip_ns = 0
        """The smoothed mean; 0 before the first answer."""
        self.deviation_ns = 0
        """The smoothed mean deviation."""
        self._excursions: deque[tuple[int, int]] = deque()  # how far beyond the mean, and when
        self._spike = (0, -settings.memory_ns)  # the last that was damped, and when
        self._run = (0, 0)  # the longest run of losses, and when
        self._loss_ppm = 0
        self._outstanding: deque[int] = deque(maxlen=_OUTSTANDING_MAX)
        self._answered_ns = -1
        self._known_ns = -1

    def sent(self, now_ns: int) -> None:
        """A heartbeat left."""
        if not self._outstanding or self._outstanding[-1] < now_ns:
            self._outstanding.append(now_ns)

    def answered(self, sent_ns: int, now_ns: int) -> None:
        """The answer to the message sent at ``sent_ns`` came.

        Heartbeats sent before it and not answered yet count as lost: links keep order, and where
        they do not, the mistake makes a window longer, never shorter.
        """
        if not 0 <= sent_ns <= now_ns:
            raise InvalidInput(f"an answer to {sent_ns} ns cannot come at {now_ns} ns")
        self._known_ns = max(now_ns, self._known_ns)
        if sent_ns == self._answered_ns:
            return  # another group's answer of that moment
        run, outstanding = 0, self._outstanding
        while outstanding and outstanding[0] <= sent_ns:
            run += outstanding.popleft() < sent_ns
        if sent_ns > self._answered_ns:
            self._answered_ns = sent_ns
            self._learn_losses(run, now_ns)
        self._learn_round_trip(now_ns - sent_ns, now_ns)

    def forget_outstanding(self) -> None:
        """The connection broke: what was under way says nothing about the next one."""
        self._outstanding.clear()

    def known(self, now_ns: int) -> bool:
        """Whether anything was answered lately."""
        return self._known_ns >= 0 and now_ns - self._known_ns < self._settings.memory_ns

    def spread_ns(self, now_ns: int) -> int:
        """By how much a message may come later than usual.

        Twice the largest excursion seen lately: what delays most is a retransmission, and the next
        one comes at twice the time.
        """
        return max(
            self._settings.deviations * self.deviation_ns,
            2 * self._excursion_ns(now_ns),
        )

    def losses(self, now_ns: int) -> int:
        """How many unanswered heartbeats in a row are nothing unusual."""
        settings = self._settings
        run, seen_ns = self._run
        by_run = run + 1 if run and now_ns - seen_ns < settings.memory_ns else 0
        share = min(self._loss_ppm / _PPM, 0.5)
        by_rate = math.ceil(math.log(LOST_RUN_CHANCE) / math.log(share)) if share > 1e-4 else 0
        return max(settings.losses_floor, min(settings.losses_ceiling, max(by_run, by_rate)))

    def _learn_losses(self, run: int, now_ns: int) -> None:
        for lost in (True,) * run + (False,):
            self._loss_ppm += ((_PPM if lost else 0) - self._loss_ppm) // 64
        longest, seen_ns = self._run
        if run and (run >= longest or now_ns - seen_ns >= self._settings.memory_ns):
            self._run = (run, now_ns)

    def _learn_round_trip(self, sample_ns: int, now_ns: int) -> None:
        if not self.round_trip_ns:
            self.round_trip_ns, self.deviation_ns = max(sample_ns, 1), sample_ns // 2
            return
        spread_ns = max(self.spread_ns(now_ns), self.round_trip_ns // 4, MILLISECOND)
        beyond_ns = sample_ns - self.round_trip_ns
        if beyond_ns > spread_ns:
            spike_ns, seen_ns = self._spike
            lone = now_ns - seen_ns >= self._settings.memory_ns
            self._spike = (beyond_ns, now_ns)
            beyond_ns = spread_ns if lone else max(spread_ns, min(beyond_ns, spike_ns))
        excursions = self._excursions
        while excursions and excursions[-1][0] <= beyond_ns:
            excursions.pop()
        if len(excursions) < _EXCURSIONS_MAX:
            excursions.append((beyond_ns, now_ns))
        # Clipped once more, because the deviation is multiplied when a spread is made of it.
        self.deviation_ns += (min(abs(beyond_ns), spread_ns) - self.deviation_ns) // 4
        self.round_trip_ns = max(self.round_trip_ns + beyond_ns // 8, 1)

    def _excursion_ns(self, now_ns: int) -> int:
        """The largest of the memory; what is kept falls, so that the oldest is the largest."""
        excursions = self._excursions
        while excursions and now_ns - excursions[0][1] >= self._settings.memory_ns:
            excursions.popleft()
        return max(excursions[0][0], 0) if excursions else 0

    def __repr__(self) -> str:
        return (
            f"LinkEstimate({self.round_trip_ns / 1e6:.1f} ms +- {self.deviation_ns / 1e6:.1f}, "
            f"lost {self._loss_ppm / 1e4:.1f} %)"
        )


class Links:
    """The links of one node, and how far it trusts itself; shared by all its groups.

    Whoever drives the groups writes ``multiplier`` and ``round_trips_ns``; groups write estimates.
    """

    __slots__ = ("_estimates", "multiplier", "round_trips_ns", "settings")

    def __init__(self, settings: LinkSettings | None = None) -> None:
        self.settings = settings or LinkSettings()
        self._estimates: dict[str, LinkEstimate] = {}
        self.multiplier = 1.0
        """Of every patience, from ``suspicion.LocalHealth``: a slow judge waits longer."""
        self.round_trips_ns: dict[str, int] = {}
        """To each peer and back, as the transport has it; groups use it where they do not lead."""

    def of(self, peer: str) -> LinkEstimate:
        """What heartbeats and their answers say about the way to ``peer``."""
        estimate = self._estimates.get(peer)
        if estimate is None:
            estimate = self._estimates[peer] = LinkEstimate(self.settings)
        return estimate

    def farthest_ns(self, peers: frozenset[str], own: str) -> int:
        """The longest round trip to any of ``peers`` but ourselves; 0 if one is not known."""
        farthest_ns, known = 0, self.round_trips_ns
        for peer in peers:
            if peer != own:
                round_trip_ns = known.get(peer, 0)
                if not round_trip_ns:
                    return 0
                farthest_ns = max(farthest_ns, round_trip_ns)
        return farthest_ns
