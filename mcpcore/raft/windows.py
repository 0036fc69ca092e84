"""How patient a group should be, from the round trips it really has.

This module exists so that one page holds the whole argument for windows that move: how they follow
the links, who decides them, and why no lease depends on two members estimating alike. It decides
from times handed in; it must never read a clock, send anything, or know who leads.

How they follow the links: a smoothed mean and deviation of the round trip in the manner of RFC
6298 (section 2), the largest recent excursion on top, and the longest recent run of unanswered
heartbeats. A lone spike is damped: it may at most double the spread. A second one within
``memory_ns`` is the way of the link, and is believed as far as the first one went. What is over is
forgotten after the same time.

Who decides: **the leader**, for each member, and it announces the window with the message that
asks for it. A member keeps the promise that it heard, and draws its election timeout from it.

Why leases hold. Let a leader count on member *m* until ``s + (1 - 2 rho) p``, where *p* is the
promise that the message sent at *s* carried, and *m* has answered it.

1. *m* received that message at or after *s*, and helps no other candidate for *p* of its own clock
   after receipt; with rates within ``1 +- rho`` that ends, in real time, no earlier than the
   leader's count (``(1 - 2 rho) / (1 - rho) <= 1 / (1 + rho)``).
2. A later, shorter promise takes nothing back: *m* keeps the later of the two ends, and the leader
   counts each message with the promise that *it* carried (:class:`PromiseLedger`), never with the
   one in force now.
3. A restart forgets which promise was made. It was at most the ceiling, so *m* keeps the ceiling
   from its start on. A promise beyond *m*'s own ceiling would not survive that, so *m* does not
   answer it (:meth:`Patience.heard`), and then nobody counts on it.
4. A rival needs votes of a majority, which shares a member with any majority of promises that the
   leader counts on: it cannot win before the leader stops counting.

No step mentions an estimate. Estimates decide how long windows are, never whether leases hold.

HAZARD: leadership handed over on purpose (thesis section 3.10) breaks promises on purpose. A
leader that offers it must stop counting (``raft.transfer`` voids the lease).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

from mcpcore.errors import InvalidInput
from mcpcore.raft.settings import MILLISECOND, SECOND

LOST_RUN_CHANCE = 1e-6
"""A run of losses more unlikely than this may be taken for a silent leader."""
ELECTION_ROUND_TRIPS = 3
"""A window shorter than this many round trips sees the next election begin within the last."""
DRAW_ROUND_TRIPS = 6
"""Timers drawn from so many round trips seldom run out before another's votes are counted."""
DRAW_MIN_NS = 100 * MILLISECOND
_OUTSTANDING_MAX = 256
_CHANGES_MAX = 64
_EXCURSIONS_MAX = 64
_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """Within what bounds windows may move. The ceilings must be equal on all members.

    The ceilings are the static windows of a group whose windows do not move. A member whose ceiling
    is below its leader's is safe but useless: it answers no message that promises more.

    Args:
        heartbeat_floor_ns, heartbeat_ceiling_ns: the least and the longest heartbeat interval.
        election_floor_ns, election_ceiling_ns: the least and the longest promise.
        losses_floor, losses_ceiling: unanswered heartbeats in a row that a window outlasts.
        deviations: how many mean deviations a window outlasts (K of RFC 6298).
        memory_ns: how long an excursion or a run of losses is remembered.
        drift_ppm: the most by which a clock's rate is off; shortens what a leader counts on.

    Raises:
        InvalidInput: a bound makes no sense, by name.
    """

    heartbeat_floor_ns: int = 100 * MILLISECOND
    heartbeat_ceiling_ns: int = 1 * SECOND
    election_floor_ns: int = 500 * MILLISECOND
    election_ceiling_ns: int = 5 * SECOND
    losses_floor: int = 2
    losses_ceiling: int = 8
    deviations: int = 4
    memory_ns: int = 300 * SECOND
    drift_ppm: int = 500

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < (field.name == "memory_ns"):
                raise InvalidInput(f"{value!r} is no whole number from 0 up", where=field.name)
        if not self.drift_ppm < _PPM // 2:
            raise InvalidInput(f"must be below 500000, not {self.drift_ppm}", where="drift_ppm")
        for kind in ("heartbeat", "election"):
            floor, ceiling = (getattr(self, f"{kind}_{end}_ns") for end in ("floor", "ceiling"))
            if not 0 < floor <= ceiling:
                raise InvalidInput(
                    f"a floor of {floor} ns does not fit below a ceiling of {ceiling} ns",
                    where=f"{kind}_floor_ns",
                )
        if not 1 <= self.losses_floor <= self.losses_ceiling:
            raise InvalidInput(
                f"{self.losses_floor} does not fit between 1 and losses_ceiling "
                f"{self.losses_ceiling}",
                where="losses_floor",
            )
        if self.heartbeat_floor_ns * 2 > self.election_floor_ns:
            raise InvalidInput(
                f"{self.heartbeat_floor_ns} ns leaves no room for a lost heartbeat within "
                f"{self.election_floor_ns} ns",
                where="heartbeat_floor_ns",
                remedy="Make it at most half of election_floor_ns, better a fifth",
            )

    def counted_ns(self, promise_ns: int) -> int:
        """How long after *sending* a promise its leader may count on it, on its own clock."""
        return promise_ns * (_PPM - 2 * self.drift_ppm) // _PPM


class LinkEstimate:
    """What heartbeats and their answers say about the way to one member and back.

    All times are the leader's own clock: answers repeat when their question was sent.
    """

    __slots__ = (
        "_answered_ns",
        "_excursions",
        "_loss_ppm",
        "_outstanding",
        "_run",
        "_settings",
        "_spike",
        "deviation_ns",
        "round_trip_ns",
    )

    def __init__(self, settings: WindowSettings) -> None:
        self._settings = settings
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

    def sent(self, now_ns: int) -> None:
        """A heartbeat left."""
        self._outstanding.append(now_ns)

    def answered(self, sent_ns: int, now_ns: int) -> None:
        """The answer to the message sent at ``sent_ns`` came.

        Heartbeats sent before it and not answered yet count as lost: links keep order, and where
        they do not, the mistake makes a window longer, never shorter.
        """
        if not 0 <= sent_ns <= now_ns:
            raise InvalidInput(f"an answer to {sent_ns} ns cannot come at {now_ns} ns")
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


class PromiseLedger:
    """What one member was asked to promise, and until when its leader may count on it.

    The promise of an answered message is found by when it was sent, so answers need not repeat it.
    """

    __slots__ = ("_changes", "_settings", "counted_until_ns")

    def __init__(self, settings: WindowSettings) -> None:
        self._settings = settings
        self._changes: deque[tuple[int, int]] = deque(maxlen=_CHANGES_MAX)
        self.counted_until_ns = 0
        """On the leader's clock; never goes back while the member keeps its identity."""

    def sent(self, sent_ns: int, promise_ns: int) -> None:
        """A message left that asks for this promise."""
        changes = self._changes
        if changes and changes[-1][0] == sent_ns:
            # Two messages of one instant cannot be told apart later: count the lesser.
            changes[-1] = (sent_ns, min(promise_ns, changes[-1][1]))
        elif not changes or changes[-1][1] != promise_ns:
            changes.append((sent_ns, promise_ns))

    def answered(self, sent_ns: int) -> int:
        """The message sent then was answered; returns the new ``counted_until_ns``.

        What was sent before the oldest change remembered counts for nothing.
        """
        for since_ns, promise_ns in reversed(self._changes):
            if since_ns <= sent_ns:
                until_ns = sent_ns + self._settings.counted_ns(promise_ns)
                self.counted_until_ns = max(self.counted_until_ns, until_ns)
                break
        return self.counted_until_ns


class AdaptiveWindows:
    """A leader's windows: one heartbeat interval, and one promise for each other voter.

    Begin with a new one at every election won; what it learned is not handed on.
    """

    __slots__ = ("_ledgers", "_links", "_settings")

    def __init__(self, settings: WindowSettings) -> None:
        self._settings = settings
        self._links: dict[str, LinkEstimate] = {}
        self._ledgers: dict[str, PromiseLedger] = {}

    def link(self, member: str) -> LinkEstimate:
        """What is known about the way to a member."""
        return self._links.setdefault(member, LinkEstimate(self._settings))

    def sent(self, member: str, now_ns: int) -> int:
        """A heartbeat leaves for ``member``; returns the promise it has to carry."""
        promise_ns = self.promise_ns(member, now_ns)
        self.link(member).sent(now_ns)
        self._ledger(member).sent(now_ns, promise_ns)
        return promise_ns

    def answered(self, member: str, sent_ns: int, now_ns: int) -> None:
        """The answer to the heartbeat sent then came."""
        self.link(member).answered(sent_ns, now_ns)
        self._ledger(member).answered(sent_ns)

    def keep(self, members: Iterable[str]) -> None:
        """Forget everybody else."""
        for gone in set(self._links) - set(members):
            del self._links[gone]
            self._ledgers.pop(gone, None)

    def counted_until_ns(self, member: str) -> int:
        """Until when ``member`` certainly helps nobody else; 0 if that is not known."""
        return self._ledger(member).counted_until_ns

    def heartbeat_ns(self, now_ns: int) -> int:
        """How often to speak: twice a round trip of the nearest half, within the bounds."""
        settings = self._settings
        known = sorted(link.round_trip_ns for link in self._links.values() if link.round_trip_ns)
        if not known:
            return settings.heartbeat_floor_ns
        losses = max(link.losses(now_ns) for link in self._links.values())
        most_ns = min(settings.heartbeat_ceiling_ns, settings.election_ceiling_ns // (losses + 2))
        return max(settings.heartbeat_floor_ns, min(known[(len(known) - 1) // 2] // 2, most_ns))

    def promise_ns(self, member: str, now_ns: int) -> int:
        """The window for a member: what its link needs, and at least what an election needs.

        A candidate needs a majority without the present leader, so nobody can win before that many
        promises have run out: to doubt the leader earlier would gain nothing.
        """
        self.link(member)
        needs = {name: self._need_ns(link, now_ns) for name, link in self._links.items()}
        majority = (len(needs) + 1) // 2 + 1
        electable_ns = sorted(needs.values())[min(majority, len(needs)) - 1]
        return max(needs[member], electable_ns)

    def _need_ns(self, link: LinkEstimate, now_ns: int) -> int:
        """A heartbeat, the worst to be expected, and room for an election.

        Nothing known yet: the ceiling.
        """
        settings = self._settings
        if not link.round_trip_ns:
            return settings.election_ceiling_ns
        heartbeat_ns = self.heartbeat_ns(now_ns)
        wanted_ns = max(
            heartbeat_ns + max(link.losses(now_ns) * heartbeat_ns, link.spread_ns(now_ns)),
            ELECTION_ROUND_TRIPS * link.round_trip_ns,
            settings.election_floor_ns,
        )
        # Whole milliseconds, so that noise below them is no change.
        wanted_ns = -(-wanted_ns // MILLISECOND) * MILLISECOND
        return min(wanted_ns, settings.election_ceiling_ns)

    def _ledger(self, member: str) -> PromiseLedger:
        return self._ledgers.setdefault(member, PromiseLedger(self._settings))


class Patience:
    """A member's side: the promise it keeps, and how long it waits before it doubts its leader.

    Args:
        now_ns: when this member starts, on its own clock.
        newborn: it certainly promised nothing in an earlier life.
    """

    __slots__ = ("_doubted", "_heard_ns", "_lesson", "_settings", "promise_until_ns", "window_ns")

    def __init__(self, settings: WindowSettings, now_ns: int, *, newborn: bool = False) -> None:
        self._settings = settings
        self.window_ns = settings.election_ceiling_ns
        """The window last announced; the ceiling before that."""
        self.promise_until_ns = now_ns if newborn else now_ns + settings.election_ceiling_ns
        """Until then it helps no other candidate, and does not stand itself."""
        self._heard_ns = now_ns
        self._doubted = False
        self._lesson = (0, now_ns)  # a window, and until when it is the least

    def heard(self, promise_ns: int, now_ns: int) -> bool:
        """The leader asked for a promise. Returns whether the message may be answered.

        A promise beyond our ceiling would be forgotten by a restart, so nobody may count on it.
        """
        settings = self._settings
        if self._doubted:
            self._doubted = False
            self._lesson = (2 * (now_ns - self._heard_ns), now_ns + settings.memory_ns)
        self._heard_ns = now_ns
        self.window_ns = max(
            settings.election_floor_ns, min(promise_ns, settings.election_ceiling_ns)
        )
        self.promise_until_ns = max(self.promise_until_ns, now_ns + self.window_ns)
        return promise_ns <= settings.election_ceiling_ns

    def doubted(self) -> None:
        """We suspected the leader. If it is heard again after all, that was a lesson.

        A suspicion that is refuted shows that the window was too short for this link, however
        rarely: no statistics are needed. For a while we wait twice as long as that silence lasted,
        since retransmission timers double. Only our own patience grows; the promise is as asked.
        """
        self._doubted = True

    def may_help(self, now_ns: int) -> bool:
        """Whether the promise has run out."""
        return now_ns >= self.promise_until_ns

    def deadline_ns(
        self,
        now_ns: int,
        randrange: Callable[[int], int],
        *,
        multiplier: float = 1.0,
        round_trip_ns: int = 0,
    ) -> int:
        """When to doubt the leader, heard just now: some time after the window (section 5.2).

        The paper draws from a whole window, so that two members seldom stand at once. What that
        needs is some round trips, and where those are known to be shorter than a window the rest is
        lost: at the same mean, a narrow draw has fewer early ends.

        Args:
            randrange: a number in [0, stop).
            multiplier: from ``suspicion.LocalHealth``: a slow judge waits longer. To wait longer
                than promised is always safe.
            round_trip_ns: of the farthest other voter; 0 where unknown, as after a failed election.
        """
        window_ns = int(self.window_ns * max(multiplier, 1.0))
        lesson_ns, until_ns = self._lesson
        if now_ns < until_ns:
            window_ns = max(window_ns, min(lesson_ns, self._settings.election_ceiling_ns))
        width_ns = self.window_ns
        if round_trip_ns:
            width_ns = min(width_ns, max(DRAW_ROUND_TRIPS * round_trip_ns, DRAW_MIN_NS))
        return max(now_ns + window_ns + randrange(width_ns), self.promise_until_ns)
