"""What only the leader does for its machine: starting, stopping and carrying it out.

This module exists so that a machine with duties (leases run out, and the leader says so) is served
in one place. What the duties are is the machine's business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mcpcore.errors import NotLeader, Rejected
from mcpcore.node.machine import LeaderDuties
from mcpcore.raft.core import Raft
from mcpcore.raft.outcome import Role

logger = logging.getLogger("mcpcore.node.duties")


class Duties:
    """The duties of one group's machine.

    Args:
        wake: asks for another turn of the group.
    """

    __slots__ = ("_machine", "_raft", "_term", "_wake")

    def __init__(self, machine: LeaderDuties, raft: Raft, wake: Callable[[], None]) -> None:
        self._machine = machine
        self._raft = raft
        self._wake = wake
        self._term = 0  # the term in which we have begun them; 0 when we have not

    @property
    def due_ns(self) -> int | None:
        """When the next duty is due, if any."""
        return self._machine.next_duty_ns() if self._term else None

    def answer(self, request: bytes, now_ns: int) -> bytes | None:
        """The answer to a question that only a leader's machine can answer; None: not such a one.

        Raises:
            NotLeader: it is one, and we do not lead, or have not begun: nothing to answer from.
        """
        answer = self._machine.leader_query(request, now_ns)
        if answer is None:
            return None
        state = self._raft.state
        if not state.is_leader or self._term != state.term:
            raise NotLeader(state.group, (state.leader if state.leader != state.id else "") or None)
        return answer

    def carry_out(self, applied: int, now_ns: int) -> None:
        """Begin or end office, and do what is due."""
        state = self._raft.state
        if state.role is not Role.LEADER or applied < state.term_start:
            if self._term:
                self._term = 0
                self._machine.follow()
            return
        if self._term != state.term:
            self._term = state.term
            self._machine.lead(now_ns)
        command = self._machine.duty(now_ns)
        if command is not None:
            try:
                self._raft.propose(command, now_ns)
            except Rejected as refusal:
                logger.debug("group %s: a duty waits: %s", state.group, refusal)
            self._wake()
