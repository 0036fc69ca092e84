"""Whether a learner keeps up well enough to vote (thesis section 4.2.1).

This module exists so that "caught up" is a measurement and not an opinion: replication to a learner
is cut into rounds, each of which covers what the leader's log held when the round began. A learner
whose last round took less than an election timeout lacks no more than an election may take anyway.
It must never read a clock or send anything.
"""

from __future__ import annotations

from dataclasses import dataclass

ROUNDS = 10
"""Rounds after which a learner that is still too slow is reported to people."""


@dataclass(slots=True)
class CatchUp:
    """One learner's rounds, on the leader.

    Args:
        target: where the log ended when the present round began.
        started_ns: when that was, on the leader's clock.
        rounds: rounds finished.
        last_round_ns: how long the last of them took.
        idle: there is nothing to catch up with since the last round.
        reported: people were told that it is too slow.
    """

    target: int
    started_ns: int
    rounds: int = 0
    last_round_ns: int = 0
    idle: bool = False
    reported: bool = False

    def observe(self, match: int, last_index: int, now_ns: int) -> None:
        """The learner is known to hold the log up to ``match``; ours ends at ``last_index``."""
        if not self.idle and match >= self.target:
            self.rounds += 1
            self.last_round_ns = now_ns - self.started_ns
            self.idle = True
        if self.idle and last_index > match:
            self.idle = False
            self.target, self.started_ns = last_index, now_ns

    def done(self, timeout_ns: int, now_ns: int) -> bool:
        """Whether its last round, and the present one so far, took less than ``timeout_ns``.

        A learner that lacks nothing is done however long that took: in an idle group there may be
        no further round to prove its speed by.
        """
        present_ns = now_ns - self.started_ns
        quick = self.last_round_ns < timeout_ns and present_ns < timeout_ns
        return self.rounds > 0 and (self.idle or quick)
