"""Which peers live, judged once for all groups from the beats between the nodes.

This module exists so that "we hear them" and "they hear us" are two numbers for each peer, and so
that a thousand groups need not find out a thousand times. Pure: time is a number handed in. It must
never decide what a group does about it.

A beat carries the sender's monotonic clock, and repeats the latest reading that arrived from the
other side. So ``answered_ns`` is a reading of *our* clock at *sending*: whatever we said up to then
can have been heard. No two clocks are ever compared. A beat is sent only while the sender's disk
answers, so that silence also means a dead disk.
"""

from __future__ import annotations

from typing import NamedTuple

LONG_AGO_NS = -(1 << 62)
"""Never, as a moment."""


class Beat(NamedTuple):
    """I live, and so does my disk.

    Args:
        life: number of the sender's process; another one means that it was restarted.
        sent_ns: the sender's monotonic clock.
        echo_life, echo_ns: life and ``sent_ns`` of the receiver's latest beat that arrived; 0 if
            none did.
        asleep: how many groups sleep that the sender leads and the receiver is a member of.
        mark: checksum of which groups these are, and where.
    """

    life: int
    sent_ns: int
    echo_life: int
    echo_ns: int
    asleep: int
    mark: int


class Liveness:
    """When we last heard of each peer, and when each peer last heard of us.

    Args:
        life: number of our own process.
    """

    __slots__ = ("_answered_ns", "_heard_ns", "_theirs", "life")

    def __init__(self, life: int) -> None:
        self.life = life
        self._heard_ns: dict[str, int] = {}
        self._answered_ns: dict[str, int] = {}
        self._theirs: dict[str, tuple[int, int]] = {}

    def beat(self, peer: str, now_ns: int, asleep: int, mark: int) -> Beat:
        """What to tell ``peer`` now."""
        echo_life, echo_ns = self._theirs.get(peer, (0, 0))
        return Beat(self.life, now_ns, echo_life, echo_ns, asleep, mark)

    def heard(self, peer: str, beat: Beat, now_ns: int) -> bool:
        """A beat arrived. Returns whether the peer was restarted since the last one."""
        known = self._theirs.get(peer)
        restarted = known is not None and known[0] != beat.life
        self._theirs[peer] = (beat.life, beat.sent_ns)
        self._heard_ns[peer] = now_ns
        if restarted:
            self._answered_ns.pop(peer, None)
        if beat.echo_life == self.life and beat.echo_ns <= now_ns:
            self._answered_ns[peer] = max(self.answered_ns(peer), beat.echo_ns)
        return restarted

    def heard_ns(self, peer: str) -> int:
        """When the latest beat of ``peer`` arrived; long ago if none did."""
        return self._heard_ns.get(peer, LONG_AGO_NS)

    def answered_ns(self, peer: str) -> int:
        """When the latest beat was sent that ``peer`` is known to have heard, in its present life
        and ours.
        """
        return self._answered_ns.get(peer, LONG_AGO_NS)
