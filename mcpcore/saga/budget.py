"""Deadlines that no step of a clock can move.

This module exists so that the whole rule for "its time is over" stands on one screen. A deadline is
a *budget*: an amount of time that the caller grants. It is spent by the monotonic clock, which
nobody can set, and what has been spent is written to the journal with every record. The cluster's
time, an interval out of the hybrid clock, is the second judge: it counts the time during which
nobody watched, and it can hold back a monotonic clock that runs fast. The system clock is
asked for nothing. Pure: it must never read a clock.

HAZARD: without a cluster's time (one process, SQLite) the time between a crash and the restart is
not counted: a saga may then live longer than its budget, by as long as it was not running.
"""

from __future__ import annotations

from typing import NamedTuple

from mcpcore.clock import Interval

DRIFT_PPM = 500
"""The most by which two clocks that are well may differ in rate."""


class Moment(NamedTuple):
    """One moment as two clocks show it.

    Args:
        monotonic_ns: of this process; compares with no other process's.
        cluster: the cluster's time, as an interval; None while nobody can tell.
    """

    monotonic_ns: int
    cluster: Interval | None


def unwatched_ns(last: Interval | None, now: Interval | None) -> int:
    """How much time has surely passed between two moments of which no process saw both.

    0 where the intervals don't prove more. A saga is never timed out on a suspicion.
    """
    if last is None or now is None:
        return 0
    return max(0, now.earliest_ns - last.latest_ns)


def is_spent(
    budget_ns: int, spent_ns: int, *, started: Interval | None, now: Interval | None
) -> bool:
    """Whether a budget is used up, by both judges.

    Args:
        spent_ns: by the monotonic clock of whoever ran the saga.
        started: the cluster's time at its start.
        now: the cluster's time now.

    The cluster's time may object only within what two sound clocks can differ by; beyond that it
    has been set, not drifted, and a deadline that waits for it might never come.
    """
    if spent_ns < budget_ns:
        return False
    if started is None or now is None:
        return True
    at_most_passed = now.latest_ns - started.earliest_ns
    if at_most_passed >= budget_ns:
        return True
    doubt = 2 * (started.radius_ns + now.radius_ns) + spent_ns * DRIFT_PPM // 1_000_000
    return spent_ns - at_most_passed > doubt
