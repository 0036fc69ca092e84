"""How patient a group should be, from the round trips it really has.

This module exists so that one page holds the whole argument for windows that move: who decides
them, and why no lease depends on two members estimating alike. It decides from times handed in; it
must never read a clock, send anything, or know who leads. How a link is measured: ``links``.

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
   vouch for it (:meth:`Patience.vouches`), and then nobody counts on it.
4. A rival needs votes of a majority, which shares a member with any majority of promises that the
   leader counts on: it cannot win before the leader stops counting.

No step mentions an estimate. Estimates decide how long windows are, never whether leases hold. So
members with and without windows that move, of this release and of earlier ones, may be mixed: a
window that does not move is one whose floor is its ceiling.

HAZARD: leadership handed over on purpose (thesis section 3.10) breaks promises on purpose. A
leader that offers it must stop counting (``raft.transfer`` voids the lease).

HAZARD: who lowers a member's ceiling shortens what it keeps after its next restart, perhaps below
what it promised before. Let such a member rest for the old ceiling before it starts with the new.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields

from mcpcore.errors import InvalidInput
from mcpcore.raft.links import LinkEstimate, Links
from mcpcore.raft.settings import MILLISECOND, SECOND, RaftSettings

ELECTION_ROUND_TRIPS = 3
"""A window shorter than this many round trips sees the next election begin within the last."""
DRAW_ROUND_TRIPS = 6
"""Timers drawn from so many round trips seldom run out before another's votes are counted."""
DRAW_MIN_NS = 100 * MILLISECOND
LESSON_MEMORY_NS = 300 * SECOND
"""For how long a suspicion that was refuted makes a member more patient."""
PROMISE_GRAIN_NS = 10 * MILLISECOND
"""Windows grow by whole steps, so that noise is no change and groups ask for equal promises."""
OFFICE_PROMISES = 2
"""A leader keeps its office for so many promises after what was answered left, up to the ceiling. A
link that has just become slow then costs a lease for a moment and no office; a rival that wins
earlier makes it a leader that nobody follows, and that can neither commit nor read by its lease."""
_CHANGES_MAX = 64
_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """Within what bounds windows may move. The ceilings must be equal on all members.

    The ceilings are the static windows of a group whose windows do not move; a floor that equals
    its ceiling holds them still. A member whose ceiling is below its leader's is safe but useless:
    its promise counts for nothing.

    Args:
        heartbeat_floor_ns, heartbeat_ceiling_ns: the least and the longest heartbeat interval.
        election_floor_ns, election_ceiling_ns: the least and the longest promise.
        drift_ppm: the most by which a clock's rate is off; shortens what a leader counts on.

    Raises:
        InvalidInput: a bound makes no sense, by name.
    """

    heartbeat_floor_ns: int = 100 * MILLISECOND
    heartbeat_ceiling_ns: int = 1 * SECOND
    election_floor_ns: int = 500 * MILLISECOND
    election_ceiling_ns: int = 5 * SECOND
    drift_ppm: int = 500

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 0:
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
        if self.heartbeat_floor_ns * 2 > self.election_floor_ns:
            raise InvalidInput(
                f"{self.heartbeat_floor_ns} ns leaves no room for a lost heartbeat within "
                f"{self.election_floor_ns} ns",
                where="heartbeat_floor_ns",
                remedy="Make it at most half of election_floor_ns, better a fifth",
            )

    @classmethod
    def of(cls, settings: RaftSettings) -> WindowSettings:
        """The bounds of a group's settings."""
        return cls(
            settings.heartbeat_floor_ns or settings.heartbeat_ns,
            settings.heartbeat_ns,
            settings.election_floor_ns or settings.election_timeout_ns,
            settings.election_timeout_ns,
            settings.drift_ppm,
        )

    @property
    def moving(self) -> bool:
        """Whether there is anything to follow."""
        return (
            self.election_floor_ns < self.election_ceiling_ns
            or self.heartbeat_floor_ns < self.heartbeat_ceiling_ns
        )

    def counted_ns(self, promise_ns: int) -> int:
        """How long after *sending* a promise its leader may count on it, on its own clock."""
        return promise_ns * (_PPM - 2 * self.drift_ppm) // _PPM


class PromiseLedger:
    """What one member is asked to promise, and until when its leader may count on it.

    The promise of an answered message is found by when it was sent, so answers need not repeat it.

    Args:
        now_ns: from when on messages ask for ``promise_ns``; the leader's clock.
    """

    __slots__ = ("_changes", "_settings", "counted_until_ns", "office_until_ns", "promise_ns")

    def __init__(self, settings: WindowSettings, now_ns: int, promise_ns: int) -> None:
        self._settings = settings
        self._changes = [(now_ns, promise_ns)]  # from when on, and what; both only as sent
        self.promise_ns = promise_ns
        """What every message to this member asks for now."""
        self.counted_until_ns = 0
        """Until when a lease counts on it: the end of its promise, less what clocks may drift."""
        self.office_until_ns = 0
        """Until when its agreement keeps us in office. Neither goes back."""

    def change(self, now_ns: int, promise_ns: int) -> None:
        """From now on messages ask for another promise.

        What was sent in this very instant, before or after, cannot be told apart when its answer
        comes: it counts as the lesser.
        """
        changes = self._changes
        if promise_ns == self.promise_ns:
            return
        self.promise_ns = promise_ns
        if changes[-1][0] > now_ns:  # a longer one of this instant, which now never was alone
            changes.pop()
        if promise_ns > changes[-1][1]:
            changes.append((now_ns + 1, promise_ns))
        elif changes[-1][0] == now_ns:
            changes[-1] = (now_ns, promise_ns)
        elif promise_ns < changes[-1][1]:
            changes.append((now_ns, promise_ns))
        del changes[:-_CHANGES_MAX]

    def answered(self, sent_ns: int) -> None:
        """The message sent then was answered by the member; 0: it vouches for no promise.

        What was sent before the oldest change remembered counts for nothing.
        """
        if not sent_ns:
            return
        for since_ns, promise_ns in reversed(self._changes):
            if since_ns <= sent_ns:
                counted_ns = sent_ns + self._settings.counted_ns(promise_ns)
                self.counted_until_ns = max(self.counted_until_ns, counted_ns)
                office_ns = min(OFFICE_PROMISES * promise_ns, self._settings.election_ceiling_ns)
                self.office_until_ns = max(self.office_until_ns, sent_ns + office_ns)
                break

    def __repr__(self) -> str:
        return f"PromiseLedger({self.promise_ns / 1e9:g} s, until {self.counted_until_ns / 1e9:g})"


class AdaptiveWindows:
    """A leader's windows: one heartbeat interval, and one promise for each other member.

    Args:
        links: what is known of the links of the leader's node.
    """

    __slots__ = ("_links", "settings")

    def __init__(self, settings: WindowSettings, links: Links | None = None) -> None:
        self.settings = settings
        self._links = links if links is not None else Links()

    def link(self, member: str) -> LinkEstimate:
        """What is known about the way to a member."""
        return self._links.of(member)

    def heartbeat_ns(self, voters: Iterable[str], now_ns: int) -> int:
        """How often to speak: twice a round trip of the nearest half, within the bounds.

        The floor, or the floor doubled so and so often: heartbeats of groups with other intervals
        then fall on the same moments, and travel together.

        Args:
            voters: the other ones.
        """
        settings = self.settings
        links = [link for link in map(self._links.of, voters) if link.known(now_ns)]
        if not links or not settings.moving:
            return settings.heartbeat_floor_ns
        near_ns = sorted(link.round_trip_ns for link in links)[(len(links) - 1) // 2]
        losses = max(link.losses(now_ns) for link in links)
        most_ns = min(settings.heartbeat_ceiling_ns, settings.election_ceiling_ns // (losses + 2))
        interval_ns = settings.heartbeat_floor_ns
        while 2 * interval_ns <= min(near_ns // 2, most_ns):
            interval_ns *= 2
        return interval_ns

    def promises_ns(
        self, members: Iterable[str], voters: Collection[str], now_ns: int
    ) -> dict[str, int]:
        """The window for each member: what its link needs, and at least what an election needs.

        A candidate needs a majority without the present leader, so nobody can win before that many
        promises have run out: to doubt the leader earlier would gain nothing.

        Args:
            voters: the other ones.
        """
        heartbeat_ns = self.heartbeat_ns(voters, now_ns)
        needs = {name: self._need_ns(name, heartbeat_ns, now_ns) for name in members}
        of_voters = sorted(needs[name] for name in voters if name in needs)
        if of_voters:
            majority = (len(of_voters) + 1) // 2 + 1
            electable_ns = of_voters[min(majority, len(of_voters)) - 1]
            needs = {name: max(need_ns, electable_ns) for name, need_ns in needs.items()}
        return needs

    def _need_ns(self, member: str, heartbeat_ns: int, now_ns: int) -> int:
        """A heartbeat, the way there and back, the worst to be expected, and room for an election.

        The way there and back is in it because the leader counts from the sending of what was
        answered: its office and its lease must outlast the wait for the next answer. Nothing known
        yet: the ceiling.
        """
        settings, link = self.settings, self._links.of(member)
        if not link.known(now_ns):
            return settings.election_ceiling_ns
        worst_ns = max(link.losses(now_ns) * heartbeat_ns, link.spread_ns(now_ns))
        wanted_ns = max(
            heartbeat_ns + link.round_trip_ns + worst_ns,
            ELECTION_ROUND_TRIPS * link.round_trip_ns,
            settings.election_floor_ns,
        )
        wanted_ns = -(-wanted_ns // PROMISE_GRAIN_NS) * PROMISE_GRAIN_NS
        return min(wanted_ns, settings.election_ceiling_ns)


class Patience:
    """A member's side: the promise it keeps, and how long it waits before it doubts its leader.

    Args:
        now_ns: when this member starts, on its own clock.
        newborn: it certainly promised nothing in an earlier life.
    """

    __slots__ = (
        "_attempts",
        "_doubted_term",
        "_heard_ns",
        "_lesson",
        "_settings",
        "promise_until_ns",
        "window_ns",
    )

    def __init__(self, settings: WindowSettings, now_ns: int, *, newborn: bool = False) -> None:
        self._settings = settings
        self.window_ns = settings.election_ceiling_ns
        """The window last announced; the ceiling before that."""
        self.promise_until_ns = now_ns if newborn else now_ns + settings.election_ceiling_ns
        """Until then it helps no other candidate, and does not stand itself."""
        self._heard_ns = now_ns
        self._doubted_term = -1
        self._attempts = 0
        self._lesson = (0, now_ns)  # a window, and until when it is the least

    def heard(self, promise_ns: int, now_ns: int, term: int = 0) -> None:
        """The leader of ``term`` asked for a promise."""
        settings = self._settings
        if self._doubted_term == term:
            self._lesson = (2 * (now_ns - self._heard_ns), now_ns + LESSON_MEMORY_NS)
        self._doubted_term, self._attempts = -1, 0
        self._heard_ns = now_ns
        self.window_ns = max(
            settings.election_floor_ns, min(promise_ns, settings.election_ceiling_ns)
        )
        self.promise_until_ns = max(self.promise_until_ns, now_ns + self.window_ns)

    def vouches(self, promise_ns: int) -> bool:
        """Whether a leader may count on our promise, also after a restart of ours."""
        return promise_ns <= self._settings.election_ceiling_ns

    def doubted(self, term: int) -> None:
        """We suspected the leader of ``term``. If it is heard again after all, that was a lesson.

        A suspicion that is refuted shows that the window was too short for this link, however
        rarely: no statistics are needed. For a while we wait twice as long as that silence lasted,
        since retransmission timers double. Only our own patience grows; the promise is as asked.
        """
        self._doubted_term = term

    def stood(self) -> None:
        """We tried to win an election. After the second failure in a row each wait is twice the one
        before, up to the ceiling: the windows may be too short for the links among who is left.
        """
        self._attempts += 1

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
        """When to doubt the leader, or to try again: some time after the window (section 5.2).

        The paper draws from a whole window, so that two members seldom stand at once. What that
        needs is some round trips, and where those are known to be shorter than a window the rest is
        lost: at the same mean, a narrow draw has fewer early ends.

        Args:
            randrange: a number in [0, stop).
            multiplier: from ``suspicion.LocalHealth``: a slow judge waits longer, up to the
                ceiling. To wait longer than promised is always safe.
            round_trip_ns: of the farthest other voter; 0 where unknown.
        """
        ceiling_ns = self._settings.election_ceiling_ns
        if self._attempts > 1:
            window_ns = width_ns = min(self.window_ns << min(self._attempts - 1, 32), ceiling_ns)
        else:
            window_ns = width_ns = self.window_ns
            if round_trip_ns and not self._attempts and self._settings.moving:
                width_ns = min(width_ns, max(DRAW_ROUND_TRIPS * round_trip_ns, DRAW_MIN_NS))
        lesson_ns, until_ns = self._lesson
        if now_ns < until_ns:
            window_ns = max(window_ns, lesson_ns)
        window_ns = min(int(window_ns * max(multiplier, 1.0)), ceiling_ns)
        return max(now_ns + window_ns + randrange(width_ns), self.promise_until_ns)
