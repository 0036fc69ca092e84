"""When one group wants to be woken, and what it does then: tick, sleep, or wait for its place.

This module exists so that a group needs no timer of its own: it names one moment to the node, and
a moment that only moves ahead (as an election deadline does with each heartbeat) is not named anew.
It must never send, store or apply.
"""

from __future__ import annotations

from collections.abc import Callable

from mcpcore.node.neighbours import Neighbours
from mcpcore.raft.core import Raft
from mcpcore.raft.outcome import NEVER
from mcpcore.raft.state import RaftState

_ASK_AGAIN = 16
"""A group that found no room for its election asks again after this part of the timeout."""


class Deadlines:
    """The deadlines of one group.

    Args:
        alarm: asks the node to ring at a moment, instead of the one named before.
    """

    __slots__ = ("_alarm", "_alarm_ns", "_doings", "_idle_since_ns", "_listened_for_ns",
                 "_neighbours", "_stand_ns", "retry_ns")  # fmt: skip

    def __init__(self, alarm: Callable[[int], None], neighbours: Neighbours) -> None:
        self._alarm = alarm
        self._alarm_ns = NEVER
        self._neighbours = neighbours
        self._doings = (0, 0, 0)
        self._idle_since_ns = 0
        self._stand_ns = 0
        self._listened_for_ns = NEVER
        self.retry_ns = NEVER
        """When to offer the device again what it had no room for."""

    def arm(self, raft: Raft, duty_ns: int | None) -> None:
        """Have one alarm stand for the next deadline. One that stands earlier is left alone."""
        due_ns = raft.deadline_ns()
        if not raft.is_leader:
            due_ns = max(due_ns, self._stand_ns)
        due_ns = min(due_ns, self.retry_ns)
        if duty_ns is not None:
            due_ns = min(due_ns, duty_ns)
        if due_ns < self._alarm_ns:
            self._alarm_ns = due_ns
            self._alarm(due_ns)

    def disarm(self) -> None:
        """Ring no more."""
        self._alarm(NEVER)

    def rang(self) -> None:
        """The alarm has rung and stands no more."""
        self._alarm_ns = NEVER

    def came(self, raft: Raft, now_ns: int, *, busy: bool) -> None:
        """Do what the core wants done by now.

        Args:
            busy: somebody waits for an answer of this group, so it must not sleep.
        """
        if raft.deadline_ns() > now_ns:
            return
        state = raft.state
        if not raft.is_leader and state.election_deadline_ns <= now_ns:
            if self._listens(state, now_ns):
                return
            hold_ns = state.settings.election_timeout_ns
            if not self._neighbours.may_stand(state.group, now_ns, hold_ns):
                self._stand_ns = now_ns + hold_ns // _ASK_AGAIN
                return
        raft.tick(now_ns)
        if raft.is_leader and state.device_full:
            _give_way(raft, now_ns)
        if raft.is_leader and state.settings.quiet_after_ns:
            doings = (state.term, state.log.last_index, state.read_round)
            if busy or self._doings != doings:
                self._doings, self._idle_since_ns = doings, now_ns
            elif now_ns - self._idle_since_ns >= state.settings.quiet_after_ns and (
                self._neighbours.may_rest(state, now_ns)
            ):
                raft.rest(now_ns)

    def _listens(self, state: RaftState, now_ns: int) -> bool:
        """Whether to listen first, once for each deadline: a timer that fires late fires *before*
        what arrived meanwhile is read, and would accuse everybody.
        """
        due_ns = state.election_deadline_ns
        listens_ns = min(self._neighbours.listens_ns(now_ns), state.patience.window_ns)
        if not listens_ns or self._listened_for_ns == due_ns:
            return False
        self._listened_for_ns = due_ns
        self._stand_ns = now_ns + listens_ns
        return True


def _give_way(raft: Raft, now_ns: int) -> None:
    """Our disk is full: hand over to a member whose disk has just shown that it is not."""
    state = raft.state
    last = state.log.last_index
    if state.durable_index == last or state.transfer_target:
        return
    for peer, progress in state.progress.items():
        if progress.match == last and state.configuration.votes(peer):
            raft.transfer_leadership(peer, now_ns)
            return
